"""JSON that Salesforce or its administrators post: which records it is about.

Bodies of Flow and Apex callouts are whatever someone has built, so they are searched for records; change events have
their header, however Event Relay, a CometD client or a Pub/Sub client wraps them. All of it may be partial or old:
what counts is only which records to read again.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from messaging.times import to_text
from shards.identity import InvalidExternalIdError, salesforce_id
from shards.types import SALESFORCE_KEY_PREFIXES

DEEPEST: Final = 12
MOST_RECORDS: Final = 5_000
"""Records that one body may name; a transaction of Salesforce changes 10,000 at most, in batches of 200."""

_HEADER: Final = "ChangeEventHeader"
_WRAPPERS: Final = ("detail", "data", "payload")
"""Event Relay, CometD and Pub/Sub clients put the event under these, in any combination."""
_ID_KEYS: Final = frozenset({"id", "recordid", "record_id"})
_IDS_KEYS: Final = frozenset({"ids", "recordids", "record_ids"})
_OBJECT_KEYS: Final = frozenset({"sobject", "sobjecttype", "objecttype", "objectapiname", "object", "entityname"})
_ORG_KEYS: Final = frozenset({"organizationid", "organization_id", "orgid", "org_id"})
_SESSION_KEYS: Final = frozenset({"sessionid", "session_id", "accesstoken", "access_token", "authorization"})
_API_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}\Z")
_ORG_OF_RELAY: Final = re.compile(r"aws\.partner/salesforce\.com/(00D[A-Za-z0-9]{12,15})(?:/|\Z)")
_NO_RECORD: Final = "000000000000000"
_ORG_PREFIX: Final = "00D"


class TooManyRecordsError(Exception):
    """A body that names more records than any batch has, or nests deeper than any has reason to."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change event. *key* tells it from every other; *everything_since*: it stands for all changes since then."""

    object_type: str
    ids: tuple[str, ...]
    key: str | None
    everything_since: str | None = None


@dataclass(slots=True)
class Pushed:
    """What a body names: change events, records by object (empty: told by no one), and orgs.

    *unreadable* are ids that are none, and events without what they need.
    """

    changes: list[Change] = field(default_factory=list)
    records: dict[str, set[str]] = field(default_factory=dict)
    org_ids: set[str] = field(default_factory=set)
    unreadable: int = 0
    named: int = 0

    def add(self, object_type: str, text: object) -> None:
        """Take a record's id as someone wrote it."""
        try:
            record_id = salesforce_id(text) if isinstance(text, str) else ""
        except InvalidExternalIdError:
            record_id = ""
        if not record_id:
            self.unreadable += 1
        elif record_id.startswith(_ORG_PREFIX):
            self.org_ids.add(record_id)
        else:
            known = SALESFORCE_KEY_PREFIXES.get(record_id[:3])
            self.count(1)
            self.records.setdefault(known.object_type if known else object_type, set()).add(record_id)

    def count(self, number: int) -> None:
        """Note that so many more records were named."""
        self.named += number
        if self.named > MOST_RECORDS:
            raise TooManyRecordsError(f"it names more than {MOST_RECORDS} records")


def find_records(content: Any, objects: Mapping[str, str], now: datetime) -> Pushed:
    """What *content* names. *objects* are the connection's own by lower-case name, for bodies that use these as keys.

    Raises:
        TooManyRecordsError: more than is believed.
    """
    search = _Search(Pushed(), objects, now)
    search.through(content, "", 0)
    return search.found


def without_sessions(content: Any, depth: int = 0) -> Any:
    """*content* without what lets its reader act as the user who caused it."""
    if depth > DEEPEST:
        return None
    if isinstance(content, dict):
        return {
            key: without_sessions(value, depth + 1)
            for key, value in content.items()
            if key.lower() not in _SESSION_KEYS
        }
    if isinstance(content, list):
        return [without_sessions(value, depth + 1) for value in content]
    return content


@dataclass(frozen=True, slots=True)
class _Search:
    """A search through one body."""

    found: Pushed
    objects: Mapping[str, str]
    now: datetime

    def through(self, content: Any, hint: str, depth: int) -> None:
        """Take what *content* names; *hint* is the object that the key above it is called after."""
        if depth > DEEPEST:
            raise TooManyRecordsError("it nests deeper than any callout")
        if isinstance(content, list):
            for item in content:
                if not isinstance(item, str):
                    self.through(item, hint, depth + 1)
                elif _is_id(item):
                    self.found.add(hint, item)
        elif isinstance(content, dict):
            _take_orgs(content, self.found)
            for key, value in _inside(content, hint, self.found, self.now):
                self.through(value, self.objects.get(key.lower(), hint), depth + 1)


