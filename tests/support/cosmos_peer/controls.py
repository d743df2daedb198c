"""What tests do to the peer beside talking to it as a client: it is done where the peer runs, between two requests."""

from collections.abc import Sequence
from typing import Any

from cosmos_peer.counters import Counts
from cosmos_peer.faults import Fault
from cosmos_peer.service import Service


class Controls:
    """The controls of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def fail(self, *faults: Fault) -> None:
        """Put faults in force, behind those that are."""
        for fault in faults:
            self._service.faults.add(fault)

    def heal(self) -> None:
        """Lift all faults."""
        self._service.faults.clear()

    def counts(self) -> Counts:
        """What was asked since the beginning or the last reset."""
        return self._service.counters.now()

    def reset_counts(self) -> None:
        """Count anew."""
        self._service.counters.reset()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._service.clock.advance(seconds)

    def set_consistency(self, level: str) -> None:
        """Make *level* the account's default consistency."""
        self._service.consistency = level

    def split(self, database: str, container: str, prefix: Sequence[Any]) -> None:
        """Split the partition where a key prefix lives, in the middle of it."""
        held = self._service.account.container(database, container)
        span = held.definition.key.span(held.definition.key.value(prefix))
        held.split(span.low + "1F" + "F" * 30)

    def partitions_of(self, database: str, container: str, prefix: Sequence[Any]) -> list[str]:
        """The ids of the physical partitions that hold a key prefix."""
        held = self._service.account.container(database, container)
        span = held.definition.key.span(held.definition.key.value(prefix))
        return [partition.id for partition in held.overlapping([span])]

    def stored_bytes(self, database: str) -> dict[str, int]:
        """The bytes of the items that each container keeps."""
        return {
            container.id: sum(len(item.data) for item in container.every_item())
            for container in self._service.account.database(database).containers.values()
        }
