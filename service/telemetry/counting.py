"""Counts what happens, on pages that all workers can read. Knows nothing of Prometheus.

All of it runs on the event loop, between a request and its answer: each line here is paid for by every request, and
what can be done once for a company is not done for each request in it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from operator import gt, lt
from pathlib import Path
from typing import get_args

import numpy as np

from models.features import Float64
from models.manifest import Distribution, Quantity
from service.caching.answers import Answers, Outcome
from service.catalogue import Looks
from service.engine.mask_cache import MaskCache
from service.engine.uncertainty import RegressionSummary
from service.errors import (
    CallerGone,
    DeadlineExceeded,
    MemoryShort,
    QueueFull,
    RateExceeded,
    ShareExceeded,
    ShuttingDown,
)
from service.jobs import Job, Sampled
from service.memory import resident_memory
from service.served import ServedModel
from service.telemetry import catalogue, drift
from service.telemetry.catalogue import Family
from service.telemetry.pages import Board

NONE, OTHER = "none", "other"
_SHED: dict[type[Exception], str] = {
    QueueFull: "queue_full",
    ShareExceeded: "share",
    MemoryShort: "memory",
    DeadlineExceeded: "deadline",
    CallerGone: "client_gone",
    ShuttingDown: "shutting_down",
    RateExceeded: "rate",
}
_HISTOGRAMS: dict[Quantity, Family] = {
    "predictive_std": catalogue.PREDICTIVE_STD,
    "epistemic_std": catalogue.EPISTEMIC_STD,
    "predictive_entropy": catalogue.ENTROPY,
    "mutual_information": catalogue.INFORMATION,
}
# Up to this many numbers Python is faster than NumPy.
_FEW = 30


class Counters:
    """One worker's counts. `names` tells which models may become labels by now, `routes` are the templates."""

    def __init__(
        self,
        board: Board,
        names: Callable[[], Collection[str]],
        routes: Collection[str],
        now: Callable[[], float] = time.time,
        answers: Answers | None = None,
    ) -> None:
        self._board, self._names, self._routes, self._now = board, names, frozenset(routes), now
        self._answers: dict[tuple[str, str, int], tuple[memoryview[float], memoryview[float]]] = {}
        self._predictions: dict[str, _Asked] = {}
        self._samplings: dict[str, _Sampled] = {}
        self._shed = {kind: board.series(catalogue.SHED.name, (reason,)) for kind, reason in _SHED.items()}
        self._gauges = [_one(board, each) for each in (catalogue.IN_FLIGHT, catalogue.QUEUED, catalogue.WORK)]
        self._lag, self._memory = _one(board, catalogue.LAG), _one(board, catalogue.MEMORY)
        self._lines_dropped = _one(board, catalogue.LOG_DROPPED)
        self._hits, self._misses = _one(board, catalogue.CACHE_HITS), _one(board, catalogue.CACHE_MISSES)
        self._bytes = _one(board, catalogue.CACHE_BYTES)
        self._looks = [board.series(catalogue.STORE_LOOKS.name, (outcome,)) for outcome in ("ok", "failed")]
        self._outcomes: dict[Outcome, memoryview[float]] = {
            outcome: board.series(catalogue.ANSWERS.name, (outcome,)) for outcome in get_args(Outcome)
        }
        self._answers_kept = answers
        self._answers_bytes = _one(board, catalogue.ANSWERS_BYTES)
        self._evictions, self._redis_failures = _one(board, catalogue.EVICTIONS), _one(board, catalogue.REDIS_FAILURES)
        # By whoever had the page before.
        self._found = self._hits[0], self._misses[0]
        self._lost = self._evictions[0], self._redis_failures[0]
        self._looked = [numbers[0] for numbers in self._looks]
        self._cache: MaskCache | None = None
        for gauge in (*self._gauges, self._lag, self._memory, self._bytes, self._answers_bytes):
            gauge[0] = 0.0
        _one(board, catalogue.STARTED)[0] = now()

    def answered(self, route: str, name: str, status: int, seconds: float) -> None:
        """A request has its answer, which is not sent yet."""
        known = self._answers.get((route, name, status))
        requests, durations = self._of_answer(route, name, status) if known is None else known
        requests[0] += 1.0
        durations[bisect_left(_BOUNDS, seconds)] += 1.0
        durations[-1] += seconds

    def looked_up(self, outcome: Outcome) -> None:
        """A request whose answer was looked for has it."""
        self._outcomes[outcome][0] += 1.0

    def failed(self, error: Exception) -> None:
        """A request ended with an error."""
        if (numbers := self._shed.get(type(error))) is not None:
            numbers[0] += 1.0

    def evaluated(self, jobs: Sequence[Job], waits: Sequence[float], seconds: float) -> None:
        """Jobs of one network and kind were evaluated together, after so many seconds of waiting for each."""
        model = jobs[0].model
        if jobs[0].sampling is None:
            asked = self._predictions.get(model.fingerprint)
            if asked is None:
                asked = self._predictions[model.fingerprint] = _Asked(self._board, model, "predict")
            asked.count(jobs, waits, seconds)
        else:
            sampled = self._samplings.get(model.fingerprint)
            if sampled is None:
                sampled = self._samplings[model.fingerprint] = _Sampled(self._board, model)
            sampled.count(jobs, waits, seconds)
            sampled.count_answers(jobs, drift.period_of(self._now()))
            if self._cache is not None:
                self.note_cache(self._cache)

    def note_cache(self, cache: MaskCache) -> None:
        """What this cache has counted itself; from now on after each evaluation."""
        self._cache = cache
        self._hits[0], self._misses[0] = self._found[0] + cache.hits, self._found[1] + cache.misses
        self._bytes[0] = cache.bytes

    def note_answers(self) -> None:
        """What is kept of answers now, and what has been lost."""
        if (kept := self._answers_kept) is None:
            return
        self._answers_bytes[0] = kept.memory.taken
        self._evictions[0] = self._lost[0] + kept.memory.evictions
        if kept.shared is not None:
            self._redis_failures[0] = self._lost[1] + kept.shared.failures

    def note_looks(self, looks: Looks) -> None:
        """How often this worker has looked into the store."""
        for numbers, before, count in zip(self._looks, self._looked, (looks.ok, looks.failed), strict=True):
            numbers[0] = before + count

    def note_queue(self, admitted: int, queued: int, seconds: float) -> None:
        """What is admitted now, what of it has not begun, and how much work it all is."""
        for gauge, value in zip(self._gauges, (admitted, queued, seconds), strict=True):
            gauge[0] = value

    def note_worker(self, lag: float) -> None:
        """How late the event loop is, and how large the process."""
        self._lag[0], self._memory[0] = lag, resident_memory()

    def dropped_lines(self, count: int) -> None:
        """Access lines that nobody would read."""
        self._lines_dropped[0] += count

    def _of_answer(self, route: str, name: str, status: int) -> tuple[memoryview[float], memoryview[float]]:
        """What is counted for these labels; callers' inventions share a count, and are not remembered."""
        known_route, known_name = route if route in self._routes else OTHER, name if name in self._names() else NONE
        requests = self._board.series(catalogue.REQUESTS.name, (known_route, known_name, str(status)))
        found = requests, _histogram(self._board, catalogue.DURATION, (known_route,))
        if route == known_route and (name == known_name or not name):
            self._answers[route, name, status] = found
        return found


