"""References resolve in their own tenant's space only, and values do not show."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_store_contract import PLANTED, Keep, SecretStoreContract

from connections.secrets import EnvironmentSecrets, FolderSecrets, Secret, SecretError, environment_variable


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


class TestFolderSecrets(SecretStoreContract):
    """The contract, of values in files."""

    @pytest.fixture
    def secrets(self, tmp_path: Path, environment: dict[str, str]) -> FolderSecrets:
        return FolderSecrets(tmp_path, environment)

    @pytest.fixture
    def keep(self, tmp_path: Path, environment: dict[str, str]) -> Keep:
        async def put(tenant: str, name: str, value: str) -> None:
            variable = environment_variable(tenant, name)
            if len(variable) > 255:
                # No file can be called so: the environment alone holds it.
                environment[variable] = value
            else:
                (tmp_path / variable).write_text(value)

        return put


VARIABLE = "SHARDLINE_SECRET_ACME__SF_KEY"


async def test_a_file_goes_before_the_environment(tmp_path: Path) -> None:
    """Whoever rotates a secret writes the file, while the process still has the variable that it was started with."""
    secrets = FolderSecrets(tmp_path, {VARIABLE: "old"})
    assert (await secrets.get("acme", "secret:acme/sf-key")).reveal() == "old"

    (tmp_path / VARIABLE).write_text("new")

    assert (await secrets.get("acme", "secret:acme/sf-key")).reveal() == "new"


@pytest.mark.parametrize(
    ("written", "is_the_secret"),
    [("xoxb-1\n", "xoxb-1"), ("xoxb-1\r\n", "xoxb-1"), ("-----A\nb\n-----C\n", "-----A\nb\n-----C\n")],
)
async def test_the_line_break_that_an_editor_puts_after_a_token_is_none_of_it(
    tmp_path: Path, written: str, is_the_secret: str
) -> None:
    (tmp_path / VARIABLE).write_bytes(written.encode())

    assert (await FolderSecrets(tmp_path, {}).get("acme", "secret:acme/sf-key")).reveal() == is_the_secret


async def test_a_missing_secret_is_told_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(SecretError) as refused:
        await FolderSecrets(tmp_path, {}).get("acme", "secret:acme/sf-key")

    assert str(tmp_path / VARIABLE) in str(refused.value)
    assert f"environment variable {VARIABLE}" in str(refused.value)


@pytest.mark.parametrize("damage", ["binary", "folder"])
async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / VARIABLE
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"\xff\xfe" + PLANTED.encode())

    with pytest.raises(SecretError, match=VARIABLE) as refused:
        await FolderSecrets(tmp_path, {VARIABLE: "old"}).get("acme", "secret:acme/sf-key")

    assert PLANTED not in str(refused.value)


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
