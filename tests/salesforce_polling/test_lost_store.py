"""Which events are new to the bus: those of a cursor that starts anew, but not those of one that was cut off."""

from typing import Any

import pytest
from polled_org import PolledOrg

from connections.state import StateStore

ROWS = 30


class CutOffError(BaseException):
    """Stands for the end of the process."""


async def test_when_the_store_is_lost_and_the_bus_kept_all_records_come_again(org: PolledOrg) -> None:
    for index in range(ROWS):
        org.org.create("Contact", {"LastName": f"P{index}"})
    await org.poll()
    before = org.seen.records("Contact")
    assert len(before) == ROWS

    await org.lose_store()
    await org.connect()
    report = await org.poll()

    assert report.events == ROWS
    assert org.seen.records("Contact") == before


async def test_a_page_that_was_sent_but_not_saved_is_sent_again_under_the_same_ids(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(ROWS):
        org.org.create("Contact", {"LastName": f"P{index}"})
    real = StateStore.save

    async def cut_off(states: StateStore, tenant_id: str, key: str, *rest: Any) -> Any:
        if key.endswith("/Contact") and (await org.bus.depths())["ingestion-events"].active:
            raise CutOffError
        return await real(states, tenant_id, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(StateStore, "save", cut_off)
        with pytest.raises(CutOffError):
            await org.poll()
    assert (await org.memory()).cursor.is_first_load, "the cursor behind the page was not saved"

    report = await org.poll()

    assert report.events == ROWS, "the page was sent again"
    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert org.seen.repeated == 0, "and the bus dropped it"
