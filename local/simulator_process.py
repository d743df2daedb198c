"""Running a vendor simulator: an ASGI app served from a thread of this process, or from a process of its own."""

import os
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

HOST = "127.0.0.1"
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0

IDLE_SECONDS = 75
"""How long a connection without a call stays open. Longer than the sandbox waits between two polls: one that the server
closes at the moment of the next call makes that call fail."""


class SimulatorError(Exception):
    """A simulator that does not start or answer; the message is one line."""


def listen(port: int) -> socket.socket:
    """A socket that listens on loopback; port 0 takes a free one.

    Raises:
        SimulatorError: the port is in use.
    """
    # With the protocol named asyncio sends without delay; else an answer in two parts waits 40 ms for the first ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise SimulatorError(f"port {port} on {HOST} can't be had ({error.strerror}); choose another") from error
    return listener


def is_from_this_machine(request: Request) -> bool:
    """Whether a call comes from this machine and names the simulator by a loopback address.

    A page of another host that a browser here shows fails the second: its name may point here, its Host header stays.
    """
    host = urlsplit("//" + request.headers.get("host", "")).hostname
    client = request.client.host if request.client else None
    return host in _LOOPBACK and client in _LOOPBACK


class Simulator(ABC):
    """A simulator that runs from :meth:`start` to :meth:`stop`. Use it as a context."""

    base_url = ""
    """Where it takes calls, once started."""

    @abstractmethod
    def start(self) -> Self:
        """Start it; returns when it takes calls."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, and return when it has ended."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class ServedSimulator(Simulator):
    """A simulator inside this process, served by a thread, for programs that hold its parts in hand."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def server(self) -> uvicorn.Server:
        """A server of the app, not yet running."""
        config = uvicorn.Config(
            self.app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            date_header=False,
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=1,
        )
        return uvicorn.Server(config)

    def start(self, port: int = 0) -> Self:
        """Serve from a thread; returns when calls are taken.

        Raises:
            SimulatorError: the port is in use, or the server does not start.
        """
        listener = listen(port)
        self._server = server = self.server()
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise SimulatorError("the simulator's server did not start")
            time.sleep(0.01)
        self.base_url = f"http://{HOST}:{listener.getsockname()[1]}"
        return self

    def serve_until_input_ends(self, listener: socket.socket) -> None:
        """Serve from this thread, say the address on standard output, and end when standard input closes."""
        server = self.server()
        threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
        # The socket takes connections from the moment it listens; the server answers them as soon as it runs.
        listener.listen()
        sys.stdout.write(f"http://{HOST}:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        server.run(sockets=[listener])

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)
            self._server = self._thread = None


class SpawnedSimulator(Simulator):
    """A simulator in a process of its own, as the local host and the benchmarks run it.

    The process is ``python -m`` *module* with *arguments* and the port, and with *environment* (what must not show in
    a list of processes) added to this one's. It says its address on its first line of output, and ends when its
    standard input closes, so it never outlives its parent.
    """

    def __init__(self, module: str, arguments: Sequence[str | Path], environment: Mapping[str, str], port: int) -> None:
        self._command = ["-m", module, "--port", str(port), *(str(argument) for argument in arguments)]
        self._environment = dict(environment)
        self._process: subprocess.Popen[str] | None = None
        self._errors: threading.Thread | None = None

    @property
    def process_id(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> Self:
        """Start it; returns when it takes calls.

        Raises:
            SimulatorError: it ended instead; the message is what it said.
        """
        self._process = process = subprocess.Popen(
            [sys.executable, *self._command],
            cwd=Path(__file__).resolve().parents[1],
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A session of its own: Ctrl-C is for the parent, which is still to read from here when it stops its work.
            start_new_session=True,
        )
        if process.stdout is None or process.stderr is None:
            raise SimulatorError("the simulator's process has no pipes")
        try:
            self.base_url = process.stdout.readline().strip()
        except KeyboardInterrupt:
            process.kill()
            self.stop()
            raise
        if not self.base_url:
            said = process.stderr.read().strip().splitlines()
            self.stop()
            raise SimulatorError(said[-1] if said else "the simulator ended at once")
        # Nobody reads the pipe from here on; a thread does, or a full one would stop the process.
        self._errors = threading.Thread(target=_forward, args=(process.stderr,), daemon=True)
        self._errors.start()
        return self

    def stop(self) -> None:
        """Close its standard input and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._errors is not None:
            self._errors.join(_STOP_SECONDS)  # it reads to the end of the pipe
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def control(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """One call of the control route: ``control("/clock", {"advance": 60})``; without a body a GET.

        Raises:
            SimulatorError: it refuses.
        """
        verb = method or ("GET" if body is None else "POST")
        response = requests.request(verb, f"{self.base_url}/_control{path}", json=body, timeout=_START_SECONDS)
        answer = response.json()
        if response.status_code != 200:
            raise SimulatorError(answer["error"])
        return answer


def _forward(errors: IO[str]) -> None:
    for line in errors:
        sys.stderr.write(line)


def _end_with_input(server: uvicorn.Server) -> None:
    # On the descriptor: a thread that is inside sys.stdin when the interpreter ends makes it abort.
    while os.read(0, 4096):
        continue
    server.should_exit = True
