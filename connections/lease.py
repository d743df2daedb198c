"""One worker on a connection: a lease with an owner and an end, taken and given back over the state's etag."""

import platform
import uuid
from datetime import datetime, timedelta

import msgspec

from messaging.process_identity import is_dead, process_identity
from messaging.times import from_text, to_text


class Lease(msgspec.Struct, frozen=True, rename="camel"):
    """Who works on a connection, and until when nobody else may."""

    owner: str
    expires_at: str

    def holds(self, now: datetime) -> bool:
        """Whether others must still wait: it has not expired, and its owner is not known to be dead."""
        return now < from_text(self.expires_at) and not _owner_is_dead(self.owner)


def new_lease(now: datetime, duration: timedelta) -> Lease:
    """A lease of this worker, told apart from every other lease, those of this process included."""
    owner = f"{platform.node()}|{process_identity()}|{uuid.uuid4().hex}"
    return Lease(owner=owner, expires_at=to_text(now + duration))


def _owner_is_dead(owner: str) -> bool:
    node, process, _ = owner.split("|")
    # Only the processes of this machine can be looked at; another machine's lease ends by itself.
    return node == platform.node() and is_dead(process)
