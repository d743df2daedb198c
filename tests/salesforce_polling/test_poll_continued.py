"""A poll that was cut off goes on with the object it was in; those it had finished are not read again."""

from collections import Counter
from datetime import timedelta

import pytest
from polled_org import PolledOrg

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
