"""Every knob: one declaration is flag, environment variable, default and documentation.

The sole reader of the environment. Knows nothing of what the values are used for.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.location import DEFAULT_CACHE
from service.places import Hosts, OptionalDirectory, PostgresUrl, RedisUrl, Store

_PREFIX = "PENUMBRA_"
# The client's, and those that Kubernetes makes for a service that is called penumbra.
_OF_OTHERS = re.compile(r"PENUMBRA_(URL|API_KEY|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_\w+)")
# Past this many, cores serve better as engine threads.
_MOST_WORKERS = 8
# Of Linux control groups, version 2: microseconds of processor time in each period.
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
SHIPPED_STORE = Path(__file__).resolve().parent.parent / "models" / "store"


class Settings(BaseSettings):
    """Serve trained MLPs over HTTP: predictions, and seeded Monte Carlo dropout samples.

    Each flag can also be set by an environment variable: --max-rows is PENUMBRA_MAX_ROWS. A flag wins.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        cli_kebab_case=True,
        cli_prog_name="python -m service",
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 picks a free one.")] = 8000
    keys_file: Annotated[
        str,
        Field(
            description="File of API keys, made by `python -m service keys`; read again when it changes. Once keys or "
            "tokens are set, requests without one are refused."
        ),
    ] = ""
    keys: Annotated[
        str, Field(description="API keys without a file: the same lines (hashes only), for an environment's secrets.")
    ] = ""
    jwt_keys: Annotated[
        str,
        Field(
            description="Public keys (JWKS) of an identity provider whose tokens are accepted, too: a file or an https "
            "URL. Needs the extra: jwt."
        ),
    ] = ""
    jwt_issuer: Annotated[str, Field(description="Required issuer of a token: its claim iss.")] = ""
    jwt_audience: Annotated[str, Field(description="Required audience of a token: its claim aud.")] = ""
    allow_anonymous: Annotated[
        bool, Field(description="Answer everybody, without keys, even where other machines can reach the service.")
    ] = False
    allowed_hosts: Annotated[
        Hosts,
        Field(
            description="Host names by which the service may be addressed, separated by commas: example.com, "
            "*.example.com for all below it, local for addresses and names without a dot. Default: local on "
            "loopback, elsewhere any."
        ),
    ] = ""
    tls_cert: Annotated[str, Field(description="File with a certificate and its chain (PEM): serve HTTPS.")] = ""
    tls_key: Annotated[
        str, Field(description="File with the certificate's private key (PEM), if it is in a file of its own.")
    ] = ""
    docs: Annotated[
        bool,
        Field(
            description="Show the pages, to everybody: the playground, /docs and /openapi.json. They reveal nothing "
            "about the models."
        ),
    ] = True
    receive_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Time limit for a request to arrive, headers and body each, and for a caller who takes nothing "
            "of an answer or a stream.",
        ),
    ] = 15.0
    max_connections: Annotated[
        int,
        Field(
            ge=0,
            description="Most connections per worker; beyond it, everything but health checks gets 503. 0: as many as "
            "the open-file limit allows, which caps any value.",
        ),
    ] = 4096
    store: Annotated[
        Store,
        Field(
            description="Directory of models, NAME/VERSION/{manifest.json,weights.safetensors}; or the URL of an "
            "object store that has them: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX."
        ),
    ] = SHIPPED_STORE
    cache: Annotated[
        Path,
        Field(description="Directory in which an object store's models are mirrored; it can be deleted at any time."),
    ] = DEFAULT_CACHE
    watch_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=86_400,
            description="How often to look for new versions in the store; 0: only when told to.",
        ),
    ] = 5.0
    keep_versions: Annotated[
        int,
        Field(ge=0, description="How many of each model's newest versions to serve, besides the pinned one; 0: all."),
    ] = 0
    workers: Annotated[
        int, Field(ge=0, le=256, description="Worker processes that share the port; 0: one per core, at most 8.")
    ] = 0
    threads: Annotated[
        int,
        Field(ge=0, le=256, description="Engine threads per worker; 0: the cores divided by the workers."),
    ] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Field(
            description="Where networks are evaluated; auto: on a GPU if there is one. Masks are the same everywhere."
        ),
    ] = "auto"
    max_body_bytes: Annotated[int, Field(ge=1, description="Largest request body.")] = 4 * 2**20
    max_rows: Annotated[int, Field(ge=1, description="Most rows in one request.")] = 16_384
    max_samples: Annotated[int, Field(ge=1, description="Most samples in one request.")] = 100_000
    max_evaluations: Annotated[int, Field(ge=1, description="Most rows × samples in one request.")] = 2_000_000
    max_numbers: Annotated[
        int, Field(ge=1, description="Most rows × samples × outputs in one request; this bounds its memory.")
    ] = 8_000_000
    max_returned_draws: Annotated[
        int, Field(ge=1, description="Most numbers that return_draws may put into one answer.")
    ] = 1_000_000
    max_queue: Annotated[int, Field(ge=1, description="Most requests admitted at once per worker.")] = 1024
    max_queue_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Most work admitted at once per worker, in seconds of one core, as estimated from rows, "
            "samples and network. A single request is always admitted.",
        ),
    ] = 60.0
    mask_cache_bytes: Annotated[
        int, Field(ge=0, description="Memory per worker for the masks of seeds that are asked for again.")
    ] = 64 * 2**20
    memory_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the memory (the container's limit, else the machine's) beyond which caches are "
            "emptied, large requests refused and workers that have grown replaced; 0: no limit.",
        ),
    ] = 0.9
    answer_cache_bytes: Annotated[
        int,
        Field(
            ge=0,
            description="Memory per worker for answers that may be asked for again: predictions and seeded samples. 0: "
            "every request is computed, and Redis is not used.",
        ),
    ] = 16 * 2**20
    redis_url: Annotated[
        RedisUrl,
        Field(
            description="Redis server through which machines share answers: "
            "redis://[[USER]:PASSWORD@]HOST:PORT/NUMBER, rediss://… for TLS, or unix:///PATH. Needs the extra: redis."
        ),
    ] = ""
    jobs_dir: Annotated[
        OptionalDirectory,
        Field(
            description="Directory for jobs (/v1/jobs), which `python -m service jobs` works on. Without it there are "
            "no jobs. Needs the extra: jobs."
        ),
    ] = None
    jobs_database: Annotated[
        PostgresUrl,
        Field(
            description="Postgres database for jobs: postgresql://USER:PASSWORD@HOST:PORT/NAME. Default: an SQLite "
            "file in the directory."
        ),
    ] = ""
    jobs_keep_hours: Annotated[
        float, Field(gt=0, description="How long a job and its result are kept after submission.")
    ] = 168.0
    max_jobs: Annotated[int, Field(ge=1, description="Most unfinished jobs of one caller.")] = 100
    max_kept_jobs: Annotated[
        int, Field(ge=1, description="Most jobs of one caller that are kept, finished or not.")
    ] = 1000
    max_job_rows: Annotated[int, Field(ge=1, description="Most rows of a job.")] = 2_000_000
    max_job_bytes: Annotated[int, Field(ge=1, description="Largest table of a job, in bytes.")] = 256 * 2**20
    job_chunk_rows: Annotated[
        int,
        Field(
            ge=1,
            description="Rows of a job that are computed together: the most that is computed again after an "
            "interruption; a job can be cancelled between chunks.",
        ),
    ] = 8192
    deadline_ms: Annotated[
        int, Field(ge=1, description="Longest wait in the queue for requests without X-Deadline-Ms.")
    ] = 30_000
    stop_delay_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="After SIGTERM: how long requests are still accepted while /health/ready says no, so that load "
            "balancers can look elsewhere.",
        ),
    ] = 1.0
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"],
        Field(description="Least severe level that is logged."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Field(description="Format of log lines on standard error; auto: text on a terminal, else JSON."),
    ] = "auto"
    access_log: Annotated[
        bool, Field(description="Log a line for each request, at level info: what was asked, never the inputs.")
    ] = True
    metrics: Annotated[bool, Field(description="Keep metrics, and serve them to Prometheus at GET /metrics.")] = True
    metrics_dir: Annotated[
        str,
        Field(
            description="Directory through which workers share their counts, preferably in memory; at least a quarter "
            "of a MiB for each. Default: one that is removed when the service ends; in one that stays, counts "
            "go on."
        ),
    ] = ""
    otlp_endpoint: Annotated[
        str,
        Field(
            description="URL of an OpenTelemetry collector that receives traces over HTTP. Default: "
            "OTEL_EXPORTER_OTLP_ENDPOINT. Needs the extra: tracing."
        ),
    ] = ""

    @property
    def worker_processes(self) -> int:
        """Worker processes, with 0 resolved; they are forked, which is sound on Linux alone."""
        return self.workers or (min(usable_cores(), _MOST_WORKERS) if sys.platform == "linux" else 1)

    @property
    def engine_threads(self) -> int:
        """Engine threads per worker, with 0 resolved."""
        return self.threads or max(1, usable_cores() // self.worker_processes)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def answers_anybody(self) -> bool:
        """Whether no key is asked for."""
        return not (self.keys or self.keys_file or self.jwt_keys)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names under which the service may be asked, in small letters; none: any."""
        return tuple(host.strip().lower() for host in self.allowed_hosts.split(",") if host.strip())

    @property
    def logs_access(self) -> bool:
        """Whether there is a line for each request: if it is wanted, and its level is."""
        return self.access_log and self.log_level in ("info", "debug")

    @property
    def traces_url(self) -> str:
        """Where spans are sent, by the setting or OpenTelemetry's own variables; empty: nowhere."""
        base = self.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        own = "" if self.otlp_endpoint else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        return own or (f"{base.rstrip('/')}/v1/traces" if base else "")


def usable_cores() -> int:
    """Cores this process may run on, and a container's limit on processor time if it has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # there is no such file, or no limit: "max"
        quota, period = _CPU_LIMIT.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    return cores


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """What to say of variables that look like settings and are none."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    complaints = []
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known and not _OF_OTHERS.fullmatch(name):
            # What all have in common makes none of them alike.
            close = get_close_matches(name.removeprefix(_PREFIX), [one.removeprefix(_PREFIX) for one in known], 1)
            complaints.append(f"{name} is not a setting" + (f"; did you mean {_PREFIX}{close[0]}?" if close else ""))
    return complaints
