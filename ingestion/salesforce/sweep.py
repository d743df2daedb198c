"""The id sweep: finds records that are gone for good, which no query shows, by listing all ids and comparing.

It is slow to believe. A record is gone when it is missing from two complete listings, was read before the first of
them began, and is not there when asked for by id. A listing that was cut off deletes nothing, and neither does one
that misses more than a set share of the records: that is what a permission taken away looks like.
"""

import base64
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import blake2b

import msgspec
import numpy as np
import numpy.typing as npt

from connections.salesforce_connection import PolledObject, SalesforceConnection
from connections.state import Saved
from ingestion.patience import patiently
from ingestion.salesforce.client import QueryPage
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.events import SYSTEM, gone_messages
from ingestion.salesforce.failing_objects import FailingObjects, is_tried_again
from ingestion.salesforce.memory import (
    Listing,
    ObjectMemory,
    SweepNotes,
    listing_key,
    new_listing_part,
    new_object_memory,
    object_key,
)
from ingestion.salesforce.session import PollingPorts, Session, opened
from ingestion.salesforce.soql import ids_query, listing_query
from messaging.queues import INGESTION_EVENTS
from messaging.times import to_text
from shards.model import ExternalRelationship
from shards.store import ShardQuery, ShardStore

log = logging.getLogger(__name__)

LISTING_PAGE = 2000
PART_IDS = 50_000
"""Ids of a listing kept in one state: 500 KB of it."""

IDS_A_QUERY = 400
"""An id takes 27 characters of the encoded query, which may have some 15,000."""

FEW = 5
"""So many missing records are believed whatever share of all they are: a share means little among a few."""

MOST_JUDGED = 20_000
"""Missing records that one sweep asks for by id and suspects, in fifty calls and half a megabyte of state; the next
ones judge the others."""

STORE_PAGE = 500

Hashes = npt.NDArray[np.uint64]


@dataclass(slots=True)
class ObjectSweep:
    """What a sweep did for one object: *listed* ids, *missing* ones among the stored records, *deleted* by an event.

    *emptied*: no id was listed, though records are stored.
    """

    listed: int = 0
    stored: int = 0
    missing: int = 0
    suspects: int = 0
    deleted: int = 0
    finished: bool = False
    emptied: bool = False
    refused: str | None = None
    error: str | None = None


@dataclass(slots=True)
class SweepReport:
    """What a sweep did. Not *finished*: time ran out. *again*: records are suspected and await a second listing.

    *calls_left* are API calls that Shardline may still make to the org *instance*, where it has said so.
    """

    objects: dict[str, ObjectSweep] = field(default_factory=dict)
    calls: int = 0
    calls_left: int | None = None
    instance: str = ""
    finished: bool = True

    @property
    def rows(self) -> int:
        """Ids listed."""
        return sum(report.listed for report in self.objects.values())

    @property
    def events(self) -> int:
        """Events sent."""
        return sum(report.deleted for report in self.objects.values())

    @property
    def emptied(self) -> list[str]:
        """The objects that have no record any more, though some are stored."""
        return [name for name, report in self.objects.items() if report.emptied]

    @property
    def again(self) -> bool:
        """Whether a second listing has something to confirm."""
        return any(report.suspects for report in self.objects.values())

    @property
    def failed(self) -> bool:
        """Whether no object could be read."""
        return bool(self.objects) and len(self.errors) == len(self.objects)

    @property
    def errors(self) -> dict[str, str]:
        """What is wrong with objects, by object."""
        told = {name: report.error or report.refused for name, report in self.objects.items()}
        return {name: error for name, error in told.items() if error}


async def sweep(
    connection: SalesforceConnection,
    ports: PollingPorts,
    store: ShardStore,
    *,
    object_types: Sequence[str] = (),
    deadline: datetime | None = None,
    due_at: str | None = None,
) -> SweepReport:
    """List the ids of the connection's objects and send delete events for stored records that are gone.

    *due_at* says which sweep this is: called again for it after a try that was cut off, objects that it has finished
    are not listed again, which would also pass for their second listing. Call it under the connection's lease. Objects
    whose first load is not finished are left out: nothing is known yet of what should be there.

    Raises:
        TransientError, BudgetExhaustedError, CredentialError: see :mod:`ingestion.salesforce.errors`.
        StateMovedError: another worker sweeps the object; this one must stop.
        BusUnavailableError, StoreUnavailableError: nothing is lost, ask again.
    """
    report = SweepReport()
    async with opened(connection, ports) as session:
        failing = FailingObjects(session.budget, deadline, ports.clock)
        for polled in connection.objects:
            if object_types and polled.name not in object_types:
                continue
            done = report.objects[polled.name] = ObjectSweep()
            with failing.trying(polled.name):
                await _Sweep(session, store, polled, done, due_at).run(failing.deadline)
            done.error = done.error or failing.errors.get(polled.name)
            if not done.finished and not done.error:
                report.finished = False
                break
        failing.end(again=report.finished and is_tried_again(due_at, ports.clock()))
        report.calls, report.instance = session.budget.made, session.instance
        report.calls_left = session.budget.left(ports.clock())
    return report


