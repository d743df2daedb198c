"""A poll that was cut off goes on with the object it was in; those it had finished are not read again."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from polled_org import PolledOrg

from messaging.times import to_text

ROWS, PAGE = 60, 10


class CutOffError(BaseException):
    """Stands for the end of the process."""


async def test_a_resumed_poll_reads_no_finished_object_again(org: PolledOrg, monkeypatch: pytest.MonkeyPatch) -> None:
    await org.connect("Account", "Contact", page_size=PAGE)
    for index in range(ROWS):
        org.org.create("Account", {"Name": f"A{index}"})
        org.org.create("Contact", {"LastName": f"P{index}"})
    first_due, next_due = "2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z"
    real, sends = org.bus.send, 0

    async def cut_off(*arguments: object, **options: object) -> None:
        nonlocal sends
        sends += 1
        if sends == ROWS // PAGE + 3:
            raise CutOffError
        await real(*arguments, **options)  # type: ignore[arg-type]  # passed on as it came

    with monkeypatch.context() as patch:
        patch.setattr(org.bus, "send", cut_off)
        with pytest.raises(CutOffError):
            await org.poll(due_at=first_due)
    report = await org.poll(due_at=first_due)
    assert report.finished
    assert report.objects["Account"].pages == 0
    assert report.objects["Contact"].pages > 0
    repeated = {query: count for query, count in Counter(org.queries()).items() if count > 1}
    assert sum(count - 1 for count in repeated.values()) <= 1, "only the page it was in"
    assert len(org.seen.records("Contact")) == len(org.seen.records("Account")) == ROWS

    org.org.create("Account", {"Name": "New"})
    org.pass_time(timedelta(seconds=60))
    await org.poll(due_at=next_due)
    assert len(org.seen.records("Account")) == ROWS + 1, "the next poll reads every object"


async def test_quiet_objects_do_not_take_all_the_time_of_each_try(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    await org.connect("Account", "Contact", "Opportunity")
    org.org.create("Account", {"Name": "A"})
    org.org.create("Contact", {"LastName": "P"})
    org.pass_time(timedelta(hours=1))
    await org.poll()
    await org.poll()
    made = org.org.create("Opportunity", {"Name": "O"})
    client = org.clients.of(await org.connection())
    asked = client.query

    async def slowly(soql: str, **options: Any) -> Any:
        org.pass_time(timedelta(seconds=20))
        return await asked(soql, **options)

    monkeypatch.setattr(client, "query", slowly)
    due_at = to_text(org.clock())
    for _ in range(3):
        report = await org.poll(deadline=org.clock() + timedelta(seconds=30), due_at=due_at)

    assert report.finished
    assert org.seen.records("Opportunity").keys() == {made}
