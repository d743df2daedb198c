"""The configuration page and the settings are in step."""

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from settings import AzureResource, Settings, SettingsError, load_settings, variable

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| `(.*?)` \|$", re.MULTILINE)


AZURE = {
    "SHARDLINE_HOME": "azure",
    "ServiceBusConnection__fullyQualifiedNamespace": "acme.servicebus.windows.net",
    "CosmosConnection__accountEndpoint": "https://acme.documents.azure.com:443/",
    "AzureWebJobsStorage__accountName": "acme",
    "SHARDLINE_KEY_VAULT_URL": "https://acme.vault.azure.net",
    "SHARDLINE_TOKEN_ISSUER": "https://login.acme.example",
    "SHARDLINE_TOKEN_KEYS_URL": "https://login.acme.example/keys",
}
"""All that the home on Azure needs."""


def _rows() -> dict[str, tuple[str, str]]:
    return {name: (default, example) for name, default, _, example in ROW.findall(PAGE.read_text())}


def test_each_setting_has_a_row_and_each_row_a_setting() -> None:
    assert set(_rows()) == {variable(field) for field in Settings.model_fields}


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_the_default_on_the_page_is_the_default_in_the_code(field: str) -> None:
    default = Settings.model_fields[field].default
    told = _rows()[variable(field)][0]
    if default is PydanticUndefined or default is None:
        assert told.startswith("none")
    else:
        assert told == f"`{default}`"


@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name not in {"home", "data_dir"}])
def test_the_example_on_the_page_is_accepted(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHARDLINE_HOME", "local")
    monkeypatch.setenv("SHARDLINE_DATA_DIR", str(tmp_path))
    if field.endswith("_client_id"):
        monkeypatch.setenv(variable(field.replace("client_id", "credential")), "managedidentity")
    monkeypatch.setenv(variable(field), _rows()[variable(field)][1])
    load_settings()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SHARDLINE_HOME is missing"),
        ({"SHARDLINE_HOME": "lokal"}, "SHARDLINE_HOME is malformed"),
        ({"SHARDLINE_HOME": "local"}, "SHARDLINE_DATA_DIR is missing"),
        (
            {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": "d", "SHARDLINE_RECONCILE_AFTER_SECONDS": "soon"},
            "SHARDLINE_RECONCILE_AFTER_SECONDS is malformed",
        ),
        (
            {
                "SHARDLINE_HOME": "local",
                "SHARDLINE_DATA_DIR": "d",
                "SHARDLINE_SALESFORCE_SIMULATOR": "http://example.com",
            },
            "SHARDLINE_SALESFORCE_SIMULATOR is malformed",
        ),
        (AZURE | {"SHARDLINE_SALESFORCE_SIMULATOR": "http://127.0.0.1:1"}, "SHARDLINE_SALESFORCE_SIMULATOR is set"),
        ({"SHARDLINE_HOME": "azure"}, "ServiceBusConnection is missing"),
        ({"SHARDLINE_HOME": "azure"}, "CosmosConnection is missing"),
        ({"SHARDLINE_HOME": "azure"}, "AzureWebJobsStorage is missing"),
        ({"SHARDLINE_HOME": "azure"}, "SHARDLINE_KEY_VAULT_URL is missing"),
        ({"SHARDLINE_HOME": "azure"}, "SHARDLINE_TOKEN_KEYS_URL is missing"),
        (AZURE | {"SHARDLINE_TOKEN_ISSUER": "shardline-local"}, "SHARDLINE_TOKEN_ISSUER is missing"),
        (AZURE | {"ServiceBusConnection": "Endpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey=k"}, "are both set"),
        ({"SHARDLINE_HOME": "azure", "CosmosConnection": "AccountEndpoint=x"}, "CosmosConnection is malformed"),
        ({"SHARDLINE_HOME": "azure", "AzureWebJobsStorage": "nonsense"}, "AzureWebJobsStorage is malformed"),
        (AZURE | {"ServiceBusConnection__credential": "managedidentity"}, "ServiceBusConnection__clientId is missing"),
        (AZURE | {"ServiceBusConnection__clientId": "x"}, "ServiceBusConnection__clientId is set without"),
        (AZURE | {"CosmosConnection__credential": "key"}, "CosmosConnection__credential is malformed"),
        (AZURE | {"CosmosConnection__accountEndpoint": "acme"}, "CosmosConnection__accountEndpoint is malformed"),
        (AZURE | {"SHARDLINE_KEY_VAULT_URL": "http://vault"}, "SHARDLINE_KEY_VAULT_URL is malformed"),
        (AZURE | {"SHARDLINE_TOKEN_KEY": "short"}, "SHARDLINE_TOKEN_KEY is malformed"),
        (AZURE | {"SHARDLINE_TOKEN_AUDIENCE": ""}, "SHARDLINE_TOKEN_AUDIENCE is malformed"),
        (AZURE | {"SHARDLINE_POLL_SCHEDULE": "often"}, "SHARDLINE_POLL_SCHEDULE is malformed"),
        (AZURE | {"SHARDLINE_POLL_SCHEDULE": ""}, "SHARDLINE_POLL_SCHEDULE is malformed"),
        (AZURE | {"SHARDLINE_RECONCILE_SCHEDULE": "0 60 * * * *"}, "SHARDLINE_RECONCILE_SCHEDULE is malformed"),
        (
            {"SHARDLINE_HOME": "azure", "CosmosConnection": "AccountEndpoint=https://x/;AccountKey=k;junk"},
            "CosmosConnection is malformed",
        ),
        (
            {"SHARDLINE_HOME": "azure", "ServiceBusConnection": "Endpoint=;SharedAccessKeyName=n;SharedAccessKey=k"},
            "ServiceBusConnection is malformed",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    environment: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    message = str(raised.value)
    assert named in message
    assert "\n" not in message


def test_a_connection_string_or_an_identity_leads_to_each_part_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    by_identity = load_settings()
    assert by_identity.service_bus == AzureResource(None, "acme.servicebus.windows.net", None)
    assert by_identity.cosmos.address == "https://acme.documents.azure.com/"
    assert by_identity.storage.address == "https://acme.blob.core.windows.net"
    monkeypatch.delenv("AzureWebJobsStorage__accountName")
    monkeypatch.setenv("AzureWebJobsStorage", "UseDevelopmentStorage=true")
    monkeypatch.setenv("CosmosConnection__credential", "managedidentity")
    monkeypatch.setenv("CosmosConnection__clientId", "an-identity")
    mixed = load_settings()
    assert mixed.storage.connection_string is not None
    assert mixed.storage.connection_string.get_secret_value() == "UseDevelopmentStorage=true"
    assert mixed.cosmos.client_id == "an-identity"
    assert "UseDevelopmentStorage" not in repr(mixed.storage)
