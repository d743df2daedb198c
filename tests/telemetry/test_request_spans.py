"""A request is told by a span where its host tells none, without anything that could be a secret."""

from http import HTTPStatus
from typing import Any

import azure.functions as func
import pytest
from captured_telemetry import Captured, attributes, context
from chain_rig import Rig, current, event
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from api.blueprint import answers_problems
from api.problems import ProblemError
from api.request_span import request_span
from messaging import tracing
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PLANTED = "planted-secret"


def request(**headers: str) -> func.HttpRequest:
    return func.HttpRequest(
        "POST",
        f"http://localhost/api/webhooks/salesforce/main/{PLANTED}?code={PLANTED}",
        headers={"authorization": f"Bearer {PLANTED}", **headers},
        route_params={"secret": PLANTED},
        body=PLANTED.encode(),
    )


@pytest.fixture(autouse=True)
def app(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.blueprint.services", current.get)
    current.set(rig.services)


@answers_problems
async def hook(req: func.HttpRequest) -> func.HttpResponse:
    """Answers as the request's body says."""
    match req.headers.get("wanted"):
        case "problem":
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "unauthorized", f"no {PLANTED}")
        case "error":
            raise ValueError(f"unforeseen {PLANTED}")
    return func.HttpResponse(status_code=202)


async def answered(**headers: str) -> Any:
    return (await hook(request(**headers))).status_code


async def test_a_request_has_a_span_with_its_status_and_nothing_else_of_it(captured: Captured) -> None:
    assert await answered() == 202
    span = captured.span("POST hook")
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)
    assert attributes(span) == {
        "http.request.method": "POST",
        "code.function.name": "hook",
        "http.response.status_code": 202,
    }
    assert PLANTED not in span.to_json()


async def test_the_callers_trace_goes_on_and_a_malformed_one_is_left_out(captured: Captured) -> None:
    await answered(traceparent=CALLER)
    await answered(traceparent=f"{CALLER}-{PLANTED}")
    continued, begun = captured.spans()
    assert tracing.traceparent_of(context(continued))[:35] == CALLER[:35]
    assert begun.parent is None


async def test_an_event_that_a_request_brings_is_in_its_trace(rig: Rig, captured: Captured) -> None:
    with request_span("hook", request(traceparent=CALLER), told_by_host=False):
        await rig.send(event("Account", 1, 1, Name="A").model_copy(update={"traceparent": None}))
    await rig.drain()
    span = captured.span("POST hook")
    way = [one for one in captured.spans() if one.name.startswith("process ")]
    assert len(way) == 4
    assert way[0].parent is not None
    assert way[0].parent.span_id == context(span).span_id
    assert {tracing.traceparent_of(context(one))[:35] for one in (span, *way)} == {CALLER[:35]}


async def test_problems_and_errors_are_told_by_status_or_type_alone(captured: Captured) -> None:
    assert await answered(wanted="problem") == 401
    assert await answered(wanted="error") == 500
    problem, error = captured.spans()
    assert (attributes(problem)["http.response.status_code"], problem.status.status_code) == (401, StatusCode.UNSET)
    assert (error.status.status_code, error.status.description) == (StatusCode.ERROR, "ValueError")
    assert all(PLANTED not in span.to_json() and not span.events for span in (problem, error))


async def test_where_the_host_tells_the_request_the_span_is_of_the_work_alone(captured: Captured) -> None:
    with request_span("hook", request(), told_by_host=True) as answer:
        answer(503)
    span = captured.span("POST hook")
    assert (span.kind, span.status.description) == (SpanKind.INTERNAL, "503")


async def test_where_the_host_has_given_its_span_there_is_no_other(rig: Rig, captured: Captured) -> None:
    host = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(host)):
        assert await answered(traceparent=CALLER) == 202
        with request_span("hook", request(), told_by_host=False):
            message = event("Account", 1, 1).model_copy(update={"traceparent": None}).to_message(INGESTION_EVENTS)
    assert captured.spans() == []
    assert message.properties["traceparent"] == tracing.traceparent_of(host)
    assert IngestionEvent.from_bytes(message.body).traceparent == tracing.traceparent_of(host)
