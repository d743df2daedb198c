"""Every setting, read from the environment and checked at start. docs/configuration.md has a row for each."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

HOME_FILE = "home.env"
"""The file of a data folder that says how its local home runs; the local host writes it."""


class SettingsError(Exception):
    """A setting is missing or malformed; the message is one line that names it and says what to do."""


MANAGED_IDENTITY = "managedidentity"

_SCHEDULE_FIELD = re.compile(r"[\w*]+([-/,][\w*]+)*")
_SCHEDULE_NUMBER = re.compile(r"(?<![\w/])\d+")
_LARGEST_OF_SCHEDULE = (59, 59, 23, 31, 12, 6)
"""Second, minute, hour, day, month, day of the week."""

CONNECTION_STRINGS = {
    "ServiceBusConnection": (
        {"Endpoint", "SharedAccessKeyName", "SharedAccessKey"},
        {"Endpoint", "SharedAccessSignature"},
    ),
    "CosmosConnection": ({"AccountEndpoint", "AccountKey"},),
    "AzureWebJobsStorage": (
        {"UseDevelopmentStorage"},
        {"AccountName", "AccountKey"},
        {"BlobEndpoint", "SharedAccessSignature"},
    ),
}
"""What the connection strings of each resource have at least: one of these sets of names."""


@dataclass(frozen=True, slots=True)
class AzureResource:
    """How to reach one Azure resource: by a connection string, or at an address with an identity.

    *client_id* is the user-assigned managed identity; without it the environment's own login is taken.
    """

    connection_string: SecretStr | None
    address: str | None
    client_id: str | None


def _connection(name: str, part: str | None = None, *, description: str) -> Any:
    """An optional setting of the Functions host's own naming: ``Name`` or ``Name__part``."""
    return Field(default=None, validation_alias=f"{name}__{part}" if part else name, description=description)


SIMULATORS = ("salesforce_simulator", "slack_simulator", "gdrive_simulator")
"""The settings that name a vendor's simulator."""

_CREDENTIAL = "`managedidentity`: log in as the app's managed identity. Without it: as whoever runs the command."
_CLIENT_ID = "The client id of the user-assigned managed identity."


