"""The numbers behind the metrics, and the Prometheus page that shows them."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from esa_tls.telemetry.metrics import BY_NAME, COUNTER, GAUGE, HISTOGRAM, METRICS, Metric

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram

__all__ = ["CONTENT_TYPE", "MAX_LABEL_CHARS", "OTHER", "Counters", "SeriesKey"]

OTHER = "other"
"""The label value that stands for all series beyond a metric's `max_series`."""

MAX_LABEL_CHARS = 200
"""A label value is cut here; long ones come from masked line shapes only."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of `Counters.prometheus_text`."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""(metric name, label pairs sorted by label name): the key of one series."""


class _Distribution:
    """One histogram series: how many values fell into each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.sum = 0.0


class Counters:
    """All numbers of one process.

    Counting is for the event loop; the journal's writer thread may count series that nobody else counts. Reading is safe from any
    thread, because readers copy the dict first.
    """

    def __init__(self) -> None:
        self._values: dict[SeriesKey, float] = {}
        self._gauges: dict[SeriesKey, Callable[[], float | None]] = {}
        self._families: dict[str, Callable[[], Iterable[tuple[Mapping[str, str], float]]]] = {}
        self._distributions: dict[SeriesKey, _Distribution] = {}
        self._series: dict[str, int] = {}
        self._histograms: list[tuple[str, Histogram]] = []

    def add(self, name: str, n: float = 1, /, **labels: str) -> None:
        """Add `n` to the counter `name`; `labels` are some or all of those in its table row. Raises ValueError for others."""
        self._add((name, tuple(sorted(labels.items())) if labels else ()), n)

    def add_all(self, counts: Mapping[SeriesKey, float]) -> None:
        """Add many at once: (name, label pairs in any order) -> n, as the core hands them out. Labels without a value are left out."""
        for (name, labels), n in counts.items():
            self._add((name, tuple(sorted(pair for pair in labels if pair[1]))), n)

    def _add(self, key: SeriesKey, n: float) -> None:
        values = self._values
        if key not in values:
            key = self._admit(key, COUNTER)
        values[key] = values.get(key, 0) + n

    def gauge(self, name: str, fn: Callable[[], float | None], /, **labels: str) -> None:
        """Let `fn` tell the gauge (or ever-growing counter) `name` whenever it is read; None = nothing to tell now. It must not raise."""
        kind = BY_NAME[name].kind if name in BY_NAME else GAUGE
        self._gauges[self._admit((name, tuple(sorted(labels.items()))), kind)] = fn

    def gauges(self, name: str, fn: Callable[[], Iterable[tuple[Mapping[str, str], float]]], /) -> None:
        """Let `fn` tell all series of the gauge `name` whenever it is read, as labels and number: for series that come and go.

        It must not raise. What is beyond the metric's `max_series` is left out.
        """
        self._families[name] = fn

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Put `value` (in the metric's unit) into the histogram `name`."""
        key = (name, tuple(sorted(labels.items())))
        distribution = self._distributions.get(key)
        if distribution is None:
            key = self._admit(key, HISTOGRAM)
            distribution = self._distributions.setdefault(key, _Distribution(len(BY_NAME[name].buckets)))
        distribution.counts[bisect_left(BY_NAME[name].buckets, value)] += 1
        distribution.sum += value
        for wanted, histogram in self._histograms:
            if wanted == name:
                histogram.record(value, dict(key[1]))

    def value(self, name: str, /, **labels: str) -> float:
        """The counter or gauge now, summed over all series that carry these labels; 0 if there is none. For health and tests."""
        wanted = set(labels.items())
        return sum(number for key, number in self._numbers() if key[0] == name and wanted <= set(key[1]))

    def series(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """All series of a counter or gauge: label pairs -> number."""
        return {key[1]: number for key, number in self._numbers() if key[0] == name}

    def _numbers(self) -> Iterator[tuple[SeriesKey, float]]:
        yield from self._values.copy().items()
        for key, fn in self._gauges.copy().items():
            number = fn()
            if number is not None:
                yield key, number
        for name, series in self._families.copy().items():
            for labels, number in itertools.islice(series(), BY_NAME[name].max_series):
                yield (name, tuple(sorted((label, value[:MAX_LABEL_CHARS]) for label, value in labels.items()))), number

    def _admit(self, key: SeriesKey, kind: str) -> SeriesKey:
        """The key under which a series unseen so far is counted: itself, cut, or `other` when the metric has its full number."""
        name, labels = key
        metric = BY_NAME.get(name)
        if metric is None or metric.kind != kind:
            message = f"{name!r} is no {kind} of telemetry.METRICS"
            raise ValueError(message)
        unknown = [label for label, _ in labels if label not in metric.labels]
        if unknown:
            message = f"{name!r} has no label {unknown[0]!r}; it has {metric.labels}"
            raise ValueError(message)
        if any(len(value) > MAX_LABEL_CHARS for _, value in labels):
            labels = tuple((label, value[:MAX_LABEL_CHARS]) for label, value in labels)
            key = (name, labels)
        if key in self._values or key in self._gauges:
            return key
        if labels and self._series.get(name, 0) >= metric.max_series:
            return (name, tuple((label, OTHER) for label, _ in labels))
        self._series[name] = self._series.get(name, 0) + 1
        return key

    # -- readers -----------------------------------------------------------------------------------------------------------------
    def prometheus_text(self) -> str:
        """The whole page in Prometheus' text format 0.0.4, in the order of `METRICS`. A counter without labels shows its 0."""
        samples: dict[str, list[str]] = {}
        for (name, labels), number in self._numbers():
            samples.setdefault(name, []).append(f"{BY_NAME[name].prometheus_name}{_label_text(labels)} {_number_text(number)}")
        for (name, labels), distribution in self._distributions.copy().items():
            samples.setdefault(name, []).extend(_histogram_lines(BY_NAME[name], labels, distribution))
        lines: list[str] = []
        for metric in METRICS:
            own = samples.get(metric.name)
            if own is None and (metric.kind != COUNTER or metric.labels):
                continue
            lines.append(f"# HELP {metric.prometheus_name} {_escape(metric.meaning)}")
            lines.append(f"# TYPE {metric.prometheus_name} {metric.kind}")
            lines.extend(own or [f"{metric.prometheus_name} 0"])
        return "\n".join(lines) + "\n"

    def observations(self, name: str) -> list[tuple[float, dict[str, str]]]:
        """What an OpenTelemetry instrument of that name reports now: numbers and attributes (dotted, as `cpu.mode` is)."""
        return [(number, {label.replace("_", "."): value for label, value in labels}) for labels, number in self.series(name).items()]

    def also_record(self, name: str, histogram: Histogram) -> None:
        """Hand every later `observe(name, ...)` to `histogram` too: OpenTelemetry has no observable histogram."""
        self._histograms.append((name, histogram))


# -- Prometheus text -------------------------------------------------------------------------------------------------------------
def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label_text(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{label}="{_escape(value).replace(chr(34), chr(92) + chr(34))}"' for label, value in labels) + "}"


def _number_text(number: float) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    return str(int(number)) if number == int(number) else repr(float(number))


def _histogram_lines(metric: Metric, labels: tuple[tuple[str, str], ...], distribution: _Distribution) -> Iterator[str]:
    total = 0
    for bound, count in zip([*map(_number_text, metric.buckets), "+Inf"], distribution.counts, strict=True):
        total += count
        yield f"{metric.prometheus_name}_bucket{_label_text((*labels, ('le', bound)))} {total}"
    yield f"{metric.prometheus_name}_sum{_label_text(labels)} {_number_text(distribution.sum)}"
    yield f"{metric.prometheus_name}_count{_label_text(labels)} {total}"
