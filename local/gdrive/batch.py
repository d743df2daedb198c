"""The batch endpoint: up to a hundred calls in one multipart body, each answered by itself."""

import email.policy
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from local.gdrive.errors import DriveApiError
from local.gdrive.http import Answer, Call

BATCH_PATH: Final = "/batch/drive/v3"
MOST_CALLS: Final = 100
_BOUNDARY = "batch_Tq0x8hF2kSg_AAxvVwLkYzc"
_REASONS: Final = {200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"} | {
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


def answer_batch(call: Call, answer: Callable[[Call], Answer]) -> Answer:
    """The answers to the calls in the body of *call*, in their order.

    Raises:
        DriveApiError: 400: it is no batch, or one of more than a hundred calls.
    """
    kind = call.headers.get("content-type", "")
    whole = BytesParser(policy=email.policy.HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + call.body)
    parts = whole.get_payload()
    if call.method != "POST" or not isinstance(parts, list) or not parts:
        raise DriveApiError(400, "badRequest", "Failed to parse batch request, error: missing boundary.")
    if len(parts) > MOST_CALLS:
        raise DriveApiError(400, "badRequest", f"The batch request has {len(parts)} calls; at most {MOST_CALLS}.")
    outer = call.headers.get("authorization", "")
    made = [_written(part, answer(_inner(part, outer))) for part in parts if isinstance(part, Message)]
    body = b"".join(b"--" + _BOUNDARY.encode() + b"\r\n" + each + b"\r\n" for each in made)
    return Answer(200, body + f"--{_BOUNDARY}--\r\n".encode(), f"multipart/mixed; boundary={_BOUNDARY}")


def _inner(part: Message, authorization: str) -> Call:
    payload = part.get_payload(decode=True)
    text = payload if isinstance(payload, bytes) else b""
    line, _, rest = text.lstrip().partition(b"\n")
    words = line.decode("utf-8", "replace").split()
    if len(words) != 3:
        raise DriveApiError(400, "badRequest", "Failed to parse batch request, error: a part is no HTTP request.")
    target = urlsplit(words[1])
    inner = BytesParser(policy=email.policy.HTTP).parsebytes(rest)
    body = inner.get_payload(decode=True)
    headers = {"authorization": authorization, **{name.lower(): str(value) for name, value in inner.items()}}
    params = dict(parse_qsl(target.query, keep_blank_values=True))
    return Call(words[0].upper(), target.path, params, headers, body if isinstance(body, bytes) else b"")


def _written(part: Message, answer: Answer) -> bytes:
    name = str(part.get("Content-ID", "<0>")).strip("<>")
    head = (
        f"Content-Type: application/http\r\nContent-ID: <response-{name}>\r\n\r\n"
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Other')}\r\nContent-Type: {answer.content_type}\r\n"
    )
    more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    return f"{head}{more}Content-Length: {len(answer.body)}\r\n\r\n".encode() + answer.body
