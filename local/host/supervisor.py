"""The host as a whole: one process for HTTP, some for the work, started, watched and stopped from here."""

import asyncio
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final

from local.host.child import DEFAULT_GRACE, RECYCLE_EXIT_CODE
from local.host.errors import HostError
from local.host.process_lock import LockHeldError, take_lock
from messaging.process_identity import process_identity

_FIRST_RESTART: Final = 0.5
_LONGEST_RESTART: Final = 30.0
_HEALTHY_AFTER: Final = 60.0
"""Seconds after which a child that ends again counts as ending for the first time."""
_READY_WITHIN: Final = 120.0
_ORPHANS_WAIT: Final = 60.0
"""Seconds that the children of a supervisor that was killed may take to end; they hold its port and its timers."""
_KILL_AFTER: Final = 5.0
_LONGEST_LINE: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How to run the host.

    *app* and *services* are module names (``app`` of the one is the FunctionApp, ``services()`` of the other gives bus
    and store); *state_dir* is where timers and change feeds keep what they remember; *environment* is added to the
    children's; *port* 0 takes a free one.
    """

    state_dir: Path
    port: int = 7071
    workers: int = 1
    app: str = "function_app"
    services: str = "composition"
    host_json: Path | None = None
    grace: timedelta = DEFAULT_GRACE
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Starts the processes of the host, starts a crashed one again, and stops them all.

    *report* gets every line of the children's logs, with the child's name before it, and what the supervisor itself
    has to say.
    """

    def __init__(self, options: HostOptions, *, report: Callable[[str], None]) -> None:
        self.ready = asyncio.Event()
        self._options = options
        self._report = report
        self._lock: IO[bytes] | None = None
        self._listener: socket.socket | None = None
        self._http: _Child | None = None
        self._workers: list[_Child] = []

    @property
    def port(self) -> int:
        """The port of the HTTP door, once started."""
        if self._listener is None:
            raise RuntimeError("the host has not been started")
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    @property
    def http_pid(self) -> int | None:
        """The process id of the HTTP door, None while it does not run."""
        return self._http.pid if self._http else None

    async def start(self) -> None:
        """Start all processes and return once they are ready.

        Raises:
            HostError: they can't run; nothing is left running.
        """
        try:
            self._lock = await _lock_state(self._options.state_dir)
            self._listener = _listen(self._options.port)
            # The children have the lock, too: whoever starts after a supervisor that was killed waits for their end.
            held = (self._lock.fileno(),)
            self._http = self._door(self._listener, held)
            self._workers = [self._worker(number, held) for number in range(1, self._options.workers + 1)]
            starting = [asyncio.create_task(child.start()) for child in (self._http, *self._workers)]
            try:
                await asyncio.gather(*starting)
            finally:
                for task in starting:
                    task.cancel()
                await asyncio.gather(*starting, return_exceptions=True)
        except BaseException:
            await self.stop()
            raise
        self.ready.set()

    async def stop(self) -> None:
        """Ask all processes to end, wait for them, and end those that outstay the grace period."""
        children = [child for child in (self._http, *self._workers) if child is not None]
        await asyncio.gather(*(child.stop() for child in children))
        self.ready.clear()
        if self._listener is not None:
            self._listener.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """End all processes at once; what they held is given back when its locks are freed."""
        for child in (self._http, *self._workers):
            if child is not None:
                child.kill()

    def _door(self, listener: socket.socket, held: tuple[int, ...]) -> "_Child":
        arguments = ["--socket-fd", str(listener.fileno())]
        return self._child("http", "local.host.http_door", arguments, (listener.fileno(), *held))

    def _worker(self, number: int, held: tuple[int, ...]) -> "_Child":
        arguments = ["--state-dir", str(self._options.state_dir)]
        if number > 1:
            arguments.append("--only-queues")
        return self._child(f"worker {number}", "local.host.worker", arguments, held)

    def _child(self, name: str, module: str, arguments: list[str], descriptors: tuple[int, ...]) -> "_Child":
        options = self._options
        command = [sys.executable, "-P", "-m", module, "--app", options.app, "--services", options.services]
        command += ["--grace", str(options.grace.total_seconds()), *arguments]
        if options.host_json is not None:
            command += ["--host-json", str(options.host_json)]
        # The child imports what this process would: no module of that name in the folder it happens to start in.
        import_path = [options.environment.get("PYTHONPATH", ""), *(entry or str(Path.cwd()) for entry in sys.path)]
        environment = {
            **os.environ,
            **options.environment,
            "PYTHONPATH": os.pathsep.join(entry for entry in import_path if entry),
            "PYTHONUNBUFFERED": "1",
            "SHARDLINE_HOME": "local",
        }
        return _Child(
            name,
            command,
            environment=environment,
            descriptors=descriptors,
            grace=options.grace,
            report=self._report,
        )


