from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from prometheus_client.parser import text_string_to_metric_families

import esa_tls
from esa_tls import reference, telemetry
from esa_tls.telemetry import (
    BY_NAME,
    HELD_LINES,
    JOURNAL_COMMIT_DURATION,
    JOURNAL_COMMIT_FAILURES,
    LINES,
    MAX_LABEL_CHARS,
    METRICS,
    OPEN_ENTRIES,
    OTHER,
    RECORDS,
    SINK_RETRIES,
    UNRECOGNISED,
    Counters,
    meter_provider,
    watch_process,
)

PACKAGE = Path(esa_tls.__file__).parent


def full() -> Counters:
    """Counters in which every metric of the table has a series, with all its labels."""
    counters = Counters()
    for number, metric in enumerate(METRICS, 1):
        labels = {label: f"{label}-{number}" for label in metric.labels}
        if metric.kind == telemetry.COUNTER:
            counters.add(metric.name, number, **labels)
        elif metric.kind == telemetry.GAUGE:
            counters.gauge(metric.name, lambda number=number: number / 4, **labels)  # type: ignore[misc]
        else:
            counters.observe(metric.name, 0.003, **labels)
    return counters


def parsed(counters: Counters) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The Prometheus page as an independent parser reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(counters.prometheus_text())
        for sample in family.samples
    }


def test_the_page_reads_back_with_every_metric() -> None:
    """Every metric of the table is on the page with its kind, its meaning and its number."""
    counters = full()
    families = {family.name: family for family in text_string_to_metric_families(counters.prometheus_text())}
    for number, metric in enumerate(METRICS, 1):
        family = families[metric.prometheus_name.removesuffix("_total")]
        assert (metric.kind, metric.meaning) == (family.type, family.documentation)
        if metric.kind != telemetry.HISTOGRAM:
            [sample] = family.samples
            assert metric.prometheus_name == sample.name
            assert {label: f"{label}-{number}" for label in metric.labels} == sample.labels
            assert (number if metric.kind == telemetry.COUNTER else number / 4) == sample.value


def test_label_values_of_any_kind_read_back() -> None:
    """Quotes, backslashes, line feeds and any script in a label survive the text format."""
    counters = Counters()
    shape = 'MID # said "x\\y"\nnext\tüß 測'
    counters.add(UNRECOGNISED, shape=shape)

    assert parsed(counters)[("esa_tls_lines_unrecognised_total", (("shape", shape),))] == 1


def test_counting_adds_up_by_label() -> None:
    """The same labels in any order are one series; others are another."""
    counters = Counters()
    counters.add(RECORDS, 2, kind="delivery", direction="outbound", outcome="none")
    counters.add(RECORDS, 3, outcome="none", kind="delivery", direction="outbound")
    counters.add(RECORDS, 5, kind="message")

    assert counters.value(RECORDS, kind="delivery") == 5
    assert counters.value(RECORDS) == 10
    assert len(counters.series(RECORDS)) == 2


def test_counts_of_the_core_are_added() -> None:
    """What the core hands out lands in the same series as `add`, in whatever order its labels are and without empty ones."""
    counters = Counters()
    counters.add(RECORDS, 1, kind="message", outcome="exposed")
    counters.add_all({(RECORDS, (("outcome", "exposed"), ("kind", "message"), ("direction", ""))): 4, (telemetry.BAD_TIME, ()): 2})

    assert counters.series(RECORDS) == {(("kind", "message"), ("outcome", "exposed")): 5}
    assert counters.value(telemetry.BAD_TIME) == 2


@pytest.mark.parametrize(
    ("name", "labels"), [("esa_tls.nothing", {}), (LINES, {"sink": "x"}), (HELD_LINES, {}), (JOURNAL_COMMIT_DURATION, {})]
)
def test_what_is_not_in_the_table_cannot_be_counted(name: str, labels: dict[str, str]) -> None:
    """An unknown name, a label that a metric has not, or a metric of another kind is refused and leaves nothing."""
    counters = Counters()
    with pytest.raises(ValueError, match=r"is no counter of|has no label"):
        counters.add(name, **labels)

    assert counters.series(name) == {}


