"""The pages of all workers, added up, as Prometheus reads them. The only module that knows Prometheus."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import torch
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from penumbra import __version__
from service.served import ServedModel
from service.telemetry import catalogue, drift
from service.telemetry.catalogue import FAMILIES, Family
from service.telemetry.counting import window_key
from service.telemetry.pages import Board, Key, Series

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# What is served by now.
Models = Callable[[], Mapping[str, Mapping[str, ServedModel | None]]]
_Found = dict[tuple[str, ...], Sequence[float]]


class Exposition(Collector):
    """Reads a board when it is asked, and what is known of the models by this process."""

    def __init__(self, board: Board, models: Models, now: Callable[[], float]) -> None:
        self._board, self._models, self._now = board, models, now
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        series = list(self._board.read())
        found = _added_up(series)
        found |= self._drift(series)
        found[catalogue.BUILD_INFO.name] = {(__version__, platform.python_version(), torch.__version__): [1.0]}
        found[catalogue.MODEL_INFO.name] = {labels: [1.0] for labels in self._model_infos()}
        for family in FAMILIES:
            yield _metric(family, found.get(family.name, {}))

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before it is asked for."""
        return ()

    def _model_infos(self) -> Iterator[tuple[str, ...]]:
        for name, versions in self._models().items():
            for version, model in versions.items():
                ready = model is not None
                yield name, version, model.manifest.digest if model else "", str(ready).lower()

    def _drift(self, series: Iterable[Series]) -> dict[str, _Found]:
        windows: defaultdict[Key, list[Sequence[float]]] = defaultdict(list)
        for each in series:
            windows[each.family, each.labels].append(each.values)
        indices, chances, values = _Found(), _Found(), _Found()
        period = drift.period_of(self._now())
        for model in (model for versions in self._models().values() for model in versions.values() if model):
            expected = model.manifest.uncertainty
            for quantity, distribution in expected.distributions.items() if expected else ():
                counts = drift.recent(windows[window_key(model, quantity)], len(distribution.shares), period)
                if expected is None or sum(counts) < drift.LEAST_VALUES:
                    continue
                labels = (model.manifest.name, model.manifest.version, quantity)
                indices[labels] = [drift.index(distribution, expected.values, counts)]
                chances[labels] = [drift.chance(expected.values, counts)]
                values[labels] = [sum(counts)]
        return {
            catalogue.DRIFT_INDEX.name: indices,
            catalogue.DRIFT_CHANCE.name: chances,
            catalogue.DRIFT_VALUES.name: values,
        }


def _added_up(series: Iterable[Series]) -> dict[str, _Found]:
    """The numbers of each family and label set, over all pages; gauges over those whose worker lives."""
    known = {family.name: family for family in FAMILIES}
    found: defaultdict[str, _Found] = defaultdict(dict)
    for each in series:
        family = known.get(each.family)
        if family is None or (not each.alive and family.kind in ("gauge", "worker gauge")):
            continue
        labels = (str(each.page),) if family.kind == "worker gauge" else each.labels
        before = found[each.family].get(labels)
        found[each.family][labels] = (
            each.values if before is None else [a + b for a, b in zip(before, each.values, strict=True)]
        )
    return dict(found)


def _metric(family: Family, found: _Found) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for labels, (*counts, total) in sorted(found.items()):
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, (value,) in sorted(found.items()):
        metric.add_metric(labels, value)
    return metric
