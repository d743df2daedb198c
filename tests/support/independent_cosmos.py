"""A Cosmos DB server that others wrote (``@zeit/cosmosdb-server``), as a peer: TLS on a free loopback port, in memory.

As Cosmos DB it answers, with hierarchical keys too: containers with their policies; create, read, replace, upsert and
delete of items, with 404, 409 and 412; queries with parameters, WHERE, EXISTS, JOIN, TOP, COUNT and ORDER BY one path,
in pages and from a continuation; the change feed from its beginning.

``tests/shards/test_independent_cosmos.py`` holds it to that and to what it can't do:

- it ignores a query's partition key and answers from all partitions: the WHERE must name the tenant;
- a batch can only create, and is not atomic: what comes before a failing operation stays;
- the change feed from a continuation is always empty; page sizes are ignored there;
- ORDER BY two paths, GROUP BY, DISTINCT, OFFSET, LIKE, vectors and full text are 400, patch and throughput too;
- nothing expires, an item of any size is taken, nothing is throttled, and each request charges 1.

Without the header ``x-ms-documentdb-query-enablecrosspartition`` reading an item that is not there is a 500, and a
query must compare each path of the key; :meth:`IndependentCosmos.connect` puts it on every call.
"""

import re

from azure.cosmos.aio import CosmosClient
from node_process import NodeProcess

KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
"""The key of Cosmos DB's emulators, the same everywhere and public; this server takes any."""

_LISTENS = re.compile(r"HTTPS connections at 127\.0\.0\.1:(?P<port>\d+)")


class IndependentCosmos:
    """A running server without databases."""

    def __init__(self) -> None:
        self._process = NodeProcess(
            *("@zeit/cosmosdb-server/lib/cli.js", "--host", "127.0.0.1", "--port", "0"), listens=_LISTENS
        )
        self.endpoint = f"https://127.0.0.1:{self._process.port}/"
        self.key = KEY

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def connect(self) -> CosmosClient:
        """A new client; the caller closes it. The server's certificate is its own, and long past its end."""
        return CosmosClient(
            self.endpoint,
            self.key,
            connection_verify=False,
            headers={"x-ms-documentdb-query-enablecrosspartition": "true"},
        )

    def end(self) -> None:
        """Kill it. Ending twice is harmless."""
        self._process.end()