class _Child:
    """One process of the host, over all its lives."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        environment: Mapping[str, str],
        descriptors: tuple[int, ...],
        grace: timedelta,
        report: Callable[[str], None],
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._descriptors = descriptors
        self._grace = grace.total_seconds()
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None while there is no process."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process, wait until it is ready, and keep one running from then on.

        Raises:
            HostError: the process can't work.
        """
        self._keeper = asyncio.create_task(self._keep_running(await self._spawn()))

    async def stop(self) -> None:
        """Ask the process to end by closing its stdin, and end it when it does not."""
        if self._keeper is not None:
            # First of all, so that it starts no process that nobody would stop.
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(self._grace + _KILL_AFTER):
                    await process.wait()
            except TimeoutError:
                self._report(f"[{self._name}] did not end within {self._grace:g} s and is killed")
                self.kill()
                await process.wait()
        if self._output is not None:
            await self._output

    def kill(self) -> None:
        """End the process now."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _keep_running(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_RESTART
        started = loop.time()
        while True:
            code = await process.wait()
            if loop.time() - started > _HEALTHY_AFTER:
                pause = _FIRST_RESTART
            if code == RECYCLE_EXIT_CODE:
                self._report(f"[{self._name}] process {process.pid} gives way to a fresh one")
                problem = ""
            else:
                problem = f"process {process.pid} ended unexpectedly ({_how_ended(code)})"
            fresh = None
            while fresh is None:
                if problem:
                    self._report(f"[{self._name}] {problem}; starting again in {pause:g} s")
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_RESTART)
                started = loop.time()
                try:
                    fresh = await self._spawn()
                except HostError as error:
                    problem = str(error)
            process = fresh
            self._report(f"[{self._name}] runs again (pid {process.pid})")

    async def _spawn(self) -> asyncio.subprocess.Process:
        """Start the process and wait for its word.

        Raises:
            HostError: it said that it can't work, or ended, or took too long.
        """
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--ready-fd",
                str(write_end),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self._environment,
                pass_fds=(*self._descriptors, write_end),
                # A session of its own, so that Ctrl-C reaches the supervisor alone and the stop is an orderly one.
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        self._process = process
        if process.stdout is not None:
            self._output = asyncio.create_task(self._relay(process.stdout))
        try:
            async with asyncio.timeout(_READY_WITHIN):
                word = await _read_all(read_end)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise HostError(f"the {self._name} process was not ready within {_READY_WITHIN:g} s") from None
        if word.get("ready"):
            return process
        code = await process.wait()
        if self._output is not None:
            await self._output
        if "error" in word:
            raise HostError(str(word["error"]))
        raise HostError(f"the {self._name} process ended before it was ready ({_how_ended(code)}); its log says why")

    async def _relay(self, output: asyncio.StreamReader) -> None:
        """Pass the lines of *output* on; what is longer than a line may be goes in pieces."""
        rest = b""
        while data := await output.read(_LONGEST_LINE):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._report(f"[{self._name}] {line.decode(errors='replace').rstrip()}")
        if rest:
            self._report(f"[{self._name}] {rest.decode(errors='replace').rstrip()}")


def _how_ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def _read_all(descriptor: int) -> dict[str, Any]:
    """The JSON object that comes through the pipe, empty when it closes without one."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        text = await reader.read()
    finally:
        transport.close()
    content: dict[str, Any] = json.loads(text) if text else {}
    return content


async def _lock_state(state_dir: Path) -> IO[bytes]:
    """Take the state folder for this host, once the children of one that was killed have ended."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _ORPHANS_WAIT
    while True:
        try:
            return _take_state(state_dir)
        except LockHeldError as error:
            if not _has_ended(error.owner) or loop.time() > until:
                raise HostError(
                    f"another host (process {error.owner}) already runs on {state_dir}; stop it first"
                ) from None
        await asyncio.sleep(0.05)


def _take_state(state_dir: Path) -> IO[bytes]:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        return take_lock(state_dir / "host.lock")
    except OSError as error:
        raise HostError(f"the state folder {state_dir} can't be used: {error.strerror}") from None


def _has_ended(process: str) -> bool:
    """Whether the process of that id has certainly ended."""
    if not process.isdecimal():
        return False
    try:
        process_identity(int(process))
    except ProcessLookupError:
        return True
    return False


def _listen(port: int) -> socket.socket:
    """A socket that listens on the loopback address alone.

    It belongs to the supervisor, so that requests wait, and don't fail, while the HTTP process is started again.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(2048)
    except OverflowError:
        listener.close()
        raise HostError(f"port {port} is no port; choose one from 1 to 65535") from None
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise HostError(f"port {port} can't be opened: {error.strerror}; choose another with --port") from None
        raise HostError(
            f"port {port} is in use; stop the program that uses it or choose another port with --port"
        ) from None
    return listener


async def run_host(
    options: HostOptions, *, report: Callable[[str], None], serving: Callable[[int], Coroutine[Any, Any, None]]
) -> None:
    """Run the host until SIGINT or SIGTERM, which end its start as well; a second one ends what runs without waiting.

    *serving* is called with the port once all processes are ready; it runs beside them and is cancelled at the stop.

    Raises:
        HostError: the host can't run; nothing is left running.
    """
    supervisor = Supervisor(options, report=report)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            report("stopping at once")
            supervisor.kill()
        asked.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, ask)
    stopping = asyncio.create_task(asked.wait())
    work = asyncio.create_task(_start_and_serve(supervisor, serving))
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.is_set():
            await work
            await stopping
        report("stopping")
    finally:
        stopping.cancel()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await supervisor.stop()
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _start_and_serve(supervisor: Supervisor, serving: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    await supervisor.start()
    await serving(supervisor.port)
