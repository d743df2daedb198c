"""What goes wrong on demand: each fault waits here until the operation that it is for comes by."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum


class At(Enum):
    """Which operation a fault is for."""

    SEND = "send"
    SETTLEMENT = "settlement"
    MANAGEMENT = "management"
    TOKEN = "token"
    ATTACH = "attach"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing is done, and the answer is an error; *status* is that of a management response."""

    condition: str
    description: str
    status: int = 503


@dataclass(frozen=True, slots=True)
class Detach:
    """Nothing is done, and the link is closed with an error."""

    condition: str
    description: str


@dataclass(frozen=True, slots=True)
class DropConnection:
    """The connection breaks without a word, before the operation is done or after it and before it is confirmed."""

    done: bool


Fault = Refuse | Detach | DropConnection


@dataclass(slots=True)
class Faults:
    """The faults that are waiting. Not thread-safe."""

    _waiting: dict[At, deque[tuple[str | None, Fault]]] = field(default_factory=lambda: {at: deque() for at in At})

    def add(self, at: At, fault: Fault, *, count: int = 1, queue: str | None = None) -> None:
        """Have *fault* befall the next *count* operations, of any queue or of *queue* alone."""
        self._waiting[at].extend([(queue, fault)] * count)

    def take(self, at: At, queue: str | None) -> Fault | None:
        """The fault that befalls an operation on *queue* now, if one is waiting for it."""
        waiting = self._waiting[at]
        for place, (of_queue, fault) in enumerate(waiting):
            if of_queue is None or of_queue == queue:
                del waiting[place]
                return fault
        return None

    def waiting(self) -> int:
        """How many have not befallen anything yet."""
        return sum(map(len, self._waiting.values()))

    def clear(self) -> None:
        """Forget those that are waiting."""
        for waiting in self._waiting.values():
            waiting.clear()
