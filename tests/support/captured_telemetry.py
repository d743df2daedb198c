"""Spans and metrics of a test, in memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanContext

from operations.metrics import Metrics
from operations.telemetry import Telemetry


class Captured:
    """What was told so far."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.seconds = 0.0
        """The clock by which measured values grow old."""
        meter = MeterProvider([self.reader], shutdown_on_exit=False).get_meter("shardline")
        self.telemetry = Telemetry(Metrics(meter, clock=lambda: self.seconds))

    def spans(self, *names: str) -> list[ReadableSpan]:
        """The ended spans, or those of *names*, in the order in which they began."""
        ended = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in ended if not names or span.name in names]

    def span(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        [found] = self.spans(name)
        return found

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """The points of each metric by name: attributes, and the value or the histogram's sum and count."""
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        told: Any = point
                        value = told.value if hasattr(told, "value") else (told.sum, told.count)
                        found.setdefault(metric.name, []).append((dict(point.attributes or {}), value))
        return found


@contextmanager
def captured_telemetry(monkeypatch: pytest.MonkeyPatch, *, sampler: Sampler | None = None) -> Iterator[Captured]:
    """Have the spans of this process captured."""
    captured = Captured()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(captured.exporter))
    with monkeypatch.context() as patch:
        # A process has one provider for good; a test has one of its own.
        patch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
        yield captured


def context(span: ReadableSpan) -> SpanContext:
    """The span's own context."""
    found: SpanContext | None = span.context
    assert found is not None
    return found


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """The span's attributes."""
    return span.attributes or {}


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether *span* is a child of *parent*, in its trace."""
    same_trace = context(span).trace_id == context(parent).trace_id
    return same_trace and span.parent is not None and span.parent.span_id == context(parent).span_id


def is_linked(span: ReadableSpan, other: ReadableSpan) -> bool:
    """Whether *span* has a link to *other*."""
    return any(link.context.span_id == context(other).span_id for link in span.links)
