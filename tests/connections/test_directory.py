"""Whose a push is, told from what is kept of all tenants' connections."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connections.connection import Connection
from connections.directory import (
    ASKED_AGAIN_SECONDS,
    KEPT_SECONDS,
    LATEST_SECONDS,
    SOONEST_SECONDS,
    ConnectionDirectory,
)
from connections.registry import ConnectionRegistry
from connections.slack_connection import SlackAuth, SlackConnection
from shards.sqlite_store import SqliteShardStore
from shards.store import StoreUnavailableError


def workspace(tenant: str, instance: str, **changes: str) -> SlackConnection:
    """A connection to a workspace."""
    auth = SlackAuth(bot_token=f"secret:{tenant}/bot", signing_secret=f"secret:{tenant}/signing")
    return SlackConnection(connection_id="slack", tenant_id=tenant, name="Slack", auth=auth, instance=instance)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteShardStore]:
    made = SqliteShardStore(tmp_path / "store.db")
    yield made
    await made.close()


async def test_a_workspace_may_be_several_tenants_and_an_ended_connection_is_nobodys(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store)
    for tenant in ("acme", "other", "third"):
        await registry.save(workspace(tenant, "T1" if tenant != "third" else "T2"))
    ended = await registry.get("other", "slack")
    assert ended is not None
    await registry.set_status(ended, "disconnected")
    directory = ConnectionDirectory(registry)
    assert [one.tenant_id for one in await directory.of_instance("slack", "T1")] == ["acme"]
    assert [one.tenant_id for one in await directory.of_instance("slack", "")] == []
    assert sorted(one.tenant_id for one in await directory.named("slack", "slack")) == ["acme", "third"]
    assert await directory.named("salesforce", "slack") == []


async def test_a_new_connection_is_found_soon_and_invented_ones_cost_little(store: SqliteShardStore) -> None:
    now, asked = [0.0], [0]
    registry = ConnectionRegistry(store)

    class Counted(ConnectionRegistry):
        async def all(self) -> list[object]:  # type: ignore[override] # counts, and gives what the registry gives
            asked[0] += 1
            return list(await registry.all())

    directory = ConnectionDirectory(Counted(store), monotonic=lambda: now[0])
    for number in range(50):
        assert await directory.of_instance("slack", f"T{number}") == []
    assert asked == [1]
    await registry.save(workspace("acme", "T1"))
    now[0] += ASKED_AGAIN_SECONDS
    assert len(await directory.of_instance("slack", "T1")) == 1
    assert asked == [2]


async def test_while_the_store_is_away_connections_are_as_they_were(store: SqliteShardStore) -> None:
    now, away = [0.0], [True]
    registry = ConnectionRegistry(store)
    await registry.save(workspace("acme", "T1"))

    class Away(ConnectionRegistry):
        async def all(self) -> list[object]:  # type: ignore[override] # fails as the store does, or asks it
            if away[0]:
                raise StoreUnavailableError("away")
            return list(await registry.all())

    directory = ConnectionDirectory(Away(store), monotonic=lambda: now[0])
    with pytest.raises(StoreUnavailableError):
        await directory.of_instance("slack", "T1")
    away[0] = False
    assert len(await directory.of_instance("slack", "T1")) == 1
    away[0], now[0] = True, now[0] + 2 * KEPT_SECONDS
    assert len(await directory.of_instance("slack", "T1")) == 1


class Slow(ConnectionRegistry):
    """A registry whose list comes when it is let, after *seconds* on the clock."""

    def __init__(self, store: SqliteShardStore, now: list[float]) -> None:
        super().__init__(store)
        self.now, self.seconds, self.reads = now, 0.0, 0
        self.let = asyncio.Event()
        self.let.set()

    async def all(self) -> list[Connection]:
        await self.let.wait()
        self.reads += 1
        self.now[0] += self.seconds
        return await super().all()


async def _of_one_tenant(store: SqliteShardStore) -> tuple[list[float], Slow, ConnectionDirectory]:
    """A clock, and a directory that has just been asked for the one connection there is."""
    now = [0.0]
    registry = Slow(store, now)
    directory = ConnectionDirectory(registry, monotonic=lambda: now[0])
    await registry.save(workspace("acme", "T1"))
    assert len(await directory.of_instance("slack", "T1")) == 1
    return now, registry, directory


async def test_a_second_tenant_of_a_workspace_is_found_soon_and_no_push_waits_for_it(store: SqliteShardStore) -> None:
    now, registry, directory = await _of_one_tenant(store)
    await registry.save(workspace("other", "T1"))
    registry.let.clear()
    now[0] += SOONEST_SECONDS
    for _ in range(50):
        assert len(await directory.of_instance("slack", "T1")) == 1
    registry.let.set()
    async with asyncio.timeout(60):
        while len(await directory.of_instance("slack", "T1")) < 2:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0)
    assert registry.reads == 2


async def test_a_list_that_cannot_be_read_beside_is_read_where_someone_waits(
    store: SqliteShardStore, caplog: pytest.LogCaptureFixture
) -> None:
    now, _, directory = await _of_one_tenant(store)
    await store.close()
    now[0] += SOONEST_SECONDS
    assert len(await directory.of_instance("slack", "T1")) == 1
    async with asyncio.timeout(60):
        while "could not be read anew" not in caplog.text:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0)
    now[0] += KEPT_SECONDS
    with pytest.raises(RuntimeError, match="shutdown"):
        await directory.of_instance("slack", "T1")


async def test_after_a_quiet_time_the_first_push_sees_all_there_are(store: SqliteShardStore) -> None:
    now, registry, directory = await _of_one_tenant(store)
    await registry.save(workspace("other", "T1"))
    now[0] += 2 * SOONEST_SECONDS
    assert len(await directory.of_instance("slack", "T1")) == 2


async def test_a_list_that_takes_long_is_read_less_often(store: SqliteShardStore) -> None:
    now = [0.0]
    registry = Slow(store, now)
    directory = ConnectionDirectory(registry, monotonic=lambda: now[0])
    await registry.save(workspace("acme", "T1"))
    registry.seconds = 3.0
    assert len(await directory.of_instance("slack", "T1")) == 1
    for _ in range(int(LATEST_SECONDS) - 1):
        now[0] += 1
        assert len(await directory.of_instance("slack", "T1")) == 1
    assert registry.reads == 1
    now[0] += KEPT_SECONDS
    await directory.of_instance("slack", "T1")
    assert registry.reads == 2
