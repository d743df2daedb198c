"""Order does not matter: which of two readings of a record stands, whichever came first (exception: :func:`decide`).

Readings are ordered by ``(source version, read at)``. A version is the vendor's own: Salesforce SystemModstamp as text
in UTC, Drive ``version`` as an integer, Slack ``ts`` as seconds and microseconds.
"""

import re
from dataclasses import dataclass
from enum import Enum

_INTEGER = re.compile(r"\d+\Z")
_SLACK_TS = re.compile(r"(\d+)\.(\d{1,6})\Z")


class Decision(Enum):
    """What an incoming reading does to the stored shard."""

    IGNORE = "ignore"
    """It is older than what is stored."""
    NOTHING = "nothing"
    """It is what is stored."""
    MOVE_VERSION = "move-version"
    """The same content under a newer version, or read later by one that moves the moment: only the stored version
    and moment move; no revision, no emission."""
    APPLY = "apply"
    """It is newer and different: a new revision."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One state of a record: its version at the source, when the source was asked, and the hash of what it said."""

    source_version: str
    read_at: str
    fingerprint: str
    moves_moment: bool = False
    """Whether it is noted as the latest even if it says what is stored: another reading of this version, with what the
    version does not cover, may still be on its way."""


VersionKey = tuple[int, int, int, str]


def version_key(version: str) -> VersionKey:
    """A key that orders the versions of one system: numbers by value, times and other text as text."""
    if _INTEGER.match(version):
        return (1, int(version), 0, "")
    slack = _SLACK_TS.match(version)
    if slack:
        return (1, int(slack[1]), int(slack[2].ljust(6, "0")), "")
    return (0 if not version else 2, 0, 0, version)


def decide(stored: Reading | None, incoming: Reading) -> Decision:
    """What *incoming* does, given what is *stored*; applying readings in any order ends in the same one.

    With one exception: one version is read as A, then as B, then as A again, and both A come before B. The second A
    changes nothing, so the moment of the first still stands (to move it would be a write for every repeated reading),
    and B passes for newer. The next reading of the record puts it right. Vendors move the version with the content, so
    within one version only what the version does not cover can come and go. A source that knows of such a thing
    has the moment moved.

    Two different readings of one version at one moment (no source should give them) are ordered by their fingerprints,
    so that even then the order of arrival does not show.
    """
    if stored is None:
        return Decision.APPLY
    same_content = incoming.fingerprint == stored.fingerprint
    incoming_version, stored_version = version_key(incoming.source_version), version_key(stored.source_version)
    if incoming_version == stored_version:
        if same_content:
            moves = incoming.moves_moment and incoming.read_at > stored.read_at
            return Decision.MOVE_VERSION if moves else Decision.NOTHING
        later = (incoming.read_at, incoming.fingerprint) > (stored.read_at, stored.fingerprint)
        return Decision.APPLY if later else Decision.IGNORE
    if incoming_version < stored_version:
        return Decision.IGNORE
    return Decision.MOVE_VERSION if same_content else Decision.APPLY
