"""The history of an org, page by page: users first, then the objects in their order.

An object of many records is read by a query job of Bulk API 2.0, any other by its ids. Records come as polls read
them, so a poll that meets one again changes nothing.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from connections.salesforce_connection import PolledObject, SalesforceConnection
from ingestion.errors import RepeatError, TransientError
from ingestion.history_memory import HistoryNotes
from ingestion.patience import patiently
from ingestion.salesforce.client import Answer
from ingestion.salesforce.csv_export import bulk_records
from ingestion.salesforce.errors import FieldError, ObjectError
from ingestion.salesforce.events import whole_events
from ingestion.salesforce.field_notes import newest, note_learnt
from ingestion.salesforce.fields import KEY_FIELDS, FieldList
from ingestion.salesforce.memory import ObjectNotes, new_object_memory, object_key
from ingestion.salesforce.owners import USER
from ingestion.salesforce.reader import ObjectReader
from ingestion.salesforce.session import PollingPorts, Session, opened
from ingestion.salesforce.soql import URI_LIMIT, field_groups, id_page_query
from ingestion.source import HistoryPage, Position
from messaging.contracts import IngestionEvent
from messaging.times import to_text

log = logging.getLogger(__name__)

BULK_FROM: Final = 20_000
"""Records of an object from which a query job costs fewer calls and less time than ten pages of a query."""
JOB_TRIES: Final = 3
"""Jobs that are begun for one object before it is read by its ids."""
LOOKS: Final = 5
PAUSE_SECONDS: Final = 2.0
"""Between the first two looks at a job, twice as long each time; after a few of them the page is empty, and the caller
comes back. A job may take an hour, and each look is one of the org's calls."""

PUT_OFF_AFTER: Final = 12
"""Failures of an object in a row, an hour and more of them, after which the others behind it are read first."""

NONCE: Final = "history"


