"""The Key Vault twin keeps the contract on the wire, and what is its own: names, the cache, errors, rotation."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.keyvault.secrets.aio import SecretClient
from hypothesis import given
from hypothesis import strategies as st
from key_vault_peer import FakeIdentity, KeyVaultPeer, Refusal
from polled_org import CONNECTION, TENANT, PolledOrg
from secret_store_contract import PLANTED, Keep, SecretStoreContract

from connections.key_vault import KEPT_FOR, KeyVaultSecrets, key_vault_name, secret_client
from connections.secrets import Secret, SecretError, SecretsUnavailableError
from ingestion.work import handle_source_work
from messaging.contracts import SourceWork
from messaging.times import to_text
from processors.outcome import DONE, Later, Outcome

REFERENCE = "secret:acme/sf-key"
NAME = "acme--sf-key"


class SetClock:
    """A clock that stands until the test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def vault() -> AsyncIterator[KeyVaultPeer]:
    peer = KeyVaultPeer()
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def secrets(vault: KeyVaultPeer, clock: SetClock) -> AsyncIterator[KeyVaultSecrets]:
    store = KeyVaultSecrets(vault.client, clock=clock)
    yield store
    await store.close()


@pytest.fixture
def keep(vault: KeyVaultPeer) -> Keep:
    """As an operator does: by the vault's own API, under the name of the documented rule."""

    async def put(tenant: str, name: str, value: str) -> None:
        async with vault.client() as client:
            await client.set_secret(key_vault_name(tenant, name), value)

    return put


class TestKeyVaultSecrets(SecretStoreContract):
    """The contract."""


# Names

_parts = st.one_of(st.text(alphabet="aAbB01xh-_.Ü", min_size=1, max_size=8), st.text(min_size=1, max_size=150))


@given(_parts, _parts, _parts, _parts)
def test_no_two_references_share_a_name_whatever_the_case(tenant: str, name: str, tenant2: str, name2: str) -> None:
    same = key_vault_name(tenant, name).lower() == key_vault_name(tenant2, name2).lower()

    assert same == ((tenant, name) == (tenant2, name2))


@given(_parts, _parts)
def test_every_name_is_one_that_a_vault_takes_and_starts_with_its_tenant(tenant: str, name: str) -> None:
    made = key_vault_name(tenant, name)

    assert re.fullmatch(r"[0-9a-zA-Z-]{1,127}", made)
    assert made.startswith(key_vault_name(tenant, "other").removesuffix("other"))


@given(_parts, _parts, _parts)
def test_no_name_of_a_tenant_is_in_anothers_space(tenant: str, name: str, other: str) -> None:
    space = key_vault_name(other, "x").removesuffix("x")

    assert key_vault_name(tenant, name).startswith(space) == (tenant == other)


@pytest.mark.parametrize(
    ("tenant", "name", "expected"),
    [
        ("acme-eu", "sf-key", "acme-eu--sf-key"),
        ("Acme", "sf_key", "0x41636d65--0x73665f6b6579"),
        ("0xab", "0hab", "0x30786162--0x30686162"),
    ],
)
def test_names_by_example(tenant: str, name: str, expected: str) -> None:
    assert key_vault_name(tenant, name) == expected


# The cache


async def test_a_value_is_read_once_a_minute(secrets: KeyVaultSecrets, vault: KeyVaultPeer, clock: SetClock) -> None:
    vault.keep(NAME, "first")
    await secrets.get("acme", REFERENCE)
    vault.keep(NAME, "second")
    clock.now += KEPT_FOR - timedelta(milliseconds=1)

    assert (await secrets.get("acme", REFERENCE)).reveal() == "first"
    clock.now += timedelta(milliseconds=1)
    assert (await secrets.get("acme", REFERENCE)).reveal() == "second"
    assert vault.reads == [NAME, NAME]


