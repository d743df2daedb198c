"""A strict Cosmos DB account for tests, of our own: the real azure-cosmos SDK talks to it over HTTP on loopback.

It implements what is documented of the service and refuses with 400 what it does not know. See docs/testing.md for what
only a real account can show.
"""

from cosmos_peer.authorization import KEY
from cosmos_peer.counters import Counts, Tally
from cosmos_peer.faults import (
    FORBIDDEN,
    PRECONDITION_FAILED,
    READS,
    RETRY_WITH,
    THROTTLED,
    TIMED_OUT,
    UNAUTHORIZED,
    UNAVAILABLE,
    WRITES,
    Delay,
    DropAfter,
    DropBefore,
    Fault,
    Hang,
    Refuse,
)
from cosmos_peer.peer import CosmosPeer, CosmosPeerProcess, PeerHandle

__all__ = [
    "FORBIDDEN", "KEY", "PRECONDITION_FAILED", "READS", "RETRY_WITH", "THROTTLED", "TIMED_OUT", "UNAUTHORIZED",
    "UNAVAILABLE", "WRITES", "CosmosPeer", "CosmosPeerProcess", "Counts", "Delay", "DropAfter", "DropBefore", "Fault",
    "Hang", "PeerHandle", "Refuse", "Tally",
]  # fmt: skip
