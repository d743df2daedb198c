"""The shard store on one machine: one SQLite file, for any number of processes on it.

A call is a handful of statements however many shards it has: lists go in as one JSON text or one blob and come out as
one row, because a step of a statement costs far more than the row in it (see :mod:`messaging.sqlite`).
"""

from functools import partial

import apsw

from shards.rank_fusion import Candidate
from shards.search import find_hits
from shards.sqlite_chunks import CHUNK_COLUMNS, SqliteChunks
from shards.sqlite_open_store import store_errors
from shards.sqlite_parked import SqliteParkedMessages
from shards.sqlite_progress import SqliteProgress
from shards.sqlite_rows import one_row
from shards.sqlite_schema import CHILD_BITS, SLOT_BITS
from shards.sqlite_shard_reads import SqliteShardReads, stored_shard
from shards.sqlite_shard_writes import SqliteShardWrites
from shards.store import Hit, SearchQuery


class SqliteShardStore(SqliteShardReads, SqliteShardWrites, SqliteProgress, SqliteChunks, SqliteParkedMessages):
    """:class:`~shards.store.ShardStore` and :class:`~shards.parked.ParkedMessages` on one file.

    The vectors are kept a second time in files beside it (:mod:`shards.vector_matrix`), made by the first search.

    Args:
        path: the file; made when missing.
        clock: the present moment.

    Raises:
        DataFileError: the file can't be used; the message says what to do.
        FileBusyError: another process kept the file locked.
    """

    async def search(self, query: SearchQuery) -> list[Hit]:
        """See :meth:`shards.store.ShardStore.search` and :mod:`shards.search`."""
        with store_errors():
            return await self._file.run(partial(self._search, query=query))

    def _search(self, connection: apsw.Connection, *, query: SearchQuery) -> list[Hit]:
        tenant = self._names.tenant(connection, query.tenant_id)
        if tenant is None:
            return []
        types = self._names.types(connection, query.shard_type_ids)
        return find_hits(
            connection, self._matrices, query, tenant=tenant, types=types, hit=partial(self._hit, query.tenant_id)
        )

    def _hit(self, tenant_id: str, connection: apsw.Connection, candidate: Candidate[int]) -> Hit:
        row = one_row(
            connection,
            f"{CHUNK_COLUMNS}, d.position, d.doc FROM chunks AS c CROSS JOIN ids AS i ON i.key = c.id >> {CHILD_BITS}"
            " CROSS JOIN texts AS t ON t.id = c.id CROSS JOIN docs AS d ON d.key = i.key"
            " JOIN scopes AS s ON s.scope = c.scope"
            f" LEFT JOIN spaces AS p ON p.space = c.vector >> {SLOT_BITS} WHERE c.id = ?",
            (candidate.chunk,),
        )
        *columns, position, doc = row
        chunk = self._chunk(connection, tenant_id, columns)
        return Hit(shard=stored_shard(position, doc), chunk=chunk, score=candidate.score)
