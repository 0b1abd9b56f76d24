# The service as an image: `docker build -t penumbra .`, then `docker run --rm -p 8000:8000 penumbra`.
# How to run it well, and what each setting does, is in docs/operations.md.

# 1. An environment of exact versions, made where there are tools, and slimmed to what serving loads.
FROM python:3.11-slim-bookworm AS build
# Where pip looks besides its own index: PyTorch's for CPUs, whose builds come without gigabytes of GPU libraries.
# For GPUs: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What it can do besides, as pyproject.toml has it, with commas between. For jobs: --build-arg EXTRAS=redis,jobs
ARG EXTRAS=redis
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml constraints.txt deploy/image/requirements.py ./
# The environment has no pip of its own. Torch comes first, so that nothing that depends on it picks another build of it.
RUN python -m venv --without-pip /opt/penumbra \
 && python requirements.py pyproject.toml "$EXTRAS" >serve.txt && grep ^torch serve.txt >torch.txt \
 && install="python -m pip --python /opt/penumbra/bin/python --no-cache-dir --disable-pip-version-check install -c constraints.txt" \
 && $install --no-deps --extra-index-url "$TORCH_INDEX" -r torch.txt \
 && $install -r serve.txt
COPY deploy/image/slim.py ./
RUN python slim.py /opt/penumbra/lib/python3*/site-packages && python -m compileall -q /opt/penumbra/lib

# 2. The source tree, its modules and the engine's kernel compiled: in the running container nothing can be written.
FROM python:3.11-slim-bookworm AS source
WORKDIR /app
COPY constraints.txt /build/
RUN python -m pip --no-cache-dir --disable-pip-version-check install --target /build -c /build/constraints.txt ziglang
COPY LICENSE ./
COPY penumbra penumbra
COPY models models
COPY service service
RUN PYTHONPATH=/build python -m service.engine.kernel && mv models/store /store && python -m compileall -q . && chmod -R a+rX /app /store

# 3. What runs: no compiler, no pip, no root.
FROM python:3.11-slim-bookworm
# The base image's own pip goes, wherever it is kept, and Python's modules are compiled now instead of at every start.
RUN rm -rf /usr/local/bin/pip* /usr/bin/pip* /usr/local/lib/python3*/site-packages/* /usr/lib/python3/dist-packages/* \
      /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip \
 && python -m compileall -q -x '/(test|idlelib|lib2to3|turtledemo)/' "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin penumbra \
 && install --directory --owner 10001 --group 10001 --mode 700 /jobs
COPY --from=build /opt/penumbra /opt/penumbra
COPY --from=source /app /app
COPY --from=source /store /store
ENV PATH=/opt/penumbra/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PENUMBRA_HOST=0.0.0.0 \
    PENUMBRA_PORT=8000 \
    PENUMBRA_STORE=/store \
    PENUMBRA_CACHE=/tmp/penumbra
WORKDIR /app
USER 10001:10001
VOLUME /store
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-m", "service", "health"]
# Arguments of `docker run` are the service's: --workers 2, say. As process 1 it reaps whatever is orphaned.
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
LABEL org.opencontainers.image.title="Penumbra" \
      org.opencontainers.image.description="Trained MLPs over HTTP: predictions, and seeded Monte Carlo dropout that says how far to trust them." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/operations.md"
