"""What polling remembers between two runs: ``integration.state`` shards, written only over the etag last read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from messaging import codec
from messaging.times import Clock, to_text, utc_now
from shards.identity import SHARDLINE_SYSTEM, shard_id
from shards.model import Acl, Shard
from shards.store import ShardQuery, ShardStore, ShardWrite

STATE_TYPE = "integration.state"
STATES_AT_ONCE = 200
_ERROR = "errorMessage"

CHANGE_TRIES = 8
"""How often a state that others keep writing is read and changed anew."""

T = TypeVar("T", bound=msgspec.Struct)


class StateMovedError(Exception):
    """Another worker has written the state since it was read: this one must stop."""


class StateError(Exception):
    """What is stored is no state of this version; the message says which, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Saved(Generic[T]):
    """A state with what it takes to write it back: *shard* is None while nothing is stored."""

    value: T
    shard: Shard | None


class StateStore:
    """States of one tenant and key each. All calls raise ``StoreUnavailableError`` when the store is away.

    A state's ``revision`` stays 1: it is bookkeeping, not content that the chain has to follow.
    """

    def __init__(self, store: ShardStore, *, clock: Clock = utc_now) -> None:
        self._store = store
        self._clock = clock

    async def load(self, tenant_id: str, key: str, empty: T) -> Saved[T]:
        """The state under *key*, *empty* when there is none yet.

        Raises:
            StateError: what is stored can't be read as such a state.
        """
        shard = await self._store.get(tenant_id, state_shard_id(tenant_id, key))
        if shard is None or not shard.is_live:
            return Saved(empty, shard)
        try:
            return Saved(msgspec.convert(shard.structured_data, type(empty)), shard)
        except msgspec.ValidationError as error:
            raise StateError(f"the state {key} of {tenant_id} ({shard.id}): {error}") from None

    async def save(self, tenant_id: str, key: str, saved: Saved[Any], value: T) -> Saved[T]:
        """Write *value* over what *saved* was read from.

        Raises:
            StateMovedError: another worker has written it meanwhile.
        """
        standing = saved.shard
        now = to_text(self._clock())
        shard = Shard(
            id=state_shard_id(tenant_id, key),
            tenant_id=tenant_id,
            shard_type_id=STATE_TYPE,
            structured_data=codec.decode(codec.encode(value)),
            acl=Acl.of(),
            created_at=standing.created_at if standing else now,
            updated_at=now,
        )
        [etag] = await self._store.write_many([ShardWrite(shard, standing.etag if standing else None)])
        if etag is None:
            raise StateMovedError(f"the state {key} of {tenant_id} was written by another worker")
        return Saved(value, msgspec.structs.replace(shard, etag=etag))

    async def drop_errors(self, tenant_id: str, integration_id: str) -> None:
        """Take the errors out of all that is remembered of a connection, which is read anew from now on.

        What another worker writes at this moment stays as that one leaves it.
        """
        query = ShardQuery(tenant_id, shard_type_ids=(STATE_TYPE,))
        cursor: str | None = None
        while True:
            page = await self._store.query(query, limit=STATES_AT_ONCE, cursor=cursor)
            mended = [
                ShardWrite(
                    msgspec.structs.replace(
                        shard,
                        structured_data={**shard.structured_data, _ERROR: None},
                        updated_at=to_text(self._clock()),
                    ),
                    shard.etag,
                )
                for shard in page.items
                if shard.structured_data.get("integrationId") == integration_id and shard.structured_data.get(_ERROR)
            ]
            if mended:
                await self._store.write_many(mended)
            cursor = page.cursor
            if cursor is None:
                return

    async def change(self, tenant_id: str, key: str, empty: T, change: Callable[[T], T]) -> None:
        """Write what *change* makes of the state under *key*, of what is read anew where another worker was faster.

        What it leaves as it is is not written.

        Raises:
            StateMovedError: others were always faster; try again.
            StateError: what is stored can't be read as such a state.
        """
        for _ in range(CHANGE_TRIES):
            saved = await self.load(tenant_id, key, empty)
            value = change(saved.value)
            if value == saved.value:
                return
            try:
                await self.save(tenant_id, key, saved, value)
            except StateMovedError:
                continue
            return
        raise StateMovedError(f"the state {key} of {tenant_id} is being written by others: try again")


def state_shard_id(tenant_id: str, key: str) -> str:
    """The id of the shard of a state."""
    return shard_id(tenant_id, SHARDLINE_SYSTEM, "", STATE_TYPE, key)