def _is_id(text: str) -> bool:
    try:
        salesforce_id(text)
    except InvalidExternalIdError:
        return False
    return True


def _inside(content: dict[str, Any], hint: str, found: Pushed, now: datetime) -> Iterator[tuple[str, Any]]:
    """Take what this object names itself; where else to look."""
    header = content.get(_HEADER)
    if isinstance(header, dict):
        _take_change(header, found, now)
        return
    wrapped = [(key, content[key]) for key in _WRAPPERS if isinstance(content.get(key), dict | list)]
    if wrapped:
        yield from wrapped
        return
    if isinstance(content.get("current"), dict | list):
        yield "current", content["current"]
        return
    keys = {key.lower(): key for key in content}
    object_type = _object_of(content, keys) or hint
    own = [content[keys[key]] for key in sorted(_ID_KEYS & keys.keys()) if isinstance(content[keys[key]], str)]
    lists = [content[keys[key]] for key in sorted(_IDS_KEYS & keys.keys()) if isinstance(content[keys[key]], list)]
    for text in [*own, *(text for texts in lists for text in texts)]:
        found.add(object_type, text)
    if not own and not lists:
        # A record's own parents are no records that changed; what has no id of its own may hold some that do.
        yield from ((key, value) for key, value in content.items() if isinstance(value, dict | list))


def _object_of(content: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    attributes = content.get("attributes")
    told = [attributes.get("type")] if isinstance(attributes, dict) else []
    told += [content[keys[key]] for key in sorted(_OBJECT_KEYS & keys.keys())]
    return next((name for name in told if isinstance(name, str) and _API_NAME.match(name)), "")


def _take_orgs(content: Mapping[str, Any], found: Pushed) -> None:
    for key, value in content.items():
        if isinstance(value, str) and key.lower() in _ORG_KEYS:
            found.org_ids.add(value)
    source = content.get("source")
    relayed = _ORG_OF_RELAY.match(source) if isinstance(source, str) else None
    if relayed:
        found.org_ids.add(relayed[1])


def _take_change(header: Mapping[str, Any], found: Pushed, now: datetime) -> None:
    object_type, kind = header.get("entityName"), header.get("changeType")
    given = header.get("recordIds")
    texts = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if not isinstance(object_type, str) or not _API_NAME.match(object_type) or not isinstance(kind, str):
        found.unreadable += 1
        return
    ids: list[str] = []
    stands_for_all = kind == "GAP_OVERFLOW"
    for text in texts:
        if isinstance(text, str) and (text.endswith("*") or text.startswith(_NO_RECORD)):
            stands_for_all = True
            continue
        try:
            ids.append(salesforce_id(text) if isinstance(text, str) else "")
        except InvalidExternalIdError:
            ids.append("")
    good = tuple(dict.fromkeys(one for one in ids if one))
    found.unreadable += ids.count("")
    if not good and not stands_for_all:
        found.unreadable += not ids
        return
    found.count(max(len(good), 1))
    transaction, sequence = header.get("transactionKey"), header.get("sequenceNumber")
    # With its ids, for not every client passes the number on, and a transaction may tell of many records.
    told = blake2b("|".join((kind, *good)).encode(errors="surrogatepass"), digest_size=8).hexdigest()
    key = f"{transaction}:{sequence}:{object_type}:{told}" if isinstance(transaction, str) and transaction else None
    since = to_text(min(_committed_at(header.get("commitTimestamp")) or now, now)) if stands_for_all else None
    found.changes.append(Change(object_type, good, key, since))


def _committed_at(value: object) -> datetime | None:
    """A commitTimestamp: milliseconds since 1970, which some clients write as text, for it is long; None when it is
    none."""
    try:
        # A float of any number is made at once; an integer of 1E+999999999 is not.
        return datetime.fromtimestamp(float(value) / 1000, UTC) if isinstance(value, int | str | Decimal) else None
    except (ValueError, OverflowError, OSError):
        return None