def test_series_are_bounded() -> None:
    """Beyond `max_series` a metric counts under `other`, and its sum stays right."""
    counters = Counters()
    bound = BY_NAME[UNRECOGNISED].max_series
    for number in range(bound + 50):
        counters.add(UNRECOGNISED, shape=f"shape {number}")
        counters.add(UNRECOGNISED, shape="shape 0")

    assert len(counters.series(UNRECOGNISED)) == bound + 1
    assert counters.value(UNRECOGNISED, shape=OTHER) == 50
    assert counters.value(UNRECOGNISED) == 2 * (bound + 50)


def test_long_labels_are_cut() -> None:
    """A label value is cut at its limit, and what is cut alike counts together."""
    counters = Counters()
    counters.add(UNRECOGNISED, shape="x" * 100_000)
    counters.add(UNRECOGNISED, shape="x" * 200_000)

    assert counters.series(UNRECOGNISED) == {(("shape", "x" * MAX_LABEL_CHARS),): 2}


def test_gauges_are_read_when_asked() -> None:
    """A gauge shows what its function says now, and nothing while that is None."""
    counters = Counters()
    now: list[float | None] = [7]
    counters.gauge(HELD_LINES, lambda: now[0])
    counters.gauge(OPEN_ENTRIES, lambda: 3, kind="message")

    assert parsed(counters)[("esa_tls_lines_held", ())] == 7
    now[0] = None
    assert ("esa_tls_lines_held", ()) not in parsed(counters)
    assert counters.value(OPEN_ENTRIES, kind="message") == 3


def test_numbers_that_are_not_finite_read_back() -> None:
    """Infinity and not-a-number are written as the format wants them."""
    counters = Counters()
    counters.gauge(HELD_LINES, lambda: math.inf)
    counters.gauge(OPEN_ENTRIES, lambda: -math.inf, kind="message")
    counters.gauge(OPEN_ENTRIES, lambda: math.nan, kind="connection")

    page = parsed(counters)
    assert page[("esa_tls_lines_held", ())] == math.inf
    assert page[("esa_tls_entries_open", (("kind", "message"),))] == -math.inf
    assert math.isnan(page[("esa_tls_entries_open", (("kind", "connection"),))])


def test_a_histogram_fills_the_buckets_it_should() -> None:
    """Buckets are cumulative and hold their upper bound; sum and count agree."""
    counters = Counters()
    for seconds in (0.001, 0.0015, 0.03, 99.0):
        counters.observe(JOURNAL_COMMIT_DURATION, seconds)

    page = parsed(counters)
    name = "esa_tls_journal_commit_duration_seconds"
    found = {bound: page[(f"{name}_bucket", (("le", bound),))] for bound in ("0.001", "0.002", "0.05", "5", "+Inf")}
    assert {"0.001": 1, "0.002": 2, "0.05": 3, "5": 3, "+Inf": 4} == {bound.removesuffix(".0"): number for bound, number in found.items()}
    assert page[(f"{name}_count", ())] == 4
    assert page[(f"{name}_sum", ())] == pytest.approx(99.0325)


def test_a_counter_without_labels_shows_its_zero() -> None:
    """An alarm on a plain counter works before it has counted anything; a labelled one is absent until then."""
    page = parsed(Counters())

    assert page[("esa_tls_contradictions_total", ())] == 0
    assert not [name for name, _ in page if name == "esa_tls_lines_total"]


def test_opentelemetry_shows_the_same_numbers() -> None:
    """A meter provider's reader sees every counter and gauge of the dict, with units, and histograms recorded from then on."""
    counters = full()
    reader = InMemoryMetricReader()
    provider = meter_provider(counters, [reader], version="1.2.3")
    try:
        counters.observe(JOURNAL_COMMIT_DURATION, 0.3)
        data = reader.get_metrics_data()
    finally:
        provider.shutdown()

    assert data is not None
    [resource] = data.resource_metrics
    assert (resource.resource.attributes["service.name"], resource.resource.attributes["service.version"]) == ("esa-tls", "1.2.3")
    shown = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    assert {metric.name for metric in METRICS} == set(shown)
    for number, metric in enumerate(METRICS, 1):
        assert (metric.unit, metric.meaning) == (shown[metric.name].unit, shown[metric.name].description)
        [point] = shown[metric.name].data.data_points
        if isinstance(point, HistogramDataPoint):
            assert (1, metric.buckets) == (point.count, tuple(point.explicit_bounds))
        else:
            assert isinstance(point, NumberDataPoint)
            assert (number if metric.kind == telemetry.COUNTER else number / 4) == point.value
            assert {label.replace("_", ".") for label in metric.labels} == set(point.attributes or {})