_BOUNDS = catalogue.DURATION.bounds  # of all durations
_COMPANY_BOUNDS, _ROWS_BOUNDS = catalogue.COMPANY_REQUESTS.bounds, catalogue.COMPANY_ROWS.bounds


class _Asked:
    """The counts of one version and one operation."""

    def __init__(self, board: Board, model: ServedModel, operation: str) -> None:
        manifest = model.manifest
        asked, version = (manifest.name, operation), (manifest.name, manifest.version, operation)
        self._queue = _histogram(board, catalogue.QUEUE, asked)
        self._compute = _histogram(board, catalogue.COMPUTE, asked)
        self._company = _histogram(board, catalogue.COMPANY_REQUESTS, asked)
        self._company_rows = _histogram(board, catalogue.COMPANY_ROWS, asked)
        self._computed = board.series(catalogue.COMPUTED.name, asked)
        self._rows = board.series(catalogue.ROWS.name, version)
        self._outside = board.series(catalogue.OUTSIDE.name, version)
        ranges = np.array([column.limits for column in manifest.inputs])
        self._low, self._high = ranges[:, 0].copy(), ranges[:, 1].copy()
        self._low_list, self._high_list = self._low.tolist(), self._high.tolist()

    def count(self, jobs: Sequence[Job], waits: Sequence[float], seconds: float) -> None:
        """One company."""
        number = len(jobs)
        rows = jobs[0].rows if number == 1 else np.concatenate([job.rows for job in jobs])
        count = len(rows)
        numbers = self._queue
        for wait in waits:
            numbers[bisect_left(_BOUNDS, wait)] += 1.0
        numbers[-1] += sum(waits)
        numbers = self._compute
        numbers[bisect_left(_BOUNDS, seconds)] += number
        numbers[-1] += number * seconds
        numbers = self._company
        numbers[bisect_left(_COMPANY_BOUNDS, number)] += 1.0
        numbers[-1] += number
        numbers = self._company_rows
        numbers[bisect_left(_ROWS_BOUNDS, count)] += 1.0
        numbers[-1] += count
        self._computed[0] += number
        self._rows[0] += count
        if outside := self._rows_outside(rows):
            self._outside[0] += outside

    def _rows_outside(self, rows: Float64) -> int:
        """How many of these rows [rows, inputs] have an input out of its range."""
        if rows.size <= _FEW:
            low, high, count = self._low_list, self._high_list, 0
            for row in rows.tolist():
                count += any(map(lt, row, low)) or any(map(gt, row, high))
            return count
        outside = rows < self._low
        outside |= rows > self._high
        return int(np.count_nonzero(outside.any(axis=1))) if np.count_nonzero(outside) else 0


