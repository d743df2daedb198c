"""Text out of files, read by child processes: one that dies, hangs or fills its memory takes nothing else along."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ingestion.content.content_error import ContentError
from ingestion.content.kept_text import Extracted
from ingestion.content.limits import Limits
from shards.types import TextPart

CHILDREN = 2
"""How many processes read at a time; each may take as much memory as its limit says."""
FILES_A_CHILD = 200
"""After so many a process gives way to a new one: what libraries leave behind goes with it."""

_ROOT = Path(__file__).parents[2]
_ENDING_SECONDS = 5
_LARGEST_ANSWER = 256 * 1024 * 1024
_OF_TIME = frozenset({signal.SIGXCPU, signal.SIGALRM})
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP})


class ExtractionFailedError(Exception):
    """The processes that read files can't do their work; it is no fault of the file, which may be tried again."""


class ContentExtractor:
    """Reads files in at most *children* processes, which start when they are needed and serve one file after another.

    Not to be used from several event loops at once.
    """

    def __init__(self, limits: Limits | None = None, *, children: int = CHILDREN) -> None:
        self.limits = limits or Limits()
        self._turns = asyncio.Semaphore(children)
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    async def extract(self, content: bytes | Path, mime_type: str, name: str) -> Extracted:
        """The text of a file: *content*, or what lies there, of media type *mime_type* and called *name*.

        Raises:
            ContentError: its text can't be had; the reason says why.
            ExtractionFailedError: no process could be started, or it ended for reasons of its own.
        """
        size = _size(content)
        if size > self.limits.input_size:
            told = f"the file has {size:,} bytes, more than the {self.limits.input_size:,} that are read"
            raise ContentError("too-large", told)
        content = content if isinstance(content, bytes) else _whole(content)
        async with self._turns:
            answer = await self._ask(content, mime_type, name)
            if answer is None:
                # Ended from outside: a machine short of memory does that to others than those who took it.
                answer = await self._ask(content, mime_type, name)
        if answer is None:
            raise ContentError("memory", "the process that read it was ended twice: the machine may be short of memory")
        return _extracted(answer)

    async def close(self) -> None:
        """End all processes, those at work too."""
        self._closed = True
        children = [*self._idle, *self._busy]
        self._idle.clear()
        for child in children:
            await child.end()

    async def _ask(self, content: bytes | Path, mime_type: str, name: str) -> dict[str, Any] | None:
        """What a process answers; None when it was ended from outside."""
        child = await self._free_child()
        self._busy.add(child)
        done = False
        try:
            async with asyncio.timeout(self.limits.seconds):
                answer = await child.ask(content, mime_type, name)
            done = True
        except TimeoutError:
            raise ContentError("timeout", f"it was not read within {self.limits.seconds:g} seconds") from None
        except (EOFError, ConnectionError):
            _blame(await child.exit_code(), self.limits)
            return None
        finally:
            self._busy.discard(child)
            if not done:
                await child.end()
        if child.served >= FILES_A_CHILD or answer.get("reason") == "memory":
            await child.end()
        else:
            self._idle.append(child)
        return answer

    async def _free_child(self) -> "_Child":
        if self._closed:
            raise ExtractionFailedError("the reading of files has been closed")
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            await child.end()
        return await _Child.started(self.limits)


class _Child:
    """One process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.served = 0

    @classmethod
    async def started(cls, limits: Limits) -> "_Child":
        """A new one. It gets none of this process's environment, which may hold secrets.

        Raises:
            ExtractionFailedError: it can't be started.
        """
        paths = [str(_ROOT), *(path for path in sys.path if path)]
        environment = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = (sys.executable, "-P", "-m", "ingestion.content.child", json.dumps(asdict(limits)))
        try:
            # In a session of its own: Ctrl-C is for whoever asks, who ends this process when it is time.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True
            )
        except OSError as error:
            raise ExtractionFailedError(f"{sys.executable} can't be started: {error.strerror}") from error
        return cls(process)

    @property
    def lives(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    async def ask(self, content: bytes | Path, mime_type: str, name: str) -> dict[str, Any]:
        """What it answers.

        Raises:
            EOFError, ConnectionError: it has ended.
        """
        sent, received = self._process.stdin, self._process.stdout
        assert sent is not None and received is not None, "it was started with pipes"  # noqa: S101
        path = str(content) if isinstance(content, Path) else None
        request = json.dumps({"mimeType": mime_type, "name": name, "path": path}).encode()
        for frame in (request, content if isinstance(content, bytes) else b""):
            sent.write(len(frame).to_bytes(8, "big"))
            sent.write(frame)
        await sent.drain()
        length = int.from_bytes(await received.readexactly(8), "big")
        if length > _LARGEST_ANSWER:
            raise EOFError
        answer: dict[str, Any] = json.loads(await received.readexactly(length))
        self.served += 1
        return answer

    async def exit_code(self) -> int:
        """With what it ended, having closed its output; negative for the signal that ended it."""
        # Killing what is ending already would lose how it ended.
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECONDS):
                return await self._process.wait()
        await self.end()
        return await self._process.wait()

    async def end(self) -> None:
        """End it, by its own id, if it has not ended."""
        if self.lives:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _whole(path: Path) -> Path:
    return path.absolute()


def _blame(code: int, limits: Limits) -> None:
    """Say whose fault it is that a process ended in the middle with this exit code; nobody's, if from outside.

    Raises:
        ContentError: the file brought it about.
        ExtractionFailedError: it did not start, or failed by itself.
    """
    if code >= 0:
        raise ExtractionFailedError(
            f"the process that reads files ended with exit code {code}; its error output says why"
        )
    number = signal.Signals(-code)
    if number in _OF_TIME:
        raise ContentError("timeout", f"it was not read within {limits.seconds:g} seconds")
    if number not in _FROM_OUTSIDE:
        raise ContentError("damaged", f"reading it ended the process: {number.name}")


def _extracted(answer: dict[str, Any]) -> Extracted:
    if "failure" in answer:
        raise ExtractionFailedError(answer["failure"])
    if "reason" in answer:
        raise ContentError(answer["reason"], answer["detail"])
    parts = [TextPart(heading, text, page) for text, heading, page in answer["parts"]]
    return Extracted(parts, answer["truncated"], answer["characters"])
