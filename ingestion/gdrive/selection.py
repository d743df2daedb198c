"""What follows when other folders are wanted than before: what is stored and not wanted any more goes, and what is
newly wanted is read.

A poll notices it and asks for a sweep, which does the steps in turn, each resumed where time ran out: it takes away
what the folders above say is unwanted, by what is stored and a call a folder; lists everything, so that what is missing
is asked for; and once what was on its way is stored, looks for the unwanted once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec

from connections.gdrive_connection import DriveConnection
from connections.state import Saved
from ingestion.errors import CredentialError
from ingestion.gdrive.client import DriveClient, DriveClients, subjects_of
from ingestion.gdrive.events import SYSTEM, gone_event, relationship_of, stored_record
from ingestion.gdrive.memory import (
    DriveNotes,
    SelectionMemory,
    SelectionNotes,
    Stage,
    new_selection_memory,
    selection_key,
)
from ingestion.gdrive.neighbours import neighbours_of
from ingestion.gdrive.places import Places
from ingestion.gdrive.read_requests import ReadNotes, read_requests
from ingestion.history_memory import HistoryNotes, load_memory
from ingestion.source import RunReport, SourcePorts
from messaging import codec
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK, SOURCE_WORK
from messaging.times import from_text, to_text
from processors.backpressure import MOST_UNFINISHED, unfinished_events
from shards.model import ExternalRelationship, Shard
from shards.store import ShardQuery

STORE_PAGE = 100
LOST_AFTER = timedelta(minutes=15)
"""How long after its last sign of life a sweep that was asked for is taken for lost."""
LOADED_AFTER = timedelta(minutes=5)
DIGESTED_AFTER = timedelta(minutes=1)
"""When to look again whether the first load has ended, or the chain has digested what was on its way."""
TAKES_LAST = timedelta(minutes=2)
"""How long what was wanted before may still be being read."""

SELECTION = {"for": "selection"}
"""In a request for a sweep: it is for the selection alone."""


def is_for_selection(work: SourceWork) -> bool:
    """Whether a sweep was asked for on account of the selection."""
    return work.push == SELECTION


def restricts(connection: DriveConnection) -> bool:
    """Whether the folders above a file decide if it is wanted."""
    return bool(connection.folders or connection.left_out)


@dataclass(slots=True)
class Selecting:
    """The selection of one connection, under its lease."""

    connection: DriveConnection
    ports: SourcePorts
    clients: DriveClients
    saved: Saved[SelectionMemory]

    @classmethod
    async def load(cls, connection: DriveConnection, ports: SourcePorts, clients: DriveClients) -> "Selecting":
        """As it stands."""
        key, empty = selection_key(connection), new_selection_memory(connection)
        return cls(connection, ports, clients, await ports.states.load(connection.tenant_id, key, empty))

    @property
    def notes(self) -> SelectionNotes:
        """How far what follows from a change is."""
        return self.saved.value.metadata

    def returned(self) -> list[str]:
        """The users who were not read as when this was last noted."""
        known = self.notes.subjects
        return (
            [] if self.notes.fingerprint is None else [one for one in subjects_of(self.connection) if one not in known]
        )

    async def notice(self) -> None:
        """Note what is wanted now; where that is not what was, have what follows from it done, or done anew."""
        wanted, subjects, notes = _fingerprint(self.connection), subjects_of(self.connection), self.notes
        if notes.fingerprint is None:
            await self._save(msgspec.structs.replace(notes, fingerprint=wanted, subjects=subjects))
            return
        others = wanted != notes.fingerprint
        if others or not set(notes.subjects) <= set(subjects):
            now = to_text(self.ports.clock())
            notes = SelectionNotes(
                stage="remove" if others else "wait",
                changed_at=now,
                again_at=now,
                # Not yet told to the other connections of the domain, which may want some of those.
                removed=notes.removed,
                under_way="other folders or users are wanted than before: what follows begins soon",
            )
        if (notes.fingerprint, notes.subjects) != (wanted, subjects):
            await self._save(msgspec.structs.replace(notes, fingerprint=wanted, subjects=subjects))

    async def ask(self) -> None:
        """Ask for the sweep that does what is to be done, when it is time.

        Raises:
            BusUnavailableError: nothing was asked for.
        """
        now = self.ports.clock()
        if self.notes.stage is None or from_text(str(self.notes.again_at)) > now:
            return
        work = SourceWork(
            tenant_id=self.connection.tenant_id,
            connection_id=self.connection.connection_id,
            work="sweep",
            due_at=to_text(now),
            push=SELECTION,
        )
        await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])
        await self.is_alive()

    async def is_alive(self) -> None:
        """Note that a sweep is at it, or soon will be."""
        await self._again_in(LOST_AFTER)

    async def prepare(self, drives: DriveNotes, deadline: datetime, report: RunReport) -> bool:
        """Do what comes before all is listed; whether that can begin now."""
        if self.notes.stage == "remove":
            if restricts(self.connection) and not await self._passed(drives, deadline, report, confirming=False):
                return False
            await self._step("wait", "what is newly wanted is looked for next")
        if self.notes.stage == "wait":
            first_load = (await load_memory(self.connection, self.ports.states)).metadata
            if _is_under_way(first_load):
                await self._step("wait", "what is newly wanted is looked for after the first load")
                await self._again_in(LOADED_AFTER)
                return False
            if not await self._is_digested(str(self.notes.changed_at)):
                # What an earlier change of the selection has taken away may be wanted again.
                await self._step("wait", "what is newly wanted is looked for once the chain has digested what waits")
                await self._again_in(DIGESTED_AFTER)
                return False
            return True
        return False

    async def list_begun(self) -> None:
        """Note that everything is being listed."""
        await self._step("load", "what is newly wanted is looked for")

    async def list_ended(self) -> None:
        """Note that everything was listed: what remains is to look once more."""
        await self._step("confirm", "what was on its way when that was noticed is digested first")
        await self._again_in(DIGESTED_AFTER)

    async def confirm(self, drives: DriveNotes, deadline: datetime, report: RunReport) -> None:
        """Look for what was still on its way when the selection changed."""
        if restricts(self.connection):
            settled = from_text(str(self.notes.changed_at)) + TAKES_LAST
            still = self.ports.clock() < settled or not await self._is_digested(to_text(settled))
            if self.notes.cursor is None and still:
                await self._again_in(DIGESTED_AFTER)
                return
            if not await self._passed(drives, deadline, report, confirming=True):
                return
            if self.notes.removed:
                await self._ask_others()
        await self._save(SelectionNotes(fingerprint=self.notes.fingerprint, subjects=self.notes.subjects))

    async def _ask_others(self) -> None:
        """Have other connections of the domain look for what they want of what was taken away."""
        now = to_text(self.ports.clock())
        asked = [
            SourceWork(tenant_id=one.tenant_id, connection_id=one.connection_id, work="sweep", due_at=now)
            for one in await neighbours_of(self.connection, self.ports.registry)
        ]
        if asked:
            await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in asked])

    async def _is_digested(self, moment: str) -> bool:
        """Whether no event waits that was sent up to *moment*."""
        depths = await self.ports.bus.depths()
        oldest = [depths[queue].oldest_enqueued_at for queue in (INGESTION_EVENTS, INGESTION_EVENTS_BULK)]
        return all(enqueued is None or enqueued > from_text(moment) for enqueued in oldest)

    async def _passed(self, drives: DriveNotes, deadline: datetime, report: RunReport, *, confirming: bool) -> bool:
        """Go through what is stored, and take away or ask for what is not wanted; whether the end was reached."""
        places = Places(self.connection, drives.drives)
        while self.ports.clock() < deadline:
            unfinished = unfinished_events(await self.ports.bus.depths())
            if unfinished >= MOST_UNFINISHED:
                await self._tell(f"waiting for the chain, which has {unfinished:,} messages to digest")
                await self._again_in(DIGESTED_AFTER)
                return False
            query = ShardQuery(
                self.connection.tenant_id,
                shard_type_ids=("c_file", "c_folder"),
                system=SYSTEM,
                connection_id=self.connection.connection_id,
            )
            page = await self.ports.store.query(query, limit=STORE_PAGE, cursor=self.notes.cursor)
            gone, unsure = await self._judged(page.items, places, drives, report)
            if confirming:
                unsure, gone = [*unsure, *gone], []
            await self._send(gone, unsure)
            report.rows += len(page.items)
            report.events += len(gone) + len(unsure)
            await self._save(
                msgspec.structs.replace(self.notes, cursor=page.cursor, removed=self.notes.removed + len(gone))
            )
            await self._tell("what is not wanted any more is taken away")
            if page.cursor is None:
                return True
        report.finished = False
        return False

    async def _judged(
        self, shards: Sequence[Shard], places: Places, drives: DriveNotes, report: RunReport
    ) -> tuple[list[ExternalRelationship], list[ExternalRelationship]]:
        """Which of *shards* are surely not wanted, and which may not be: nobody asked sees all folders above them."""
        gone: list[ExternalRelationship] = []
        unsure: list[ExternalRelationship] = []
        for shard in shards:
            relationship = relationship_of(self.connection, shard)
            if relationship is None or not shard.is_live:
                continue
            client = self._reader_of(shard, drives)
            before = client.calls
            try:
                place = await places.of(stored_record(shard, relationship), client)
            except CredentialError:
                unsure.append(relationship)
                continue
            finally:
                report.calls += client.calls - before
            if not place.wanted:
                (gone if place.whole else unsure).append(relationship)
        return gone, unsure

    def _reader_of(self, shard: Shard, drives: DriveNotes) -> DriveClient:
        """Who sees most of the folders above a stored file."""
        subjects, data = subjects_of(self.connection), shard.structured_data
        drive = drives.drives.get(str(data.get("driveId") or ""))
        named = [principal.removeprefix("user:") for principal in shard.acl.principals]
        likely = [*(drive.members if drive else ()), str(data.get("owner") or ""), *named]
        return self.clients.of(self.connection, next((one for one in likely if one in subjects), subjects[0]))

    async def _send(self, gone: Sequence[ExternalRelationship], unsure: Sequence[ExternalRelationship]) -> None:
        now = to_text(self.ports.clock())
        events: list[IngestionEvent] = [
            gone_event(self.connection, one.external_id, one.source_version, read_at=now) for one in gone
        ]
        if events:
            messages = [event.to_message(INGESTION_EVENTS_BULK) for event in events]
            await self.ports.bus.send(INGESTION_EVENTS_BULK, messages)
        wanted = [(one.external_id, one.source_version) for one in unsure]
        because = f"selection.{self.notes.changed_at}.{self.notes.stage}"
        asked = read_requests(self.connection, wanted, ReadNotes(), due_at=now, because=because)
        if asked:
            await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in asked])

    async def _step(self, stage: Stage, told: str) -> None:
        await self._save(msgspec.structs.replace(self.notes, stage=stage))
        await self._tell(told)

    async def _tell(self, told: str) -> None:
        """Say to people how far it is."""
        told = f"other folders or users are wanted: {told} ({self.notes.removed:,} taken away so far)"
        await self._save(msgspec.structs.replace(self.notes, under_way=told))

    async def _again_in(self, pause: timedelta) -> None:
        await self._save(msgspec.structs.replace(self.notes, again_at=to_text(self.ports.clock() + pause)))

    async def _save(self, notes: SelectionNotes) -> None:
        if notes == self.notes:
            return
        status = "success" if notes.stage is None else "partial"
        value = msgspec.structs.replace(self.saved.value, metadata=notes, last_sync_status=status)
        key = selection_key(self.connection)
        self.saved = await self.ports.states.save(self.connection.tenant_id, key, self.saved, value)


def _is_under_way(first_load: HistoryNotes) -> bool:
    return first_load.asked_at is not None and first_load.finished_at is None


def _fingerprint(connection: DriveConnection) -> str:
    """What tells one choice of folders from another, in whatever order they are named."""
    told = [sorted(set(connection.folders)), sorted(set(connection.left_out))]
    return blake2b(codec.canonical(told), digest_size=16).hexdigest()
