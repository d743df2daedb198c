"""The composition root: from the settings to the ports. The only place that knows which twin stands behind a port.

The home on Azure is composed in :mod:`azure_composition`, which is loaded where it is asked for.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from typing import Protocol

from api.tokens import TokenKey, TokenRules, TokenVerifier, local_key
from connections.directory import ConnectionDirectory
from connections.registry import ConnectionRegistry
from connections.secrets import FolderSecrets, SecretStore
from connections.state import StateStore
from ingestion.content.extractor import ContentExtractor
from ingestion.gdrive.source import DriveSource
from ingestion.ports import IngestionPorts
from ingestion.salesforce.client import SalesforceClients
from ingestion.salesforce.session import PollingPorts
from ingestion.salesforce.source import SalesforceSource
from ingestion.slack.source import SlackSource
from ingestion.source import AnySource, SourcePorts
from ingestion.webhooks import WebhookPorts
from messaging.bus import MessageBus
from messaging.claim_check import ClaimCheckBus
from messaging.lanes import LaneBus, TenantRates
from messaging.sqlite_bus import SqliteMessageBus
from messaging.times import Clock, utc_now
from operations.dead_letters import DeadLetterPorts
from operations.metered_bus import MeteredBus
from operations.metrics import StageMeter
from operations.reconciliation import ReconciliationPorts
from operations.replay import ReplayPorts
from operations.telemetry import Telemetry, configure
from operations.text_sweep import TextSweepPorts
from processors.change_feed import ChangeFeedPorts
from processors.delivery import DeliveryPorts
from processors.embedding import EmbeddingPorts
from processors.enrichment import EnrichmentPorts
from processors.models.embedding import EmbeddingModel, StaticEmbeddingModel
from processors.normalization import NormalizationPorts
from processors.preparation import PreparationPorts
from settings import Settings, SettingsError, load_settings, make_data_folder
from shards.blobs import BlobStore
from shards.folder_blobs import FolderBlobStore
from shards.parked import ParkedMessages
from shards.request_charges import ChargeBook
from shards.sqlite_store import SqliteShardStore
from shards.store import ShardStore


class Store(ShardStore, ParkedMessages, Protocol):
    """One store keeps both, shards and parked messages."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The ports of one process, and the groups of them that each part of the app asks for."""

    settings: Settings
    bus: MessageBus
    store: Store
    blobs: BlobStore
    secrets: SecretStore
    model: EmbeddingModel
    tokens: TokenVerifier
    token_key: TokenKey | None
    """What signs reader tokens; None where an identity provider does."""
    meter: StageMeter
    telemetry: Telemetry
    charge_book: ChargeBook | None = None
    """What all processes of the home are charged; None where the store charges nothing."""
    clock: Clock = utc_now

    @cached_property
    def connections(self) -> ConnectionRegistry:
        """The registered connections."""
        return ConnectionRegistry(self.store, clock=self.clock)

    @cached_property
    def ingestion(self) -> IngestionPorts:
        """The ports of work against sources."""
        return IngestionPorts(
            self.bus,
            self.connections,
            self.states,
            self.store,
            self.store,
            self.sources,
            self.clock,
            confirm_after=timedelta(seconds=self.settings.sweep_confirm_seconds),
            metrics=self.telemetry.metrics,
        )

    @cached_property
    def states(self) -> StateStore:
        """What work against sources remembers."""
        return StateStore(self.store, clock=self.clock)

    @cached_property
    def webhooks(self) -> WebhookPorts:
        """The ports of webhooks."""
        directory = ConnectionDirectory(self.connections)
        return WebhookPorts(self.bus, directory, self.secrets, self.clock, metrics=self.telemetry.metrics)

    @cached_property
    def source_ports(self) -> SourcePorts:
        """The ports of sources."""
        return SourcePorts(self.bus, self.connections, self.states, self.store, self.blobs, self.secrets, self.clock)

    @cached_property
    def sources(self) -> Mapping[str, AnySource]:
        """The sources by system."""
        simulator = self.settings.salesforce_simulator
        clients = SalesforceClients(self.secrets, simulator=str(simulator) if simulator else None, clock=self.clock)
        polling = PollingPorts(self.bus, self.connections, self.states, clients, self.clock)
        drives = self.settings.gdrive_simulator
        drive = DriveSource(
            self.source_ports,
            simulator=str(drives) if drives else None,
            extractor=self.extractor,
            metrics=self.telemetry.metrics,
        )
        slack = self.settings.slack_simulator
        return {
            "salesforce": SalesforceSource(polling, self.store),
            "gdrive": drive,
            "slack": SlackSource(self.source_ports, simulator=str(slack) if slack else None),
        }

    @cached_property
    def extractor(self) -> ContentExtractor:
        """What reads files, in processes of its own that start with the first file."""
        return ContentExtractor()

    @cached_property
    def delivery(self) -> DeliveryPorts:
        """What gives messages an end."""
        return DeliveryPorts(self.bus, self.store, self.blobs, self.clock, self.meter)

    @cached_property
    def normalization(self) -> NormalizationPorts:
        """The ports of normalization."""
        return NormalizationPorts(self.store, self.bus, self.connections, self.blobs, self.clock)

    @cached_property
    def live_rates(self) -> TenantRates:
        """What each tenant may have of the live lane in this process."""
        return TenantRates(self.settings.tenant_events_per_second)

    @cached_property
    def enrichment(self) -> EnrichmentPorts:
        """The ports of enrichment."""
        return EnrichmentPorts(self.store, self.bus, self.clock)

    @cached_property
    def preparation(self) -> PreparationPorts:
        """The ports of preparation."""
        return PreparationPorts(self.store, self.bus, self.blobs, self.clock)

    @cached_property
    def change_feed(self) -> ChangeFeedPorts:
        """The ports of following the change feed."""
        return ChangeFeedPorts(self.store, self.bus, self.store, self.preparation, self.clock, self.telemetry.metrics)

    @cached_property
    def embedding(self) -> EmbeddingPorts:
        """The ports of embedding."""
        return EmbeddingPorts(self.store, self.model, self.telemetry.metrics)

    @cached_property
    def reconciliation(self) -> ReconciliationPorts:
        """The ports of reconciliation."""
        return ReconciliationPorts(self.store, self.store, self.bus, self.clock, self.telemetry.metrics)

    @cached_property
    def text_sweep(self) -> TextSweepPorts:
        """The ports of the sweep of file texts."""
        return TextSweepPorts(self.store, self.store, self.blobs, self.bus, self.clock, self.telemetry.metrics)

    @cached_property
    def dead_letters(self) -> DeadLetterPorts:
        """The ports of draining dead letters."""
        return DeadLetterPorts(self.bus, self.store, self.blobs, self.clock, self.telemetry.metrics)

    @cached_property
    def replay(self) -> ReplayPorts:
        """The ports of replay."""
        return ReplayPorts(self.store, self.bus, self.clock)

    async def close(self) -> None:
        """Give back files, locks and connections, and export what is left of traces and metrics."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.extractor.close)
            for part in (self.telemetry, self.secrets, self.blobs, self.store, self.bus):
                stack.push_async_callback(part.close)
            # Those of a process that asked for none are not made only to be closed.
            for source in vars(self).get("sources", {}).values():
                stack.callback(source.close)


@dataclass(frozen=True, kw_only=True)
class LocalServices(Services):
    """The ports of the local home, whose host receives from *queues* itself."""

    queues: SqliteMessageBus
    token_key: TokenKey


def build(settings: Settings, *, clock: Clock = utc_now, telemetry: Telemetry | None = None) -> Services:
    """The services that *settings* ask for. Without *telemetry* nothing is exported, as by a command.

    Raises:
        SettingsError: what the home needs is not set.
        DataFileError: a file of a local home can't be used.
    """
    if settings.home == "local":
        return build_local(settings, clock=clock, telemetry=telemetry)
    # Its SDKs are heavy, and a home on one machine does without them.
    from azure_composition import build_azure

    return build_azure(settings, clock=clock, telemetry=telemetry)


def build_local(settings: Settings, *, clock: Clock = utc_now, telemetry: Telemetry | None = None) -> LocalServices:
    """The services of a local home, on the files of its data folder.

    Raises:
        DataFileError: a file can't be used.
    """
    make_data_folder(settings.bus_file.parent)
    telemetry = telemetry or Telemetry()
    queues = SqliteMessageBus(settings.bus_file, clock=clock)
    blobs = FolderBlobStore(settings.blob_folder)
    key = TokenKey(local_key(settings.token_key_file), token_rules(settings))
    return LocalServices(
        settings=settings,
        bus=live_and_bulk(MeteredBus(queues, telemetry.metrics), blobs, settings),
        queues=queues,
        store=SqliteShardStore(settings.store_file, clock=clock),
        blobs=blobs,
        secrets=FolderSecrets(settings.secrets_folder),
        model=StaticEmbeddingModel(),
        tokens=key,
        token_key=key,
        meter=StageMeter(telemetry.metrics),
        telemetry=telemetry,
        clock=clock,
    )


def live_and_bulk(bus: MessageBus, blobs: BlobStore, settings: Settings) -> MessageBus:
    """*bus* as all parts of the app send to it: large payloads kept apart, floods in a lane of their own."""
    return ClaimCheckBus(LaneBus(bus, TenantRates(settings.tenant_events_per_second)), blobs)


def token_rules(settings: Settings) -> TokenRules:
    """What reader tokens must carry."""
    return TokenRules(
        settings.token_issuer, settings.token_audience, settings.token_tenant_claim, settings.token_user_claim
    )


@cache
def services() -> Services:
    """This process's services, built at first use: importing the app opens nothing."""
    settings = load_settings()
    return build(settings, telemetry=configure(settings))


def local_services() -> LocalServices:
    """As :func:`services`, of a process that runs the local home.

    Raises:
        SettingsError: the settings ask for another home.
    """
    found = services()
    if not isinstance(found, LocalServices):
        raise SettingsError(f"SHARDLINE_HOME is {found.settings.home}, but this process runs the local home")
    return found
