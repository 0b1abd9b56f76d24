"""Every metric that the service has: its name, kind, labels and meaning. Counts nothing.

Names and base units are those of Prometheus' conventions. `python -m service.telemetry` prints docs/metrics.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from service.telemetry.pages import LAYOUT_BYTES

# counter, gauge and histogram are added up over the workers, gauges over those that live; a worker gauge is told for
# each of them; what is read is not counted but looked up when it is asked for.
Kind = Literal["counter", "gauge", "histogram", "worker gauge", "read gauge"]

_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_POWERS = tuple(float(4**power) for power in range(10))
_RATIOS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0)
_NATS = (0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; a histogram has the upper `bounds` of its buckets, the last of which is +Inf and not among them."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Numbers that a series has on a page: a histogram's are its buckets, each for itself, and then the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


_VERSION = ("model", "version")
_ASKED = ("model", "operation")

REQUESTS = Family(
    "penumbra_requests_total",
    "counter",
    "Requests answered, by route template, model in the store (else none) and status.",
    ("route", "model", "status"),
)
DURATION = Family(
    "penumbra_request_duration_seconds",
    "histogram",
    "From the request's first byte in the application to its answer, before that is sent.",
    ("route",),
    _SECONDS,
)
QUEUE = Family(
    "penumbra_queue_duration_seconds",
    "histogram",
    "From admission to the beginning of the evaluation, of requests that were computed.",
    _ASKED,
    _SECONDS,
)
COMPUTE = Family(
    "penumbra_compute_duration_seconds",
    "histogram",
    "From the beginning of the evaluation to its end, of requests that were computed; company counts for each.",
    _ASKED,
    _SECONDS,
)
COMPUTED = Family(
    "penumbra_computed_requests_total", "counter", "Requests, or blocks of a stream, that were evaluated.", _ASKED
)
SHED = Family(
    "penumbra_shed_total",
    "counter",
    "Requests that were not computed: queue_full, share (of a caller in a full queue), memory, deadline (passed in the "
    "queue), client_gone, shutting_down, rate (of a key).",
    ("reason",),
)
COMPANY_REQUESTS = Family(
    "penumbra_company_requests", "histogram", "Requests evaluated together.", _ASKED, (1, 2, 4, 8, 16, 32, 64, 128)
)
COMPANY_ROWS = Family("penumbra_company_rows", "histogram", "Rows evaluated together.", _ASKED, _POWERS)
COMPANY_SAMPLES = Family(
    "penumbra_company_samples",
    "histogram",
    "Samples of all requests evaluated together, of sampling.",
    ("model",),
    _POWERS,
)
ROWS = Family("penumbra_rows_total", "counter", "Rows evaluated.", (*_VERSION, "operation"))
OUTSIDE = Family(
    "penumbra_rows_out_of_range_total",
    "counter",
    "Rows evaluated with at least one input outside the range that training saw.",
    (*_VERSION, "operation"),
)
EVALUATIONS = Family("penumbra_evaluations_total", "counter", "Rows times samples evaluated by sampling.", _VERSION)
PREDICTIVE_STD = Family(
    "penumbra_predictive_std_ratio",
    "histogram",
    "Predictive standard deviation over the target's scale in training, of each sampled row and output (regression).",
    _VERSION,
    _RATIOS,
)
EPISTEMIC_STD = Family(
    "penumbra_epistemic_std_ratio",
    "histogram",
    "Epistemic standard deviation over the target's scale in training, of each sampled row and output (regression).",
    _VERSION,
    _RATIOS,
)
ENTROPY = Family(
    "penumbra_predictive_entropy_nats",
    "histogram",
    "Predictive entropy of each sampled row (classification).",
    _VERSION,
    _NATS,
)
INFORMATION = Family(
    "penumbra_mutual_information_nats",
    "histogram",
    "Mutual information between output and committee of each sampled row (classification).",
    _VERSION,
    _NATS,
)
DRIFT_INDEX = Family(
    "penumbra_drift_index",
    "read gauge",
    "Population stability index of the last hour's uncertainty against the validation rows'; see docs/drift.md.",
    (*_VERSION, "quantity"),
)
DRIFT_CHANCE = Family(
    "penumbra_drift_chance",
    "read gauge",
    "What the index would be on average if nothing had drifted, for so few rows.",
    (*_VERSION, "quantity"),
)
DRIFT_VALUES = Family(
    "penumbra_drift_values",
    "read gauge",
    "Values of the last hour that the index is made of.",
    (*_VERSION, "quantity"),
)
IN_FLIGHT = Family(
    "penumbra_in_flight_requests",
    "gauge",
    "Requests admitted and not yet answered, and those that wait with them for the same.",
)
QUEUED = Family("penumbra_queued_requests", "gauge", "Requests admitted whose evaluation has not begun.")
WORK = Family("penumbra_admitted_work_seconds", "gauge", "Work admitted, in seconds of one core as estimated.")
CACHE_HITS = Family("penumbra_mask_cache_hits_total", "counter", "Masks found in the cache.")
CACHE_MISSES = Family("penumbra_mask_cache_misses_total", "counter", "Masks that had to be drawn.")
CACHE_BYTES = Family("penumbra_mask_cache_bytes", "gauge", "Memory that cached masks take.")
ANSWERS = Family(
    "penumbra_answer_cache_requests_total",
    "counter",
    "Predictions and seeded samplings answered, by where the answer came from: hit (this worker had it), shared (Redis "
    "had it), joined (it was being computed for another), miss (computed).",
    ("outcome",),
)
ANSWERS_BYTES = Family("penumbra_answer_cache_bytes", "gauge", "Memory that kept answers take.")
EVICTIONS = Family(
    "penumbra_answer_cache_evictions_total", "counter", "Kept answers that had to make room for newer ones."
)
REDIS_FAILURES = Family(
    "penumbra_redis_failures_total",
    "counter",
    "Exchanges with Redis that failed or took too long; after each it is left alone for a few seconds.",
)
LOG_DROPPED = Family(
    "penumbra_access_log_dropped_total", "counter", "Access lines dropped because nobody read the log for too long."
)
MODEL_INFO = Family(
    "penumbra_model_info",
    "read gauge",
    "1 for each version in the store; ready says whether it passed verification, without which it has no digest.",
    (*_VERSION, "digest", "ready"),
)
STORE_LOOKS = Family(
    "penumbra_store_looks_total",
    "counter",
    "Looks into the store for new versions, by outcome: ok, failed (it could not be read, and what is served stays).",
    ("outcome",),
)
BUILD_INFO = Family("penumbra_build_info", "read gauge", "1; what is running.", ("version", "python", "torch"))
STARTED = Family(
    "penumbra_worker_start_time_seconds",
    "worker gauge",
    "When the worker started, as a Unix time; a worker that died is not told of.",
    ("worker",),
)
LAG = Family(
    "penumbra_worker_event_loop_lag_seconds",
    "worker gauge",
    "How late the event loop came to its last heartbeat, once a second.",
    ("worker",),
)
MEMORY = Family("penumbra_worker_resident_memory_bytes", "worker gauge", "Resident memory of the worker.", ("worker",))

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))


def layout() -> bytes:
    """A name for what the numbers on a page mean, so that no release takes another's for its own."""
    return hashlib.blake2b(repr(FAMILIES).encode(), digest_size=LAYOUT_BYTES).digest()


