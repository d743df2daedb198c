"""How far the stages are with each shard, and which have stood still."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import apsw

from messaging.times import from_milliseconds, from_text, to_milliseconds, to_text
from shards.sqlite_names import known_keys, with_new_keys
from shards.sqlite_open_store import OpenStore, store_errors
from shards.sqlite_rows import all_rows, json_rows, json_text, put_rows
from shards.sqlite_schema import IS_LAGGING
from shards.store import Progress, Stage


class SqliteProgress(OpenStore):
    """What :class:`~shards.store.ShardStore` keeps of the progress of stages."""

    async def progress(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Progress]:
        """See :meth:`shards.store.ShardStore.progress`."""

        def read(connection: apsw.Connection) -> list[Progress]:
            rows = json_rows(
                connection,
                "SELECT json_group_array(json_array(i.id, p.type, p.normalized, p.enriched, p.prepared, p.embedded,"
                " p.updated_ms)) FROM json_each(?1) AS j CROSS JOIN ids AS i ON i.tenant = ?2 AND i.id = j.value"
                " CROSS JOIN progress AS p ON p.key = i.key",
                (json_text(list(shard_ids)), self._names.tenant(connection, tenant_id)),
            )
            return [self._progress(connection, tenant_id, row) for row in rows]

        with store_errors():
            return {progress.shard_id: progress for progress in await self._file.run(read)}

    async def advance(self, tenant_id: str, stage: Stage, shards: Sequence[tuple[str, str, int]]) -> None:
        """See :meth:`shards.store.ShardStore.advance`."""
        if not shards:
            return
        with store_errors():
            await self._file.run(partial(self._advance, tenant_id=tenant_id, stage=stage, shards=shards))

    def _advance(
        self, connection: apsw.Connection, *, tenant_id: str, stage: Stage, shards: Sequence[tuple[str, str, int]]
    ) -> None:
        tenant = self._names.learn_tenant(connection, tenant_id)
        self._names.learn(connection, words={shard_type_id for _, shard_type_id, _ in shards})
        now = to_milliseconds(self._clock())

        def write(connection: apsw.Connection) -> None:
            ids = (shard for shard, _, _ in shards)
            keys = with_new_keys(connection, tenant, known_keys(connection, tenant, ids))
            put_rows(
                connection,
                f"INSERT INTO progress (key, type, {stage.value}, updated_ms)",
                [(keys[shard], self._names.known_word(kind), revision, now) for shard, kind, revision in shards],
                tail=f"""
                    ON CONFLICT (key) DO UPDATE
                    SET {stage.value} = excluded.{stage.value}, type = excluded.type, updated_ms = excluded.updated_ms
                    WHERE excluded.{stage.value} > {stage.value}
                """,
            )

        self._file.transaction(write)

    async def lagging(self, *, before: str, limit: int = 1000) -> list[Progress]:
        """See :meth:`shards.store.ShardStore.lagging`. The one that has stood still longest comes first."""
        before_ms = to_milliseconds(from_text(before))

        def read(connection: apsw.Connection) -> list[Progress]:
            rows = all_rows(
                connection,
                "SELECT t.id, i.id, p.type, p.normalized, p.enriched, p.prepared, p.embedded, p.updated_ms"
                " FROM progress AS p CROSS JOIN ids AS i ON i.key = p.key"
                " CROSS JOIN tenants AS t ON t.tenant = i.tenant"
                f" WHERE {IS_LAGGING} AND p.updated_ms < ?"
                " ORDER BY p.updated_ms, p.key LIMIT ?",
                (before_ms, limit),
            )
            return [self._progress(connection, row[0], row[1:]) for row in rows]

        with store_errors():
            return await self._file.run(read)

    async def stages_behind(self) -> dict[Stage, int]:
        """See :meth:`shards.store.ShardStore.stages_behind`."""

        def read(connection: apsw.Connection) -> dict[Stage, int]:
            [counts] = all_rows(
                connection,
                "SELECT coalesce(sum(enriched < normalized), 0), coalesce(sum(prepared < normalized), 0),"
                " coalesce(sum(embedded < normalized), 0) FROM progress"
                f" WHERE {IS_LAGGING}",
                (),
            )
            return dict(zip((Stage.ENRICHED, Stage.PREPARED, Stage.EMBEDDED), counts, strict=True))

        with store_errors():
            return await self._file.run(read)

    def _progress(self, connection: apsw.Connection, tenant_id: str, row: Sequence[Any]) -> Progress:
        shard_id, word, normalized, enriched, prepared, embedded, updated_ms = row
        return Progress(
            tenant_id=tenant_id,
            shard_id=shard_id,
            shard_type_id=self._names.text(connection, word),
            normalized=normalized,
            enriched=enriched,
            prepared=prepared,
            embedded=embedded,
            updated_at=to_text(from_milliseconds(updated_ms)),
        )