def test_a_later_collection_sees_later_counts() -> None:
    """The instruments read the dict at each collection and keep no copy."""
    counters = Counters()
    reader = InMemoryMetricReader()
    provider = meter_provider(counters, [reader], version="1")
    try:
        counters.add(SINK_RETRIES, sink="a", reason="timeout")
        reader.get_metrics_data()
        counters.add(SINK_RETRIES, 4, sink="a", reason="timeout")
        data = reader.get_metrics_data()
    finally:
        provider.shutdown()

    assert data is not None
    points = [
        point
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == SINK_RETRIES
        for point in metric.data.data_points
    ]
    assert [5] == [point.value for point in points if isinstance(point, NumberDataPoint)]


def test_the_process_is_watched() -> None:
    """Version, uptime, processor time and memory of this process are on the page."""
    counters = Counters()
    watch_process(counters, version="9.9", core="compiled")

    page = parsed(counters)
    assert page[("esa_tls_build", (("core", "compiled"), ("version", "9.9")))] == 1
    assert page[("esa_tls_process_uptime_seconds", ())] >= 0
    assert page[("esa_tls_process_memory_usage_bytes", ())] > 1_000_000
    assert ("esa_tls_process_cpu_time_seconds_total", (("cpu_mode", "user"),)) in page


def test_the_table_is_consistent() -> None:
    """Each name stands once in the table, on the Prometheus page too, and the table holds every constant of the module."""
    names = [metric.name for metric in METRICS]
    constants = {
        value
        for name, value in vars(telemetry).items()
        if name.isupper() and isinstance(value, str) and value.startswith(("esa_tls.", "process."))
        if not name.endswith("_ATTRIBUTE")
    }
    assert len(set(names)) == len(names) == len({metric.prometheus_name for metric in METRICS})
    assert constants == set(names)
    assert all(metric.meaning.endswith(".") and metric.unit for metric in METRICS)


def test_every_metric_is_in_the_manual() -> None:
    """The generated table names every metric both ways, with its labels and its meaning."""
    manual = reference.metrics_reference()
    for metric in METRICS:
        [row] = [row for row in manual.splitlines() if f"| `{metric.name}` |" in row]
        assert f"`{metric.prometheus_name}`" in row
        assert metric.meaning in row
        assert all(f"`{label}`" in row for label in metric.labels)


def _calls() -> list[tuple[str, str, set[str]]]:
    """(place, metric name, labels) of every call in the package that counts, by a constant or, in the core, by the name itself."""
    found = []
    names = {name: value for name, value in vars(telemetry).items() if name.isupper() and isinstance(value, str) and value in BY_NAME}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="count"), args=[ast.Constant(value=str(name)), *_]) if name.startswith("esa_tls."):
                    pass
                case ast.Call(
                    func=ast.Attribute(attr="add" | "gauge" | "observe"), args=[ast.Name(id=constant) | ast.Attribute(attr=constant), *_]
                ):
                    if constant not in names:
                        continue
                    name = names[constant]
                case _:
                    continue
            found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", name, {keyword.arg for keyword in node.keywords if keyword.arg}))
    return found


def test_every_call_counts_what_the_table_has() -> None:
    """No path of the package, however rare, counts a name or a label that would be refused when it runs."""
    calls = _calls()

    assert {"runtime", "core"} <= {place.split("/")[0] for place, _, _ in calls}
    assert [] == [call for call in calls if call[1] not in BY_NAME or not call[2] <= {*BY_NAME[call[1]].labels, "n"}]


def test_one_bad_reason_does_not_hide_another() -> None:
    """Failures are told apart by reason."""
    counters = Counters()
    counters.add(JOURNAL_COMMIT_FAILURES, reason="full")
    counters.add(JOURNAL_COMMIT_FAILURES, reason="io_error")

    assert counters.value(JOURNAL_COMMIT_FAILURES, reason="full") == 1


def test_every_span_is_in_the_manual() -> None:
    """With its attributes, each a constant of the module, and its meaning."""
    attributes = {value for name, value in vars(telemetry).items() if name.endswith("_ATTRIBUTE")}
    assert {name for span in telemetry.SPANS for name in span.attributes} == attributes
    manual = reference.spans_reference()
    assert all(f"| `{span.name}` |" in manual and span.meaning in manual for span in telemetry.SPANS)
    assert all(f"`{name}`" in manual for name in attributes)
