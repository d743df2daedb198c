"""What a vendor pushes over HTTP, and what it is answered; each source has its own ``webhook.py``."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import azure.functions as func

from connections.directory import ConnectionDirectory
from connections.secrets import SecretStore
from messaging import codec
from messaging.bus import MessageBus
from messaging.times import Clock, utc_now
from operations.metrics import Metrics
from problem_document import PROBLEM_JSON, problem_document


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What came: *headers* by lower-case name, the raw *body*, and the parameters of the *route*."""

    headers: Mapping[str, str]
    body: bytes
    route: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """What goes back. The status is the vendor's business: what it takes for done, and what for "send it again"."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookPorts:
    """What webhooks reach the world through."""

    bus: MessageBus
    directory: ConnectionDirectory
    secrets: SecretStore
    clock: Clock = utc_now
    monotonic: Callable[[], float] = time.monotonic
    metrics: Metrics = field(default_factory=Metrics)


def problem(status: HTTPStatus, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> PushAnswer:
    """The refusal of a push, as problem JSON."""
    body = codec.encode(problem_document(status, kind, detail)).decode()
    return PushAnswer(status, body, PROBLEM_JSON, headers or {})


def push_request(req: func.HttpRequest) -> PushRequest:
    """The request as the host hands it over."""
    headers = {name.lower(): value for name, value in req.headers.items()}
    return PushRequest(headers, req.get_body(), dict(req.route_params))


def push_response(answer: PushAnswer) -> func.HttpResponse:
    """The answer as the host takes it."""
    # As a header, not as the mimetype, which would be given a character set once more.
    headers = {**answer.headers, "Content-Type": answer.content_type}
    return func.HttpResponse(answer.body, status_code=answer.status, headers=headers)
