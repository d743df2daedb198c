"""Parked messages in the store's file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from parked_messages_contract import ParkedMessagesContract

from shards.parked import ParkedMessages
from shards.sqlite_store import SqliteShardStore


@pytest.fixture
async def parked(tmp_path: Path) -> AsyncIterator[ParkedMessages]:
    store = SqliteShardStore(tmp_path / "store.db")
    yield store
    await store.close()


class TestSqliteParkedMessages(ParkedMessagesContract):
    """The contract."""