class Place(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A position. *counts* are the records of each object that can be read, in the order they are read.

    *after* is the last id read of the object *index*; with a *job* its results are read from *locator* on, None: it is
    not known to be complete. *fields* are those that the job was asked for at *begun_at*. *by_ids*: the object takes
    no job. *guessed*: an object has too many records to be counted. *passed* are objects that were not read, because
    the connection did not want them when their turn came. *failures* are those of the object in a row; *put_off* says
    where those stand that have failed too often, and come once more behind the others.
    """

    counts: dict[str, int]
    index: int = 0
    after: str | None = None
    job: str | None = None
    begun_at: str = ""
    complete: bool = False
    locator: str | None = None
    fields: tuple[str, ...] = ()
    tries: int = 0
    by_ids: bool = False
    guessed: bool = False
    passed: tuple[str, ...] = ()
    failures: int = 0
    put_off: "dict[str, Place]" = {}


@dataclass(frozen=True, slots=True)
class HistoryReader:
    """Reads pages of the histories of a process's connections."""

    ports: PollingPorts
    known: dict[tuple[str, str, str], ObjectNotes]
    """What was learnt of the objects: a describe a page would double the calls, and so would queries that are refused
    because they are too long or too much at once."""
    bulk_from: int = BULK_FROM
    pause_seconds: float = PAUSE_SECONDS

    async def page(self, connection: SalesforceConnection, position: Position | None) -> HistoryPage:
        """The page at *position*.

        Raises:
            TransientError, BudgetExhaustedError, CredentialError: see :mod:`ingestion.salesforce.errors`.
        """
        async with opened(connection, self.ports) as session:
            place = msgspec.convert(position, Place) if position else await self._beginning(session)
            names = list(place.counts)
            if place.index >= len(names):
                return HistoryPage([], None, sum(place.counts.values()), place.guessed)
            name = names[place.index]
            events: list[IngestionEvent] = []
            is_wanted = connection.wants(name)
            following = _next_object(place, passed=not is_wanted)
            if is_wanted:
                try:
                    events, following = await self._of_object(session, name, place)
                except (ObjectError, TransientError) as error:
                    return _failed(connection, place, error)
                following = msgspec.structs.replace(following, failures=0)
        # An object that is passed over last is followed by an empty page, whose position has its name.
        end = is_wanted and following.index >= len(names)
        next_position = None if end else msgspec.to_builtins(following)
        return HistoryPage(events, next_position, sum(place.counts.values()), place.guessed)

    async def _beginning(self, session: Session) -> Place:
        client = session.client
        polled = [one.name for one in session.connection.objects if one.name != USER]
        counts: dict[str, int] = {}
        guessed = False
        for name in (USER, *polled):
            try:
                counts[name] = await patiently(f"{client.name}: count of {name}", partial(client.count, name))
            except ObjectError as error:
                log.warning("connection %s: history of %s", session.connection.connection_id, error)
            except TransientError as error:
                if not error.smaller:
                    raise
                log.info("connection %s: %s; it counts as many", session.connection.connection_id, error)
                counts[name], guessed = max(self.bulk_from, 1), True
        return Place(counts=counts, guessed=guessed)

    async def _of_object(self, session: Session, name: str, place: Place) -> tuple[list[IngestionEvent], Place]:
        connection, states = session.connection, session.ports.states
        memory = (
            await states.load(connection.tenant_id, object_key(connection, name), new_object_memory(connection, name))
        ).value
        reader = self._reader(session, name, memory.metadata.fields)
        try:
            read = await self._read(session, reader, name, place)
        finally:
            self.known[_key(session, name)] = reader.notes
        await note_learnt(connection, states, memory, reader.notes.fields)
        return read

    async def _read(
        self, session: Session, reader: ObjectReader, name: str, place: Place
    ) -> tuple[list[IngestionEvent], Place]:
        if place.counts[name] < self.bulk_from or place.by_ids or place.tries >= JOB_TRIES:
            return await self._by_ids(session, reader, name, place)
        if place.job is None:
            return [], await self._begin_job(session, reader, name, place)
        if not place.complete:
            return [], await self._look_at_job(session, name, place)
        return await self._results(session, reader, name, place)

    def _reader(self, session: Session, name: str, stored: FieldList | None) -> ObjectReader:
        connection = session.connection
        polled = next((one for one in connection.objects if one.name == name), PolledObject(name=name))
        notes = self.known.get(_key(session, name)) or ObjectNotes(object_type=name)
        notes = msgspec.structs.replace(notes, fields=newest(stored, notes.fields))
        return ObjectReader(session.client, polled, notes, page_size=connection.page_size, clock=session.ports.clock)

    async def _by_ids(
        self, session: Session, reader: ObjectReader, name: str, place: Place
    ) -> tuple[list[IngestionEvent], Place]:
        asked_at = self.ports.clock()

        async def read(fields: FieldList) -> tuple[list[dict[str, Any]], bool, bool]:
            limit = reader.notes.page_size or session.connection.page_size
            groups = field_groups(name, fields.names, KEY_FIELDS, "", reader.notes.uri_limit or URI_LIMIT)
            soql = id_page_query(name, groups[0], place.after, limit)
            page = await session.client.query(soql, object_type=name)
            return page.records, page.more or len(page.records) == limit, len(groups) > 1

        records, more, in_parts = await reader.with_fields(read)
        last = records[-1]["Id"] if records else place.after
        if in_parts:
            records = [
                record
                for start in range(0, len(records), 200)
                for record in (await reader.by_ids([one["Id"] for one in records[start : start + 200]])).records
            ]
        events = whole_events(records, session.origin(name), nonce=NONCE, read_at=to_text(asked_at))
        if not more:
            return events, _next_object(place)
        return events, msgspec.structs.replace(place, after=last)

    async def _begin_job(self, session: Session, reader: ObjectReader, name: str, place: Place) -> Place:
        fields: tuple[str, ...] = ()

        async def begin(known: FieldList) -> Answer:
            nonlocal fields
            fields = known.names
            job = {
                "operation": "queryAll",
                "query": f"SELECT {','.join(fields)} FROM {name}",
                "contentType": "CSV",
                "columnDelimiter": "COMMA",
                "lineEnding": "LF",
            }
            return await session.client.call("POST", "jobs/query", object_type=name, content=job)

        try:
            begun_at = to_text(self.ports.clock())
            answer = await reader.with_fields(begin)
        except FieldError:
            raise
        except ObjectError as error:
            log.info("connection %s: %s is read by its ids: %s", session.connection.connection_id, name, error)
            reader.notes = msgspec.structs.replace(reader.notes, uri_limit=None)  # a job is no URI
            return msgspec.structs.replace(place, by_ids=True)
        return msgspec.structs.replace(
            place,
            job=str(answer.json()["id"]),
            begun_at=begun_at,
            fields=fields,
            complete=False,
            locator=None,
            tries=place.tries + 1,
        )

    async def _look_at_job(self, session: Session, name: str, place: Place) -> Place:
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self.pause_seconds * 2 ** (look - 1))
            try:
                answer = await self._asked(session, name, f"jobs/query/{place.job}")
            except ObjectError as error:
                return self._anew(session, name, place, str(error))
            told = answer.json()
            state = told.get("state")
            if state == "JobComplete":
                return msgspec.structs.replace(place, complete=True)
            if state in {"Failed", "Aborted"}:
                return self._anew(session, name, place, f"{state}: {str(told.get('errorMessage', ''))[:200]}")
        return place

    async def _results(
        self, session: Session, reader: ObjectReader, name: str, place: Place
    ) -> tuple[list[IngestionEvent], Place]:
        locator = f"&locator={place.locator}" if place.locator else ""
        path = f"jobs/query/{place.job}/results?maxRecords={session.connection.page_size}{locator}"
        try:
            answer = await self._asked(session, name, path, accept="text/csv")
        except (ObjectError, RepeatError) as error:
            return [], self._anew(session, name, place, str(error))
        if lacking := await reader.with_fields(partial(_lacking, place.fields)):
            return [], self._anew(session, name, place, f"it was not asked for {', '.join(lacking)}")
        records = await reader.with_fields(partial(self._parsed, answer, name, place))
        # The rows are those of a moment after the job began, which is all that is known of it.
        events = whole_events(records, session.origin(name), nonce=NONCE, read_at=place.begun_at)
        following = _header(answer, "Sforce-Locator")
        # The end is told by a word, not by an empty header.
        if following in ("", "null"):
            return events, _next_object(place)
        return events, msgspec.structs.replace(place, locator=following)

    @staticmethod
    async def _parsed(answer: Answer, name: str, place: Place, fields: FieldList) -> list[dict[str, Any]]:
        kinds: Mapping[str, str] = {**dict.fromkeys(place.fields, "string"), **fields.kinds}
        records = await asyncio.to_thread(bulk_records, answer.body, kinds, f"{name}, job {place.job}")
        gone = [field for field in place.fields if field not in fields.names]
        for record in records if gone else ():
            # Hidden, deleted, or not wanted any more since the job began.
            for field in gone:
                record.pop(field, None)
        return records

    async def _asked(self, session: Session, name: str, path: str, accept: str | None = None) -> Answer:
        client = session.client
        call = partial(client.call, "GET", path, object_type=name, accept=accept)
        return await patiently(f"{client.name}: job of {name}", call)

    def _anew(self, session: Session, name: str, place: Place, why: str) -> Place:
        """The job is lost or has failed: another one begins, or the object is read by its ids."""
        log.warning(
            "connection %s: the job %s for %s is begun anew: %s", session.connection.connection_id, place.job, name, why
        )
        return msgspec.structs.replace(place, job=None, complete=False, locator=None, fields=())


