"""A poll: each change log of the connection from its token to its end; and a sweep: all that the logs are about.

There is a log for each user the connection acts for, and one for each shared drive: much of what happens in a shared
drive never reaches its members' own logs.
"""

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from connections.gdrive_connection import DriveConnection
from connections.state import Saved
from ingestion.errors import CredentialError, SourceError
from ingestion.gdrive.change_log import ChangeLog
from ingestion.gdrive.client import DriveClients, subjects_of
from ingestion.gdrive.errors import FileRefusedError, LostTokenError, NotFoundError, RequestRefusedError
from ingestion.gdrive.events import instance_of
from ingestion.gdrive.memory import (
    DriveNotes,
    DrivesMemory,
    KnownDrive,
    LogMemory,
    LogNotes,
    drives_key,
    log_key,
    new_drives_memory,
    new_log_memory,
    sweep_key,
)
from ingestion.gdrive.read_requests import ReadNotes, read_requests
from ingestion.gdrive.relisting import ListingOfLog
from ingestion.gdrive.selection import Selecting
from ingestion.history_memory import HistoryNotes, load_memory
from ingestion.source import RunReport, SourcePorts
from messaging.queues import SOURCE_WORK
from messaging.times import from_text, to_text

log = logging.getLogger(__name__)

DRIVES_EVERY = timedelta(hours=1)
"""How often the shared drives are listed where no log says that one has come or gone."""

AFTER_SAVE = timedelta(seconds=2)
"""When drives are read that came or went: by then it is saved which there are."""

BASE_URL = "https://drive.google.com"


@dataclass(frozen=True, slots=True)
class Log:
    """A change log: of a user, or of a shared drive, as one of its members reads it."""

    subject: str
    drive_id: str | None = None

    @property
    def name(self) -> str:
        """What its state goes by."""
        return self.drive_id or self.subject


def logs_of(connection: DriveConnection, notes: DriveNotes) -> list[Log]:
    """All logs of the connection: the users' own, then those of shared drives, each read as its first member."""
    own = [Log(subject) for subject in subjects_of(connection)]
    shared = [
        Log(drive.members[0], drive_id)
        for drive_id, drive in sorted(notes.drives.items())
        if drive.members and connection.shared_drives and drive_id not in connection.left_out
    ]
    return [*own, *shared]


