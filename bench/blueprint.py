"""The app cut off behind its first step: it polls and normalizes, and nothing takes what comes after."""

from functools import partial
from typing import List

import azure.functions as func

from composition import services
from ingestion.blueprint import blueprint as ingestion
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK
from processors.blueprint import CONNECTION
from processors.delivery import consume
from processors.normalization import normalize

app = func.FunctionApp()
app.register_functions(ingestion)


@app.service_bus_queue_trigger("messages", CONNECTION, INGESTION_EVENTS, cardinality="many")
async def normalize_events(messages: List[func.ServiceBusMessage]) -> None:
    """As the app's own function."""
    ports = services()
    process = partial(normalize, ports=ports.normalization)
    await consume(messages, INGESTION_EVENTS, IngestionEvent, process, ports.delivery)


@app.service_bus_queue_trigger("messages", CONNECTION, INGESTION_EVENTS_BULK, cardinality="many")
async def normalize_bulk_events(messages: List[func.ServiceBusMessage]) -> None:
    """As the app's own function."""
    ports = services()
    process = partial(normalize, ports=ports.normalization)
    await consume(messages, INGESTION_EVENTS_BULK, IngestionEvent, process, ports.delivery)
