"""The composition root of the home on Azure: Service Bus, Cosmos DB, Blob Storage and Key Vault behind the ports."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.cosmos import ThroughputProperties
from azure.cosmos.aio import CosmosClient
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
from azure.servicebus.aio import ServiceBusClient
from azure.storage.blob.aio import ContainerClient

from api.issuer_keys import IssuerKeys, keys_at
from api.tokens import TokenKey
from composition import Services, live_and_bulk, token_rules
from connections.key_vault import KeyVaultSecrets, secret_client
from connections.secrets import EnvironmentSecrets, SecretStore
from messaging.service_bus import CLIENT_OPTIONS, ServiceBusMessageBus
from messaging.times import Clock, utc_now
from operations.metered_bus import MeteredBus
from operations.metrics import Metrics, StageMeter
from operations.telemetry import Telemetry
from processors.models.embedding import StaticEmbeddingModel
from settings import AzureResource, Settings
from shards.azure_blobs import AzureBlobStore, container_client
from shards.cosmos_connection import cosmos_client
from shards.cosmos_containers import containers
from shards.cosmos_provisioning import Provisioned, ProvisioningError, provision
from shards.cosmos_store import CosmosShardStore

LIBRARIES = ("azure.core", "azure.cosmos", "azure.identity", "azure.keyvault", "azure.servicebus", "azure.storage")
"""They log every request with its headers, and every state of a link, as information: thousands of lines for each that
the app itself writes, and paid for by the line. Only with debug logging on (PYTHON_ENABLE_DEBUG_LOGGING) are they told.
"""


SAFE_CONSISTENCY = {"Strong", "BoundedStaleness"}
"""With less, a step may not see what the one before has written."""


class Logins:
    """The identities that this process acts as; each is made when first needed, and shared by the clients it is for."""

    def __init__(self) -> None:
        self._made: dict[str | None, DefaultAzureCredential | ManagedIdentityCredential] = {}

    def of(self, client_id: str | None) -> AsyncTokenCredential:
        """The managed identity of that client id; None: whoever the environment is logged in as."""
        if client_id not in self._made:
            self._made[client_id] = (
                DefaultAzureCredential() if client_id is None else ManagedIdentityCredential(client_id=client_id)
            )
        return self._made[client_id]

    async def close(self) -> None:
        """Give back their connections."""
        async with AsyncExitStack() as stack:
            for credential in self._made.values():
                stack.push_async_callback(credential.close)


@dataclass(frozen=True, kw_only=True)
class AzureServices(Services):
    """The ports of the home on Azure. None connects to anything before it is used."""

    store: CosmosShardStore
    blobs: AzureBlobStore
    logins: Logins

    async def close(self) -> None:
        """Give back connections and logins, and export what is left of traces and metrics."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.logins.close)
            stack.push_async_callback(super().close)


def build_azure(settings: Settings, *, clock: Clock = utc_now, telemetry: Telemetry | None = None) -> AzureServices:
    """The services of the home on Azure.

    Raises:
        SettingsError: what it needs is not set.
    """
    _quieten_libraries()
    telemetry = telemetry or Telemetry()
    logins = Logins()
    model = StaticEmbeddingModel()
    blobs = AzureBlobStore(_blobs(settings.storage, settings.blob_container, logins))
    bus = ServiceBusMessageBus(_service_bus(settings.service_bus, logins), clock=clock)
    store = CosmosShardStore(
        _cosmos(settings.cosmos, logins),
        settings.cosmos_database,
        model=model.name,
        dimensions=model.dimensions,
        clock=clock,
    )
    telemetry.metrics.observe_store(store.charges.charges)
    rules = token_rules(settings)
    key = TokenKey(settings.token_key.get_secret_value().encode(), rules) if settings.token_key else None
    return AzureServices(
        settings=settings,
        bus=live_and_bulk(MeteredBus(bus, telemetry.metrics), blobs, settings),
        store=store,
        blobs=blobs,
        secrets=_secrets(settings, logins, telemetry.metrics, clock),
        model=model,
        tokens=key or IssuerKeys(keys_at(str(settings.token_keys_url)), rules),
        token_key=key,
        meter=StageMeter(telemetry.metrics),
        telemetry=telemetry,
        charge_book=store.charge_book,
        logins=logins,
        clock=clock,
    )