class Settings(BaseSettings):
    """The settings, named ``SHARDLINE_…`` in the environment; Azure's parts have the Functions host's own names."""

    model_config = SettingsConfigDict(env_prefix="SHARDLINE_", extra="ignore", frozen=True, validate_by_name=True)

    home: Literal["local", "azure"] = Field(description="Where the app runs: `local` (only the local host sets it).")
    data_dir: Path | None = Field(default=None, description="The folder of the local bus and store files.")
    salesforce_simulator: HttpUrl | None = Field(
        default=None, description="Address of a Salesforce simulator on this machine, asked in place of Salesforce."
    )
    slack_simulator: HttpUrl | None = Field(
        default=None, description="Address of a Slack simulator on this machine, asked in place of Slack."
    )
    gdrive_simulator: HttpUrl | None = Field(
        default=None, description="Address of a Google Drive simulator on this machine, asked in place of Google."
    )
    function_key: SecretStr | None = Field(
        default=None,
        description="The key that opens the operators' routes of the local host; without it they are closed.",
    )
    token_issuer: str = Field(
        default="shardline-local", min_length=1, description="The issuer that reader tokens must name."
    )
    token_audience: str = Field(
        default="shardline", min_length=1, description="The audience that reader tokens must name."
    )
    token_keys_url: HttpUrl | None = Field(
        default=None,
        description="Where the issuer publishes the keys that reader tokens are signed with (JWKS).",
    )
    token_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="A key of 32 characters or more that signs and checks reader tokens (HS256), in place of an"
        " issuer's published keys: for the emulators and for services of your own that sign for their users.",
    )
    token_tenant_claim: str = Field(
        default="tenant", min_length=1, description="The claim of a reader token that names the tenant."
    )
    token_user_claim: str = Field(
        default="sub", min_length=1, description="The claim of a reader token that holds the user's e-mail address."
    )
    cosmos_database: str = Field(default="shardline", min_length=1, description="The Cosmos DB database.")
    blob_container: str = Field(default="shardline", min_length=3, description="The blob container of large payloads.")
    secrets: Literal["key-vault", "environment"] = Field(
        default="key-vault",
        description="Where the connections' secrets are kept on Azure. The local home takes files of its data folder, "
        "and the environment.",
    )
    key_vault_url: HttpUrl | None = Field(
        default=None, description="The Key Vault that holds the connections' secrets. Required where they are there."
    )
    payload_days: int = Field(
        default=90, ge=15, description="How long large payloads are kept: longer than any message that names them."
    )
    telemetry: Literal["off", "console"] = Field(
        default="off", description="`console`: print traces and metrics. Other destinations have settings of their own."
    )
    tenant_events_per_second: float = Field(
        default=100,
        gt=0,
        description="Events a second of one tenant that a process sends down the live lane, and ten times as many at"
        " once; what comes faster goes on in the bulk lane.",
    )
    poll_schedule: str = Field(default="*/5 * * * * *", description="When due connections are looked for (NCRONTAB).")
    reconcile_schedule: str = Field(default="0 */1 * * * *", description="When what stayed behind is re-emitted.")
    reconcile_after_seconds: int = Field(
        default=120, ge=1, description="How long a shard's stages may stand still before they are re-emitted."
    )
    sweep_confirm_seconds: int = Field(
        default=600,
        ge=1,
        description="How long after a listing of ids that misses records the second one is made that confirms it.",
    )

    service_bus_connection: SecretStr | None = _connection(
        "ServiceBusConnection", description="The Service Bus namespace by connection string."
    )
    service_bus_namespace: str | None = _connection(
        "ServiceBusConnection", "fullyQualifiedNamespace", description="The Service Bus namespace, with an identity."
    )
    service_bus_credential: Literal["managedidentity"] | None = _connection(
        "ServiceBusConnection", "credential", description=_CREDENTIAL
    )
    service_bus_client_id: str | None = _connection("ServiceBusConnection", "clientId", description=_CLIENT_ID)
    cosmos_connection: SecretStr | None = _connection(
        "CosmosConnection", description="The Cosmos DB account by connection string."
    )
    cosmos_endpoint: HttpUrl | None = _connection(
        "CosmosConnection", "accountEndpoint", description="The Cosmos DB account, with an identity."
    )
    cosmos_credential: Literal["managedidentity"] | None = _connection(
        "CosmosConnection", "credential", description=_CREDENTIAL
    )
    cosmos_client_id: str | None = _connection("CosmosConnection", "clientId", description=_CLIENT_ID)
    storage_connection: SecretStr | None = _connection(
        "AzureWebJobsStorage", description="The storage account by connection string."
    )
    storage_account: str | None = _connection(
        "AzureWebJobsStorage", "accountName", description="The storage account's name, with an identity."
    )
    storage_blob_uri: HttpUrl | None = _connection(
        "AzureWebJobsStorage", "blobServiceUri", description="The storage account's blob address, with an identity."
    )
    storage_credential: Literal["managedidentity"] | None = _connection(
        "AzureWebJobsStorage", "credential", description=_CREDENTIAL
    )
    storage_client_id: str | None = _connection("AzureWebJobsStorage", "clientId", description=_CLIENT_ID)

    @field_validator(*SIMULATORS)
    @classmethod
    def _on_this_machine(cls, address: HttpUrl | None) -> HttpUrl | None:
        if address is not None and address.host not in {"127.0.0.1", "localhost", "[::1]"}:
            raise ValueError("a simulator must be on this machine: use an address like http://127.0.0.1:8100")
        return address

    @field_validator("poll_schedule", "reconcile_schedule")
    @classmethod
    def _a_schedule(cls, text: str) -> str:
        """Refuse what is no NCRONTAB at all: the Functions host would run the app without the timer."""
        fields = text.split()
        largest = _LARGEST_OF_SCHEDULE[-len(fields) :]
        if len(fields) not in (5, 6) or not all(map(_SCHEDULE_FIELD.fullmatch, fields)):
            raise ValueError("it reads second minute hour day month day-of-week, like 0 */5 * * * *")
        for field, most in zip(fields, largest, strict=True):
            if any(int(number) > most for number in _SCHEDULE_NUMBER.findall(field)):
                raise ValueError(f"{field} is beyond {most}, the most in its place")
        return text

    @field_validator("key_vault_url", "token_keys_url")
    @classmethod
    def _over_tls(cls, address: HttpUrl | None) -> HttpUrl | None:
        if address is not None and address.scheme != "https":
            raise ValueError("it must begin with https://")
        return address

    @property
    def service_bus(self) -> AzureResource:
        """The Service Bus namespace.

        Raises:
            SettingsError: neither form of it is set, or both are.
        """
        return _resource(
            "ServiceBusConnection",
            self.service_bus_connection,
            {"fullyQualifiedNamespace": self.service_bus_namespace},
            self.service_bus_credential,
            self.service_bus_client_id,
        )

    @property
    def cosmos(self) -> AzureResource:
        """The Cosmos DB account.

        Raises:
            SettingsError: neither form of it is set, or both are.
        """
        return _resource(
            "CosmosConnection",
            self.cosmos_connection,
            {"accountEndpoint": str(self.cosmos_endpoint) if self.cosmos_endpoint else None},
            self.cosmos_credential,
            self.cosmos_client_id,
        )

    @property
    def storage(self) -> AzureResource:
        """The blob service of the storage account.

        Raises:
            SettingsError: neither form of it is set, or both are.
        """
        address = f"https://{self.storage_account}.blob.core.windows.net" if self.storage_account else None
        uri = str(self.storage_blob_uri) if self.storage_blob_uri else None
        return _resource(
            "AzureWebJobsStorage",
            self.storage_connection,
            {"accountName": address, "blobServiceUri": uri},
            self.storage_credential,
            self.storage_client_id,
        )

    @property
    def bus_file(self) -> Path:
        """The local bus's file."""
        return self._local_file("bus.db")

    @property
    def store_file(self) -> Path:
        """The local store's file."""
        return self._local_file("store.db")

    @property
    def blob_folder(self) -> Path:
        """The folder of large payloads of the local home."""
        return self._local_file("blobs")

    @property
    def secrets_folder(self) -> Path:
        """The folder of the connections' secrets of the local home, a file each."""
        return self._local_file("secrets")

    @property
    def token_key_file(self) -> Path:
        """The key that signs and checks reader tokens of the local home."""
        return self._local_file("token.key")

    def _local_file(self, name: str) -> Path:
        if self.data_dir is None:
            raise SettingsError("SHARDLINE_DATA_DIR is missing: name the folder for the local bus and store files")
        return self.data_dir / name


