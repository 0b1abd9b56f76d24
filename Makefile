# Everything here sets itself up: a machine with Python 3.11 or newer, its venv module and make is enough.
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
VENDOR := service/playground/vendor
RUN := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --disable-pip-version-check --quiet

help: ## Show what can be made
	@grep -hE '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

serve: $(VENV)/.kernel ## Serve the shipped models on 127.0.0.1:8000 (PORT=… for another port)
	@echo 'Once it is up, open http://127.0.0.1:$(PORT) in a browser, or try:'
	@echo "  curl -s http://127.0.0.1:$(PORT)/v1/models/diabetes/sample -H 'Content-Type: application/json' \\"
	@echo "    -d '{\"inputs\": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]], \"samples\": 100, \"seed\": 7}'"
	@exec $(RUN) -m service --port $(PORT)

setup: $(VENV)/.dev $(VENV)/.kernel ## Install everything: what serving, training and tests need

test: $(VENV)/.dev $(VENV)/.kernel ## Run every test
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.dev $(VENV)/.kernel ## Lint, types, import contracts and the fast tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow" -q

kernel: $(VENV)/.kernel ## Compile the engine's kernel

train: $(VENV)/.dev ## Train the shipped models again; the same machine gives the same digests
	$(RUN) -m models train all

docs: $(VENV)/.dev ## Rewrite what is generated in docs/
	$(RUN) -m service.reference docs/operations.md
	$(RUN) -m service.telemetry >docs/metrics.md

vendor: ## Fetch the playground's chart library and typeface again, as vendor/package-lock.json has them (needs npm)
	rm -rf build/vendor && mkdir -p build/vendor && cp $(VENDOR)/package*.json build/vendor
	npm ci --prefix build/vendor --ignore-scripts --no-audit --no-fund
	cp build/vendor/node_modules/uplot/dist/uPlot.iife.min.js build/vendor/node_modules/uplot/dist/uPlot.min.css $(VENDOR)
	cp build/vendor/node_modules/uplot/LICENSE $(VENDOR)/uPlot.LICENSE.txt
	cp build/vendor/node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2 $(VENDOR)
	cp build/vendor/node_modules/@fontsource-variable/inter/LICENSE $(VENDOR)/Inter.LICENSE.txt

pictures: $(VENV)/.dev $(VENV)/.kernel ## Take the pictures of the playground in docs/images again (needs a browser)
	$(RUN) -m tests.browser.pictures

ray-check: $(VENV)/.dev $(VENV)/.kernel ## Install Ray beside the rest, and try the service and scoring on two nodes (5 min)
	$(PIP) install -c constraints.txt --editable '.[ray]'
	$(RUN) -m pytest tests/deploy/test_ray.py tests/deploy/test_ray_serve.py tests/client/test_scoring_ray.py

harden: $(VENV)/.dev $(VENV)/.kernel ## Run the thirty checks of SECURITY.md: half an hour (HARDEN_SHARE=0.1 for less)
	$(RUN) -m tests.harden

weaken: $(VENV)/.dev $(VENV)/.kernel ## Take one defence away at a time, and see its check fail: a quarter of an hour
	$(RUN) -m tests.harden.weakened

audit: $(VENV)/.dev ## Look up known holes in the pinned packages, and list licences: build/licences.md (needs the network)
	mkdir -p build && test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/pip --disable-pip-version-check --quiet install pip-audit==2.10.1 pip-licenses==5.5.5; }
	build/audit/bin/pip-licenses --python $(RUN) --format markdown --with-urls --order license >build/licences.md
	build/audit/bin/pip-audit --no-deps --disable-pip -r constraints.txt

sbom: $(VENV)/.dev ## List what the image has of Python packages, as CycloneDX: build/sbom.cdx.json
	rm -rf build/serve && mkdir -p build && $(PYTHON) -m venv --without-pip build/serve
	$(RUN) deploy/image/requirements.py pyproject.toml redis >build/serve.txt
	$(VENV)/bin/pip --python build/serve/bin/python --disable-pip-version-check --quiet install -c constraints.txt -r build/serve.txt
	$(RUN) deploy/image/slim.py build/serve/lib/python3*/site-packages
	$(VENV)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate -o build/sbom.cdx.json build/serve/bin/python

