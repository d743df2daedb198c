"""What was asked of the peer: operations, request charges, bytes and statuses, by kind and container."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What operations of one kind on one container came to.

    Bytes are those of bodies. *yielding* are those that said they may wait, by low priority or a throughput bucket.
    *statuses* counts answers by HTTP status; 0 is a connection that ended without one.
    """

    operation: str
    container: str
    operations: int = 0
    yielding: int = 0
    request_units: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Counts:
    """Tallies at one moment; the container is empty for operations that concern none."""

    def __init__(self, tallies: list[Tally]) -> None:
        self.tallies = tallies

    def operations(self, operation: str | None = None, *, container: str | None = None) -> int:
        """How many operations of this kind there were on this container; None: any."""
        return sum(tally.operations for tally in self._of(operation, container))

    def yielding(self, operation: str | None = None, *, container: str | None = None) -> int:
        """How many of them said that they may wait."""
        return sum(tally.yielding for tally in self._of(operation, container))

    def request_units(self, operation: str | None = None, *, container: str | None = None) -> float:
        """What they were charged."""
        return sum(tally.request_units for tally in self._of(operation, container))

    def statuses(self, operation: str | None = None, *, container: str | None = None) -> Counter[int]:
        """How they were answered."""
        total: Counter[int] = Counter()
        for tally in self._of(operation, container):
            total.update(tally.statuses)
        return total

    def _of(self, operation: str | None, container: str | None) -> Iterator[Tally]:
        return (
            tally
            for tally in self.tallies
            if operation in (None, tally.operation) and container in (None, tally.container)
        )


class Counters:
    """Counts while the peer runs."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    def count(
        self,
        operation: str,
        container: str,
        *,
        charge: float,
        sent: int,
        answered: int,
        status: int,
        yielding: bool = False,
    ) -> None:
        """Count one operation."""
        tally = self._tallies.setdefault((operation, container), Tally(operation, container))
        tally.operations += 1
        tally.yielding += yielding
        tally.request_units += charge
        tally.bytes_in += sent
        tally.bytes_out += answered
        tally.statuses[status] += 1

    def reset(self) -> None:
        """Begin anew."""
        self._tallies.clear()

    def now(self) -> Counts:
        """The counts at this moment."""
        return Counts(deepcopy(list(self._tallies.values())))