def make_data_folder(data: Path) -> None:
    """Make the data folder of a local home where it is missing, for its owner alone: its files hold all texts.

    Raises:
        OSError: it can't be made.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    data.mkdir(mode=0o700, exist_ok=True)


def load_settings(file: Path | None = None) -> Settings:
    """The settings of this process: of the environment, and below it of *file*.

    Raises:
        SettingsError: one is missing or malformed; a simulator is named where there is no local home.
    """
    try:
        settings = Settings(_env_file=file)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    if settings.home == "local":
        _ = settings.bus_file
    else:
        _check_azure(settings)
    return settings


def _check_azure(settings: Settings) -> None:
    """Name every setting that the home on Azure lacks, at once: one missing leaves the whole host in error."""
    problems = []
    for resource in ("service_bus", "cosmos", "storage"):
        try:
            getattr(settings, resource)
        except SettingsError as error:
            problems.append(str(error))
    problems.extend(
        f"{variable(name)} is set, but SHARDLINE_HOME is not local: remove it"
        for name in SIMULATORS
        if getattr(settings, name) is not None
    )
    if settings.secrets == "key-vault" and settings.key_vault_url is None:
        problems.append("SHARDLINE_KEY_VAULT_URL is missing: name the Key Vault, or set SHARDLINE_SECRETS=environment")
    if settings.token_keys_url is None and settings.token_key is None:
        problems.append("SHARDLINE_TOKEN_KEYS_URL is missing: name where your token issuer publishes its keys")
    # Nobody publishes keys under the local home's name: whoever left it would refuse every token.
    if settings.token_keys_url and settings.token_issuer == Settings.model_fields["token_issuer"].default:
        problems.append("SHARDLINE_TOKEN_ISSUER is missing: name the issuer of your readers' tokens")
    if problems:
        raise SettingsError("; ".join(problems))


def _resource(
    name: str,
    connection_string: SecretStr | None,
    addresses: dict[str, str | None],
    credential: str | None,
    client_id: str | None,
) -> AzureResource:
    given = [address for address in addresses.values() if address]
    forms = " or ".join(f"{name}__{part}" for part in addresses)
    if connection_string and given:
        raise SettingsError(f"{name} and {forms} are both set: keep the one that is meant")
    if connection_string:
        parts = [part.partition("=") for part in connection_string.get_secret_value().split(";") if part.strip()]
        given_parts = {part.strip() for part, _, value in parts if value.strip()}
        if not all(equals for _, equals, _ in parts) or not any(
            needed <= given_parts for needed in CONNECTION_STRINGS[name]
        ):
            pairs = " or ".join("".join(f"{part}=…;" for part in sorted(needed)) for needed in CONNECTION_STRINGS[name])
            raise SettingsError(f"{name} is malformed: a connection string has at least {pairs}")
        return AzureResource(connection_string, None, None)
    if not given:
        raise SettingsError(f"{name} is missing: set it to a connection string, or {forms} to use an identity")
    if client_id and credential != MANAGED_IDENTITY:
        raise SettingsError(f"{name}__clientId is set without {name}__credential={MANAGED_IDENTITY}")
    if credential == MANAGED_IDENTITY and not client_id:
        raise SettingsError(f"{name}__clientId is missing: name the user-assigned managed identity")
    return AzureResource(None, given[-1], client_id)


def variable(field: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"SHARDLINE_{field.upper()}"


def _one_line(error: ValidationError) -> str:
    fields = {variable(name): name for name in Settings.model_fields} | {name: name for name in Settings.model_fields}
    problems = []
    for problem in error.errors(include_input=False, include_url=False):
        field = fields[str(problem["loc"][0])]
        name = variable(field)
        if problem["type"] == "missing":
            problems.append(f"{name} is missing: {Settings.model_fields[field].description}")
        else:
            problems.append(f"{name} is malformed: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
