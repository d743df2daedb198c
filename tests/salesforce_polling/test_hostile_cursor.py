"""The hostile cursor: nothing lost, nothing doubled, no ghosts after the sweep."""

from pathlib import Path

from polled_org import TENANT, PolledOrg

from local.salesforce.hostile import HostileCursor, hostile_company


async def test_four_hostile_epochs_lose_double_and_leave_nothing(tmp_path: Path) -> None:
    org = PolledOrg(tmp_path, hostile_company(TENANT))
    try:
        play = HostileCursor(org.org)
        play.play_on(org.api)
        await org.connect("Contact")
        calls: list[int] = []
        for epoch in play.epochs:
            play.set_epoch(epoch.number)
            calls.append((await org.poll()).calls)
        await org.sweep()
        await org.sweep()

        records, truth = org.seen.records("Contact"), org.truth()
        assert records.keys() == truth.keys()
        assert {key: record["Name"] for key, record in records.items()} == {
            key: record["Name"] for key, record in truth.items()
        }
        assert org.seen.repeated == 0
        stored = await org.store.counts(TENANT)
        assert stored.shards["c_contact"] == len(truth)
        assert calls[0] == 14
    finally:
        await org.close()


async def test_the_last_poll_finds_nothing_new(tmp_path: Path) -> None:
    org = PolledOrg(tmp_path, hostile_company(TENANT))
    try:
        play = HostileCursor(org.org)
        play.play_on(org.api)
        org.api.page_cap = 2000
        await org.connect("Contact")
        for epoch in play.epochs[:3]:
            play.set_epoch(epoch.number)
            await org.poll()
        play.set_epoch(3)

        report = await org.poll()

        assert (report.events, report.calls) == (0, 1)
    finally:
        await org.close()
