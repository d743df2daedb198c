"""Reads pages of one object, and deals with what an object can do to a query on the way."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from connections.salesforce_connection import PolledObject
from ingestion.errors import TransientError
from ingestion.patience import patiently
from ingestion.salesforce.client import SalesforceClient
from ingestion.salesforce.cursor import Walk, condition
from ingestion.salesforce.errors import (
    FieldError,
    ObjectError,
    RequestTooLongError,
)
from ingestion.salesforce.field_notes import noted
from ingestion.salesforce.fields import KEY_FIELDS, FieldList, choose
from ingestion.salesforce.memory import ObjectNotes
from ingestion.salesforce.soql import CHARACTERS_AN_ID, URI_LIMIT, field_groups, ids_condition, page_query
from messaging.times import Clock, from_text, to_text

T = TypeVar("T")

log = logging.getLogger(__name__)

DESCRIBE_EVERY = timedelta(days=1)
SMALLEST_PAGE = 50
SMALLEST_URI = 500
LOST_FIELDS = 50
"""How many fields may turn out to be missing within one page before the object is given up."""

READINGS = 5
"""How often records that change while the parts of a wide one are read are asked for anew."""


@dataclass(frozen=True, slots=True)
class ReadPage:
    """Rows in the order of (SystemModstamp, Id). *last* is the last row read, with its key fields; *final*: no more."""

    records: list[dict[str, Any]]
    last: dict[str, Any] | None
    final: bool
    asked_at: datetime
    answered_at: datetime


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """Records asked for by id at *asked_at*, and the ids of which there is no record to be seen."""

    records: list[dict[str, Any]]
    missing: list[str]
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class _Parts:
    """Whole rows by id; the ids of all rows that any of the queries gave; whether all gave all of theirs."""

    whole: dict[str, dict[str, Any]]
    seen: set[str]
    complete: bool


class ObjectReader:
    """Reads one object by its notes; :attr:`notes` has what was learnt on the way.

    All calls raise the errors of :mod:`ingestion.salesforce.errors`, transient ones after several tries.
    """

    def __init__(
        self, client: SalesforceClient, polled: PolledObject, notes: ObjectNotes, *, page_size: int, clock: Clock
    ) -> None:
        self.notes = notes
        self._client = client
        self._polled = polled
        self._full_page = page_size
        self._served = page_size
        self._clock = clock

    async def page(self, walk: Walk) -> ReadPage:
        """The walk's next page."""
        return await self.with_fields(partial(self._read, walk))

    async def by_ids(self, ids: Sequence[str]) -> RecordsRead:
        """The records of these *ids*, deleted ones too."""
        return await self.with_fields(partial(self._read_ids, ids))

    async def with_fields(self, read: Callable[[FieldList], Awaitable[T]]) -> T:
        """What *read* gives for the object's fields, called anew with others when some turn out to be missing."""
        for _ in range(LOST_FIELDS):
            fields = await self._fields()
            try:
                return await patiently(self._told("query"), partial(read, fields))
            except FieldError as error:
                await self._without_field(error)
            except RequestTooLongError:
                self._shorten()
            except TransientError as error:
                if not error.smaller or not self._shrink():
                    raise
        raise ObjectError(f"{self._polled.name}: more than {LOST_FIELDS} of its fields can't be read")

    def walked(self) -> None:
        """A walk has come to its end: pages may grow again."""
        smaller = self.notes.page_size
        if smaller is not None:
            grown = smaller * 2
            self.notes = msgspec.structs.replace(self.notes, page_size=grown if grown < self._full_page else None)

    def _told(self, call: str) -> str:
        return f"{self._client.name}: {call} of {self._polled.name}"

    async def _read(self, walk: Walk, fields: FieldList) -> ReadPage:
        name = self._polled.name
        asked_at = self._clock()
        limit = min(self.notes.page_size or self._full_page, self._served)
        where = condition(walk)
        groups = field_groups(name, fields.names, KEY_FIELDS, where, self.notes.uri_limit or URI_LIMIT)
        page = await self._client.query(page_query(name, groups[0], where, limit), object_type=name)
        answered_at = self._clock()
        records = page.records
        last = records[-1] if records else None
        if last is not None and len(groups) > 1:
            records = await self._merged(records, groups[1:], where, limit)
        if page.more:
            # Wide rows come in smaller responses than asked for. Asking for no more keeps no query locator open: a
            # user has ten, and opening an eleventh takes another program's.
            self._served = max(len(page.records), 1)
        return ReadPage(
            records=records,
            last=last,
            final=not page.more and len(page.records) < limit,
            asked_at=asked_at,
            answered_at=answered_at,
        )

    async def _read_ids(self, ids: Sequence[str], fields: FieldList) -> RecordsRead:
        name = self._polled.name
        asked_at = self._clock()
        found: dict[str, dict[str, Any]] = {}
        missing: list[str] = []
        left = list(dict.fromkeys(ids))
        uri_limit = self.notes.uri_limit or URI_LIMIT
        size = min(self.notes.page_size or self._full_page, max(uri_limit // 2 // CHARACTERS_AN_ID, 1))
        stuck = 0
        while left:
            if stuck == READINGS:
                raise TransientError(f"{name}: records keep changing while they are read")
            part, rest = left[:size], left[size:]
            where = ids_condition(part)
            groups = field_groups(name, fields.names, KEY_FIELDS, where, uri_limit)
            parts = await self._parts(groups, where)
            found.update(parts.whole)
            torn = [one for one in part if one not in parts.whole and (one in parts.seen or not parts.complete)]
            missing += [one for one in part if one not in parts.whole and one not in torn]
            if not parts.complete:
                size = max(len(parts.whole), 1)  # wide rows come in shorter responses: no query locator stays open
            stuck = 0 if parts.whole or not torn else stuck + 1
            left = [*torn, *rest]
        return RecordsRead(list(found.values()), missing, asked_at)

    async def _parts(self, groups: Sequence[Sequence[str]], where: str) -> "_Parts":
        """Rows whose fields were asked for in several queries, put together where they had not changed in between."""
        name = self._polled.name
        whole: dict[str, dict[str, Any]] = {}
        seen: set[str] = set()
        complete = True
        for number, group in enumerate(groups):
            page = await self._client.query(page_query(name, group, where, 2000), object_type=name)
            complete = complete and not page.more
            parts = {record["Id"]: record for record in page.records}
            seen.update(parts)
            if number == 0:
                whole = parts
                continue
            whole = {
                key: record | part
                for key, record in whole.items()
                if (part := parts.get(key)) is not None and part["SystemModstamp"] == record["SystemModstamp"]
            }
        return _Parts(whole, seen, complete)

    async def _merged(
        self, records: Sequence[dict[str, Any]], groups: Sequence[Sequence[str]], where: str, limit: int
    ) -> list[dict[str, Any]]:
        """*records* with the fields of *groups*. A row that changed meanwhile is left out: the walk meets it again."""
        name = self._polled.name
        last = records[-1]
        stamp, record_id = to_text(from_text(last["SystemModstamp"])), last["Id"]
        upper = f"(SystemModstamp < {stamp} OR (SystemModstamp = {stamp} AND Id <= '{record_id}'))"
        bounded = f"{where} AND {upper}" if where else upper
        whole = {record["Id"]: record for record in records}
        for group in groups:
            parts: dict[str, dict[str, Any]] = {}
            after = bounded
            while True:
                page = await self._client.query(page_query(name, group, after, limit), object_type=name)
                parts.update((record["Id"], record) for record in page.records)
                if not page.more or not page.records:
                    break
                reached = page.records[-1]
                at = to_text(from_text(reached["SystemModstamp"]))
                after = f"(SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > '{reached['Id']}')) AND {upper}"
            whole = {
                key: record | part
                for key, record in whole.items()
                if (part := parts.get(key)) is not None and part["SystemModstamp"] == record["SystemModstamp"]
            }
        return list(whole.values())

    async def _fields(self) -> FieldList:
        fields = self.notes.fields
        if (
            fields is None
            or from_text(fields.described_at) + DESCRIBE_EVERY <= self._clock()
            or self._reconfigured(fields)
        ):
            fields = await self._describe(())
        return fields

    def _reconfigured(self, fields: FieldList) -> bool:
        if fields.configured is not None:
            return set(fields.configured) != set(self._polled.fields)
        return any(field not in fields.names and field not in fields.absent for field in self._polled.fields)

    async def _describe(self, refused: Sequence[str]) -> FieldList:
        name = self._polled.name
        described_at = to_text(self._clock())
        described = await patiently(self._told("describe"), partial(self._client.describe, name))
        fields = choose(described, self._polled.fields, described_at=described_at, refused=refused)
        warning = None
        if fields.absent:
            warning = f"not read, because the login can't see them or queries refuse them: {', '.join(fields.absent)}"
        self.notes = msgspec.structs.replace(noted(self.notes, fields, self._client.name), warning=warning)
        return fields

    async def _without_field(self, error: FieldError) -> None:
        """Re-describe; a field that the describe still shows although queries refuse it is left out."""
        before = self.notes.fields
        refused = [] if before is None else [field for field in before.absent if field not in self._polled.fields]
        after = await self._describe(refused)
        if before is not None and after.names == before.names:
            if error.field is None or error.field not in after.names or error.field in KEY_FIELDS:
                raise ObjectError(str(error)) from None
            await self._describe([*refused, error.field])

    def _shorten(self) -> None:
        shorter = (self.notes.uri_limit or URI_LIMIT) // 2
        if shorter < SMALLEST_URI:
            raise ObjectError(f"{self._polled.name}: Salesforce calls even short queries too long")
        self.notes = msgspec.structs.replace(self.notes, uri_limit=shorter)

    def _shrink(self) -> bool:
        smaller = (self.notes.page_size or self._full_page) // 2
        if smaller < SMALLEST_PAGE:
            return False
        self.notes = msgspec.structs.replace(self.notes, page_size=smaller)
        return True
