"""What every source offers: the one shape in which work against it, whatever the vendor, is asked for and told of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from connections.connection import Connection
from connections.registry import ConnectionRegistry
from connections.secrets import SecretStore
from connections.state import StateStore
from messaging.bus import MessageBus
from messaging.contracts import IngestionEvent, Recurring, SourceWork
from messaging.times import Clock, utc_now
from shards.blobs import BlobStore
from shards.store import ShardStore


@dataclass(frozen=True, slots=True)
class SourcePorts:
    """What a source reaches the world through."""

    bus: MessageBus
    registry: ConnectionRegistry
    states: StateStore
    store: ShardStore
    blobs: BlobStore
    secrets: SecretStore
    clock: Clock = utc_now


Position = dict[str, Any]
"""Where a source's history stands, as JSON: the source's own words, opaque to everyone else."""


class Report(Protocol):
    """What a run did. Not *finished*: time ran out, and the next run goes on from there.

    *again*: the same work is due again soon, to confirm what it found. *emptied* are the parts (objects, channels,
    drives) of which no record can be read any more though some are stored. *calls_left* are calls that may still be
    made to *instance*, where the source has said so. *errors* are by part; *failed*: no part could be read.
    """

    @property
    def calls(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def events(self) -> int: ...
    @property
    def finished(self) -> bool: ...
    @property
    def again(self) -> bool: ...
    @property
    def emptied(self) -> Sequence[str]: ...
    @property
    def errors(self) -> Mapping[str, str]: ...
    @property
    def failed(self) -> bool: ...
    @property
    def instance(self) -> str: ...
    @property
    def calls_left(self) -> int | None: ...


@dataclass(slots=True)
class RunReport:
    """A :class:`Report` to be filled in."""

    calls: int = 0
    rows: int = 0
    events: int = 0
    finished: bool = True
    again: bool = False
    emptied: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    instance: str = ""
    calls_left: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of a source's history.

    *next_position* None: this was the last. *total* is how many records there are in all, where the source tells, and
    *estimated* says that it is a guess. *later* is work that the records of this page make necessary, each at its due
    time. *waits_for* says what fails, where the next page had better be asked for after a pause.
    """

    events: list[IngestionEvent]
    next_position: Position | None
    total: int | None = None
    estimated: bool = False
    later: Sequence[SourceWork] = ()
    waits_for: str | None = None


Pages = Callable[[Position | None], Awaitable[HistoryPage]]
"""A history: the page at a position, None for its beginning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a test of a connection found. *remedy* is empty when all is well."""

    what: str
    state: Literal["ok", "warning", "error"]
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a test of a connection told: the instance it leads to, and each finding."""

    instance: str
    base_url: str
    findings: list[Finding]
    found: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the connection that the test found out (a bot's user, say), to be stored with it."""

    @property
    def is_usable(self) -> bool:
        """Whether nothing found is an error."""
        return all(finding.state != "error" for finding in self.findings)


K_contra = TypeVar("K_contra", bound=Connection, contravariant=True)


class Source(Protocol, Generic[K_contra]):
    """One vendor. All calls may raise the errors of :mod:`ingestion.errors`, and those of bus and store."""

    def every(self, connection: K_contra) -> Mapping[Recurring, timedelta]:
        """How often each kind of recurring work of *connection* is due; what is left out never is."""

    async def run(self, connection: K_contra, work: SourceWork, deadline: datetime) -> Report:
        """Do a piece of recurring work until it is done or *deadline* is past, under the connection's lease."""

    async def take(self, connection: K_contra, work: SourceWork) -> int:
        """Make events of what a push told or asked to read (``push``, ``read``); how many were sent. No lease is held.

        What can't be made an event raises :class:`~processors.outcome.PermanentError`.
        """

    async def history(self, connection: K_contra, position: Position | None) -> HistoryPage:
        """The page of the connection's history at *position* (None: its beginning). It sends and stores nothing.

        Called twice for one position it gives the same records as they are then, under their own versions.
        """

    def history_of_export(self, connection: K_contra, paths: Sequence[Path]) -> Pages:
        """The history that an export tells (files that the vendor or its tools have written), as the same pages.

        Versions are such that what is read of the source itself wins. The pages raise ``OSError`` and
        :class:`~ingestion.errors.SourceError` for what can't be read, and name the file.
        """

    async def check(self, connection: K_contra) -> Checked:
        """Try the connection: the login, what it may do, and a sample read of each kind of record."""

    async def stop(self, connection: K_contra) -> None:
        """End what the vendor does for the connection (push channels), as far as it still can be reached."""

    def forget(self, connection: K_contra) -> None:
        """Drop sessions, so that the next call logs in with the secrets as they are then."""

    def close(self) -> None:
        """Give back HTTP connections."""


AnySource = Source[Any]