@dataclass(slots=True)
class Polling:
    """One run against one connection, under its lease."""

    connection: DriveConnection
    ports: SourcePorts
    clients: DriveClients
    report: RunReport = field(default_factory=RunReport)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _refused: dict[str, CredentialError] = field(default_factory=dict)
    _with_logs: frozenset[str] = frozenset()
    """The shared drives that have a log."""

    async def poll(self, deadline: datetime, due_at: str | None = None) -> RunReport:
        """Read all logs on, until all are at their end or *deadline* is past.

        *due_at* says which poll this is: called again for it after a try that was cut off, it goes on with the log it
        was in; or those of many users who change nothing would take all the time of each try. A user whom Google gives
        no token for is told of, and holds up no other.

        Raises:
            CredentialError: nobody can be asked.
            TransientError, BudgetExhaustedError, StateMovedError: ask again.
            BusUnavailableError, StoreUnavailableError: nothing is lost, ask again.
        """
        await self._name_instance()
        drives = await self._drives()
        self._note_logs(drives.value.metadata)
        first_load = (await load_memory(self.connection, self.ports.states)).metadata
        await self._look_at_selection(first_load)
        again = False
        cut_at: str | None = None
        for of_first in self._left_of_poll(drives.value.metadata, due_at):
            if self.ports.clock() >= deadline:
                self.report.finished = False
                cut_at = cut_at or of_first.name
                break
            one = self._by_whoever_can(of_first, drives.value.metadata)
            try:
                again = await self._read(one, first_load, deadline) or again
                if not self.report.finished:
                    cut_at = cut_at or of_first.name
            except CredentialError as error:
                self._refuse(one, error)
                await self._note(one, error)
            except (NotFoundError, FileRefusedError, RequestRefusedError) as error:
                # No member any more; the shared drives are looked up anew.
                self.report.errors[one.name] = str(error)
                await self._note(one, error)
                again = again or isinstance(error, NotFoundError)
        self._require_somebody(len(subjects_of(self.connection)))
        if again:
            drives = await self._drives(now=True)
        if cut_at is not None and due_at is not None:
            await self._note_cut(drives, cut_at, due_at)
        return self.report

    def _left_of_poll(self, notes: DriveNotes, due_at: str | None) -> list[Log]:
        """The logs that the poll has not read yet: all, unless an earlier try of it was cut off at one of them."""
        logs = logs_of(self.connection, notes)
        if due_at is None or notes.cut_due != due_at:
            return logs
        return logs[next((index for index, one in enumerate(logs) if one.name == notes.cut_at), 0) :]

    async def _note_cut(self, drives: Saved[DrivesMemory], cut_at: str, due_at: str) -> None:
        notes = msgspec.structs.replace(drives.value.metadata, cut_at=cut_at, cut_due=due_at)
        value = msgspec.structs.replace(drives.value, metadata=notes)
        await self.ports.states.save(self.connection.tenant_id, drives_key(self.connection), drives, value)

    async def _look_at_selection(self, first_load: HistoryNotes) -> None:
        """Notice that other folders or users are wanted than before, and have what follows from it done."""
        selecting = await Selecting.load(self.connection, self.ports, self.clients)
        for subject in selecting.returned():
            one = Log(subject)
            key = log_key(self.connection, one.name)
            saved = await self._memory(one, key)
            if first_load.pages > 0 and saved.value.metadata.token is not None:
                # Of a user who was left out for a time; a new one's log has no token, and is begun with a listing.
                await self._listing(one, key, saved).begin(start_token=None)
        await selecting.notice()
        await selecting.ask()

    async def sweep(self, deadline: datetime, *, for_selection: bool = False) -> RunReport:
        """List all that the logs are about, and ask for what differs from what is stored.

        Where the selection has changed, that is one step of what follows. *for_selection*: nothing else is wanted.

        Raises:
            As :meth:`poll`.
        """
        drives = (await self._drives()).value.metadata
        self._note_logs(drives)
        selecting = await Selecting.load(self.connection, self.ports, self.clients)
        stage = selecting.notes.stage
        if stage == "confirm":
            await selecting.confirm(drives, deadline, self.report)
        elif stage in ("remove", "wait"):
            if await selecting.prepare(drives, deadline, self.report):
                await self._begin_listings(drives)
                await selecting.list_begun()
                await self._go_on_listing(drives, deadline)
        elif stage == "load":
            await self._go_on_listing(drives, deadline)
        elif not for_selection:
            if not any(
                [(await self._sweep_memory(one)).value.metadata.relisting for one in logs_of(self.connection, drives)]
            ):
                await self._begin_listings(drives)
            await self._go_on_listing(drives, deadline)
        self._require_somebody(len(subjects_of(self.connection)))
        if selecting.notes.stage is not None and not self.report.finished:
            await selecting.is_alive()
        elif selecting.notes.stage == "load":
            await selecting.list_ended()
        return self.report

    async def _begin_listings(self, drives: DriveNotes) -> None:
        for one in logs_of(self.connection, drives):
            saved = await self._sweep_memory(one)
            await self._listing(one, sweep_key(self.connection, one.name), saved).begin(start_token=None)

    async def _go_on_listing(self, drives: DriveNotes, deadline: datetime) -> None:
        """Go on with the listings of a sweep, until all are done or *deadline* is past."""
        for of_first in logs_of(self.connection, drives):
            saved = await self._sweep_memory(of_first)
            if saved.value.metadata.relisting is None:
                continue
            one = self._by_whoever_can(of_first, drives)
            listing = self._listing(one, sweep_key(self.connection, one.name), saved)
            before = listing.client.calls
            try:
                if not await listing.go_on(deadline, self.report):
                    self.report.finished = False
                    break
            except CredentialError as error:
                log.warning("connection %s: %s is not listed: %s", self.connection.connection_id, one.name, error)
                self._refuse(one, error)
            except (NotFoundError, FileRefusedError, RequestRefusedError) as error:
                self.report.errors[one.name] = str(error)
            else:
                continue
            finally:
                self.report.calls += listing.client.calls - before
            await self._abandon(one)

    def _by_whoever_can(self, one: Log, notes: DriveNotes) -> Log:
        """The log of a shared drive as the first of its members reads it whom Google gives a token."""
        members = notes.drives[one.drive_id].members if one.drive_id is not None else ()
        return next((replace(one, subject=member) for member in members if member not in self._refused), one)

    async def _abandon(self, one: Log) -> None:
        """Drop a sweep that can't go on; the next one begins anew."""
        saved = await self._sweep_memory(one)
        value = msgspec.structs.replace(saved.value, metadata=LogNotes())
        await self.ports.states.save(self.connection.tenant_id, sweep_key(self.connection, one.name), saved, value)

    async def _read(self, one: Log, first_load: HistoryNotes, deadline: datetime) -> bool:
        """Read one log on; whether it told of shared drives themselves."""
        key = log_key(self.connection, one.name)
        saved = await self._memory(one, key)
        client = self.clients.of(self.connection, one.subject)
        changes = ChangeLog(self.connection, self.ports, client, one.drive_id, key, saved, self._seen, first_load)
        before = client.calls
        try:
            if saved.value.metadata.token is None:
                await self._begin(one, saved, first_load)
                saved = changes.saved = await self._memory(one, key)
                if saved.value.metadata.relisting is None:
                    return False
            token = saved.value.metadata.token
            if saved.value.last_sync_status == "failed" and saved.value.metadata.relisting is None:
                # What was told of while the user could not be asked may not have been read.
                await client.about()
                await self._listing(one, key, saved).begin(start_token=None)
                saved = await self._memory(one, key)
            if saved.value.metadata.relisting is None and token is not None:
                try:
                    self.report.finished &= await changes.read_on(token, deadline, self.report)
                    return changes.drives_changed
                except (LostTokenError, NotFoundError) as error:
                    # The new token first: what changes during the listing is in the log behind it. Whoever is no member
                    # of a shared drive gets none.
                    token = await client.start_token(one.drive_id)
                    log.warning(
                        "connection %s: the log of %s: %s; all of it is listed",
                        self.connection.connection_id,
                        one.name,
                        error,
                    )
                    await self._listing(one, key, changes.saved).begin(start_token=token)
                    saved = await self._memory(one, key)
            listing = self._listing(one, key, saved)
            self.report.finished &= await listing.go_on(deadline, self.report)
            return False
        finally:
            self.report.calls += client.calls - before

    async def _begin(self, one: Log, saved: Saved[LogMemory], first_load: HistoryNotes) -> None:
        """Take a log's first token: before anything that it is about is listed, or what changes meanwhile is lost."""
        key = log_key(self.connection, one.name)
        token = await self.clients.of(self.connection, one.subject).start_token(one.drive_id)
        value = msgspec.structs.replace(
            saved.value, metadata=LogNotes(token=token), last_sync_status="success", error_message=None
        )
        saved = await self.ports.states.save(self.connection.tenant_id, key, saved, value)
        # The first load brings what there is, once it has read a page; a drive that came later is read from its top.
        if first_load.pages > 0 and (one.drive_id is None or self.connection.folders):
            await self._listing(one, key, saved).begin(start_token=None)

    def _listing(self, one: Log, key: str, saved: Saved[LogMemory]) -> ListingOfLog:
        client = self.clients.of(self.connection, one.subject)
        return ListingOfLog(self.connection, self.ports, client, one.drive_id, self._with_logs, key, saved)

    async def _memory(self, one: Log, key: str) -> Saved[LogMemory]:
        return await self.ports.states.load(self.connection.tenant_id, key, new_log_memory(self.connection, one.name))

    async def _sweep_memory(self, one: Log) -> Saved[LogMemory]:
        return await self._memory(one, sweep_key(self.connection, one.name))

    async def _note(self, one: Log, error: SourceError) -> None:
        """Keep with a log what is wrong with it."""
        key = log_key(self.connection, one.name)
        saved = await self._memory(one, key)
        value = msgspec.structs.replace(saved.value, last_sync_status="failed", error_message=str(error))
        if value != saved.value:
            # Once, not with each poll.
            log.warning("connection %s: the log of %s: %s", self.connection.connection_id, one.name, error)
            await self.ports.states.save(self.connection.tenant_id, key, saved, value)

    def _refuse(self, one: Log, error: CredentialError) -> None:
        log.debug("connection %s: %s", self.connection.connection_id, error)
        self._refused[one.subject] = error
        self.report.errors[one.name] = str(error)

    def _require_somebody(self, subjects: int) -> None:
        if len(self._refused) >= subjects:
            raise next(iter(self._refused.values()))

    def _note_logs(self, notes: DriveNotes) -> None:
        logs = logs_of(self.connection, notes)
        self._with_logs = frozenset(one.drive_id for one in logs if one.drive_id is not None)

    async def _name_instance(self) -> None:
        self.report.instance = instance_of(self.connection)
        if not self.report.instance:
            raise CredentialError(
                "the connection names neither its instance (the Google customer id) nor a user: give it one of them"
            )
        if (self.connection.instance, self.connection.base_url) != (self.report.instance, BASE_URL):
            await self.ports.registry.set_instance(self.connection, self.report.instance, BASE_URL)

    async def _drives(self, *, now: bool = False) -> Saved[DrivesMemory]:
        """The shared drives, listed anew when it is time."""
        tenant_id, key = self.connection.tenant_id, drives_key(self.connection)
        saved = await self.ports.states.load(tenant_id, key, new_drives_memory(self.connection))
        notes = saved.value.metadata
        users = subjects_of(self.connection)
        fresh = notes.asked_at is not None and self.ports.clock() < from_text(notes.asked_at) + DRIVES_EVERY
        if fresh and not now and (notes.users, notes.shared) == (users, self.connection.shared_drives):
            return saved
        found = await self._listed_drives(notes)
        asked_at = to_text(self.ports.clock())
        if notes.asked_at is not None:
            await self._ask_for_drives(notes, found, asked_at)
        value = msgspec.structs.replace(
            saved.value,
            metadata=DriveNotes(drives=found, asked_at=asked_at, users=users, shared=self.connection.shared_drives),
            last_sync_status="success",
        )
        return await self.ports.states.save(tenant_id, key, saved, value)

    async def _listed_drives(self, notes: DriveNotes) -> dict[str, KnownDrive]:
        """The shared drives; of a user who can't be asked or is refused, those that were known."""
        found: dict[str, KnownDrive] = {}
        if not self.connection.shared_drives:
            return found
        for subject in subjects_of(self.connection):
            client = self.clients.of(self.connection, subject)
            before = client.calls
            try:
                drives = await client.drives()
            except (CredentialError, NotFoundError, FileRefusedError, RequestRefusedError) as error:
                if isinstance(error, CredentialError):
                    self._refuse(Log(subject), error)
                else:
                    self.report.errors[subject] = str(error)
                drives = {name: drive.name for name, drive in notes.drives.items() if subject in drive.members}
            finally:
                self.report.calls += client.calls - before
            for drive_id, name in drives.items():
                known = found.get(drive_id, KnownDrive(name=name))
                found[drive_id] = KnownDrive(name=name, members=(*known.members, subject))
        return found

    async def _ask_for_drives(self, notes: DriveNotes, found: dict[str, KnownDrive], asked_at: str) -> None:
        """Have the tops of shared drives read that came, went or have another name: what is in them follows."""
        changed = [
            drive_id
            for drive_id in sorted({*notes.drives, *found})
            if notes.drives.get(drive_id, KnownDrive()).name != found.get(drive_id, KnownDrive()).name
        ]
        first_load = (await load_memory(self.connection, self.ports.states)).metadata
        for drive_id in sorted(found.keys() - notes.drives.keys()):
            one = Log(found[drive_id].members[0], drive_id)
            saved = await self._memory(one, log_key(self.connection, one.name))
            if saved.value.metadata.token is None and one in logs_of(self.connection, DriveNotes(drives=found)):
                await self._begin(one, saved, first_load)
        because = f"drives.{asked_at}"
        asked = read_requests(
            self.connection,
            [(drive_id, because) for drive_id in changed],
            ReadNotes(below=True),
            due_at=asked_at,
            because=because,
        )
        if asked:
            messages = [work.to_message(SOURCE_WORK) for work in asked]
            await self.ports.bus.send(SOURCE_WORK, messages, delay=AFTER_SAVE)
