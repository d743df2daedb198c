"""What Azure would meter of the home on Azure, counted on the wire by the peers that stand for its services."""

from collections import Counter
from dataclasses import dataclass, field

from azurite import Azurite
from cosmos_peer.peer import PeerHandle as CosmosPeerHandle
from functions_host.host import FunctionsHost
from service_bus_peer.peer import PeerHandle as ServiceBusPeerHandle

DATABASE = "shardline"
UNBILLED = frozenset({"attach", "put-token"})
"""What opens a link or renews its right: no operation on a message."""
SETTLEMENTS = frozenset({"complete", "abandon", "defer", "dead-letter"})
UNREAD = "release"
"""A message that came while nobody received: the SDK's receiver gives it back. Azure's host takes back its credit after
each batch instead, so that none comes; here such a delivery is left out with its return."""

Metered = Counter[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """The meters at one moment, or between two.

    *operations* are Service Bus's by kind; *requests* and *request_units* Cosmos DB's by container and operation;
    *executions* by function; *blobs* requests by method; *stored* bytes of items by container.
    """

    operations: Metered = field(default_factory=Counter)
    requests: Metered = field(default_factory=Counter)
    request_units: dict[str, float] = field(default_factory=dict)
    executions: Metered = field(default_factory=Counter)
    blobs: Metered = field(default_factory=Counter)
    stored: Metered = field(default_factory=Counter)

    def since(self, before: "Reading") -> "Reading":
        """What was metered since *before*."""
        return Reading(
            _since(self.operations, before.operations),
            _since(self.requests, before.requests),
            {name: units - before.request_units.get(name, 0.0) for name, units in self.request_units.items()},
            _since(self.executions, before.executions),
            _since(self.blobs, before.blobs),
            _since(self.stored, before.stored),
        )

    def units_of(self, container: str, *operations: str) -> float:
        """Request units of a container, of these operations or of all."""
        return sum(
            units
            for name, units in self.request_units.items()
            if (place := name.split("/"))[0] == container and (not operations or place[1] in operations)
        )


def _since(now: Metered, before: Metered) -> Metered:
    return Counter({name: now[name] - before[name] for name in now})


@dataclass(frozen=True, slots=True)
class Meters:
    """The meters of a running home."""

    bus: ServiceBusPeerHandle
    cosmos: CosmosPeerHandle
    azurite: Azurite
    host: FunctionsHost

    def read(self) -> Reading:
        """All of them now."""
        requests: Metered = Counter()
        request_units: dict[str, float] = {}
        for tally in self.cosmos.counts().tallies:
            name = f"{tally.container}/{tally.operation}"
            requests[name] += tally.operations
            request_units[name] = tally.request_units
        executions: Metered = Counter()
        for instance in self.host.instances:
            executions.update(instance.worker.invocations)
        return Reading(
            self._operations(),
            requests,
            request_units,
            executions,
            self.azurite.requests(),
            Counter(self.cosmos.stored_bytes(DATABASE)),
        )

    def _operations(self) -> Metered:
        """Service Bus operations: one for each message sent, received or settled, and for each 64 KB begun of it."""
        operations: Metered = Counter()
        for kinds in self.bus.state.counters().by_queue.values():
            for kind, tally in kinds.items():
                billed = max(tally.messages, tally.units)
                if kind == UNREAD:
                    operations["receive"] -= billed
                elif kind not in UNBILLED:
                    operations["settle" if kind in SETTLEMENTS else kind] += billed
        return operations
