"""What work against sources reaches the world through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from connections.registry import ConnectionRegistry
from connections.state import StateStore
from ingestion.at_work import AtWork
from ingestion.source import AnySource
from messaging.bus import MessageBus
from messaging.times import Clock, utc_now
from operations.metrics import Metrics
from shards.parked import ParkedMessages
from shards.store import ShardStore

RUN_FOR = timedelta(seconds=30)
"""How long one message works before a copy goes on: well within a queue's lock, and short enough that a worker which is
ended over and over still gets the work done, message by message."""

CONFIRM_AFTER = timedelta(minutes=10)
"""How long after a listing that misses records the second one is due."""


@dataclass(frozen=True, slots=True)
class IngestionPorts:
    """What source work reaches the world through."""

    bus: MessageBus
    registry: ConnectionRegistry
    states: StateStore
    store: ShardStore
    parked: ParkedMessages
    sources: Mapping[str, AnySource]
    """By system."""
    clock: Clock = utc_now
    run_for: timedelta = RUN_FOR
    confirm_after: timedelta = CONFIRM_AFTER
    metrics: Metrics = field(default_factory=Metrics)
    at_work: AtWork = field(default_factory=AtWork)
