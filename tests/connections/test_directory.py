"""Whose a push is, told from what is kept of all tenants' connections."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connections.directory import ASKED_AGAIN_SECONDS, KEPT_SECONDS, ConnectionDirectory
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