async def provision_azure(
    settings: Settings, *, throughput: int | None = None, search: bool = True
) -> list[Provisioned]:
    """Make the database, containers and blob container that the home on Azure lacks; what there is stays as it is.

    Args:
        throughput: the most request units a second of each new container (autoscale); None on a serverless account.
        search: give new containers their index, vector and full text policies, which the emulator does not know.

    Raises:
        ProvisioningError: the service refused to make something.
        StoreUnavailableError: the storage account does not answer, or refuses.
    """
    logins = Logins()
    model = StaticEmbeddingModel()
    blobs = AzureBlobStore(_blobs(settings.storage, settings.blob_container, logins))
    definitions = containers(model.name, model.dimensions)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(logins.close)
        stack.push_async_callback(blobs.close)
        client = _cosmos(settings.cosmos, logins)()
        # A client that can't be opened has a session to close all the same.
        stack.push_async_callback(client.close)
        try:
            await client.__aenter__()
        except AzureError as error:
            raise ProvisioningError(f"Cosmos DB can't be reached: {' '.join(str(error).split())[:300]}") from error
        made = await provision(
            client,
            settings.cosmos_database,
            definitions if search else [definition.without_search for definition in definitions],
            throughput=ThroughputProperties(auto_scale_max_throughput=throughput) if throughput else None,
        )
        policy = (await client._get_database_account()).ConsistencyPolicy or {}
        consistency = policy.get("defaultConsistencyLevel")
        account = Provisioned("account", made=False)
        if search and consistency not in SAFE_CONSISTENCY:
            account.differences.append(f"its consistency is {consistency} instead of Strong")
        return [account, *made, Provisioned(f"blobs: {settings.blob_container}", made=await blobs.ensure_container())]


def _quieten_libraries() -> None:
    if logging.getLogger().level > logging.DEBUG:
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)


def _secrets(settings: Settings, logins: Logins, metrics: Metrics, clock: Clock) -> SecretStore:
    if settings.secrets == "environment":
        return EnvironmentSecrets()
    # The app has one identity for all; an operator's command has none of its own.
    client_id = settings.cosmos_client_id or settings.service_bus_client_id or settings.storage_client_id
    return KeyVaultSecrets(
        lambda: secret_client(str(settings.key_vault_url), logins.of(client_id)),
        clock=clock,
        expiring=metrics.secret_expires,
    )


def _service_bus(resource: AzureResource, logins: Logins) -> Callable[[], ServiceBusClient]:
    text, address = _parts(resource)
    if text is None:
        return lambda: ServiceBusClient(address, logins.of(resource.client_id), **CLIENT_OPTIONS)
    return lambda: ServiceBusClient.from_connection_string(text, **CLIENT_OPTIONS)


def _cosmos(resource: AzureResource, logins: Logins) -> Callable[[], CosmosClient]:
    text, address = _parts(resource)
    if text is None:
        return lambda: cosmos_client(address, logins.of(resource.client_id))
    parts = dict(part.strip().split("=", 1) for part in text.split(";") if part.strip())
    return lambda: cosmos_client(parts["AccountEndpoint"], parts["AccountKey"])


def _blobs(resource: AzureResource, container: str, logins: Logins) -> Callable[[], ContainerClient]:
    text, address = _parts(resource)
    if text is None:
        return lambda: container_client(address, container, logins.of(resource.client_id))
    return lambda: container_client(text, container)


def _parts(resource: AzureResource) -> tuple[str | None, str]:
    """The connection string, or None and the address."""
    text = resource.connection_string
    return (text.get_secret_value() if text else None), resource.address or ""
