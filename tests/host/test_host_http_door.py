"""The HTTP door: which requests reach a function, what it is handed, and what goes back."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest
from azure.functions.http import HttpRequest as WorkersRequest

from local.host.app_index import index_app
from local.host.child import ChildProcess
from local.host.host_json import HostSettings
from local.host.http_door import DEFAULT_BODY_LIMIT, HttpDoor, body_limit, serve
from local.host.invocation import Invoker

KEY = "k3y"
app = func.FunctionApp()
requests: list[func.HttpRequest] = []


@app.route("echo/{id:int}/{*rest}", methods=["POST"], auth_level="anonymous")
def echo(req: func.HttpRequest) -> func.HttpResponse:
    requests.append(req)
    response = func.HttpResponse(req.get_body(), status_code=201, mimetype="application/octet-stream")
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2")
    return response


@app.route("items/{id}", methods=["GET"], auth_level="anonymous")
async def read_item(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(f"{req.route_params['id']} é {context.trace_context.trace_parent}")


@app.route("items/{id}", methods=["PUT", "DELETE"], auth_level="anonymous")
def change_item(req: func.HttpRequest) -> str:
    return f"{req.method} {req.route_params['id']}"


@app.route("items/new", methods=["GET"], auth_level="anonymous")
def new_item(req: func.HttpRequest) -> None:
    return None


@app.route("locked", methods=["GET"])
def locked(req: func.HttpRequest) -> str:
    return "open"


@app.route("admin", methods=["GET"], auth_level="admin")
def admin(req: func.HttpRequest) -> str:
    return "open"


@app.route("broken/{secret}", auth_level="anonymous")
def broken(req: func.HttpRequest) -> str:
    raise RuntimeError("the inside of the function")


@app.route("odd", auth_level="anonymous")
def odd(req: func.HttpRequest) -> Any:
    return {"not": "a response"}


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return ", ".join(value for header, value in self.headers if header == name)

    @property
    def problem(self) -> dict[str, Any]:
        assert self.header("content-type") == "application/problem+json"
        content: dict[str, Any] = json.loads(self.body)
        assert content["status"] == self.status
        assert set(content) == {"type", "title", "status", "detail"}
        return content


async def ask(
    method: str,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: Iterable[bytes] = (b"",),
    hosts: Iterable[str] = ("localhost:7071",),
    key: str | None = KEY,
    limit: int = DEFAULT_BODY_LIMIT,
    settings: HostSettings | None = None,
) -> Answer:
    """One request, straight through the ASGI interface; *path* as it stands on the request line."""
    door = HttpDoor(
        index_app(app, settings or HostSettings()), Invoker(None, lambda: None), function_key=key, body_limit=limit
    )
    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", host.encode()) for host in hosts]
        + [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 7071),
    }
    parts = list(body)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    await door(scope, receive, send)
    return Answer(
        sent[0]["status"],
        [(name.decode(), value.decode()) for name, value in sent[0]["headers"]],
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


async def test_a_function_is_handed_the_workers_own_request_and_its_response_goes_back_whole() -> None:
    answer = await ask(
        "POST",
        "/api/echo/7/a%20b/c?x=1&x=2&y=",
        headers=[("Content-Type", "application/json"), ("X-Twice", "1"), ("X-Twice", "2")],
        body=[b'{"a"', b": 1}"],
    )
    request = requests.pop()
    assert type(request) is WorkersRequest
    assert request.method == "POST"
    assert request.url == "http://localhost:7071/api/echo/7/a%20b/c?x=1&x=2&y="
    assert dict(request.route_params) == {"id": "7", "rest": "a b/c"}
    assert dict(request.params) == {"x": "1,2", "y": ""}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["X-Twice"] == "1,2"
    assert request.get_json() == {"a": 1}
    assert (answer.status, answer.body) == (201, b'{"a": 1}')
    assert answer.header("content-type") == "application/octet-stream"
    assert answer.header("set-cookie") == "a=1, b=2"
    assert answer.header("content-length") == "8"


async def test_text_gets_its_charset_and_the_callers_trace_is_passed_on() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await ask("GET", "/api/items/42", headers=[("traceparent", trace)])
    assert answer.body.decode() == f"42 é {trace}"
    assert answer.header("content-type") == "text/plain; charset=utf-8"


async def test_one_route_may_have_a_function_a_method() -> None:
    assert (await ask("PUT", "/api/items/42")).body == b"PUT 42"
    assert (await ask("DELETE", "/API/Items/42/")).body == b"DELETE 42"


async def test_the_narrower_route_answers_and_none_is_an_answer_without_content() -> None:
    answer = await ask("GET", "/api/items/new")
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/other/items/42", "/api/echo/x/y", "/api/items/a/b"])
async def test_a_path_without_a_route_is_404(path: str) -> None:
    assert (await ask("GET", path)).problem["title"] == "Not Found"


async def test_a_method_that_a_route_does_not_have_is_405_with_those_it_has() -> None:
    answer = await ask("POST", "/api/items/42")
    assert (answer.status, answer.problem["title"]) == (405, "Method Not Allowed")
    assert answer.header("allow") == "DELETE, GET, PUT"


async def test_the_route_prefix_of_host_json_holds() -> None:
    settings = HostSettings(route_prefix="v1/x")
    assert (await ask("PUT", "/v1/x/items/1", settings=settings)).status == 200
    assert (await ask("PUT", "/api/items/1", settings=settings)).status == 404
    assert (await ask("PUT", "/items/1", settings=HostSettings(route_prefix=""))).status == 200


@pytest.mark.parametrize("path", ["/api/locked", "/api/admin"])
async def test_a_function_key_opens_what_needs_one(path: str) -> None:
    assert (await ask("GET", path, headers=[("x-functions-key", KEY)])).body == b"open"
    assert (await ask("GET", f"{path}?code={KEY}")).body == b"open"
    for attempt in (
        await ask("GET", path),
        await ask("GET", path, headers=[("x-functions-key", "wrong")]),
        await ask("GET", f"{path}?code="),
        await ask("GET", f"{path}?code=k%C3%A9y"),
        await ask("GET", path, headers=[("x-functions-key", "None")], key=None),
        await ask("GET", f"{path}?code=", key=""),
    ):
        assert (attempt.status, attempt.problem["title"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:7071", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:7071", "[::1]:7071"]
)
async def test_this_machines_own_names_are_answered(host: str) -> None:
    assert (await ask("PUT", "/api/items/1", hosts=[host])).status == 200


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example"],
        ["localhost.evil.example"],
        ["127.0.0.1.evil.example:7071"],
        ["localhost:x"],
        ["user@localhost"],
        ["localhost", "evil.example"],
        ["127.0.0.2"],
        ["127.0.0.1\n"],
    ],
)
async def test_any_other_host_name_is_refused(hosts: list[str]) -> None:
    answer = await ask("PUT", "/api/items/1", hosts=hosts)
    assert (answer.status, answer.problem["title"]) == (400, "Bad Request")


async def test_a_body_above_the_limit_is_refused_announced_or_not() -> None:
    path = "/api/echo/1/x"
    assert (await ask("POST", path, body=[b"12345", b"67890"], limit=10)).status == 201
    streamed = await ask("POST", path, body=[b"12345", b"67890", b"1"], limit=10)
    announced = await ask("POST", path, headers=[("content-length", "11")], body=[b""], limit=10)
    assert streamed.problem["title"] == announced.problem["title"]
    assert streamed.status == announced.status == 413


async def test_a_function_that_raises_is_500_without_its_inside_and_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await ask("GET", "/api/broken/s3cret?code=s3cret")
    assert answer.status == 500
    assert "inside" not in answer.body.decode()
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    line = record.getMessage()
    assert "function broken failed with RuntimeError: the inside of the function (GET broken/{secret}; invoc" in line
    assert "s3cret" not in line
    invocation = line.rsplit(" ", 1)[1].rstrip(")")
    assert invocation in answer.problem["detail"]


async def test_what_is_no_response_is_500(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask("GET", "/api/odd")
    assert answer.problem["title"] == "Internal Server Error"
    assert "function odd returned a dict" in caplog.text


def test_the_body_limit_is_azures_setting() -> None:
    assert body_limit({}) == 104_857_600
    assert body_limit({"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "1000"}) == 1000


async def test_a_door_that_stops_answers_over_the_connections_it_has_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.host.http_door.ON_ITS_WAY_SECONDS", 2.0)
    index = index_app(app, HostSettings())
    invoker = Invoker(None, lambda: None)
    door = HttpDoor(index, invoker, function_key=None)
    child = ChildProcess(-1, timedelta(seconds=30))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve(door, listener, child))
    request = b"PUT /api/items/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        other_reader, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(request)
        assert (await other_reader.read()).startswith(b"HTTP/1.1 200"), "so the first connection is accepted, too"
        child.stop.set()
        while listener.fileno() != -1:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        writer.write(request)
        answer = await reader.read()
    finally:
        child.stop.set()
        await serving
        invoker.close()
        writer.close()
        other.close()
    assert answer.startswith(b"HTTP/1.1 200")
