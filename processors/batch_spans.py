"""The spans of a batch: one of the batch, linked to its messages, and one of each message in the trace of its record.

A record's trace goes through the messages: each is processed in a span whose parent is the span that made the message,
and what its processor sends on carries that span. Names and attributes follow OpenTelemetry's messaging conventions; no
content, no detail of an error and no address is among them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from messaging import tracing
from messaging.contracts import Contract, ShardMessage
from processors.outcome import Cause, Done, Later, Outcome, Park

LINKS: Final = 128
"""As many as OpenTelemetry keeps of a span."""


class TracedMessage(Protocol):
    """What is told of a message."""

    @property
    def message_id(self) -> str: ...
    @property
    def correlation_id(self) -> str | None: ...
    @property
    def delivery_count(self) -> int | None: ...
    @property
    def application_properties(self) -> Mapping[str, Any]: ...


class Decoded(Protocol):
    """A message that could be decoded."""

    @property
    def value(self) -> Contract: ...


class BatchSpans:
    """The spans of one batch. This one is of a process without an SDK: it makes none."""

    def begin(self, messages: Sequence[TracedMessage], decoded: Mapping[int, Decoded]) -> None:
        """Begin the spans. What is *decoded*, by its message's index, then carries the span it is processed in."""

    @contextmanager
    def trying(self, group: Sequence[int]) -> Iterator[None]:  # noqa: ARG002 - what the twin needs
        """Run what is tried for *group* in its message's span, or the batch's where there are several."""
        yield

    def failed(self, index: int, error: Exception) -> None:
        """A try of this message ended with *error*; only its type is told."""

    def end(self, outcomes: Mapping[int, Outcome]) -> None:
        """End the spans with what became of each message."""

    def broke(self, error: BaseException) -> None:
        """End the spans of a batch that has no end: it comes again."""


NO_SPANS: Final = BatchSpans()


def batch_spans(queue: str) -> BatchSpans:
    """What tells of a batch of *queue*."""
    tracer = tracing.tracer()
    return _RecordedSpans(tracer, queue) if tracer else NO_SPANS


class _RecordedSpans(BatchSpans):
    def __init__(self, tracer: Tracer, queue: str) -> None:
        self._tracer = tracer
        self._queue = queue
        self._spans: list[Span] = []
        self._batch: Span | None = None

    def begin(self, messages: Sequence[TracedMessage], decoded: Mapping[int, Decoded]) -> None:
        contracts = [decoded[index].value if index in decoded else None for index in range(len(messages))]
        carried = [
            tracing.context_of(contract.traceparent if contract else _named(message))
            for message, contract in zip(messages, contracts, strict=True)
        ]
        # The host may have given this invocation a span of its own, sampled or not: neither may cost us ours.
        host = tracing.current()
        links = [Link(host)] if host else []
        if len(messages) > 1:
            origins = islice((context for context in carried if context), LINKS - len(links))
            self._batch = self._tracer.start_span(
                f"process_batch {self._queue}",
                context=Context(),
                kind=SpanKind.CONSUMER,
                attributes={
                    **tracing.message_attributes(self._queue, "process_batch", "process"),
                    "messaging.batch.message_count": len(messages),
                },
                links=[*links, *(Link(context) for context in origins)],
            )
            links = [Link(self._batch.get_span_context())]
        common = tracing.message_attributes(self._queue, "process", "process")
        for message, contract, origin in zip(messages, contracts, carried, strict=True):
            cause = tracing.context_of(message.application_properties.get(tracing.LINKED))
            span = self._tracer.start_span(
                f"process {self._queue}",
                context=tracing.parent(origin),
                kind=SpanKind.CONSUMER,
                attributes=common,
                links=[*links, Link(cause)] if cause else links,
            )
            self._spans.append(span)
            if span.is_recording():
                span.set_attributes(_of_message(message, contract))
            elif origin is not None:
                continue  # not sampled, as whoever made the message has decided: its context goes on as it is
            if contract is not None:
                contract.traceparent = tracing.traceparent_of(span.get_span_context())

    @contextmanager
    def trying(self, group: Sequence[int]) -> Iterator[None]:
        span = self._spans[group[0]] if len(group) == 1 or self._batch is None else self._batch
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield

    def failed(self, index: int, error: Exception) -> None:
        self._spans[index].set_attribute("error.type", type(error).__name__)

    def end(self, outcomes: Mapping[int, Outcome]) -> None:
        counts = {"done": 0, "later": 0, "parked": 0}
        for index, span in enumerate(self._spans):
            told, problem = _told(outcomes[index])
            counts[told["shardline.outcome"]] += 1
            if span.is_recording():
                span.set_attributes(told)
                if problem:
                    span.set_status(Status(StatusCode.ERROR, problem))
            span.end()
        if self._batch is not None:
            self._batch.set_attributes({f"shardline.{outcome}": count for outcome, count in counts.items()})
            self._batch.end()

    def broke(self, error: BaseException) -> None:
        problem = type(error).__name__
        for span in (*self._spans, *([self._batch] if self._batch else [])):
            span.set_attributes({"shardline.outcome": "broken-off", "error.type": problem})
            span.set_status(Status(StatusCode.ERROR, problem))
            span.end()


def _named(message: TracedMessage) -> str | None:
    return tracing.carried(message.application_properties, None)


def _of_message(message: TracedMessage, contract: Contract | None) -> tracing.Attributes:
    told = tracing.which_message(message.message_id, contract.correlation_id if contract else message.correlation_id)
    told["messaging.servicebus.message.delivery_count"] = message.delivery_count or 1
    if contract is not None:
        told["shardline.tenant_id"] = contract.tenant_id
        told["shardline.pipeline"] = contract.pipeline or "events"
    if isinstance(contract, ShardMessage):
        told["shardline.shard_id"] = contract.shard_id
    return told


def _told(outcome: Outcome) -> tuple[dict[str, str], str | None]:
    """What a span says of *outcome*, and in a word what is wrong, if anything is."""
    match outcome:
        case Done():
            return {"shardline.outcome": "done"}, None
        case Later(cause=cause):
            told = {"shardline.outcome": "later", "shardline.cause": cause.name.lower()}
            # A vendor that is away is told by the calls made to it, and is no failure of the app's.
            return told, None if cause in (Cause.POSTPONEMENT, Cause.SOURCE) else cause.name.lower()
        case Park(reason=reason):
            return {"shardline.outcome": "parked", "shardline.reason": reason}, reason
