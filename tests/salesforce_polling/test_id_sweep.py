"""The id sweep: what is gone for good, and all that keeps it from believing so."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from polled_org import PolledOrg

from ingestion.errors import TransientError
from messaging.times import to_text


def contacts(org: PolledOrg, number: int) -> list[str]:
    """Contacts made an hour ago."""
    org.org.clock.advance(timedelta(hours=-1))
    made = [org.org.create("Contact", {"LastName": f"P{index}"}) for index in range(number)]
    org.org.clock.advance(timedelta(hours=1))
    return made


async def test_a_record_missing_from_two_listings_is_deleted_with_its_stored_version(org: PolledOrg) -> None:
    gone, *_ = contacts(org, 20)
    await org.poll()
    version = org.seen.events["Contact", gone].source_version
    org.org.hard_delete("Contact", gone)

    first = await org.sweep()
    assert (first.objects["Contact"].suspects, first.objects["Contact"].deleted, first.again) == (1, 0, True)
    assert gone in org.seen.records("Contact")

    second = await org.sweep()

    assert (second.objects["Contact"].deleted, second.again) == (1, False)
    event = org.seen.events["Contact", gone]
    assert (event.event_type, event.source_version) == ("delete", version)
    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert (await org.sweep()).objects["Contact"].missing == 0


async def test_records_in_the_bin_are_not_gone(org: PolledOrg) -> None:
    one, *_ = contacts(org, 20)
    await org.poll()
    org.org.delete("Contact", one)

    assert (await org.sweep()).objects["Contact"].missing == 0


async def test_a_record_that_comes_back_is_no_suspect_any_more(org: PolledOrg) -> None:
    one, *_ = contacts(org, 20)
    await org.poll()
    record = dict(org.org.tables["Contact"].records[one])
    org.org.hard_delete("Contact", one)
    await org.sweep()
    org.org.insert("Contact", record)
    assert not (await org.sweep()).again
    org.org.hard_delete("Contact", one)

    report = await org.sweep()

    assert (report.objects["Contact"].deleted, report.again) == (0, True)


async def test_a_record_that_a_query_by_id_still_finds_is_not_gone(org: PolledOrg) -> None:
    one, *_ = contacts(org, 20)
    await org.poll()
    listed = org.clients.of(await org.connection()).query

    async def without_one(soql: str, **options: Any) -> Any:
        page = await listed(soql, **options)
        if "ORDER BY Id" in soql:
            page.records[:] = [record for record in page.records if record["Id"] != one]
        return page

    org.clients.of(await org.connection()).query = without_one  # type: ignore[method-assign]  # a listing that skips
    for _ in range(3):
        report = await org.sweep()
        assert (report.objects["Contact"].missing, report.objects["Contact"].deleted) == (1, 0)


async def test_too_many_missing_is_refused_with_a_remedy(org: PolledOrg) -> None:
    made = contacts(org, 40)
    await org.poll()
    for one in made[:8]:
        org.org.hard_delete("Contact", one)
    for _ in range(3):
        report = await org.sweep()
        assert "8 of 40" in str(report.objects["Contact"].refused)
        assert report.objects["Contact"].deleted == 0
    assert "sweepShare" in str((await org.memory()).metadata.sweep.refused)
    contacts(org, 1)
    await org.poll()
    assert "sweepShare" in str((await org.memory()).error_message), "a poll that works does not hush it up"

    await org.connect(sweep_share=0.5)
    await org.sweep()
    await org.sweep()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    memory = await org.memory()
    assert (memory.metadata.sweep.refused, memory.error_message) == (None, None)


async def test_more_missing_records_than_one_sweep_judges_are_left_to_the_next_ones(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.salesforce.sweep.MOST_JUDGED", 2)
    gone = contacts(org, 20)[:5]
    await org.poll()
    for one in gone:
        org.org.hard_delete("Contact", one)

    reports = [await org.sweep() for _ in range(6)]

    assert [report.objects["Contact"].deleted for report in reports] == [0, 2, 0, 2, 0, 1]
    assert [report.again for report in reports] == [True] * 5 + [False]
    assert org.seen.records("Contact").keys() == org.truth().keys()


async def test_an_object_that_shows_nothing_any_more_deletes_nothing(org: PolledOrg) -> None:
    contacts(org, 3)
    await org.poll()
    org.org.replace_records("Contact", [])
    for _ in range(3):
        assert (await org.sweep()).objects["Contact"].refused

    assert len(org.seen.records("Contact")) == 3


async def test_a_hidden_object_deletes_nothing(org: PolledOrg) -> None:
    contacts(org, 3)
    await org.poll()
    org.org.hide("Contact")
    for _ in range(2):
        assert (await org.sweep()).errors

    assert len(org.seen.records("Contact")) == 3


async def test_a_listing_cut_off_goes_on_where_it_was_and_deletes_nothing_before_its_end(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.salesforce.sweep.LISTING_PAGE", 10)
    monkeypatch.setattr("ingestion.salesforce.sweep.PART_IDS", 20)
    gone, *_ = contacts(org, 55)
    await org.poll()
    org.org.hard_delete("Contact", gone)
    await org.sweep()
    org.api.calls.clear()
    org.api.faults.add("server-error", skip=4, times=4)

    with pytest.raises(TransientError):
        await org.sweep()
    assert gone in org.seen.records("Contact")
    assert (await org.memory()).metadata.sweep.listing is not None
    report = await org.sweep()

    assert report.objects["Contact"].listed == 54
    assert gone not in org.seen.records("Contact")
    listings = [query for query in org.queries() if "ORDER BY Id LIMIT" in query]
    assert len(set(listings)) == 6


async def test_a_sweep_in_several_tries_lists_no_finished_object_again(
    org: PolledOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    await org.connect("Account", "Contact")
    contacts(org, 20)
    account, _ = (org.org.create("Account", {"Name": name}) for name in ("A", "B"))
    await org.poll()
    org.org.hard_delete("Account", account)
    org.pass_time(timedelta(minutes=5))
    client = org.clients.of(await org.connection())
    asked = client.query

    async def slowly(soql: str, **options: Any) -> Any:
        org.pass_time(timedelta(seconds=40))
        return await asked(soql, **options)

    monkeypatch.setattr(client, "query", slowly)
    org.api.calls.clear()
    due_at = to_text(org.clock())
    tries = 0
    finished = False
    while not finished:
        report = await org.sweep(deadline=org.clock() + timedelta(seconds=30), due_at=due_at)
        finished, tries = report.finished, tries + 1
        assert tries < 6

    listings = [query for query in org.queries("Account") if "ORDER BY Id LIMIT" in query]
    assert (tries > 1, len(listings)) == (True, 1)
    assert account in org.seen.records("Account"), "one listing is no proof, however many tries it took"
    assert report.again
    assert (await org.sweep(due_at=to_text(org.clock()))).objects["Account"].deleted == 1


async def test_a_record_read_after_the_listing_began_is_not_judged_by_it(org: PolledOrg) -> None:
    contacts(org, 10)
    await org.poll()
    org.clock.advance(timedelta(hours=-1))

    report = await org.sweep()

    assert report.objects["Contact"].missing == 0


async def test_the_first_load_must_be_over(org: PolledOrg) -> None:
    contacts(org, 10)

    report = await org.sweep()

    assert report.finished
    assert not org.queries()


async def test_the_kept_ids_of_a_listing_are_eight_bytes_each(org: PolledOrg) -> None:
    contacts(org, 10)
    await org.poll()
    await org.sweep()
    parts = [
        shard.structured_data["metadata"]["ids"]
        for shard in (await org.store.query(_state_query())).items
        if "ids" in shard.structured_data.get("metadata", {})
    ]

    assert [len(base64.b64decode(part)) for part in parts] == [80]


def _state_query() -> Any:
    from shards.store import ShardQuery

    return ShardQuery("acme", shard_type_ids=("integration.state",))
