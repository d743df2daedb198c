"""The chain's queue functions: each decodes its batch, calls one processor, and gives every message its end."""

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
from processors.delivery import consume
from processors.embedding import embed
from processors.enrichment import enrich
from processors.normalization import normalize
from processors.preparation import prepare

blueprint = func.Blueprint()

CONNECTION = "ServiceBusConnection"


@blueprint.service_bus_queue_trigger("messages", CONNECTION, INGESTION_EVENTS, cardinality="many")
async def normalize_events(messages: List[func.ServiceBusMessage]) -> None:
    """Events of live changes become shards."""
    app = services()
    process = partial(normalize, ports=app.normalization)
    await consume(messages, INGESTION_EVENTS, IngestionEvent, process, app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, INGESTION_EVENTS_BULK, cardinality="many")
async def normalize_bulk_events(messages: List[func.ServiceBusMessage]) -> None:
    """Events of first loads and of floods become shards, in a lane of their own."""
    app = services()
    process = partial(normalize, ports=app.normalization)
    await consume(messages, INGESTION_EVENTS_BULK, IngestionEvent, process, app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, SHARD_EMISSION, cardinality="many")
async def enrich_shards(messages: List[func.ServiceBusMessage]) -> None:
    """Shards that were written get their links."""
    app = services()
    await consume(messages, SHARD_EMISSION, ShardEmission, partial(enrich, ports=app.enrichment), app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, ENRICHMENT_JOBS, cardinality="many")
async def prepare_shards(messages: List[func.ServiceBusMessage]) -> None:
    """Linked shards get their chunks."""
    app = services()
    await consume(messages, ENRICHMENT_JOBS, EnrichmentJob, partial(prepare, ports=app.preparation), app.delivery)


@blueprint.service_bus_queue_trigger("messages", CONNECTION, EMBEDDING_JOBS, cardinality="many")
async def embed_chunks(messages: List[func.ServiceBusMessage]) -> None:
    """Chunks get their vectors."""
    app = services()
    await consume(messages, EMBEDDING_JOBS, EmbeddingJob, partial(embed, ports=app.embedding), app.delivery)
