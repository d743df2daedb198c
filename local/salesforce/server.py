"""Running the simulator: the ASGI app, a server of it inside this process, and one in a process of its own."""

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

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from local.salesforce.adapter import SimulatorAdapter
from local.salesforce.auth import Credentials
from local.salesforce.control import ControlRoute, SetEpoch
from local.salesforce.org import Org
from local.salesforce.rest import RestApi

HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_CREDENTIAL_VARIABLES: Mapping[str, str] = {
    "consumer_key": "SHARDLINE_SIMULATOR_SALESFORCE_CONSUMER_KEY",
    "consumer_secret": "SHARDLINE_SIMULATOR_SALESFORCE_CONSUMER_SECRET",
    "username": "SHARDLINE_SIMULATOR_SALESFORCE_USERNAME",
    "password": "SHARDLINE_SIMULATOR_SALESFORCE_PASSWORD",
    "security_token": "SHARDLINE_SIMULATOR_SALESFORCE_SECURITY_TOKEN",
    "public_key": "SHARDLINE_SIMULATOR_SALESFORCE_PUBLIC_KEY",
}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class SimulatorError(Exception):
    """A simulator that does not start or answer; the message is one line."""


def credentials_from_environment(environment: Mapping[str, str]) -> Credentials:
    """What the environment says of the credentials; the rest is made up anew."""
    given = {name: environment[variable] for name, variable in _CREDENTIAL_VARIABLES.items() if variable in environment}
    return Credentials(**given)  # type: ignore[arg-type]  # every one of these fields is a text


def listen(port: int) -> socket.socket:
    """A socket that listens on loopback; port 0 takes a free one.

    Raises:
        SimulatorError: the port is in use.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise SimulatorError(f"port {port} on {HOST} can't be had ({error.strerror}); choose another") from error
    return listener


class _Simulator(ABC):
    """A simulator that runs from :meth:`start` to :meth:`stop`. Use it as a context."""

    base_url = ""
    """Where it takes calls, once started."""

    @abstractmethod
    def start(self) -> Self:
        """Start it; returns when it takes calls."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, and return when it has ended."""

    def session(self) -> requests.Session:
        """A session for simple-salesforce that reaches this simulator alone."""
        return simulator_session(self.base_url)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class SalesforceSimulator(_Simulator):
    """The simulator inside this process, served by a thread, for tests and programs that hold its parts in hand.

    ``org`` changes the data, ``api`` the manners (``api.faults``, ``api.login``, ``api.calls``…). Use it as a context.
    """

    def __init__(self, org: Org, credentials: Credentials | None = None, set_epoch: SetEpoch | None = None) -> None:
        self.org = org
        self.credentials = credentials or Credentials()
        self.api = RestApi(org, self.credentials)
        control = ControlRoute(self.api, set_epoch)
        self.app = Starlette(
            routes=[
                Route("/_control{rest:path}", control.__call__, methods=_METHODS),
                Route("/{rest:path}", self.api.__call__, methods=_METHODS),
            ]
        )
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

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)
            self._server = self._thread = None


class SimulatorProcess(_Simulator):
    """The simulator in a process of its own, as the local host and the benchmarks run it. Use it as a context.

    *arguments* are those of ``python -m local.salesforce``, without the port. The credentials go over by environment.
    The process ends when its standard input closes, so it never outlives its parent.
    """

    def __init__(self, arguments: Sequence[str | Path], credentials: Credentials | None = None, port: int = 0) -> None:
        self.credentials = credentials or Credentials()
        self._arguments = [str(argument) for argument in arguments]
        self._port = port
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
        given = {variable: getattr(self.credentials, name) for name, variable in _CREDENTIAL_VARIABLES.items()}
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "local.salesforce", "--port", str(self._port), *self._arguments],
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, **{variable: value for variable, value in given.items() if value is not None}},
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


def simulator_session(base_url: str) -> requests.Session:
    """A session whose calls to Salesforce hosts reach the simulator at *base_url*, and which reaches nothing else."""
    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount("https://", SimulatorAdapter(base_url))
    return session