class _Sampled(_Asked):
    """The counts of one version's sampling, and of the uncertainty that it tells."""

    def __init__(self, board: Board, model: ServedModel) -> None:
        super().__init__(board, model, "sample")
        manifest = model.manifest
        self._company_samples = _histogram(board, catalogue.COMPANY_SAMPLES, (manifest.name,))
        self._evaluations = board.series(catalogue.EVALUATIONS.name, (manifest.name, manifest.version))
        # A committee of fewer is another one than that of the validation rows.
        self._least_samples = manifest.uncertainty.samples if manifest.uncertainty else 0
        scale = np.array([target.scale for target in manifest.targets] or [1.0])
        quantities: tuple[Quantity, Quantity] = (
            ("predictive_std", "epistemic_std") if manifest.targets else ("predictive_entropy", "mutual_information")
        )
        self._spreads = [_Spread(board, model, each, scale) for each in quantities]

    def count_answers(self, jobs: Sequence[Job], period: float) -> None:
        """The uncertainty in the answers of a company.

        Of what-ifs, single samples, blocks and other methods than the default nothing is counted.
        """
        samples = pairs = 0
        total, epistemic = self._spreads
        total.begin(period)
        epistemic.begin(period)
        for job in jobs:
            assert job.sampling is not None, "a prediction among samplings. This is a bug."
            committee = job.sampling.committee
            samples += committee.samples
            pairs += committee.samples * len(job.rows)
            by_default = committee.p is None and job.sampling.method == "dropout" and job.earlier is None
            if by_default and committee.samples > 1:
                comparable = committee.samples >= self._least_samples
                for part in job.parts.values():
                    totals, epistemics = _uncertainty(part)
                    total.count(totals, comparable)
                    epistemic.count(epistemics, comparable)
        numbers = self._company_samples
        numbers[bisect_left(_ROWS_BOUNDS, samples)] += 1.0
        numbers[-1] += samples
        self._evaluations[0] += pairs


