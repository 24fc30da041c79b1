"""Declaring Prometheus metrics with closed label sets, and keeping a catalogue of them for the documentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

PREFIX = "thinktwice_"
OTHER = "other"
MAX_BUCKETS = 16
MAX_LEARNT = 50  # names that an open set, such as the policies, may hold before the rest is folded

Labels = Mapping[str, Iterable[str]]
M = TypeVar("M", Counter, Gauge, Histogram)
R = TypeVar("R", bound="_Remembering")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric as the documentation lists it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class _Remembering(MetricWrapperBase):
    """Finds a child again by its label values alone: a tenth of the library's time, which takes a lock and makes
    strings of them, a dozen times a request. Its children are never removed.
    """

    def labels(self: R, *labelvalues: Any, **labelkwargs: Any) -> R:
        """The child of these label values."""
        if labelkwargs:
            return super().labels(*labelvalues, **labelkwargs)
        found: dict[tuple[Any, ...], R] = self.__dict__.setdefault("_found", {})
        child = found.get(labelvalues)
        if child is None:
            child = found[labelvalues] = super().labels(*labelvalues)
        return child


class _Counter(_Remembering, Counter):
    pass


class _Histogram(_Remembering, Histogram):
    pass


class Families:
    """Makes metrics on one registry. With `labels` as closed sets every combination exists from the start, at 0.

    A label whose values are not given (`()`) is filled through a `ClosedSet`, so it stays bounded as well.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.catalogue: list[Family] = []
        self._registry = registry

    def counter(self, name: str, help: str, labels: Labels | None = None) -> Counter:
        """A counter; the name ends in `_total`."""
        metric = _Counter(PREFIX + name.removesuffix("_total"), help, tuple(labels or ()), registry=self._registry)
        return self._declare(metric, Family(PREFIX + name, "counter", tuple(labels or ()), help), labels)

    def gauge(self, name: str, help: str, labels: Labels | None = None) -> Gauge:
        """A gauge."""
        metric = Gauge(PREFIX + name, help, tuple(labels or ()), registry=self._registry)
        return self._declare(metric, Family(PREFIX + name, "gauge", tuple(labels or ()), help), labels)

    def histogram(self, name: str, help: str, buckets: tuple[float, ...], labels: Labels | None = None) -> Histogram:
        """A histogram of at most `MAX_BUCKETS` buckets, the infinite one apart. Raises `ValueError` for more."""
        if len(buckets) > MAX_BUCKETS:
            raise ValueError(f"{name} has {len(buckets)} buckets, at most {MAX_BUCKETS} are allowed")
        metric = _Histogram(PREFIX + name, help, tuple(labels or ()), buckets=buckets, registry=self._registry)
        return self._declare(metric, Family(PREFIX + name, "histogram", tuple(labels or ()), help), labels)

    def _declare(self, metric: M, family: Family, labels: Labels | None) -> M:
        self.catalogue.append(family)
        if labels:
            for values in itertools.product(*labels.values()):
                metric.labels(*values)
        return metric


class ClosedSet:
    """The values a label may take. A value outside is `other`, counted in `overflow` under the label's name."""

    def __init__(self, label: str, values: Iterable[str], overflow: Counter) -> None:
        self._values = set(itertools.islice(values, MAX_LEARNT))
        self._overflow = overflow.labels(label)

    def learn(self, values: Iterable[str]) -> None:
        """Admit more values, up to `MAX_LEARNT` in all."""
        for value in values:
            if len(self._values) < MAX_LEARNT:
                self._values.add(value)

    def fold(self, value: str) -> str:
        """The value itself, or `other`."""
        if value in self._values:
            return value
        self._overflow.inc()
        return OTHER


class WithoutCreated:
    """A registry without the `_created` series, which would double the counters and which nothing here reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """The registry's metrics."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
