"""The fourteen hard cases on which connectors lose data, each with the data safe in the store at its end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from drive_source_rig import USER, DriveSourceRig
from salesforce_source_rig import POLLED, SalesforceSourceRig
from slack_source_rig import SlackSourceRig
from source_rig import AFTER_A_KILL, TENANT, Key
from working_rig import POLL

from connections.salesforce_connection import PolledObject, SalesforceConnection
from ingestion.slack.reconcile import DEEP_EVERY
from local.salesforce.schema import Field
from operations.replay import replay
from shards.model import Shard
from shards.store import SearchQuery, ShardQuery

SCRIPT = Path(__file__).with_name("source_process.py")
ROOT = Path(__file__).parents[2]
DOCUMENT = "application/vnd.google-apps.document"


@pytest.fixture
async def slack(tmp_path: Path) -> AsyncIterator[SlackSourceRig]:
    async with SlackSourceRig(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[SalesforceSourceRig]:
    async with SalesforceSourceRig(tmp_path / "data") as made:
        yield made


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[DriveSourceRig]:
    async with DriveSourceRig(tmp_path / "data") as made:
        yield made


# Slack


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_slack_a_reply_to_a_thread_that_is_60_days_old(slack: SlackSourceRig, told: bool) -> None:
    old = f"{int((slack.now - timedelta(days=60)).timestamp())}.000100"
    slack.workspace.post(slack.channel, "the question", user=slack.user, ts=old)
    await slack.connect()
    await slack.load_history()
    await slack.catch_up()
    root = Key("message", f"{slack.channel}:{old}")
    assert await slack.texts([root]) == ["the question"]
    await slack.pushes()
    reply = await slack.reply(root, "the answer")
    if told:
        await slack.deliver()
        await slack.settle()
    else:
        await slack.pushes()
        slack.wait(DEEP_EVERY.total_seconds())
        await slack.catch_up()
    assert await slack.texts([root, reply]) == ["the question", "the answer"]
    await slack.drain()
    [stored, thread] = [await whole(slack, reply), await whole(slack, root)]
    assert ("replies_to", thread.id) in links(stored)


async def test_slack_a_message_is_deleted(slack: SlackSourceRig) -> None:
    await slack.connect()
    deleted, stays = await slack.create("the wrong number is 4711"), await slack.create("the right number")
    await slack.deliver()
    await slack.settle()
    await slack.drain()
    assert await slack.texts([deleted, stays]) == ["the wrong number is 4711", "the right number"]
    slack.wait(60)
    await slack.delete(deleted)
    await slack.deliver()
    await slack.settle()
    await slack.drain()
    assert await slack.texts([deleted, stays]) == [None, "the right number"]
    tombstone = await whole(slack, deleted)
    assert (tombstone.structured_data, tombstone.unstructured_data) == ({}, None)
    assert await slack.store.chunks(TENANT, tombstone.id) == []
    assert [hit.shard.id for hit in await slack.store.search(SearchQuery(TENANT, "4711", None))] == []


async def test_slack_a_delivery_is_retried(slack: SlackSourceRig) -> None:
    await slack.connect()
    await slack.settle()
    key = await slack.create("told again and again")
    [push] = [push for push in await slack.pushes() if b"told again" in push.body]
    for pause in (0, 60, 240):
        slack.wait(pause)
        assert (await slack.take_push(slack.signed(push.body))).status == 200
        await slack.settle()
    assert await slack.texts([key]) == ["told again and again"]
    assert (await whole(slack, key)).revision == 1
    assert Counter(event.source_id for event in await slack.events())[key.external_id] == 1


# Salesforce


async def test_salesforce_50_rows_share_the_second_at_the_boundary_of_a_page(org: SalesforceSourceRig) -> None:
    await org.connect(page_size=7)
    await org.catch_up()
    texts = [f"row {number}" for number in range(50)]
    keys = [await org.create(text) for text in texts]
    assert len({record["SystemModstamp"] for record in org.org.tables[POLLED].records.values()}) == 1
    await org.catch_up()
    assert await org.texts(keys) == texts
    await org.catch_up()
    assert {(await whole(org, key)).revision for key in keys} == {1}


async def test_salesforce_a_row_commits_two_minutes_behind_the_watermark(org: SalesforceSourceRig) -> None:
    await org.connect()
    transaction = org.org.begin()
    late = Key(POLLED, transaction.create(POLLED, {"Name": "stamped early, seen late"}))
    for number in range(3):
        org.wait(40)
        await org.create(f"seen at once {number}")
        await org.catch_up()
    # The cursor may not have waited for it: what was seen since is stored.
    assert len(await org.live()) == 3
    transaction.commit()
    await org.catch_up()
    assert await org.texts([late]) == ["stamped early, seen late"]
    assert len(await org.live()) == 4


async def test_salesforce_a_record_is_emptied_from_the_recycle_bin(org: SalesforceSourceRig) -> None:
    await org.connect()
    keys = [await org.create(f"row {number}") for number in range(6)]
    await org.catch_up()
    gone = keys[2]
    await org.delete(gone)
    await org.destroy(gone)
    await org.catch_up()
    assert (await whole(org, gone)).is_live, "no query tells of it"
    await org.reconcile()
    assert await org.texts(keys) == [None if key == gone else f"row {n}" for n, key in enumerate(keys)]


async def test_salesforce_the_value_of_a_formula_changes(org: SalesforceSourceRig) -> None:
    org.org.add_field(POLLED, Field("Health__c", "string", calculated=True))
    made = await org.connect()
    assert isinstance(made, SalesforceConnection)
    keys = [await org.create(f"row {number}") for number in range(3)]
    for key in keys:
        org.org.update(POLLED, key.external_id, {"Health__c": "good"}, stamps="none")
    for _ in range(2):
        # Each poll reads a little of what was before: the records are out of its sight once newer ones are read.
        org.wait(made.look_back_seconds + made.settle_lag_seconds)
        await org.create("newer")
        await org.catch_up()
    org.org.update(POLLED, keys[1].external_id, {"Health__c": "bad"}, stamps="none")
    await org.catch_up()
    assert await health(org, keys) == ["good", "good", "good"], "no stamp tells of it"
    org.wait(timedelta(hours=made.refresh_hours).total_seconds())
    await org.catch_up()
    assert await health(org, keys) == ["good", "bad", "good"]


async def test_salesforce_the_daily_limit_is_reached(org: SalesforceSourceRig) -> None:
    await org.connect(page_size=2, api_reserve_share=0.1, api_budget_share=1.0)
    await org.catch_up()
    texts = [f"row {number}" for number in range(40)]
    keys = [await org.create(text) for text in texts]
    api = org.simulator.api
    api.daily_limit = api.used_calls() + 10
    await org.catch_up()
    reached = await org.texts(keys)
    assert 0 < reached.count(None) < len(keys), "some were read before the limit"
    assert api.used_calls() <= api.daily_limit * 0.9 + 1, "the rest of the calls is left to others"
    connection, memory = await org.connection(), await org.memory()
    assert (connection.status, memory.last_sync_status) == ("active", "partial")
    assert memory.error_message
    api.daily_limit = 100_000
    org.wait(timedelta(hours=1).total_seconds())
    await org.settle(within=timedelta(hours=1))
    await org.catch_up()
    assert await org.texts(keys) == texts
    assert {(await whole(org, key)).revision for key in keys} == {1}


# Drive


async def test_drive_a_file_is_moved_out_of_scope(drive: DriveSourceRig) -> None:
    with drive.drive.lock:
        wanted = drive.drive.create_folder("Wanted", owner=USER)
        inner = drive.drive.create_folder("Inner", parent=wanted)
        other = drive.drive.create_folder("Other", owner=USER)
        moved, stays = (Key("file", drive.drive.create_file(name, b"", parent=inner)) for name in ("a.png", "b.png"))
    await drive.connect(folders=(wanted,))
    await drive.load_history()
    await drive.catch_up()
    assert await drive.texts([moved, stays]) == ["a.png", "b.png"]
    drive.wait(5)
    with drive.drive.lock:
        drive.drive.move(moved.external_id, other)
    await drive.catch_up()
    assert await drive.texts([moved, stays]) == [None, "b.png"]
    drive.wait(5)
    with drive.drive.lock:
        # The folder goes with all that is in it, and one entry of the log tells of it.
        drive.drive.move(inner, other)
    await drive.catch_up()
    assert await drive.texts([moved, stays]) == [None, None]
    with drive.drive.lock:
        drive.drive.move(inner, wanted)
    await drive.catch_up()
    assert await drive.texts([moved, stays]) == [None, "b.png"]


async def test_drive_a_file_is_trashed(drive: DriveSourceRig) -> None:
    with drive.drive.lock:
        folder = drive.drive.create_folder("Plans", owner=USER)
        alone, inside = (
            Key("file", drive.drive.create_file("alone.png", b"", owner=USER)),
            Key("file", drive.drive.create_file("inside.png", b"", parent=folder)),
        )
    await drive.connect()
    await drive.load_history()
    await drive.catch_up()
    assert await drive.texts([alone, inside]) == ["alone.png", "inside.png"]
    drive.wait(5)
    with drive.drive.lock:
        drive.drive.trash(alone.external_id)
        drive.drive.trash(folder)
    await drive.catch_up()
    assert await drive.texts([alone, inside]) == [None, None]
    drive.wait(5)
    with drive.drive.lock:
        drive.drive.untrash(alone.external_id)
        drive.drive.untrash(folder)
    await drive.catch_up()
    assert await drive.texts([alone, inside]) == ["alone.png", "inside.png"]


async def test_drive_a_folder_is_re_shared(drive: DriveSourceRig) -> None:
    bob = f"user:bob@{USER.partition('@')[2]}"
    with drive.drive.lock:
        drive.drive.add_user(bob.removeprefix("user:"))
        folder = drive.drive.create_folder("Plans", owner=USER)
        inner = drive.drive.create_folder("Inner", parent=folder)
        key = Key("file", drive.drive.create_file("plan.txt", b"what we intend to do next year", parent=inner))
    await drive.connect()
    await drive.load_history()
    await drive.catch_up()
    await drive.drain()
    embedded = drive.handled("embed")
    assert embedded > 0
    assert await readable(drive, bob) == []
    # Later than what the first load may have missed: of folders that change about then, all is read again.
    drive.wait(1300)
    with drive.drive.lock:
        permission = drive.drive.share(folder, {"type": "user", "role": "reader", "emailAddress": bob[5:]})
    await drive.catch_up()
    await drive.drain()
    assert key.external_id in await readable(drive, bob)
    assert await found(drive, "intend next year", bob) == [key.external_id]
    drive.wait(5)
    with drive.drive.lock:
        drive.drive.unshare(folder, permission)
    await drive.catch_up()
    await drive.drain()
    assert await readable(drive, bob) == []
    assert await found(drive, "intend next year", bob) == []
    assert await found(drive, "intend next year", f"user:{USER}") == [key.external_id]
    assert drive.handled("embed") == embedded, "who may read it is no reason to embed it again"


async def test_drive_a_native_document_has_more_than_10_mb(drive: DriveSourceRig) -> None:
    drive.drive.manners.export_limit = 2_000
    text = (
        "\n\n".join(f"Paragraph {number} of the long story." for number in range(400)) + "\n\nAnd the very end of it."
    )
    with drive.drive.lock:
        file_id = drive.drive.create_file("Long", text, owner=USER, mime_type=DOCUMENT)
    await drive.connect()
    await drive.load_history()
    await drive.catch_up()
    await drive.drain()
    stored = await whole(drive, Key("file", file_id))
    assert stored.structured_data["contentStatus"] == "extracted", stored.structured_data
    chunks = await drive.store.chunks(TENANT, stored.id)
    assert any("Paragraph 0 of" in chunk.text for chunk in chunks)
    assert "the very end" in chunks[-1].text
    assert all(chunk.vector is not None for chunk in chunks)


# Any


async def test_any_the_process_is_killed_in_the_middle_of_a_run(org: SalesforceSourceRig) -> None:
    texts = [f"row {number}" for number in range(20)]
    await org.connect(page_size=2)
    keys = [await org.create(text) for text in texts]
    org.wait(POLL.total_seconds() + 1)
    await org.tick()
    # It is in the middle of a call when it ends: the sixth page, whose answer takes longer than the process lives.
    hanging = org.simulator.api.faults.add("slow", path="/queryAll", skip=5, delay=120.0)
    assert await asyncio.to_thread(killed_once, org, lambda: hanging.hits > 0)
    org.end_faults()
    await org.normalize()
    half = await org.texts(keys)
    assert 0 < half.count(None) < len(keys)
    calls = org.simulator.api.calls_of(POLLED)
    before = len(calls)
    org.wait(AFTER_A_KILL.total_seconds())
    await org.settle()
    first, *_ = (call.soql for call in org.simulator.api.calls_of(POLLED)[before:] if call.soql)
    last_read = sorted(key.external_id for key in keys)[9]
    assert f"Id > '{last_read}'" in first, "it goes on behind the fifth page, the last whose rows are queued"
    await org.catch_up()
    assert await org.texts(keys) == texts
    assert {(await whole(org, key)).revision for key in keys} == {1}


async def test_any_one_record_is_poison(org: SalesforceSourceRig) -> None:
    await org.connect(page_size=3, objects=(PolledObject(name=POLLED),))
    texts = [f"row {number}" for number in range(10)]
    keys = [await org.create(text) for text in texts]
    poison = keys[4]
    table = org.org.tables[POLLED]
    sound = table.records[poison.external_id]
    # No field of this type ever says so, and no API would take it.
    table.put({**sound, "AnnualRevenue": "a lot"})
    await org.catch_up()
    assert await org.texts(keys) == [None if key == poison else f"row {n}" for n, key in enumerate(keys)]
    [parked] = await org.parked()
    assert parked.reason == "invalid-record"
    assert "AnnualRevenue" in parked.detail
    assert poison.external_id in parked.body
    org.wait(5)
    table.put(sound)
    org.org.update(POLLED, poison.external_id, {"Name": "mended"})
    await org.catch_up()
    assert await org.texts([poison]) == ["mended"]
    assert await replay(org.services.replay, await org.parked()) == 1
    await org.settle()
    assert await org.texts([poison]) == ["mended"], "what is replayed is older"
    assert {(await whole(org, key)).revision for key in keys} == {1}


def killed_once(org: SalesforceSourceRig, is_time: Callable[[], bool]) -> bool:
    """Let a process do the source work that waits, and kill it once it is time; whether it came to that."""
    worker = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(org.settings.data_dir), org.simulator.base_url],
        env={**os.environ, **org.secrets, "PYTHONPATH": str(ROOT)},
    )
    try:
        until = time.monotonic() + 60
        while not is_time() and worker.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        in_time = is_time()
        worker.send_signal(signal.SIGKILL)
        return worker.wait(30) == -signal.SIGKILL and in_time
    finally:
        worker.kill()
        worker.wait()


async def whole(rig: SlackSourceRig | SalesforceSourceRig | DriveSourceRig, key: Key) -> Shard:
    """The record's shard, which must be there."""
    shard = await rig.stored(key)
    assert shard is not None, key
    return shard


async def health(org: SalesforceSourceRig, keys: list[Key]) -> list[object]:
    """What the formula said when each record was read."""
    return [(await whole(org, key)).structured_data["customFields"]["Health__c"] for key in keys]


def links(shard: Shard) -> set[tuple[str, str]]:
    """Kind and target of its active links."""
    return {
        (link.relationship_type, link.target_shard_id)
        for link in shard.internal_relationships
        if link.status == "active"
    }


async def readable(drive: DriveSourceRig, principal: str) -> list[str]:
    """The ids of the files that someone may read."""
    page = await drive.store.query(ShardQuery(TENANT, system="gdrive", principals=frozenset({principal})))
    return [shard.external_relationships[0].external_id for shard in page.items]


async def found(drive: DriveSourceRig, text: str, principal: str) -> list[str]:
    """The ids of the files that someone finds."""
    hits = await drive.store.search(SearchQuery(TENANT, text, None, principals=frozenset({principal})))
    return [hit.shard.external_relationships[0].external_id for hit in hits]