def _uncertainty(part: object) -> tuple[Float64, Float64]:
    """Total and epistemic, in an answer of several samples."""
    assert isinstance(part, Sampled), "a prediction among samplings. This is a bug."
    summary = part.summary
    if isinstance(summary, RegressionSummary):
        assert summary.std is not None, "no spread among several samples. This is a bug."
        assert summary.epistemic_std is not None, "a spread without its part. This is a bug."
        return summary.std, summary.epistemic_std
    return summary.predictive_entropy, summary.mutual_information


class _Spread:
    """How one quantity of a version is spread: its histogram, and its window where there is something to compare.

    Values come in units of `scale`, one for each output.
    """

    def __init__(self, board: Board, model: ServedModel, quantity: Quantity, scale: Float64) -> None:
        manifest, family = model.manifest, _HISTOGRAMS[quantity]
        known = manifest.uncertainty.distributions.get(quantity) if manifest.uncertainty else None
        self._scale, self._only_scale = scale, float(scale[0])
        self._bounds, self._edges = family.bounds, () if known is None else known.edges
        self._histogram = _histogram(board, family, (manifest.name, manifest.version))
        self._window = None if known is None else window(board, model, quantity, known)
        self._bins: memoryview[float] | None = None  # of the window's present period
        self._period = 0.0

    def begin(self, period: float) -> None:
        """What is counted from here on belongs to this period."""
        if period != self._period and self._window is not None:
            self._period, self._bins = period, drift.bins_of(self._window, len(self._edges) + 1, period)

    def count(self, values: Float64, comparable: bool) -> None:
        """Values [rows, outputs] or [rows]; into the window only what can be compared with the manifest's."""
        bins = self._bins if comparable else None
        if values.size == 1:
            value = values.item() / self._only_scale
            self._histogram[bisect_left(self._bounds, value)] += 1.0
            self._histogram[-1] += value
            if bins is not None:
                bins[bisect_left(self._edges, value)] += 1.0
            return
        values = (values / self._scale).ravel()
        self._histogram[-1] += float(values.sum())
        for numbers, bounds in ((self._histogram, self._bounds), (bins, self._edges)):
            if numbers is not None:
                for place, count in enumerate(_counts(bounds, values)):
                    numbers[place] += count


def window(board: Board, model: ServedModel, quantity: Quantity, expected: Distribution) -> memoryview[float]:
    """The window of a quantity of this very version: another digest has other bins."""
    return board.series(*window_key(model, quantity), drift.window_size(len(expected.shares)))


def window_key(model: ServedModel, quantity: Quantity) -> tuple[str, tuple[str, ...]]:
    """Its place on a page."""
    manifest = model.manifest
    return f"drift {quantity}", (manifest.name, manifest.version, manifest.digest)


def open_board(directory: Path | None) -> Board:
    """Pages for what is counted here."""
    return Board(directory, catalogue.layout())


def _one(board: Board, family: Family) -> memoryview[float]:
    """The only number of a family without labels; worker gauges get theirs when they are read."""
    return board.series(family.name)


def _histogram(board: Board, family: Family, labels: tuple[str, ...]) -> memoryview[float]:
    return board.series(family.name, labels, family.size)


def _counts(bounds: Sequence[float], values: Float64) -> list[int]:
    """How many values lie in each bucket: up to the first bound, …, above the last."""
    if values.size <= _FEW:
        found = [0] * (len(bounds) + 1)
        for value in values.tolist():
            found[bisect_left(bounds, value)] += 1
        return found
    counts: list[int] = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1).tolist()
    return counts