async def test_a_clock_that_was_put_back_keeps_no_value_for_longer(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer, clock: SetClock
) -> None:
    vault.keep(NAME, "first")
    await secrets.get("acme", REFERENCE)
    vault.keep(NAME, "second")
    clock.now -= timedelta(days=1)

    assert (await secrets.get("acme", REFERENCE)).reveal() == "second"


async def test_many_who_ask_at_once_share_one_read(secrets: KeyVaultSecrets, vault: KeyVaultPeer) -> None:
    vault.keep(NAME, PLANTED)

    values = await asyncio.gather(*(secrets.get("acme", REFERENCE) for _ in range(20)))

    assert set(values) == {Secret(PLANTED)}
    assert vault.reads == [NAME]


async def test_one_who_no_longer_waits_takes_nothing_from_the_others(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer
) -> None:
    vault.keep(NAME, PLANTED)
    vault.may_answer.clear()
    first = asyncio.create_task(secrets.get("acme", REFERENCE))
    second = asyncio.create_task(secrets.get("acme", REFERENCE))
    await vault.asked.wait()

    first.cancel()
    vault.may_answer.set()

    assert await second == Secret(PLANTED)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert vault.reads == [NAME]


async def test_an_earlier_read_that_ends_late_does_not_bring_back_the_old_value(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer
) -> None:
    vault.keep(NAME, "old")
    vault.may_answer.clear()
    slow = asyncio.create_task(secrets.get("acme", REFERENCE))
    await vault.asked.wait()
    held, vault.may_answer = vault.may_answer, asyncio.Event()
    vault.may_answer.set()
    vault.keep(NAME, "new")

    assert (await secrets.get("acme", REFERENCE, fresh=True)).reveal() == "new"
    held.set()
    assert (await slow).reveal() == "old"

    assert (await secrets.get("acme", REFERENCE)).reveal() == "new"


async def test_a_failure_is_not_kept(secrets: KeyVaultSecrets, vault: KeyVaultPeer) -> None:
    with pytest.raises(SecretError):
        await secrets.get("acme", REFERENCE)
    vault.keep(NAME, PLANTED)

    assert await secrets.get("acme", REFERENCE) == Secret(PLANTED)


async def test_closing_ends_the_reads_in_progress(vault: KeyVaultPeer) -> None:
    secrets = KeyVaultSecrets(vault.client)
    vault.may_answer.clear()
    reading = asyncio.create_task(secrets.get("acme", REFERENCE))
    await vault.asked.wait()

    await secrets.close()

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_nothing_is_connected_before_the_first_call() -> None:
    def connect() -> SecretClient:
        raise AssertionError("not asked for")

    await KeyVaultSecrets(connect).close()


# What is wrong with a secret


async def test_a_missing_secret_comes_with_the_command_that_mends_it(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer
) -> None:
    with pytest.raises(SecretError) as missing:
        await secrets.get("acme", REFERENCE)

    command = f"az keyvault secret set --vault-name 127 --name {NAME} --file FILE"
    assert str(missing.value) == f"{REFERENCE} is not in the vault: set it with `{command}`"


def unix(moment: datetime) -> int:
    return int(moment.timestamp())


async def test_what_cant_be_used_is_told(secrets: KeyVaultSecrets, vault: KeyVaultPeer, clock: SetClock) -> None:
    for attributes, told in (
        ({"enabled": False}, rf"is disabled: enable {NAME}"),
        ({"exp": unix(clock.now)}, r"expired at 2026-01-01T12:00:00\.000Z"),
        ({"nbf": unix(clock.now) + 60}, r"is not valid before 2026-01-01T12:01:00\.000Z"),
    ):
        vault.keep(NAME, PLANTED, **attributes)
        with pytest.raises(SecretError, match=told) as refused:
            await secrets.get("acme", REFERENCE)
        assert PLANTED not in str(refused.value)
    vault.keep(NAME, "")
    with pytest.raises(SecretError, match="is empty"):
        await secrets.get("acme", REFERENCE)

    vault.keep(NAME, PLANTED, exp=unix(clock.now) + 60, nbf=unix(clock.now))
    assert await secrets.get("acme", REFERENCE) == Secret(PLANTED)