class _Sweep:
    """The sweep of one object."""

    def __init__(
        self, session: Session, store: ShardStore, polled: PolledObject, report: ObjectSweep, due_at: str | None
    ) -> None:
        self._session = session
        self._due_at = due_at
        self._store = store
        self._object = polled.name
        self._report = report
        self._connection = session.connection
        self._states = session.ports.states
        self._clock = session.ports.clock
        self._saved: Saved[ObjectMemory]

    async def run(self, deadline: datetime | None) -> None:
        connection = self._connection
        self._saved = await self._states.load(
            connection.tenant_id,
            object_key(connection, self._object),
            new_object_memory(connection, self._object),
        )
        if self._saved.value.cursor.is_first_load:
            self._report.finished = True
            return
        notes = self._notes
        if self._due_at is not None and notes.swept_due == self._due_at:
            self._report.finished, self._report.refused = True, notes.refused
            self._report.suspects = len(notes.suspects)
            return
        try:
            listing = await self._list(deadline)
            if listing is not None:
                await self._judge(listing)
                self._report.finished = True
        except ObjectError as error:
            log.warning("connection %s: sweep of %s", connection.connection_id, error)
            self._report.error = str(error)
            await self._save(
                msgspec.structs.replace(self._notes, listing=None, refused=str(error), swept_due=self._due_at)
            )

    @property
    def _notes(self) -> SweepNotes:
        return self._saved.value.metadata.sweep

    async def _list(self, deadline: datetime | None) -> Listing | None:
        """A complete listing, its ids kept in parts; None when time ran out, with what there is kept for the next."""
        listing = self._notes.listing or Listing(began_at=to_text(self._clock()))
        batch: list[str] = []
        limit = LISTING_PAGE
        while True:
            if deadline is not None and self._clock() >= deadline:
                await self._save(msgspec.structs.replace(self._notes, listing=await self._keep(listing, batch)))
                return None
            after = batch[-1] if batch else listing.after
            soql = listing_query(self._object, after, limit)
            page = await self._asked(soql)
            batch.extend(record["Id"] for record in page.records)
            if page.more:
                limit = max(len(page.records), 1)  # no query locator stays open, as in a walk
            elif len(page.records) < limit:
                return await self._keep(listing, batch)
            if len(batch) >= PART_IDS:
                listing = await self._keep(listing, batch)
                batch = []
                await self._save(msgspec.structs.replace(self._notes, listing=listing))

    async def _keep(self, listing: Listing, batch: Sequence[str]) -> Listing:
        """*listing* with *batch* kept as its next part."""
        if not batch:
            return listing
        connection = self._connection
        key = listing_key(connection, self._object, listing.parts)
        part = new_listing_part(connection, self._object, base64.b64encode(_hashes(batch).tobytes()).decode())
        standing = await self._states.load(connection.tenant_id, key, part)
        await self._states.save(connection.tenant_id, key, standing, part)
        return msgspec.structs.replace(
            listing, after=batch[-1], count=listing.count + len(batch), parts=listing.parts + 1
        )

    async def _listed(self, listing: Listing) -> Hashes:
        """The hashes of a complete listing, sorted."""
        connection = self._connection
        parts: list[Hashes] = []
        for number in range(listing.parts):
            empty = new_listing_part(connection, self._object, "")
            kept = await self._states.load(connection.tenant_id, listing_key(connection, self._object, number), empty)
            parts.append(np.frombuffer(base64.b64decode(kept.value.metadata["ids"]), dtype=np.uint64))
        hashes = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
        if len(hashes) != listing.count:
            raise ObjectError(f"{self._object}: kept parts of the listing are missing; the next sweep lists anew")
        return np.sort(hashes)

    async def _judge(self, listing: Listing) -> None:
        report, notes = self._report, self._notes
        report.listed = listing.count
        missing = await self._missing(listing)
        report.missing = len(missing)
        report.emptied = bool(report.stored) and not listing.count
        allowed = max(FEW, int(report.stored * self._connection.sweep_share))
        done = msgspec.structs.replace(
            notes,
            listing=None,
            listed=listing.count,
            last_sweep_at=to_text(self._clock()),
            refused=None,
            swept_due=self._due_at,
        )
        if len(missing) > allowed or (missing and listing.count == 0):
            report.refused = (
                f"{self._object}: {len(missing)} of {report.stored} stored records are missing from a listing of "
                f"{listing.count}, more than the {allowed} that a sweep deletes by itself; if they were deleted, raise "
                "the connection's sweepShare, else give the user access to them again"
            )
            log.warning("connection %s: sweep refused: %s", self._connection.connection_id, report.refused)
            await self._save(msgspec.structs.replace(done, suspects=(), suspected_at=None, refused=report.refused))
            return
        suspected = set(notes.suspects)
        judged = sorted(missing, key=lambda record_id: (record_id not in suspected, record_id))[:MOST_JUDGED]
        absent = await self._absent(judged)
        # Not in the first listing either: suspected then, and read before that one began.
        first = notes.suspected_at
        gone = {
            record_id
            for record_id in absent
            if record_id in suspected and first is not None and missing[record_id].read_at < first
        }
        if gone:
            versions = {record_id: missing[record_id].source_version for record_id in gone}
            origin = self._session.origin(self._object)
            await self._session.ports.bus.send(
                INGESTION_EVENTS, gone_messages(origin, versions, queue=INGESTION_EVENTS, read_at=listing.began_at)
            )
        suspects = tuple(sorted(absent - gone))
        report.deleted, report.suspects = len(gone), len(suspects) + len(missing) - len(judged)
        await self._save(
            msgspec.structs.replace(
                done,
                suspects=suspects,
                suspected_at=listing.began_at if suspects else None,
                deleted=notes.deleted + len(gone),
            )
        )

    async def _missing(self, listing: Listing) -> dict[str, ExternalRelationship]:
        """Stored live records that the listing lacks, and that were read before it began, by id."""
        hashes = await self._listed(listing)
        missing: dict[str, ExternalRelationship] = {}
        async for records in self._stored():
            self._report.stored += len(records)
            old = [record for record in records if record.read_at < listing.began_at]
            if not old:
                continue
            asked = _hashes([record.external_id for record in old])
            if len(hashes):
                places = np.minimum(np.searchsorted(hashes, asked), len(hashes) - 1)
                found = hashes[places] == asked
            else:
                found = np.zeros(len(asked), dtype=np.bool_)
            missing.update((record.external_id, record) for record, there in zip(old, found, strict=True) if not there)
        return missing

    async def _stored(self) -> AsyncIterator[list[ExternalRelationship]]:
        connection = self._connection
        query = ShardQuery(
            connection.tenant_id, system=SYSTEM, instance=self._session.instance, object_type=self._object
        )
        cursor: str | None = None
        while True:
            page = await self._store.query(query, limit=STORE_PAGE, cursor=cursor)
            yield [
                relationship
                for shard in page.items
                if shard.is_live
                for relationship in shard.external_relationships
                if relationship.system == SYSTEM
                and relationship.instance == self._session.instance
                and relationship.object_type == self._object
                and relationship.connection_id == connection.connection_id
            ]
            cursor = page.cursor
            if cursor is None:
                return

    async def _absent(self, ids: Sequence[str]) -> set[str]:
        return await absent_ids(self._session, self._object, ids)

    async def _asked(self, soql: str) -> QueryPage:
        return await _asked(self._session, self._object, soql)

    async def _save(self, notes: SweepNotes) -> None:
        standing = self._saved.value
        # What a poll has to say stands; what a sweep has stands until one says otherwise.
        of_sweep = standing.error_message is None or standing.error_message == standing.metadata.sweep.refused
        memory = msgspec.structs.replace(
            standing,
            error_message=notes.refused if of_sweep else standing.error_message,
            metadata=msgspec.structs.replace(standing.metadata, sweep=notes),
        )
        self._saved = await self._states.save(
            self._connection.tenant_id, object_key(self._connection, self._object), self._saved, memory
        )


async def absent_ids(session: Session, object_type: str, ids: Sequence[str]) -> set[str]:
    """Those of *ids* that a query by id does not find, the recycle bin included."""
    absent = set(ids)
    for start in range(0, len(ids), IDS_A_QUERY):
        page = await _asked(session, object_type, ids_query(object_type, ids[start : start + IDS_A_QUERY]))
        absent -= {record["Id"] for record in page.records}
        if page.more:
            # The rest of a shortened response is not known: these are judged in another sweep.
            absent -= set(ids[start : start + IDS_A_QUERY])
    return absent


async def _asked(session: Session, object_type: str, soql: str) -> QueryPage:
    client = session.client
    return await patiently(
        f"{client.name}: id query of {object_type}", partial(client.query, soql, object_type=object_type)
    )


def _hashes(ids: Sequence[str]) -> Hashes:
    """Eight bytes an id: among a million ids, one chance in 36 million that a gone record is taken for another."""
    return np.frombuffer(b"".join(blake2b(one.encode(), digest_size=8).digest() for one in ids), dtype=np.uint64)
