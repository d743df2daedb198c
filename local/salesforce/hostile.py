"""The hostile cursor: contacts that change between polls in every way that loses, doubles or leaves ghosts of rows.

Four epochs of one table, polled in turn:

0. 900 rows two seconds apart and 100 more that share the second T0, the watermark of whoever has read them.
1. 50 more rows of that same second, 20 stamped two minutes before it (late commits), 100 after it, 10 edits, 10 hard
   deletes, 10 soft deletes.
2. 300 new rows.
3. Nothing new.

Reading epoch 0 fails with 429 at the second call and 500 at the fourth, epoch 2 with 429 and 503.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from local.company import Company, blank_record, default_org_id
from local.salesforce.contacts import numbered_id
from local.salesforce.org import Org
from local.salesforce.rest import RestApi
from local.salesforce.schema import Record, empty_table
from local.salesforce.values import datetime_text

PAGE_ROWS = 100
_START = datetime(2025, 1, 1, 12, tzinfo=UTC)
_T0 = 2000
_FAULT_KINDS = {429: "too-many-requests", 500: "server-error", 503: "unavailable-html"}


@dataclass(frozen=True, slots=True)
class HostileEpoch:
    """What the org holds in one epoch, when it is, and the failures of its second and fourth call.

    *records* are by row number; a row's Contact id is ``numbered_id("003", number)``.
    """

    number: int
    now: datetime
    records: Mapping[int, Record]
    failures: Sequence[int]


def hostile_company(tenant_id: str = "hostile") -> Company:
    """The company in epoch 0."""
    table = empty_table("Contact")
    table.records = list(hostile_epochs()[0].records.values())
    names = ("Account", "Opportunity", "User")
    tables = {"Contact": table, **{name: empty_table(name) for name in names}}
    return Company(tenant_id, default_org_id(tenant_id), tables)


def hostile_epochs() -> tuple[HostileEpoch, ...]:
    """The four epochs."""
    blank = blank_record(empty_table("Contact"))

    def row(number: int, seconds: int, name: str = "", *, deleted: bool = False) -> Record:
        stamp = datetime_text(_START + timedelta(seconds=seconds))
        label = name or f"v0-{number}"
        times = {"CreatedDate": stamp, "LastModifiedDate": stamp, "SystemModstamp": stamp}
        return {
            **blank,
            **times,
            "Id": numbered_id("003", number),
            "LastName": label,
            "Name": label,
            "IsDeleted": deleted,
        }

    first = {number: row(number, number * 2) for number in range(900)}
    first |= {number: row(number, _T0) for number in range(900, 1000)}
    second = first | {number: row(number, _T0) for number in range(1000, 1050)}
    second |= {number: row(number, _T0 - 120) for number in range(1050, 1070)}
    second |= {number: row(number, _T0 + 60 + number % 7) for number in range(1070, 1170)}
    second |= {number: row(number, _T0 + 65, f"v1-{number}") for number in range(10)}
    second = {number: record for number, record in second.items() if number not in range(10, 20)}
    second |= {number: row(number, _T0 + 66, deleted=True) for number in range(20, 30)}
    third = second | {number: row(number, _T0 + 300 + number % 50) for number in range(1200, 1500)}

    def at(seconds: int) -> datetime:
        return _START + timedelta(seconds=_T0 + seconds)

    return (
        HostileEpoch(0, at(10), first, (429, 500)),
        HostileEpoch(1, at(80), second, ()),
        HostileEpoch(2, at(360), third, (429, 503)),
        HostileEpoch(3, at(420), third, ()),
    )


class HostileCursor:
    """Plays the epochs on a simulator: pages of 100, the clock at each epoch's time, the failures armed."""

    def __init__(self, org: Org) -> None:
        self.epochs = hostile_epochs()
        self._org = org
        self._api: RestApi | None = None

    def play_on(self, api: RestApi) -> None:
        """Begin with epoch 0 on *api*, which serves the org."""
        self._api = api
        api.page_cap = PAGE_ROWS
        self.set_epoch(0)

    def set_epoch(self, number: int) -> None:
        """Let it be epoch *number*; its calls are counted from here.

        Raises:
            ValueError: there is no such epoch, or the play has not begun.
        """
        if self._api is None or number not in range(len(self.epochs)):
            raise ValueError(f"there is no epoch {number}")
        epoch = self.epochs[number]
        self._org.replace_records("Contact", epoch.records.values())
        self._org.clock.freeze(epoch.now)
        self._api.calls.clear()
        self._api.faults.clear()
        for failure, skipped in zip(epoch.failures, (1, 3), strict=False):
            self._api.faults.add(_FAULT_KINDS[failure], skip=skipped, path="/query", headers={"Retry-After": "1"})
