"""Connections as shards: written over what was read, never with a secret in them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connections.connection import (
    Connection,
    InvalidConnectionError,
    connection_data,
    connection_from,
    stored_connection,
    structured_data,
)
from connections.registry import ConnectionRegistry
from shards.sqlite_store import SqliteShardStore
from shards.types import validate

ORG = "00D5g000000OPENEA4"
OTHER = "00D000000000062EAA"


def data(**changes: Any) -> dict[str, Any]:
    """What an operator writes."""
    auth = {"flow": "jwt-bearer", "username": "u", "consumerKey": "k", "privateKey": "secret:acme/key"}
    return {"connectionId": "sf", "system": "salesforce", "name": "Acme", "auth": auth, **changes}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteShardStore]:
    made = SqliteShardStore(tmp_path / "store.db")
    yield made
    await made.close()


def connection(tenant: str = "acme", **changes: Any) -> Connection:
    """A connection."""
    return connection_from(data(**changes), tenant)


async def test_a_saved_connection_comes_back_whole(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store)
    saved = await registry.save(
        connection(
            objects=[{"name": "Account", "fields": ["Name"]}, {"name": "Lead"}],
            schedule={"pollSeconds": 7, "sweepHours": 1.5},
            sweepShare=0.25,
        )
    )

    assert await registry.get("acme", "sf") == saved
    assert saved.created_at
    assert connection_from(connection_data(saved), "acme") == saved
    shard = await store.get("acme", saved.shard_id)
    assert shard is not None
    assert stored_connection(shard) == saved
    validate("integration.connection", shard.structured_data)
    assert structured_data(saved)["secretRefs"] == {"privateKey": "secret:acme/key"}


async def test_saving_the_same_again_writes_nothing(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store)
    saved = await registry.save(connection())
    before = await store.get("acme", saved.shard_id)

    await registry.save(connection())

    assert await store.get("acme", saved.shard_id) == before


async def test_tenants_see_their_own_connections_only(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store)
    for tenant in ("acme", "other"):
        await registry.save(connection(tenant, name=tenant))

    assert [one.name for one in await registry.of_tenant("acme")] == ["acme"]
    assert sorted(one.name for one in await registry.all()) == ["acme", "other"]
    assert await registry.get("third", "sf") is None


async def test_the_instance_of_the_only_connection_is_found(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store, monotonic=lambda: 0.0)
    assert await registry.resolve_instance("acme", "salesforce") is None
    await registry.save(connection())
    assert await registry.resolve_instance("acme", "salesforce") is None

    await registry.set_instance(connection(), ORG, "https://acme.my.salesforce.com")
    assert await registry.resolve_instance("acme", "salesforce") == ORG
    assert await registry.resolve_instance("other", "salesforce") is None

    await registry.save(connection(connectionId="second", instance=OTHER))
    assert await registry.resolve_instance("acme", "salesforce") is None


async def test_a_connection_never_moves_to_another_instance(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store)
    await registry.save(connection(instance=ORG))

    assert (await registry.save(connection())).instance == ORG
    with pytest.raises(InvalidConnectionError, match="make a new connection"):
        await registry.save(connection(instance=OTHER))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"auth": {"flow": "jwt-bearer", "username": "u", "consumerKey": "k", "privateKey": "PLANTED"}}, "privateKey"),
        ({"auth": {"flow": "jwt-bearer", "username": "u"}}, "consumer_key"),
        ({"auth": {"flow": "client-credentials", "consumerKey": "k", "consumerSecret": "secret:acme/x"}}, "My Domain"),
        ({"auth": {"flow": "magic"}}, "flow"),
        ({"objects": [{"name": "Account WHERE 1=1"}]}, "objects"),
        ({"objects": [{"name": "Account", "fields": ["Id, Name"]}]}, "fields"),
        ({"pageSize": 5000}, "pageSize"),
        ({"sweepShare": 2}, "sweepShare"),
        ({"connectionId": "a/b"}, "connectionId"),
        ({"schedule": {"pollSeconds": 0}}, "pollSeconds"),
    ],
)
def test_a_wrong_connection_is_refused_by_the_field_and_not_by_its_value(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConnectionError, match=named) as refused:
        connection(**changes)

    assert "PLANTED" not in str(refused.value)
