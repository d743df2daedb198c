"""Counts of what went over the wire, for tests and for what Service Bus would bill."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

# Service Bus bills an operation for every 64 KB of it that have begun.
BILLING_UNIT = 65_536


@dataclass(slots=True)
class Tally:
    """Operations of one kind: how many, of how many messages, bytes of these, and units of 64 KB that they began."""

    operations: int = 0
    messages: int = 0
    bytes: int = 0
    units: int = 0


@dataclass(slots=True)
class Counters:
    """Operations by queue and kind, and connections. The queue of a dead letter carries its suffix.

    Kinds: ``send``, ``receive`` (a delivery), ``complete``, ``abandon``, ``release``, ``defer``, ``dead-letter``,
    ``attach``, ``put-token``, and those of $management under their own names (``schedule-message`` …).
    """

    by_queue: dict[str, dict[str, Tally]] = field(default_factory=dict)
    connections: int = 0
    most_connections: int = 0
    connections_made: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    def count(self, queue: str, kind: str, *, messages: int = 1, size: int = 0) -> None:
        """Count one operation."""
        tally = self.of(queue, kind)
        tally.operations += 1
        tally.messages += messages
        tally.bytes += size
        tally.units += max(1, -(-size // BILLING_UNIT))

    def of(self, queue: str, kind: str) -> Tally:
        """The tally of a kind of operations on a queue."""
        return self.by_queue.setdefault(queue, {}).setdefault(kind, Tally())

    def total(self, kind: str) -> Tally:
        """The tally of a kind of operations on all queues together."""
        total = Tally()
        for tally in self._tallies(kind):
            for each in fields(Tally):
                setattr(total, each.name, getattr(total, each.name) + getattr(tally, each.name))
        return total

    def connected(self) -> None:
        """Count a connection that has come."""
        self.connections += 1
        self.connections_made += 1
        self.most_connections = max(self.most_connections, self.connections)

    def reset(self) -> None:
        """Begin again, with the connections that there are."""
        self.by_queue.clear()
        self.most_connections = self.connections
        self.connections_made = self.bytes_received = self.bytes_sent = 0

    def _tallies(self, kind: str) -> Iterator[Tally]:
        return (kinds[kind] for kinds in self.by_queue.values() if kind in kinds)
