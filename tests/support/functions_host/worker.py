"""One worker instance: a process in the worker's environment, asked as the Functions host asks it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from base64 import b64decode
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from functions_host.functions import Function, read_function
from functions_host.trigger_data import TriggerValue, TypedData

PROGRAM = Path(__file__).with_name("worker_program.py")
START_SECONDS = 60.0
KEPT_LINES = 5000


class IndexingError(Exception):
    """The worker found no functions; the message is its own."""


class WorkerEndedError(Exception):
    """The process ended before it answered; the message has the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a function or the worker logged; *invocation* None: none was running there."""

    category: str
    level: str
    message: str
    invocation: str | None


@dataclass(frozen=True, slots=True)
class Invocation:
    """What became of an invocation. *problem* is the worker's message when it failed, with its *stack*."""

    id: str
    succeeded: bool
    problem: str
    stack: str
    returned: TypedData
    outputs: Mapping[str, TypedData]
    logs: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Which try of a retry policy an invocation is."""

    count: int = 0
    most: int = 0


@dataclass(eq=False)
class Worker:
    """A running worker. *functions* are those it has indexed, by name; *invocations* counts how often each was run."""

    process: "subprocess.Popen[bytes]"
    output: Path
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    functions: dict[str, Function] = field(default_factory=dict)
    capabilities: dict[str, str] = field(default_factory=dict)
    invocations: Counter[str] = field(default_factory=Counter)
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._lines: dict[str, list[LogLine]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, python: Path, directory: Path, settings: Mapping[str, str], output: Path) -> Self:
        """A worker of the app in *directory*, in an environment of nothing but *settings*.

        *output* gets what the process writes beside its answers.

        Raises:
            IndexingError: the worker can't load the app, or there is a function in it that it can't index.
            WorkerEndedError: the process has ended.
        """
        ours, its = socket.socketpair()
        with its:
            process = _spawn(python, its.fileno(), directory, settings, output)
        worker = cls(process, output, *await asyncio.open_connection(sock=ours))
        try:
            async with asyncio.timeout(START_SECONDS):
                worker.capabilities = (await worker._indexed("init", directory))["capabilities"]
                found = (await worker._indexed("metadata", directory))["functions"]
        except BaseException:
            worker.kill()
            await worker.stop()
            raise
        worker.functions = {function.name: function for function in map(read_function, found)}
        return worker

    async def _indexed(self, ask: str, directory: Path) -> dict[str, Any]:
        done = await self._ask(ask, directory=str(directory))
        if not done["succeeded"]:
            raise IndexingError(done["problem"])
        return done

    async def invoke(
        self, function: Function, trigger: TriggerValue, *, retry: Retry | None = None, trace_parent: str | None = None
    ) -> Invocation:
        """Run *function* once.

        Raises:
            WorkerEndedError: the process has ended.
        """
        retry = retry or Retry()
        self.invocations[function.name] += 1
        invocation = str(uuid4())
        lines = self._lines[invocation] = []
        try:
            done = await self._ask(
                "invoke",
                invocation=invocation,
                function=function.id,
                inputs={function.parameter: trigger.value},
                metadata=dict(trigger.metadata),
                trace={
                    "trace_parent": trace_parent or f"00-{uuid4().hex}-{uuid4().hex[:16]}-01",
                    "trace_state": "",
                    "attributes": {},
                },
                retry={"retry_count": retry.count, "max_retry_count": retry.most, "exception": None},
            )
        finally:
            del self._lines[invocation]
        return Invocation(
            invocation,
            done["succeeded"],
            done["problem"],
            done["stack"],
            done["returned"],
            done["outputs"],
            tuple(lines),
        )

    def kill(self) -> None:
        """End the process as a power cut would; what runs in it gets no answer."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Let the process end, and wait for its end."""
        self.writer.close()
        await asyncio.to_thread(self.process.wait)
        await self._listening

    async def _ask(self, ask: str, **more: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        frame = json.dumps({"id": number, "ask": ask, **more}).encode()
        try:
            if self._listening.done():
                raise WorkerEndedError(self._last_words())
            self.writer.write(len(frame).to_bytes(4, "big") + frame)
            done = await answer
        finally:
            del self._waiting[number]
        if "broken" in done:
            raise AssertionError(f"the worker's program failed:\n{done['broken']}")
        return done

    async def _listen(self) -> None:
        """Take answers and log lines until the process ends."""
        try:
            while True:
                size = int.from_bytes(await self.reader.readexactly(4), "big")
                message: dict[str, Any] = json.loads(await self.reader.readexactly(size))
                if "log" in message:
                    self._keep(LogLine(**message["log"]))
                elif (waiting := self._waiting.get(message["id"])) is not None and not waiting.done():
                    waiting.set_result(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            await asyncio.to_thread(self.process.wait)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(WorkerEndedError(self._last_words()))

    def _keep(self, line: LogLine) -> None:
        self.log.append(line)
        if line.invocation in self._lines:
            self._lines[line.invocation].append(line)

    def _last_words(self) -> str:
        return f"worker {self.process.pid} ended with {self.process.poll()}:\n{self.output.read_text()[-2000:]}"


def _spawn(
    python: Path, channel: int, directory: Path, settings: Mapping[str, str], output: Path
) -> "subprocess.Popen[bytes]":
    with output.open("ab") as written:
        return subprocess.Popen(
            [str(python), str(PROGRAM), str(channel), str(directory)],
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **settings},
            pass_fds=[channel],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )


def returned_body(invocation: Invocation) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what an HTTP function returned."""
    http = invocation.returned["http"]
    return http["status_code"], http["headers"], b64decode(http["body"].get("bytes", ""))
