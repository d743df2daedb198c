"""The process that reads files of others: ``python -m ingestion.content.child LIMITS``, LIMITS being a JSON object.

It serves one request after the other over its standard input and output, and ends when its input does. A request is
two frames, a JSON object (``mimeType``, ``name``, ``path`` or null) and the content; an answer is one frame, a JSON
object. A frame is its length in eight bytes, the most significant first, and as many bytes.

Whatever a file does to it, it may neither take more memory, processor time and time than the limits say, nor write a
file, open a connection or start a process. The hook against the latter keeps libraries honest; it is no wall against
machine code.
"""

import json
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ingestion.content.content_error import ContentError
from ingestion.content.extraction import extract
from ingestion.content.kept_text import Extracted
from ingestion.content.limits import Limits

GRACE_SECONDS = 5
"""How much longer than its limit this process lives. Whoever started it ends it before, unless that has ended."""

_FORBIDDEN = (
    "ctypes.dlopen", "os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.system", "socket.bind", "socket.connect",
    "socket.getaddrinfo", "subprocess.",
)  # fmt: skip
"""The beginnings of audit events."""


def main() -> None:
    """Serve until the input ends."""
    limits = Limits(**json.loads(sys.argv[1]))
    requests, answers = _private_streams()
    _confine(limits)
    while (request := read_frame(requests)) is not None:
        content = read_frame(requests)
        if content is None:
            return
        _allow_time(limits)
        answer = _answer(json.loads(request), content, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_frame(answers, json.dumps(answer).encode())
        if answer.get("reason") == "memory":
            # What else failed for want of memory can't be told.
            return


def _answer(request: Mapping[str, Any], content: bytes, limits: Limits) -> dict[str, Any]:
    source = content if request["path"] is None else Path(request["path"])
    try:
        return to_answer(extract(source, request["mimeType"], request["name"], limits))
    except ContentError as error:
        return {"reason": error.reason, "detail": error.detail}
    except OSError as error:
        return {"failure": f"the file can't be read: {error.strerror}"}
    except MemoryError:
        return {"reason": "memory", "detail": "there was no memory left to tell its text"}


def to_answer(extracted: Extracted) -> dict[str, Any]:
    """What was extracted as an answer holds it."""
    return {
        "parts": [[part.text, part.heading, part.page] for part in extracted.parts],
        "truncated": extracted.truncated,
        "characters": extracted.characters,
    }


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None where the stream ends."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "big")
    frame = stream.read(length)
    return frame if len(frame) == length else None


def write_frame(stream: BinaryIO, frame: bytes) -> None:
    """Write *frame* and send it off."""
    stream.write(len(frame).to_bytes(8, "big"))
    stream.write(frame)
    stream.flush()


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Input and output that no library reads or prints to by accident."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def _confine(limits: Limits) -> None:
    """Give up, for good, what no file needs."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # with nobody left who asks there is nothing to tell of
    logging.disable(logging.CRITICAL)  # what libraries say of a file may quote it
    warnings.simplefilter("ignore")
    # openpyxl would load it for number types, and it takes threads and memory.
    sys.modules["numpy"] = None  # type: ignore[assignment]
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    sys.addaudithook(_refuse)


def _refuse(event: str, _: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"{event} is not allowed where files are read")


def _allow_time(limits: Limits) -> None:
    """Let this process live for one more request: the system ends it when the time is over."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = round(used.ru_utime + used.ru_stime + limits.seconds) + GRACE_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard == resource.RLIM_INFINITY else min(seconds, hard), hard))
    signal.setitimer(signal.ITIMER_REAL, limits.seconds + GRACE_SECONDS)


if __name__ == "__main__":
    main()
