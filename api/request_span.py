"""The span of a request."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import azure.functions as func
from opentelemetry.trace import SpanKind

from messaging import tracing


@contextmanager
def request_span(name: str, req: func.HttpRequest, *, told_by_host: bool) -> Iterator[Callable[[int], None]]:
    """Run what answers *req* in a span, and tell it the status of the answer by calling what this gives.

    Where the host has made its own span the current one, none is made. *told_by_host*: it exports the request itself,
    without telling the app of its span, so that this one stands for the work alone. Neither address nor headers are
    told: they may hold secrets.
    """
    if tracing.current() is not None:
        yield lambda _: None
        return
    caller = tracing.context_of(req.headers.get(tracing.TRACEPARENT))
    kind = SpanKind.INTERNAL if told_by_host else SpanKind.SERVER
    attributes: tracing.Attributes = {"http.request.method": str(req.method), "code.function.name": name}
    with tracing.span(f"{req.method} {name}", attributes, kind=kind, context=tracing.parent(caller)) as span:

        def answered(status: int) -> None:
            span.set_attribute("http.response.status_code", status)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                tracing.tell_error(span, str(status))

        yield answered
