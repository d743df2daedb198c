"""Parked messages in the store's own file, so that parking needs nothing but the store."""

from collections.abc import Mapping, Sequence

import msgspec

from messaging import codec
from messaging.times import to_text
from shards.cursors import decode_cursor, encode_cursor
from shards.parked import ParkedMessage
from shards.sqlite_open_store import OpenStore, store_errors
from shards.sqlite_rows import all_rows, json_text
from shards.store import Page

_decode = codec.decoder(ParkedMessage).decode


class SqliteParkedMessages(OpenStore):
    """The twin of :class:`shards.parked.ParkedMessages` on one machine."""

    async def park(self, messages: Sequence[ParkedMessage]) -> None:
        """Keep the messages; one without a time is parked now."""
        now = to_text(self._clock())
        rows = []
        for message in messages:
            dated = message if message.parked_at else msgspec.structs.replace(message, parked_at=now)
            rows.append((dated.id, dated.tenant_id, dated.reason, dated.queue, dated.parked_at, codec.encode(dated)))
        with store_errors():
            await self._file.write(
                lambda connection: connection.executemany(
                    "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?, ?)", rows
                )
            )

    async def parked(
        self,
        tenant_id: str | None = None,
        *,
        reason: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[ParkedMessage]:
        """Parked messages, oldest first.

        Raises:
            InvalidCursorError: *cursor* is none of this listing's.
        """
        where = ["1"]
        bindings: dict[str, str | int] = {"limit": limit + 1}
        for column, value in (("tenant", tenant_id), ("reason", reason), ("queue", queue)):
            if value is not None:
                where.append(f"{column} = :{column}")
                bindings[column] = value
        if cursor is not None:
            bindings["after_time"], bindings["after_id"] = decode_cursor(cursor, str, str)
            where.append("(parked_at, id) > (:after_time, :after_id)")
        sql = f"SELECT message FROM parked WHERE {' AND '.join(where)} ORDER BY parked_at, id LIMIT :limit"
        with store_errors():
            rows = await self._file.run(lambda connection: all_rows(connection, sql, bindings))
        items = [_decode(message) for (message,) in rows[:limit]]
        more = len(rows) > limit and items
        return Page(items, encode_cursor(items[-1].parked_at, items[-1].id) if more else None)

    async def get_parked(self, parked_id: str, tenant_id: str | None = None) -> ParkedMessage | None:
        """One parked message."""
        sql = "SELECT message FROM parked WHERE id = ?1 AND (?2 IS NULL OR tenant = ?2)"
        with store_errors():
            message = await self._file.run(lambda connection: connection.execute(sql, (parked_id, tenant_id)).get)
        return None if message is None else _decode(message)

    async def remove_parked(self, parked_ids: Sequence[str]) -> int:
        """Drop parked messages; how many there were."""
        with store_errors():
            return await self._file.write(
                lambda connection: len(
                    connection.execute(
                        "DELETE FROM parked WHERE id IN (SELECT value FROM json_each(?)) RETURNING 1",
                        (json_text(list(parked_ids)),),
                    ).fetchall()
                )
            )

    async def parked_counts(self, tenant_id: str | None = None) -> Mapping[str, int]:
        """How many are parked, by reason."""
        with store_errors():
            rows = await self._file.run(
                lambda connection: all_rows(
                    connection,
                    f"SELECT reason, count(*) FROM parked{' WHERE tenant = ?' if tenant_id else ''} GROUP BY reason",
                    (tenant_id,) if tenant_id else (),
                )
            )
        return dict(rows)
