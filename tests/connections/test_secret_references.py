"""References resolve in their own tenant's space only, and values do not show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_store_contract import PLANTED, Keep, SecretStoreContract

from connections.secrets import EnvironmentSecrets, Secret, SecretError, environment_variable


@pytest.fixture
def environment() -> dict[str, str]:
    return {}


@pytest.fixture
def secrets(environment: dict[str, str]) -> EnvironmentSecrets:
    return EnvironmentSecrets(environment)


@pytest.fixture
def keep(environment: dict[str, str]) -> Keep:
    async def put(tenant: str, name: str, value: str) -> None:
        environment[environment_variable(tenant, name)] = value

    return put


class TestEnvironmentSecrets(SecretStoreContract):
    """The contract."""


async def test_a_reference_resolves_through_the_documented_variable() -> None:
    secrets = EnvironmentSecrets({"SHARDLINE_SECRET_ACME_EU__SF_KEY": PLANTED})

    secret = await secrets.get("acme-eu", "secret:acme-eu/sf-key")

    assert secret.reveal() == PLANTED


async def test_a_missing_variable_is_named() -> None:
    with pytest.raises(SecretError, match="SHARDLINE_SECRET_ACME__SF_KEY"):
        await EnvironmentSecrets({}).get("acme", "secret:acme/sf-key")


def test_a_secret_does_not_show_its_value() -> None:
    secret = Secret(PLANTED)

    assert PLANTED not in f"{secret} {secret!r} {[secret]} {vars(type(secret))}"


_names = st.text(alphabet="ab-_X.0", min_size=1, max_size=6)


@given(_names, _names, _names, _names)
def test_no_two_references_share_a_variable(tenant: str, name: str, other_tenant: str, other_name: str) -> None:
    same = environment_variable(tenant, name) == environment_variable(other_tenant, other_name)

    assert same == ((tenant, name) == (other_tenant, other_name))
