"""Connections as shards: written over what was read, never with a secret in them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connections.connection import Connection, InvalidConnectionError
from connections.registry import ConnectionRegistry
from connections.stored_connection import connection_data, connection_from, stored_connection, structured_data
from messaging.contracts import UNKNOWN_TENANT
from shards.sqlite_store import SqliteShardStore
from shards.store import ShardWrite
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

    second = await registry.save(connection(connectionId="second", instance=OTHER))
    assert await registry.resolve_instance("acme", "salesforce") is None

    await registry.set_status(second, "disconnected")
    assert await registry.resolve_instance("acme", "salesforce") == ORG


async def test_one_that_can_not_be_read_hides_none_of_the_others(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store, monotonic=lambda: 0.0)
    kept = await registry.save(connection(instance=ORG))
    auth = {"botToken": "secret:acme/bot", "signingSecret": "secret:acme/signing"}
    await break_stored(store, await registry.save(connection(connectionId="other", system="slack", auth=auth)))

    assert await registry.of_tenant("acme") == [kept]
    assert await registry.resolve_instance("acme", "salesforce") == ORG


async def test_beside_one_that_can_not_be_read_no_instance_is_the_only_one(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store, monotonic=lambda: 0.0)
    await registry.save(connection(instance=ORG))
    await break_stored(store, await registry.save(connection(connectionId="second", instance=OTHER)))

    assert await registry.resolve_instance("acme", "salesforce") is None


async def test_the_log_has_one_line_for_one_that_can_not_be_read(
    store: SqliteShardStore, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ConnectionRegistry(store)
    saved = await registry.save(connection())
    await break_stored(store, saved)
    for _ in range(3):
        assert await registry.all() == []
    assert len(caplog.records) == 1
    assert "sweepHours" in caplog.text

    await registry.save(connection())
    assert len(await registry.all()) == 1
    await break_stored(store, saved)
    await registry.all()
    assert len(caplog.records) == 2


async def break_stored(store: SqliteShardStore, saved: Connection) -> None:
    """Leave of a stored connection what no version can read."""
    shard = await store.get(saved.tenant_id, saved.shard_id)
    assert shard is not None
    broken = msgspec.structs.replace(shard, structured_data={**shard.structured_data, "settings": {}})
    assert all(await store.write_many([ShardWrite(broken, shard.etag)]))


async def test_a_connection_never_moves_to_another_instance(store: SqliteShardStore) -> None:
    registry = ConnectionRegistry(store)
    await registry.save(connection(instance=ORG))

    assert (await registry.save(connection())).instance == ORG
    with pytest.raises(InvalidConnectionError, match="make a new connection"):
        await registry.save(connection(instance=OTHER))

    # As a test of a description under the same id may find out.
    await registry.set_instance(connection(), OTHER, "https://other.my.salesforce.com")
    stored = await registry.get("acme", "sf")
    assert stored is not None
    assert (stored.instance, stored.base_url) == (ORG, "")


JWT = {"flow": "jwt-bearer", "username": "u", "consumerKey": "k", "privateKey": "secret:acme/key"}
CLIENT = {"flow": "client-credentials", "domain": "acme.my", "consumerKey": "k", "consumerSecret": "secret:acme/x"}
API_NAME = "must be an API name of Salesforce, such as Account or Region__c"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"auth": {**JWT, "privateKey": "PLANTED"}},
            "auth.privateKey: must be a reference like secret:<tenant>/<name>",
        ),
        (
            {"auth": {**CLIENT, "consumerSecret": "PLANTED"}},
            "auth.consumerSecret: must be a reference like secret:<tenant>/<name>",
        ),
        ({"auth": {"flow": "jwt-bearer", "username": "u"}}, "auth: the jwt-bearer flow needs consumerKey, privateKey"),
        (
            {"auth": {**CLIENT, "domain": "login"}},
            "auth: the client-credentials flow needs the org's My Domain, such as acme.my, as domain",
        ),
        (
            {"auth": {**CLIENT, "domain": "https://PLANTED"}},
            "auth.domain: must be what stands before .salesforce.com: login, test or a My Domain such as acme.my",
        ),
        (
            {"auth": {"flow": "PLANTED"}},
            "auth.flow: must be one of jwt-bearer, client-credentials, username-password",
        ),
        ({"auth": {}}, "auth.flow: is missing"),
        ({"auth": "PLANTED"}, "auth: must be an object, not a text"),
        ({"objects": [{"name": "PLANTED WHERE 1=1"}]}, f"objects[0].name: {API_NAME}"),
        ({"objects": [{"name": "Account", "fields": ["Id, PLANTED"]}]}, f"objects[0].fields[0]: {API_NAME}"),
        ({"pageSize": 5000}, "pageSize: must be a whole number, at most 2000"),
        ({"pageSize": 2.5}, "pageSize: must be a whole number, not a fraction"),
        ({"sweepShare": 2}, "sweepShare: must be a number, at most 1"),
        (
            {"connectionId": "PLANTED/b"},
            "connectionId: must be at most 100 letters, digits, dots, dashes and underscores, a letter or digit first",
        ),
        ({"name": None}, "name: must be a text, not null"),
        ({"defaultCurrency": "euro"}, "defaultCurrency: must be a currency code of three capitals, such as EUR"),
        ({"apiVersion": "59"}, "apiVersion: must be an API version such as 59.0"),
        ({"schedule": {"pollSeconds": 0}}, "schedule.pollSeconds: must be a whole number, at least 1"),
    ],
)
def test_a_wrong_connection_is_refused_in_a_sentence_that_names_the_field_and_not_its_value(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidConnectionError) as refused:
        connection(**changes)

    assert str(refused.value) == sentence
    assert "PLANTED" not in repr(refused.value)


def test_what_lacks_a_field_or_a_tenant_is_no_connection() -> None:
    nameless = data()
    del nameless["name"]

    with pytest.raises(InvalidConnectionError, match=r"^name: is missing$"):
        connection_from(nameless, "acme")
    with pytest.raises(InvalidConnectionError, match=r"^tenantId: must not be empty$"):
        connection_from(data(), "")


@pytest.mark.parametrize("tenant", ["t" * 257, UNKNOWN_TENANT])
def test_a_connection_belongs_to_a_tenant_that_messages_can_name(tenant: str) -> None:
    with pytest.raises(InvalidConnectionError, match="tenantId: no tenant can have this id"):
        connection_from({}, tenant)
