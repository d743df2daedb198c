"""The trace context that messages carry (W3C ``traceparent``), and the spans that begin with a message.

OpenTelemetry's API alone: while no SDK is installed in the process :func:`tracer` is None, and nothing here costs
anything or makes a span. Names and attributes are those of OpenTelemetry's messaging conventions.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    ProxyTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)
from opentelemetry.util.types import AttributeValue

SCOPE: Final = "shardline"
"""The instrumentation scope of all spans and instruments."""

TRACEPARENT: Final = "traceparent"
"""The message property, and the envelope's field."""
DIAGNOSTIC_ID: Final = "Diagnostic-Id"
"""The property under which Azure's own libraries write and look for the same."""
LINKED: Final = "linkedTraceparent"
"""The property of a message that begins a new trace because of an older one: that one's context."""

SYSTEM: Final = "servicebus"
"""``messaging.system`` of both homes: the bus of the local home is Service Bus on a file."""

_LONGEST: Final = 512
_FORM: Final = re.compile(
    r"(?:00|(?P<later>(?!00|ff)[0-9a-f]{2}))-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?(later)(?:-.*)?)"
)
"""A later version may have more behind what is known of it."""

_USUAL: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z").match

Attributes = dict[str, AttributeValue]


_made: tuple[TracerProvider, Tracer] | None = None
"""The last provider and its tracer: a provider makes a new one at each call."""


def tracer() -> Tracer | None:
    """The tracer of this process; None while no SDK is installed."""
    global _made  # noqa: PLW0603 - a cache of one
    provider = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):
        return None
    if _made is None or _made[0] is not provider:
        _made = (provider, provider.get_tracer(SCOPE))
    return _made[1]


def context_of(traceparent: object) -> SpanContext | None:
    """The span that *traceparent* names; None when it is none, whatever it is."""
    match = _match(traceparent)
    if match is None:
        return None
    _, trace_id, span_id, flags = match.groups()
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16) & 1))


def traceparent_of(context: SpanContext) -> str:
    """*context* as ``traceparent``."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


def carried(properties: Mapping[str, object], envelope: str | None) -> str | None:
    """The context that a message came with: of its properties, else of its envelope; None when neither is well formed.

    Whoever sent the message may have written anything there, and nothing of it may break the message.
    """
    usual = properties.get(TRACEPARENT)
    if usual.__class__ is str and _USUAL(usual):  # this is done for every message, traced or not
        return str(usual)
    for candidate in (usual, envelope, properties.get(DIAGNOSTIC_ID)):
        if candidate is not None and _match(candidate):
            return str(candidate)
    return None


def _match(traceparent: object) -> re.Match[str] | None:
    if not isinstance(traceparent, str) or len(traceparent) > _LONGEST:
        return None
    return _FORM.fullmatch(traceparent)


def random_traceparent() -> str:
    """A context that no span stands behind, for what must begin a trace in a process without an SDK."""
    made = os.urandom(24).hex()
    return f"00-{made[:32]}-{made[32:]}-01"


def parent(context: SpanContext | None) -> Context:
    """*context* as the parent to start a span with; a new trace when None."""
    return Context() if context is None else trace.set_span_in_context(NonRecordingSpan(context), Context())


def current() -> SpanContext | None:
    """The span that this code runs in, which may be the host's; None outside of any."""
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def current_traceparent() -> str | None:
    """What a message that is made here carries when it has no context of its own."""
    context = current()
    return traceparent_of(context) if context else None


@contextmanager
def span(
    name: str, attributes: Attributes, *, kind: SpanKind = SpanKind.INTERNAL, context: Context | None = None
) -> Iterator[Span]:
    """Run what is within in a span of its own; without an SDK in one that takes nothing.

    Its parent is that of *context*, by default the span that this code runs in.
    Of an error that ends it only the type is told: its text may have what must not be exported.
    """
    maker = tracer()
    if maker is None:
        yield trace.INVALID_SPAN
        return
    with maker.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as started:
        try:
            yield started
        except BaseException as error:
            tell_error(started, type(error).__name__)
            raise


def tell_error(failed: Span, kind: str) -> None:
    """Say that what the span stands for has failed, by the stable word or the error type *kind*."""
    failed.set_attribute("error.type", kind)
    failed.set_status(Status(StatusCode.ERROR, kind))


def message_attributes(queue: str, operation: str, kind: str) -> Attributes:
    """What each span about messages of *queue* has. *kind* is one of the conventions' operation types."""
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }


def which_message(message_id: str, correlation_id: str | None) -> Attributes:
    """What tells a message from others: by the conventions, and by names that Application Insights keeps.

    Its exporter drops all ``messaging.…`` that it has no column for.
    """
    told: Attributes = {"messaging.message.id": message_id, "shardline.message_id": message_id}
    if correlation_id:
        told["messaging.message.conversation_id"] = told["shardline.correlation_id"] = correlation_id
    return told


def new_trace(queue: str, tenant_id: str, *, because: str | None = None) -> str | None:
    """Begin a trace with a message for *queue*: the context that the message shall carry; None without an SDK.

    The trace is linked to the span this code runs in, and to the trace of the message *because* of which it begins.
    """
    maker = tracer()
    if maker is None:
        return None
    causes = (current(), context_of(because))
    span = maker.start_span(
        f"create {queue}",
        context=Context(),
        kind=SpanKind.PRODUCER,
        attributes={**message_attributes(queue, "create", "create"), "shardline.tenant_id": tenant_id},
        links=[Link(cause) for cause in causes if cause],
    )
    span.end()
    return traceparent_of(span.get_span_context())


TOGETHER: Final = 20
"""So many records that one read brings are one story, told in one trace with that read. Above it each record has a
trace of its own, linked to the read: a trace of thousands can't be looked at, and would be sampled all or nothing."""


def record_traces(queue: str, attributes: Callable[[int], Attributes], count: int) -> list[str] | None:
    """The contexts of *count* messages about records that were read together; None without an SDK.

    *attributes* gives what the span of the message of that number has beside the conventions'.
    """
    maker = tracer()
    if maker is None:
        return None
    reading = current()
    apart = reading is None or count > TOGETHER
    links = [Link(reading)] if reading and apart else []
    common = message_attributes(queue, "create", "create")
    contexts: list[str] = []
    for number in range(count):
        span = maker.start_span(
            f"create {queue}",
            context=Context() if apart else None,
            kind=SpanKind.PRODUCER,
            attributes={**common, **attributes(number)},
            links=links,
        )
        span.end()
        contexts.append(traceparent_of(span.get_span_context()))
    return contexts
