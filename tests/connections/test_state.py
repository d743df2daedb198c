"""A state is changed as it stands when it is written, whoever else writes it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connections.state import CHANGE_TRIES, Saved, StateMovedError, StateStore
from shards.sqlite_store import SqliteShardStore

KEY = ("acme", "main/words")


class Words(msgspec.Struct, frozen=True):
    """What is remembered in these tests."""

    said: tuple[str, ...] = ()

    def and_then(self, word: str) -> "Words":
        """These, and one more."""
        return Words((*self.said, word))


class OvertakenStates(StateStore):
    """Another worker writes before *overtaken* of the saves."""

    overtaken = 0
    saves = 0

    async def save(self, tenant_id: str, key: str, saved: Saved[Any], value: Any) -> Saved[Any]:
        """See :meth:`StateStore.save`."""
        self.saves += 1
        if self.overtaken:
            self.overtaken -= 1
            await super().save(tenant_id, key, saved, saved.value.and_then("other"))
        return await super().save(tenant_id, key, saved, value)


@pytest.fixture
async def states(tmp_path: Path) -> AsyncIterator[OvertakenStates]:
    store = SqliteShardStore(tmp_path / "store.db")
    yield OvertakenStates(store)
    await store.close()


async def said(states: StateStore) -> tuple[str, ...]:
    return (await states.load(*KEY, Words())).value.said


async def test_what_others_write_meanwhile_is_changed_too(states: OvertakenStates) -> None:
    states.overtaken = 2
    await states.change(*KEY, Words(), lambda words: words.and_then("mine"))
    assert await said(states) == ("other", "other", "mine")


async def test_what_stays_as_it_is_is_not_written(states: OvertakenStates) -> None:
    await states.change(*KEY, Words(), lambda words: words)
    assert (states.saves, (await states.load(*KEY, Words())).shard) == (0, None)


async def test_who_is_always_overtaken_is_told(states: OvertakenStates) -> None:
    states.overtaken = CHANGE_TRIES
    with pytest.raises(StateMovedError, match="main/words of acme is being written by others: try again"):
        await states.change(*KEY, Words(), lambda words: words.and_then("mine"))
    assert await said(states) == ("other",) * CHANGE_TRIES
