"""The chain's functions: each takes a batch of its queue, or of the change feed, to one processor."""

from functools import partial
from typing import List

import azure.functions as func

from composition import services
from messaging.contracts import EmbeddingJob, EnrichmentJob, IngestionEvent, ShardEmission
from messaging.queues import (
    EMBEDDING_JOBS,
    ENRICHMENT_JOBS,
    INGESTION_EVENTS,
    INGESTION_EVENTS_BULK,
    SHARD_EMISSION,
)
from processors.backpressure import until_the_chain_digests
from processors.change_feed import prepare_changes
from processors.delivery import consume
from processors.embedding import embed
from processors.enrichment import enrich
from processors.live_lane import AboveRate
from processors.normalization import normalize
from processors.preparation import prepare
from shards.request_charges import charged, yielding

blueprint = func.Blueprint()

CONNECTION = "ServiceBusConnection"

BYTES = func.DataType.BINARY
"""The host makes strings of bodies unless bytes are asked for, and leaves empty strings out of a batch: then bodies
and messages no longer pair up, and every message of the batch fails with the one that is empty."""


@blueprint.service_bus_queue_trigger("messages", CONNECTION, INGESTION_EVENTS, cardinality="many", data_type=BYTES)
@charged
async def normalize_events(messages: List[func.ServiceBusMessage]) -> None:
    """Events of live changes become shards."""
    app = services()
    process = partial(normalize, ports=app.normalization)
    above = AboveRate(app.live_rates)
    await consume(messages, INGESTION_EVENTS, IngestionEvent, process, app.delivery, diversion=above)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, INGESTION_EVENTS_BULK, cardinality="many", data_type=BYTES)
@charged
async def normalize_bulk_events(messages: List[func.ServiceBusMessage]) -> None:
    """Events of first loads and of floods become shards, in a lane of their own."""
    app = services()
    process = partial(normalize, ports=app.normalization)
    with yielding():
        await until_the_chain_digests(app.bus)
        await consume(messages, INGESTION_EVENTS_BULK, IngestionEvent, process, app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, SHARD_EMISSION, cardinality="many", data_type=BYTES)
@charged
async def enrich_shards(messages: List[func.ServiceBusMessage]) -> None:
    """Shards that were written get their links."""
    app = services()
    await consume(messages, SHARD_EMISSION, ShardEmission, partial(enrich, ports=app.enrichment), app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, ENRICHMENT_JOBS, cardinality="many", data_type=BYTES)
@charged
async def prepare_shards(messages: List[func.ServiceBusMessage]) -> None:
    """Linked shards get their chunks."""
    app = services()
    await consume(messages, ENRICHMENT_JOBS, EnrichmentJob, partial(prepare, ports=app.preparation), app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, EMBEDDING_JOBS, cardinality="many", data_type=BYTES)
@charged
async def embed_chunks(messages: List[func.ServiceBusMessage]) -> None:
    """Chunks get their vectors."""
    app = services()
    await consume(messages, EMBEDDING_JOBS, EmbeddingJob, partial(embed, ports=app.embedding), app.delivery)


# A raise is an outage of bus or store, so the same changes come again for as long as it takes.
@blueprint.cosmos_db_trigger(
    "documents",
    container_name="shards",
    connection="CosmosConnection",
    database_name="%SHARDLINE_COSMOS_DATABASE%",
    lease_container_name="leases",
    max_items_per_invocation=200,
    feed_poll_delay=1000,
    # The library annotates it as a time; the binding takes a truth value.
    start_from_beginning=True,  # type: ignore[arg-type]
)
@blueprint.retry("exponential_backoff", "-1", minimum_interval="00:00:05", maximum_interval="00:05:00")
@charged
async def prepare_changed_shards(documents: func.DocumentList) -> None:
    """Shards that others than the chain have written get their chunks."""
    await prepare_changes(documents, services().change_feed)
