"""The peer as tests hold it: in a thread of their own process, or in a process of its own."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from multiprocessing import Pipe
from typing import Any, Self, cast

from azure.cosmos.aio import CosmosClient

from cosmos_peer.authorization import KEY
from cosmos_peer.controls import Controls
from cosmos_peer.counters import Counts
from cosmos_peer.faults import Fault
from cosmos_peer.http_server import Connection
from cosmos_peer.service import Service

PARTITIONS = 4
"""How many physical partitions a container has at first, so that crossing them is what usually happens."""


class PeerHandle:
    """What both kinds of peer offer: an address, and controls that may be used from any thread."""

    key = KEY
    port: int

    @property
    def endpoint(self) -> str:
        """Where a client connects to."""
        return f"http://127.0.0.1:{self.port}/"

    def connect(self) -> CosmosClient:
        """A new client with the account's key; the caller closes it."""
        return CosmosClient(self.endpoint, self.key)

    def fail(self, *faults: Fault) -> None:
        """Put faults in force, behind those that are."""
        self._ask("fail", *faults)

    def heal(self) -> None:
        """Lift all faults."""
        self._ask("heal")

    def counts(self) -> Counts:
        """What was asked since the beginning or the last reset."""
        return cast(Counts, self._ask("counts"))

    def reset_counts(self) -> None:
        """Count anew."""
        self._ask("reset_counts")

    def advance(self, seconds: float) -> None:
        """Let time pass at once: what has a time to live may be over."""
        self._ask("advance", seconds)

    def set_consistency(self, level: str) -> None:
        """Make *level* the account's default consistency, as clients see it that connect from now on."""
        self._ask("set_consistency", level)

    def split(self, database: str, container: str, prefix: Sequence[Any]) -> None:
        """Split the physical partition where the items under a key prefix live, in the middle of the prefix.

        So the service does when a partition has grown: requests that name the old one are 410/1002 from now on, and
        a query under the prefix is answered by two partitions.
        """
        self._ask("split", database, container, prefix)

    def partitions_of(self, database: str, container: str, prefix: Sequence[Any]) -> list[str]:
        """The ids of the physical partitions that hold a key prefix."""
        return cast(list[str], self._ask("partitions_of", database, container, prefix))

    def stored_bytes(self, database: str) -> dict[str, int]:
        """The bytes of the items that each container keeps."""
        return cast(dict[str, int], self._ask("stored_bytes", database))

    def close(self) -> None:
        """End the peer and its connections. Closing twice is harmless."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, control: str, /, *arguments: Any) -> Any:
        raise NotImplementedError


class CosmosPeer(PeerHandle):
    """A running account without databases on a free loopback port, in a thread of this process.

    Args:
        partitions: How many physical partitions a new container has.
        port: 0: a free one.
    """

    def __init__(self, *, partitions: int = PARTITIONS, port: int = 0) -> None:
        self._service = Service(partitions=partitions)
        self._controls = Controls(self._service)
        self._stop = asyncio.Event()
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, args=(port,), name="cosmos-peer", daemon=True)
        self._thread.start()
        self._started.result()

    def close(self) -> None:
        """End the server and its connections. Closing twice is harmless.

        Raises:
            ExceptionGroup: something went wrong in the peer itself.
        """
        if self._thread.is_alive():
            self._started.result().call_soon_threadsafe(self._stop.set)
            self._thread.join()
        errors, self._service.errors = self._service.errors, []
        if errors:
            raise ExceptionGroup("the Cosmos DB peer has failed", errors)

    def _run(self, port: int) -> None:
        try:
            asyncio.run(self._serve(port))
        except Exception as error:  # noqa: BLE001 - it is raised where the peer was started
            if self._started.done():
                self._service.errors.append(error)
            else:
                self._started.set_exception(error)

    async def _serve(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        connections: set[Connection] = set()
        server = await loop.create_server(lambda: Connection(self._service.handle, connections), "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        self._service.endpoint = self.endpoint
        self._started.set_result(loop)
        await self._stop.wait()
        server.close()
        for connection in list(connections):
            connection.abort()
        await server.wait_closed()

    def _ask(self, control: str, /, *arguments: Any) -> Any:
        answer: Future[Any] = Future()

        def do() -> None:
            try:
                answer.set_result(getattr(self._controls, control)(*arguments))
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                answer.set_exception(error)

        self._started.result().call_soon_threadsafe(do)
        return answer.result()


class CosmosPeerProcess(PeerHandle):
    """The same in a process of its own, which ends with this one: for benchmarks."""

    def __init__(self, *, partitions: int = PARTITIONS) -> None:
        self._asking = threading.Lock()
        self._control, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cosmos_peer", "--control", str(theirs.fileno())),
                    *("--partitions", str(partitions)),
                ],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[theirs.fileno()],
            )
        try:
            self.port = self._control.recv()
        except EOFError:
            raise RuntimeError(f"the Cosmos DB peer ended with exit code {self._process.wait()}") from None

    def close(self) -> None:
        """End the process. Closing twice is harmless.

        Raises:
            RuntimeError: something went wrong in the peer itself.
        """
        if not self._control.closed:
            self._control.close()
            if self._process.wait() != 0:
                raise RuntimeError(f"the Cosmos DB peer ended with exit code {self._process.returncode}")

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def _ask(self, control: str, /, *arguments: Any) -> Any:
        with self._asking:
            self._control.send((control, arguments))
            answer = self._control.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer
