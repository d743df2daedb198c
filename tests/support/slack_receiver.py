"""A request URL for Slack's events: it answers as a test tells it to and keeps what came."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery: its headers (names in lower case) and its raw body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> Any:
        return json.loads(self.body)

    @property
    def event(self) -> dict[str, Any]:
        return dict(self.payload["event"])


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class SlackReceiver:
    """Takes events on loopback. ``answer`` makes the reply to each but the challenge. Use it as a context."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.challenges: list[Received] = []
        self.answer: Callable[[Received], Reply] = lambda _: Reply()
        self.challenge_answer: Callable[[str], Reply] = lambda challenge: Reply(
            body=challenge.encode(), headers=(("Content-Type", "text/plain"),)
        )
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/api/webhooks/slack"

    def events(self) -> list[dict[str, Any]]:
        return [one.event for one in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            # No connection outlives its answer: nothing is heard any more once the receiver is closed.
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                one = Received(self.path, headers, body)
                if one.payload["type"] == "url_verification":
                    receiver.challenges.append(one)
                    reply = receiver.challenge_answer(one.payload["challenge"])
                else:
                    receiver.received.append(one)
                    reply = receiver.answer(one)
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler
