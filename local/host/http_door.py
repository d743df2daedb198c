"""The HTTP door of the app: its routes under the prefix of host.json, in a process of its own."""

import argparse
import asyncio
import hmac
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import azure.functions as func
import uvicorn
from azure.functions.http import HttpRequest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.host.app_index import AppIndex, HttpFunction
from local.host.child import ChildProcess, add_child_arguments, run_child
from local.host.interpreter import settle_interpreter
from local.host.invocation import InvocationFailedError, Invoker
from local.host.services import HostedServices
from problem_document import PROBLEM_JSON, problem_document

FUNCTION_KEY_SETTING: Final = "SHARDLINE_FUNCTION_KEY"
"""Environment variable with the key that opens functions of the levels FUNCTION and ADMIN; unset: nothing does."""
BODY_LIMIT_SETTING: Final = "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"
"""Environment variable with the most bytes a request body may have, as on Azure."""
DEFAULT_BODY_LIMIT: Final = 104_857_600
ON_ITS_WAY_SECONDS: Final = 0.25
"""How long a door that stops waits for requests over the connections that it has accepted."""
_LOCAL_HOST: Final = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_log = logging.getLogger("Host.Http")


class _BodyTooLargeError(Exception):
    """The request's body is above the limit."""


class HttpDoor:
    """An ASGI app that serves the HTTP functions of an app.

    Only requests whose Host is this machine's own name are answered, so that no web page can reach the app through a
    host name of its own (DNS rebinding). Errors are RFC 9457 problem documents.
    """

    def __init__(
        self, index: AppIndex, invoker: Invoker, *, function_key: str | None, body_limit: int = DEFAULT_BODY_LIMIT
    ) -> None:
        self._functions = index.http
        self._prefix = f"/{index.settings.route_prefix}/" if index.settings.route_prefix else "/"
        self._invoker = invoker
        self._key = function_key.encode() if function_key else None
        self._body_limit = body_limit

    @property
    def function_count(self) -> int:
        """How many functions have a route."""
        return len(self._functions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other kinds of connection are none of ours."""
        if scope["type"] != "http":
            raise RuntimeError(f"the door does not serve {scope['type']} connections")
        try:
            response = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        host = request.headers.getlist("host")
        if len(host) != 1 or not _LOCAL_HOST.fullmatch(host[0]):
            return _problem(
                HTTPStatus.BAD_REQUEST,
                "unknown-host",
                "The Host header must name this machine: localhost or 127.0.0.1.",
            )
        function, parameters, methods = self._find(request)
        if function is None and not methods:
            return _problem(HTTPStatus.NOT_FOUND, "no-such-route", "There is no such route.")
        if function is None:
            allowed = ", ".join(methods)
            return _problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method-not-allowed",
                f"This route answers {allowed}.",
                headers={"allow": allowed},
            )
        if function.auth_level != "anonymous" and not self._opens(request):
            return _problem(
                HTTPStatus.UNAUTHORIZED,
                "function-key-needed",
                "This route needs the function key (header x-functions-key).",
            )
        try:
            body = await self._body(request)
        except _BodyTooLargeError:
            return _problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body-too-large",
                f"The body may have {self._body_limit} bytes at most.",
            )
        return await self._run(function, request, parameters, body)

    def _find(self, request: Request) -> tuple[HttpFunction | None, dict[str, str], list[str]]:
        """The function that answers, its route parameters, and the methods that the path has in any case."""
        raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        path = raw_path.split(b"?", 1)[0].decode("latin-1")
        if path[: len(self._prefix)].lower() != self._prefix.lower():
            return None, {}, []
        methods: set[str] = set()
        for function in self._functions:
            parameters = function.route.match(path[len(self._prefix) :])
            if parameters is None:
                continue
            if request.method in function.methods:
                return function, parameters, []
            methods.update(function.methods)
        return None, {}, sorted(methods)

    def _opens(self, request: Request) -> bool:
        given = request.headers.get("x-functions-key") or request.query_params.get("code") or ""
        return self._key is not None and hmac.compare_digest(given.encode(), self._key)

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._body_limit:
            raise _BodyTooLargeError
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > self._body_limit:
                raise _BodyTooLargeError
            parts.append(part)
        return b"".join(parts)

    async def _run(
        self, function: HttpFunction, request: Request, parameters: Mapping[str, str], body: bytes
    ) -> Response:
        handed = HttpRequest(
            method=request.method,
            url=str(request.url),
            headers=_joined(request.headers.items()),
            params=_joined(parse_qsl(request.url.query, keep_blank_values=True)),
            route_params=parameters,
            body_type="bytes",
            body=body,
        )
        try:
            result = await self._invoker.invoke(
                function,
                handed,
                # The path may carry a secret of a webhook, so the report names the route instead.
                what=lambda: f"{request.method} {function.route.template}",
                trace_parent=request.headers.get("traceparent"),
            )
        except InvocationFailedError as failure:
            detail = f"Function {function.name} failed; the log names invocation {failure.invocation_id}."
            if failure.timed_out:
                return _problem(HTTPStatus.GATEWAY_TIMEOUT, "function-timed-out", detail)
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "function-failed", detail)
        response = _response(result)
        if response is None:
            logging.getLogger(f"Function.{function.name}").error(
                "function %s returned a %s, which is no HTTP response", function.name, type(result).__name__
            )
            return _problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "function-failed", f"Function {function.name} gave no HTTP response."
            )
        return response


def _joined(pairs: Any) -> dict[str, str]:
    """One value a name; several values of a name stand with commas between, as the Functions host gives them."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _response(result: Any) -> Response | None:
    """What goes over the wire for a function's return, None when that is nothing that can."""
    if result is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if isinstance(result, str):
        return Response(result, media_type="text/plain")
    if not isinstance(result, func.HttpResponse):
        return None
    response = Response(result.get_body(), status_code=result.status_code)
    names = set()
    for name, value in result.headers.items():
        names.add(name.lower())
        if name.lower() != "content-length":
            response.headers.append(name, value)
    if "content-type" not in names:
        charset = f"; charset={result.charset}" if result.mimetype.startswith("text/") else ""
        response.headers["content-type"] = f"{result.mimetype}{charset}"
    return response


def _problem(status: HTTPStatus, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    content = json.dumps(problem_document(status, kind, detail))
    return Response(content, status_code=status, headers=dict(headers or {}), media_type=PROBLEM_JSON)


def body_limit(environment: Mapping[str, str]) -> int:
    """The most bytes of a request body that *environment* allows."""
    text = environment.get(BODY_LIMIT_SETTING, "")
    return int(text) if text.isdecimal() else DEFAULT_BODY_LIMIT


class _Server(uvicorn.Server):
    """A server that says when it takes requests, and answers those whose connections it has accepted when it stops."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The next process takes what is not accepted yet. A request that is on its way here would be cut off with its
        # connection, and its sender could not tell whether it came to anything.
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await asyncio.sleep(ON_ITS_WAY_SECONDS)
        await super().shutdown(sockets)


async def serve(door: HttpDoor, listener: socket.socket, child: ChildProcess) -> None:
    """Serve *door* on *listener* until the child is told to stop; requests that run may end within its grace."""
    server = _Server(
        uvicorn.Config(
            door,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(child.grace.total_seconds())),
        ),
        child.ready,
    )
    _log.info("serving %d functions on port %d", door.function_count, listener.getsockname()[1])
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(child.stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving


def main(arguments: Sequence[str] | None = None) -> int:
    """The door as a process of its own, as the supervisor starts it, on a socket that the supervisor has bound."""
    parser = argparse.ArgumentParser(prog="python -m local.host.http_door", description=main.__doc__)
    add_child_arguments(parser)
    parser.add_argument("--socket-fd", type=int, required=True, help="descriptor of the listening socket")
    options = parser.parse_args(arguments)

    async def work(child: ChildProcess, index: AppIndex, _services: HostedServices) -> None:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        settle_interpreter()
        invoker = Invoker(index.settings.function_timeout, child.ask_to_recycle)
        door = HttpDoor(
            index, invoker, function_key=os.environ.get(FUNCTION_KEY_SETTING), body_limit=body_limit(os.environ)
        )
        try:
            await serve(door, socket.socket(fileno=options.socket_fd), child)
        finally:
            invoker.close()
            child.threads_running = invoker.threads_running

    return run_child(options, work)


if __name__ == "__main__":
    main()
