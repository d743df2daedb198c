"""A small HTTP/1.1 server for loopback: keep-alive, bodies by length or in chunks, one answer after the other.

Own code because a peer must be able to drop a connection before or after it applied a request, and to be fast enough
that it is not what a benchmark measures.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from cosmos_peer.answers import Answer

MAX_HEAD = 256 * 1024


@dataclass(slots=True)
class Request:
    """One HTTP request; header names are in lower case, *target* is still quoted."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Reply:
    """What becomes of a request: an answer after *delay* seconds; without one it is dropped or hangs."""

    answer: Answer | None
    delay: float = 0.0
    drop: bool = False


Handler = Callable[[Request], Reply]


class MalformedRequestError(Exception):
    """What came is no HTTP/1.1."""


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, handle: Handler, connections: "set[Connection]") -> None:
        self._handle = handle
        self._connections = connections
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)

    def abort(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._serve()

    def _serve(self) -> None:
        while not self._busy and self._transport is not None:
            try:
                request = take_request(self._buffer)
            except MalformedRequestError as error:
                self._write(Answer(400, str(error).encode()))
                self._transport.close()
                return
            if request is None:
                return
            reply = self._handle(request)
            if reply.delay > 0:
                self._busy = True
                asyncio.get_running_loop().call_later(reply.delay, self._finish, reply)
            else:
                self._settle(reply)

    def _finish(self, reply: Reply) -> None:
        self._busy = False
        self._settle(reply)
        self._serve()

    def _settle(self, reply: Reply) -> None:
        if reply.answer is not None:
            self._write(reply.answer)
        elif reply.drop:
            self.abort()
        else:
            self._busy = True

    def _write(self, answer: Answer) -> None:
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}", f"Content-Length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.body:
            lines.append("Content-Type: application/json")
        self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Retry With" if status == 449 else "Unknown"


def take_request(buffer: bytearray) -> Request | None:
    """Take the first whole request out of *buffer*; None until it is there.

    Raises:
        MalformedRequestError: it is none.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise MalformedRequestError("the head of the request is too long")
        return None
    lines = buffer[:end].decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError as error:
        raise MalformedRequestError(f"no request line: {lines[0]!r}") from error
    if version != "HTTP/1.1":
        raise MalformedRequestError(f"only HTTP/1.1 is spoken here, not {version}")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise MalformedRequestError(f"no header: {line!r}")
        headers[name.lower()] = value.strip()
    start = end + 4
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = _chunks(buffer, start)
        if chunks is None:
            return None
        body, after = chunks
    else:
        after = start + int(headers.get("content-length", "0"))
        if len(buffer) < after:
            return None
        body = bytes(buffer[start:after])
    del buffer[:after]
    return Request(method, target, headers, body)


def _chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body = bytearray()
    while True:
        line = buffer.find(b"\r\n", start)
        if line < 0:
            return None
        size = int(bytes(buffer[start:line]).split(b";")[0], 16)
        after = line + 2 + size + 2
        if len(buffer) < after:
            return None
        body += buffer[line + 2 : line + 2 + size]
        start = after
        if size == 0:
            return bytes(body), after
