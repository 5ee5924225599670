"""The same numbers for OpenTelemetry's readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from esa_tls.telemetry.counters import Counters
from esa_tls.telemetry.metrics import COUNTER, GAUGE, METRICS

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

__all__ = ["meter_provider"]


def meter_provider(counters: Counters, readers: Sequence[MetricReader], *, version: str, resource: Resource | None = None) -> MeterProvider:
    """An OpenTelemetry meter provider whose instruments show the same numbers to `readers`.

    Counters and gauges are observable instruments that read the dict when a reader collects; histograms are recorded beside. The
    caller owns the provider and calls its `shutdown()`. The SDK is imported here, so that commands without telemetry do not pay for it.
    """
    from opentelemetry.metrics import Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    def reading(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _options: [Observation(number, labels) for number, labels in counters.observations(name)]

    resource = resource or Resource.create({"service.name": "esa-tls", "service.version": version})
    provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter("esa_tls", version)
    for metric in METRICS:
        if metric.kind == COUNTER:
            meter.create_observable_counter(metric.name, [reading(metric.name)], unit=metric.unit, description=metric.meaning)
        elif metric.kind == GAUGE:
            meter.create_observable_gauge(metric.name, [reading(metric.name)], unit=metric.unit, description=metric.meaning)
        else:
            histogram = meter.create_histogram(
                metric.name, unit=metric.unit, description=metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
            )
            counters.also_record(metric.name, histogram)
    return provider
