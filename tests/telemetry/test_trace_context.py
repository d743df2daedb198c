"""The text in which a trace context travels, and everything that is none."""

from typing import Any

from captured_telemetry import Captured
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from polling_rig import PollingRig

from messaging import tracing

_contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.just(True),
    st.sampled_from([TraceFlags(0), TraceFlags(1)]),
)
_anything = st.one_of(
    st.text(),
    st.text(alphabet="0123456789abcdef-", max_size=60),
    st.from_regex(r"[0-9a-g]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}(-.*)?", fullmatch=True),
    st.none() | st.integers() | st.booleans() | st.binary() | st.lists(st.text()),
)


@given(_contexts)
def test_a_context_comes_back_from_its_text(context: SpanContext) -> None:
    assert tracing.context_of(tracing.traceparent_of(context)) == context


@given(_anything)
def test_what_is_read_from_a_text_is_what_opentelemetrys_own_reader_reads(text: Any) -> None:
    """It takes more, as a later version with other parts in place of an end; what it refuses, is refused here."""
    found = tracing.context_of(text)
    carrier = {"traceparent": text} if isinstance(text, str) else {}
    theirs = TraceContextTextMapPropagator().extract(carrier)
    if found is not None:
        [span] = [value for value in theirs.values() if hasattr(value, "get_span_context")]
        assert span.get_span_context().trace_id == found.trace_id
        assert span.get_span_context().span_id == found.span_id


@given(_anything, _anything, _anything)
def test_what_is_carried_on_is_well_formed_or_nothing(first: Any, second: Any, third: Any) -> None:
    carried = tracing.carried({"traceparent": first, "Diagnostic-Id": third}, second)
    assert carried is None or tracing.context_of(carried) is not None
    assert carried in (None, first, second, third)


async def test_no_secret_and_no_content_is_in_what_is_exported(polling: PollingRig, captured: Captured) -> None:
    words = {"LastName": "Planted-Surname", "Email": "planted@acme.example", "Phone": "+49 555 0199"}
    for number in range(tracing.TOGETHER + 5):
        polling.org.org.create("Contact", words | {"LastName": f"Planted-Surname-{number}"})
    await polling.poll()
    polling.org.org.create("Contact", words | {"AccountId": "001000000000001AAA"})
    polling.wait(3600)
    await polling.poll()
    await polling.drain()
    data = captured.reader.get_metrics_data()
    assert data is not None
    exported = encode_spans(captured.spans()).SerializeToString() + encode_metrics(data).SerializeToString()
    assert b"process embedding-jobs" in exported
    assert b"shardline.connection.lag" in exported
    planted = [*polling.org.planted, *words.values(), polling.org.simulator.base_url]
    for secret in planted:
        assert secret.encode() not in exported, secret