def markdown() -> str:
    """The list of metrics, as docs/metrics.md has it."""
    lines = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for family in FAMILIES:
        kind, labels = family.kind.split()[-1], ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {kind} | {labels or '–'} | {family.help} |")
    return _PAGE.format(table="\n".join(lines))


_PAGE = """\
# Metrics

What `GET /metrics` tells Prometheus. Generated by `python -m service.telemetry`; a test keeps it true.

{table}

Counters and histograms are those of all workers together, whichever of them is asked, and a worker that dies takes
nothing with it that it had counted; they begin at 0 when the service starts. Each is counted before the answer that it
is about is sent: who scrapes after the last answer has them all. Gauges are added up over the workers that live, and
are at most a second old. `worker` numbers the workers from 0; one that replaces a dead worker takes its number.

`route` is one of the service's route templates, or `other`; `model` is a model in the store, or `none`: what callers
make up never becomes a label. `operation` is `predict` or `sample`. Uncertainty is counted for every sampled row, but
not where the caller asked what if p were different (`dropout`), or for a single sample, nor in the blocks of a stream
or of a sampling with a target. `penumbra_drift_…` is explained in [drift](drift.md). A label set appears with its first
request, those of `penumbra_shed_total` and `penumbra_answer_cache_requests_total` at once.
"""