async def _lacking(asked: Sequence[str], fields: FieldList) -> list[str]:
    """Fields that can be read by now: records without them would be in the place of ones with them."""
    return [field for field in fields.names if field not in asked]


def _failed(connection: SalesforceConnection, place: Place, error: ObjectError | TransientError) -> HistoryPage:
    """The page that the present object's failure leaves: it is asked for again, after the others if that lasts.

    Passed over, its records would be missing for ever: polls begin where the history began.

    Raises:
        TransientError: it is the last, or the failure says when to ask again: nothing else can be asked till then.
    """
    names = list(place.counts)
    name, behind = names[place.index], names[place.index + 1 :]
    if isinstance(error, TransientError) and (error.after is not None or not behind):
        raise error
    waits_for = f"the history waits: {error}"
    if not behind:
        raise TransientError(waits_for) from None
    following = msgspec.structs.replace(place, failures=place.failures + 1)
    if following.failures >= PUT_OFF_AFTER:
        log.warning("connection %s: %s; %s come first", connection.connection_id, waits_for, ", ".join(behind))
        here = msgspec.structs.replace(place, counts={}, index=0, guessed=False, passed=(), failures=0, put_off={})
        counts = {one: place.counts[one] for one in (*names[: place.index], *behind, name)}
        following = _at(
            place.index, msgspec.structs.replace(place, counts=counts, put_off={**place.put_off, name: here})
        )
    position = msgspec.to_builtins(following)
    return HistoryPage([], position, sum(place.counts.values()), place.guessed, waits_for=waits_for)


def _next_object(place: Place, *, passed: bool = False) -> Place:
    names = (*place.passed, list(place.counts)[place.index]) if passed else place.passed
    return _at(place.index + 1, msgspec.structs.replace(place, passed=names))


def _at(index: int, place: Place) -> Place:
    """The place of the object *index*, from where it stood when it was put off."""
    name = next(iter(list(place.counts)[index:]), "")
    return msgspec.structs.replace(
        place.put_off.get(name, Place(counts={})),
        counts=place.counts,
        index=index,
        guessed=place.guessed,
        passed=place.passed,
        put_off={other: where for other, where in place.put_off.items() if other != name},
    )


def reads_from(history: HistoryNotes, object_type: str) -> str | None:
    """The moment, by this machine's clock, since which what changes of the object is not the first load's to bring: the
    load has read all that was there then, or is under way to it. None where it does not read the object, or saw no
    record of it."""
    position = history.position or history.last_position
    if history.began_at is None or position is None:
        return None
    place = msgspec.convert(position, Place)
    is_read = place.counts.get(object_type, 0) > 0 and object_type not in place.passed
    return history.began_at if is_read else None


def _key(session: Session, name: str) -> tuple[str, str, str]:
    return (session.connection.tenant_id, session.connection.connection_id, name)


def _header(answer: Answer, name: str) -> str:
    return str(answer.headers.get(name, ""))
