"""Failures on demand: which calls they hit, how often, and what becomes of them.

>>> Fault(THROTTLED, share=1 / 3)                                # a third of all calls
>>> Fault(DropAfter(), operations=("create",), times=1)          # the next create is done, its answer lost
>>> Fault(PRECONDITION_FAILED, operations=("replace",), first_write_of_each=True)
"""

import random
from collections.abc import Sequence

import msgspec

WRITES = ("create", "replace", "upsert", "delete", "patch", "batch")
"""The operations that write items."""
READS = ("read", "query", "query-plan", "read-feed", "change-feed")
"""Those that read them."""


class Refuse(msgspec.Struct, frozen=True, tag=True):
    """An error without doing anything; *retry_after_ms* goes as ``x-ms-retry-after-ms``.

    A 412 hits only writes that carry an etag, as nothing else can be refused so; of a batch, its first such operation.
    """

    status: int
    substatus: int = 0
    retry_after_ms: int | None = None


class DropBefore(msgspec.Struct, frozen=True, tag=True):
    """The connection ends, nothing is done."""


class DropAfter(msgspec.Struct, frozen=True, tag=True):
    """It is done, and the connection ends without an answer: the outcome is unknown to the client."""


class Delay(msgspec.Struct, frozen=True, tag=True):
    """It is done, and answered after *seconds*."""

    seconds: float


class Hang(msgspec.Struct, frozen=True, tag=True):
    """Nothing is done, and no answer comes; the connection stays open."""


Effect = Refuse | DropBefore | DropAfter | Delay | Hang

THROTTLED = Refuse(429, 3200, 10)
"""Too many requests: come back in 10 ms."""
RETRY_WITH = Refuse(449)
TIMED_OUT = Refuse(408)
UNAVAILABLE = Refuse(503)
PRECONDITION_FAILED = Refuse(412)
UNAUTHORIZED = Refuse(401)
FORBIDDEN = Refuse(403, 5300)


class Fault(msgspec.Struct, frozen=True):
    """An effect and the calls that it hits.

    *operations* and *containers* narrow them (none: all). Of these every *every*-th is hit, and of those a random
    *share* by *seed*; at most *times* in all. With *first_write_of_each* only the first write of each item is.
    """

    effect: Effect
    operations: Sequence[str] = ()
    containers: Sequence[str] = ()
    times: int | None = None
    every: int = 1
    share: float = 1.0
    seed: int = 0
    first_write_of_each: bool = False


class _Armed:
    """A fault with what it has hit so far."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._left = fault.times
        self._seen = 0
        self._random = random.Random(fault.seed)
        self._written: set[str] = set()

    def hits(self, operation: str, container: str, item: str, *, conditional: bool) -> bool:
        """Whether this call is hit."""
        fault = self.fault
        if isinstance(fault.effect, Refuse) and fault.effect.status == 412 and not conditional:
            return False
        if (fault.operations and operation not in fault.operations) or self._left == 0:
            return False
        if fault.containers and container not in fault.containers:
            return False
        if fault.first_write_of_each:
            if operation not in WRITES or item in self._written:
                return False
            self._written.add(item)
        self._seen += 1
        if self._seen % fault.every or self._random.random() >= fault.share:
            return False
        if self._left is not None:
            self._left -= 1
        return True


class Faults:
    """The faults in force; the first that hits a call decides."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Put a fault in force."""
        self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Lift all faults."""
        self._armed.clear()

    def next(self, operation: str, container: str, item: str, *, conditional: bool) -> Effect | None:
        """What becomes of a call; None: it goes well. Only a *conditional* one can be refused with 412."""
        for armed in self._armed:
            if armed.hits(operation, container, item, conditional=conditional):
                return armed.fault.effect
        return None
