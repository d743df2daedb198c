"""The peer as tests hold it: a server in a thread of this process."""

import asyncio
import threading
from types import TracebackType

from azure.cosmos.aio import CosmosClient

from cosmos_peer.authorization import KEY
from cosmos_peer.counters import Counters
from cosmos_peer.faults import Fault, Faults
from cosmos_peer.http_server import Connection
from cosmos_peer.service import Service


class CosmosPeer:
    """A running account without databases, on a free loopback port.

    Args:
        partitions: How many physical partitions a new container has.
    """

    key = KEY

    def __init__(self, *, partitions: int = 4) -> None:
        self.service = Service(partitions=partitions)
        self._loop = asyncio.new_event_loop()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="cosmos peer", daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            self._loop.create_server(lambda: Connection(self.service.handle, self._connections), "127.0.0.1", 0)
        )
        port = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}/"
        self.service.endpoint = self.endpoint
        started.set()
        self._loop.run_forever()
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        self._loop.run_until_complete(self._server.wait_closed())
        self._loop.close()

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self.service.faults

    @property
    def counters(self) -> Counters:
        """What was asked so far."""
        return self.service.counters

    def fail(self, *faults: Fault) -> None:
        """Put faults in force."""
        for fault in faults:
            self.service.faults.add(fault)

    def advance(self, seconds: float) -> None:
        """Let time pass: what has a time to live may be over."""
        self.service.clock.advance(seconds)

    def connect(self) -> CosmosClient:
        """A new client with the account's key; the caller closes it."""
        return CosmosClient(self.endpoint, self.key)

    def split(self, database: str, container: str, prefix: list[object]) -> None:
        """Split the physical partition where the items under a key prefix live, in the middle of the prefix.

        As the service does when a partition has grown: requests of its old id are 410/1002 from now on.
        """
        held = self.service.account.container(database, container)
        span = held.definition.key.span(held.definition.key.value(prefix))
        self._loop.call_soon_threadsafe(held.split, span.low + "1F" + "F" * 30)

    def close(self) -> None:
        """End the server and its connections. Closing twice is harmless."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> "CosmosPeer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
