"""What was asked of the peer: operations, request charges, bytes and statuses, by kind and container."""

from collections import Counter

import msgspec


class Tally(msgspec.Struct):
    """What operations of one kind on one container came to; *statuses* counts answers by HTTP status."""

    operations: int = 0
    request_units: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    statuses: dict[str, int] = {}


class Counters:
    """Tallies by operation and container; the container is empty for what concerns none."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    def count(self, operation: str, container: str, *, charge: float, sent: int, answered: int, status: int) -> None:
        """Count one operation; status 0 is a connection that ended without an answer."""
        tally = self._tallies.setdefault((operation, container), Tally(statuses={}))
        tally.operations += 1
        tally.request_units += charge
        tally.bytes_in += sent
        tally.bytes_out += answered
        tally.statuses[str(status)] = tally.statuses.get(str(status), 0) + 1

    def reset(self) -> None:
        """Forget everything."""
        self._tallies.clear()

    @property
    def tallies(self) -> dict[tuple[str, str], Tally]:
        """By (operation, container)."""
        return dict(self._tallies)

    def request_units(self, *, container: str | None = None) -> float:
        """All request units, or those of one container."""
        return sum(t.request_units for (_, name), t in self._tallies.items() if container in (None, name))

    def operations(self, operation: str | None = None, *, container: str | None = None) -> int:
        """How many operations of this kind there were on this container; None: any."""
        return sum(
            tally.operations
            for (kind, name), tally in self._tallies.items()
            if operation in (None, kind) and container in (None, name)
        )

    def statuses(self) -> Counter[str]:
        """How many answers had each status."""
        total: Counter[str] = Counter()
        for tally in self._tallies.values():
            total.update(tally.statuses)
        return total