# What is wrong with the vault: nothing of it is the connection's fault


@pytest.mark.parametrize("inner", ["ForbiddenByRbac", "ForbiddenByFirewall", "AccessDenied", None])
async def test_a_refusal_names_the_role(secrets: KeyVaultSecrets, vault: KeyVaultPeer, inner: str | None) -> None:
    vault.keep(NAME, PLANTED)
    with (
        vault.refusing(Refusal(403, "Forbidden", inner)),
        pytest.raises(SecretsUnavailableError, match=f"{inner or 'Forbidden'}.*Key Vault Secrets User"),
    ):
        await secrets.get("acme", REFERENCE)

    assert await secrets.get("acme", REFERENCE) == Secret(PLANTED)


async def test_a_vault_that_throttles_is_asked_again_after_the_time_it_says(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer
) -> None:
    vault.keep(NAME, PLANTED)
    with vault.refusing(Refusal(429, "Throttled", headers={"Retry-After": "0"}, times=2)):
        assert await secrets.get("acme", REFERENCE) == Secret(PLANTED)

    assert vault.reads == [NAME] * 3


async def test_a_vault_that_throttles_for_long_is_given_up_in_time(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connections.key_vault.CALL_TIMEOUT", timedelta(seconds=0.3))
    with (
        vault.refusing(Refusal(429, "Throttled", headers={"Retry-After": "300"})),
        pytest.raises(SecretsUnavailableError, match="no answer within"),
    ):
        await secrets.get("acme", REFERENCE)


async def test_a_vault_that_fails_or_is_away_is_told_apart_and_comes_back(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer
) -> None:
    vault.keep(NAME, PLANTED)
    with vault.refusing(Refusal(503, "ServiceUnavailable")), pytest.raises(SecretsUnavailableError, match="503"):
        await secrets.get("acme", REFERENCE)
    await vault.stop()
    with pytest.raises(SecretsUnavailableError, match="vault 127 could not be read"):
        await secrets.get("acme", REFERENCE)
    await vault.start()

    assert await secrets.get("acme", REFERENCE) == Secret(PLANTED)


async def test_an_identity_without_a_token_is_told(vault: KeyVaultPeer) -> None:
    class NoIdentity(FakeIdentity):
        async def get_token(self, *scopes: str, **options: object) -> None:  # type: ignore[override]
            raise ClientAuthenticationError("no managed identity endpoint found")

    for identity in (NoIdentity(), FakeIdentity("a token of another vault")):
        secrets = KeyVaultSecrets(lambda identity=identity: vault.client(identity))  # type: ignore[misc]
        with pytest.raises(SecretsUnavailableError, match="has no token for it"):
            await secrets.get("acme", REFERENCE)
        await secrets.close()


async def test_an_address_that_is_no_vaults_is_told(vault: KeyVaultPeer) -> None:
    secrets = KeyVaultSecrets(lambda: vault.client(verify_challenge_resource=True))

    with pytest.raises(SecretsUnavailableError, match="SHARDLINE_KEY_VAULT_URL"):
        await secrets.get("acme", REFERENCE)

    await secrets.close()


async def test_the_token_asked_for_is_the_vaults(vault: KeyVaultPeer) -> None:
    identity = FakeIdentity()
    vault.keep(NAME, PLANTED)
    secrets = KeyVaultSecrets(lambda: vault.client(identity))

    await secrets.get("acme", REFERENCE)

    assert identity.scopes == ["https://vault.azure.net/.default"]
    await secrets.close()


async def test_the_ordinary_client_believes_no_certificate_of_its_own_making(
    vault: KeyVaultPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connections.key_vault.CALL_TIMEOUT", timedelta(seconds=0.3))
    vault.keep(NAME, PLANTED)
    secrets = KeyVaultSecrets(lambda: secret_client(vault.url, FakeIdentity()))

    with pytest.raises(SecretsUnavailableError):
        await secrets.get("acme", REFERENCE)

    assert vault.reads == []
    await secrets.close()


async def test_no_value_reaches_the_log(
    secrets: KeyVaultSecrets, vault: KeyVaultPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for library in ("azure", "azure.core.pipeline.policies.http_logging_policy"):
        # Whatever ran before in this process may have quietened it.
        caplog.set_level(logging.DEBUG, logger=library)
    vault.keep(NAME, PLANTED)

    await secrets.get("acme", REFERENCE)

    assert "azure" in {record.name.split(".")[0] for record in caplog.records}
    assert PLANTED not in caplog.text


# A connection whose secret is in the vault

CONSUMER = key_vault_name(TENANT, "sf-consumer")


@pytest.fixture
async def org(tmp_path: Path, vault: KeyVaultPeer) -> AsyncIterator[PolledOrg]:
    """An org with a contact, whose connection has its consumer secret in the vault."""
    made = PolledOrg(tmp_path)
    secrets = KeyVaultSecrets(vault.client, clock=made.clock)
    made.use_secrets(secrets)
    vault.keep(CONSUMER, made.simulator.credentials.consumer_secret)
    await made.connect()
    made.org.create("Contact", {"LastName": "P"})
    yield made
    await made.close()
    await secrets.close()


async def work(org: PolledOrg) -> Outcome:
    due = SourceWork(tenant_id=TENANT, connection_id=CONNECTION, work="poll", due_at=to_text(org.clock()))
    return await handle_source_work(due, org.work_ports)


async def test_a_secret_is_changed_without_a_restart(org: PolledOrg, vault: KeyVaultPeer) -> None:
    assert await work(org) == DONE

    org.simulator.credentials.consumer_secret = "the-next-secret"
    vault.keep(CONSUMER, "the-next-secret")
    org.api.login.expire_sessions()
    org.pass_time(timedelta(seconds=61))

    assert await work(org) == DONE
    assert (await org.connection()).status == "active"
    assert len(vault.reads) == 2


async def test_a_new_login_within_the_minute_finds_the_changed_secret(org: PolledOrg, vault: KeyVaultPeer) -> None:
    assert await work(org) == DONE
    org.simulator.credentials.consumer_secret = "the-next-secret"
    vault.keep(CONSUMER, "the-next-secret")
    org.clients.drop(await org.connection())

    org.pass_time(timedelta(seconds=5))
    assert await work(org) == DONE

    assert (await org.connection()).status == "active"


async def test_a_refused_secret_is_not_tried_twice(org: PolledOrg, vault: KeyVaultPeer) -> None:
    vault.keep(CONSUMER, "wrong")

    assert await work(org) == DONE

    assert (await org.connection()).status == "failed"
    assert len([call for call in org.api.calls if "token" in call.path]) == 1


async def test_a_vault_that_is_away_fails_no_connection(org: PolledOrg, vault: KeyVaultPeer) -> None:
    with vault.refusing(Refusal(403, "Forbidden", "ForbiddenByRbac")):
        outcome = await work(org)
    assert isinstance(outcome, Later)
    assert "Key Vault Secrets User" in outcome.reason
    await vault.stop()
    org.pass_time(timedelta(minutes=2))
    assert isinstance(await work(org), Later)
    assert (await org.connection()).status == "active"

    await vault.start()
    org.pass_time(timedelta(minutes=5))
    assert await work(org) == DONE


async def test_a_secret_that_is_missing_fails_its_connection_with_the_command(
    org: PolledOrg, vault: KeyVaultPeer
) -> None:
    await org.connect(auth=org.auth(consumer_secret=f"secret:{TENANT}/not-there"))

    assert await work(org) == DONE

    connection = await org.connection()
    assert connection.status == "failed"
    assert "az keyvault secret set" in str(connection.error_message)