keys.jsonl: | $(VENV)/.serve ## Make API keys: yours is printed, the one of Prometheus kept beside; here are the hashes
	@$(RUN) -m service keys add prometheus --scopes read --file $@ >prometheus.key
	@echo 'Your key, which is not shown again:'
	@$(RUN) -m service keys add me --scopes read,infer,admin --file $@

image: ## Build the container image (needs docker)
	docker build --tag penumbra .

image-check: $(VENV)/.dev ## Try the image as it is run: user, read-only, health, signals, the README (needs docker)
	IMAGE=penumbra $(RUN) -m pytest tests/image

bench: $(VENV)/.dev $(VENV)/.kernel ## Measure the engine against naive loops and the dense floor
	$(RUN) -m benchmarks.engine

bench-http: $(VENV)/.kernel ## Measure the service over HTTP beside its floors (needs wrk)
	$(RUN) -m benchmarks.http

bench-binary: $(VENV)/.kernel ## Measure tensors as bytes against tensors as JSON (needs wrk)
	$(RUN) -m benchmarks.binary

bench-cache: $(VENV)/.kernel ## Measure answers that are kept against answers that are computed (needs wrk)
	$(RUN) -m benchmarks.caching

bench-capacity: $(VENV)/.kernel ## Measure what a worker takes, and what a simulation of it foretells (needs wrk)
	$(RUN) -m benchmarks.capacity

bench-overhead: $(VENV)/.kernel ## Measure what metrics and logs cost, with and without them in turns (needs wrk)
	$(RUN) -m benchmarks.overhead

bench-peers: $(VENV)/.kernel ## Measure it beside other servers, installed for the purpose (needs wrk; one needs Java)
	$(RUN) -m benchmarks.peers

bench-scoring: $(VENV)/.kernel ## Measure a million rows from a file beside requests of one row
	$(RUN) -m benchmarks.scoring

bench-moments: $(VENV)/.dev $(VENV)/.kernel ## Measure method moments against sampling, on every shipped model
	$(RUN) -m benchmarks.moments

committees: $(VENV)/.dev $(VENV)/.kernel ## Compare network, committee and ensembles; rewrites docs/ensembles.md and its plots
	$(RUN) -m benchmarks.committees

bench-startup: $(VENV)/.kernel ## Measure start-up and memory beside a bare import of PyTorch
	$(RUN) -m benchmarks.startup

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) service/engine/kernel/kernel-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build benchmarks/.peers benchmarks/.raw

# torch comes first, so that nothing that depends on it picks another build of it.
$(VENV)/.torch: constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo 'Installing exact versions into $(VENV) (once; takes a minute or a few) …'
	$(PIP) install -c constraints.txt torch
	@touch $@

$(VENV)/.serve: $(VENV)/.torch pyproject.toml
	$(PIP) install -c constraints.txt --editable '.[serve]'
	@touch $@

# The compiler is needed this once: a C compiler that pip brings, so that none has to be installed.
$(VENV)/.kernel: $(VENV)/.serve $(wildcard service/engine/kernel/*.c) service/engine/kernel/binaries.py
	@echo 'Compiling the engine'"'"'s kernel …'
	$(PIP) install -c constraints.txt --upgrade --target $(VENV)/compiler ziglang
	PYTHONPATH=$(VENV)/compiler $(RUN) -m service.engine.kernel
	@rm -rf $(VENV)/compiler
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	$(PIP) install -c constraints.txt --editable '.[serve,jobs,jwt,redis,score,tracing,train,dev,conformance,browser]'
	@touch $@

.PHONY: help serve setup test check ray-check kernel train docs vendor pictures harden weaken audit sbom image image-check bench bench-http bench-binary bench-cache bench-capacity bench-overhead bench-peers bench-scoring bench-moments bench-startup committees clean
