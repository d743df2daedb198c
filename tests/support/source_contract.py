"""What every source must do, as cases that each source inherits.

They go the whole way: the vendor's simulator, the real webhook, the queue function that works on sources, and the chain
that makes shards; what they look at is what is stored in the end.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import cast
from urllib.parse import quote, quote_plus

import pytest
from source_rig import OTHER_TENANT, TENANT, Key, KilledError, SourceRig
from vendor_road import VendorRoad, road_of
from working_rig import POLL

from connections.state import state_shard_id
from ingestion.asking import ask, ask_for_history, ask_for_sweep
from ingestion.connecting import disconnect, resume
from ingestion.purge import purge_key
from ingestion.webhooks import PushRequest
from ingestion.work import LEASE_FOR
from messaging.bus import BusUnavailableError, MessageBus
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS_BULK, SOURCE_WORK
from messaging.times import to_text
from shards.store import ShardQuery

OWN_KEYS = ("token.key", "function.key")
"""Files of the home that are keys themselves, and no vendor's."""

FEWEST_WRITES, MOST_WRITES = 3, 60
"""A run that finds something writes at least its lease, its events and its position, and comes to an end."""


SLOW_CALL = 30
"""Seconds of a call on a bad day: what a dozen pages of them take is longer than a lease holds."""

ODD_BODIES = (
    b"", b"{}", b"[]", b"null", b'"text"', b"\xff\xfe\x00",
    b"[" * 50_000, b'{"a":' * 50_000, b"<a>" * 20_000, b"7" * 5_000_000,
)  # fmt: skip
"""What nobody sends who means well."""


class BusAway:
    """A bus that nobody can reach."""

    async def send(self, *_: object, **__: object) -> None:
        """Not there."""
        raise BusUnavailableError("the bus is away")


def written_forms(secret: str) -> Iterator[bytes]:
    """The ways in which a secret may be written down."""
    for form in {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}:
        yield form.encode()


class SourceContract:
    """The cases. A source gives the fixture ``rig``: a :class:`~source_rig.SourceRig` that is not connected yet."""

    async def created(self, rig: SourceRig, *texts: str) -> list[Key]:
        """Records of *texts*, a second apart."""
        keys = []
        for text in texts:
            keys.append(await rig.create(text))
            rig.wait(1)
        return keys

    async def begun(self, rig: SourceRig) -> None:
        """A connection that has been read once: what happens from here on is news."""
        await rig.connect()
        await rig.load_history()
        await rig.catch_up()

    @pytest.fixture
    def road(self, rig: SourceRig) -> Iterator[VendorRoad]:
        """The way to the vendor."""
        with road_of(rig) as road:
            yield road

    # Everything arrives

    async def test_the_first_load_brings_what_was_there_before(self, rig: SourceRig) -> None:
        keys = await self.created(rig, "one", "two", "three", "four", "five")
        await rig.connect()
        await rig.load_history()
        await rig.catch_up()
        assert await rig.texts(keys) == ["one", "two", "three", "four", "five"]

    async def test_what_no_push_told_is_found(self, rig: SourceRig) -> None:
        await self.begun(rig)
        [old] = await self.created(rig, "before")
        await rig.catch_up()
        await rig.pushes()
        [new] = await self.created(rig, "after")
        await rig.change(old, "changed")
        await rig.catch_up()
        assert await rig.texts([old, new]) == ["changed", "after"]

    async def test_a_poll_after_a_restart_asks_for_what_is_new_and_not_for_all_again(self, rig: SourceRig) -> None:
        await self.begun(rig)
        for number in range(12):
            await rig.create(f"old {number}")
            rig.wait(3600)
        await rig.catch_up()
        await rig.catch_up()
        before = len(rig.sent)
        await rig.pushes()
        [new] = await self.created(rig, "new")
        await rig.start_again()
        await rig.catch_up()
        assert await rig.texts([new]) == ["new"]
        assert len(rig.sent) - before < 6, "its cursor is not kept: all was sent once more"

    # Resumes

    async def test_a_run_whose_time_is_up_leaves_the_rest_to_the_next(self, rig: SourceRig, road: VendorRoad) -> None:
        await self.begun(rig)
        texts = [f"page by page {number}" for number in range(24)]
        keys = [await rig.create(text) for text in texts]
        await rig.pushes()
        road.seconds = SLOW_CALL
        rig.wait(POLL.total_seconds())
        await rig.tick()
        for _ in range(200):
            began = rig.now
            done = await rig.work(most=1)
            assert rig.now - began < LEASE_FOR, "it works on behind its deadline, until its lease has run out"
            if not done and not (await rig.bus.depths())[SOURCE_WORK].scheduled:
                break
            rig.wait(2)
        road.seconds = 0
        await rig.settle()
        assert await rig.texts(keys) == texts

    async def test_a_listing_that_is_cut_off_deletes_nothing(self, rig: SourceRig, road: VendorRoad) -> None:
        await self.begun(rig)
        keys = await self.created(rig, "one", "two", "three", "four", "five")
        await rig.catch_up()
        for calls in (1, 2, 4):
            road.calls_left = calls
            await rig.reconcile()
            road.calls_left = None
            await rig.settle(within=timedelta(minutes=30))
        assert await rig.texts(keys) == ["one", "two", "three", "four", "five"]

    async def test_killed_between_send_and_save_it_goes_on_and_loses_and_doubles_nothing(self, rig: SourceRig) -> None:
        await self.begun(rig)
        keys = await self.created(rig, "one", "two", "three", "four", "five")
        rig.die_after_events()
        with pytest.raises(KilledError):
            await rig.catch_up()
        await rig.start_again()
        await rig.settle()
        await rig.catch_up()
        assert await rig.texts(keys) == ["one", "two", "three", "four", "five"]
        await self.assert_nothing_told_twice(rig, keys)

    async def test_killed_before_any_of_its_writes_it_loses_nothing(self, rig: SourceRig) -> None:
        await self.begun(rig)
        for write in range(MOST_WRITES):
            texts = [f"{name} {write}" for name in ("one", "two", "three")]
            keys = await self.created(rig, *texts)
            await rig.pushes()
            rig.die_before_write(write)
            try:
                await rig.read()
            except KilledError:
                await rig.start_again()
            else:
                break
            await rig.settle()
            await rig.catch_up()
            assert await rig.texts(keys) == texts, f"killed before write {write}"
        assert FEWEST_WRITES < write < MOST_WRITES - 1

    async def test_a_first_load_that_is_killed_goes_on_and_loses_and_doubles_nothing(self, rig: SourceRig) -> None:
        keys = await self.created(rig, "one", "two", "three", "four", "five")
        rig.die_after_events()
        with pytest.raises(KilledError):
            # Of some sources the first poll reads all there is.
            await rig.connect()
            await rig.load_history()
        await rig.start_again()
        await rig.load_history()
        await rig.catch_up()
        assert await rig.texts(keys) == ["one", "two", "three", "four", "five"]
        await self.assert_nothing_told_twice(rig, keys)

    async def assert_nothing_told_twice(self, rig: SourceRig, keys: list[Key]) -> None:
        """All events of a record were of one version and changed it once: the rest was dropped as known."""
        versions: dict[str, set[str | None]] = defaultdict(set)
        for event in await rig.events():
            versions[event.source_id].add(event.source_version)
        for key in keys:
            shard = await rig.stored(key)
            assert shard is not None
            assert (len(versions[key.external_id]), shard.revision) == (1, 1)

    async def test_a_page_of_history_sends_and_stores_nothing_and_says_the_same_twice(self, rig: SourceRig) -> None:
        keys = await self.created(rig, "one", "two", "three", "four", "five")
        connected = await rig.connect()
        sent, memory = len(rig.sent), await rig.memory()
        position, pages, events = None, 0, list[IngestionEvent]()
        while True:
            page, again = await rig.history(position), await rig.history(position)
            pages += 1
            assert [told(event) for event in page.events] == [told(event) for event in again.events]
            assert page.next_position == again.next_position
            assert json.loads(json.dumps(page.next_position)) == page.next_position
            position = page.next_position
            events += page.events
            if position is None:
                break
            assert pages < 100, "a history that never ends"
        assert {key.external_id for key in keys} <= {event.source_id for event in events}, "a poll may hide it"
        whose = (connected.connection_id, connected.instance)
        assert {(event.connection_id, event.instance) for event in events} == {whose}
        assert len(rig.sent) == sent
        assert await rig.memory() == memory
        assert await rig.live() == []

    # Deduplicates

    async def test_a_push_delivered_three_times_is_one_change(self, rig: SourceRig) -> None:
        if not rig.has_webhook:
            pytest.skip("nothing is pushed by this vendor")
        await self.begun(rig)
        [key] = await self.created(rig, "pushed")
        assert await rig.deliver(times=3) > 0
        await rig.settle()
        assert await rig.texts([key]) == ["pushed"]
        shard = await rig.stored(key)
        assert shard is not None
        assert shard.revision == 1
        await self.assert_nothing_told_twice(rig, [key])

    async def test_a_page_read_twice_changes_nothing(self, rig: SourceRig) -> None:
        keys = await self.created(rig, "one", "two", "three")
        await rig.connect()
        await rig.load_history()
        await rig.catch_up()
        before = [(await rig.stored(key)) for key in keys]
        page = await rig.history()
        while True:
            await rig.send(*map(renamed, page.events), queue=INGESTION_EVENTS_BULK)
            if page.next_position is None:
                break
            page = await rig.history(page.next_position)
        await rig.normalize()
        after = [(await rig.stored(key)) for key in keys]
        assert [shard and (shard.revision, shard.etag) for shard in after] == [
            shard and (shard.revision, shard.etag) for shard in before
        ]

    # Pushes

    async def pushed(self, rig: SourceRig) -> tuple[Key, list[PushRequest]]:
        """A new record, and what the vendor pushes of it."""
        if not rig.has_webhook:
            pytest.skip("nothing is pushed by this vendor")
        [key] = await self.created(rig, "pushed")
        requests = await rig.pushes()
        assert requests
        return key, requests

    async def test_what_the_vendor_did_not_send_is_refused_and_not_queued(self, rig: SourceRig) -> None:
        await self.begun(rig)
        _, requests = await self.pushed(rig)
        for request in requests:
            before = await rig.bus.depths()
            elsewhere = dict.fromkeys(request.route, "planted-other-B8d2")
            forged = [
                replace(request, headers={}, route=elsewhere),
                replace(request, headers=dict.fromkeys(request.headers, "0"), route=elsewhere),
                replace(request, headers=dict.fromkeys(request.headers, "é"), route=elsewhere),
            ]
            if rig.signs_bodies:
                forged.append(replace(request, body=request.body + b" "))
            for one in forged:
                answer = await rig.take_push(one)
                assert 400 <= answer.status < 500, (answer, one.headers)
            if rig.signs_bodies:
                rig.wait(3600)
                answer = await rig.take_push(request)
                assert 400 <= answer.status < 500, "it was signed an hour ago: who sends it now has found it somewhere"
            assert (await rig.bus.depths())[SOURCE_WORK] == before[SOURCE_WORK]

    async def test_whatever_is_pushed_is_answered_and_breaks_nothing(self, rig: SourceRig) -> None:
        await self.begun(rig)
        _, [request, *_] = await self.pushed(rig)
        odd = [rig.with_body(request, body) for body in ODD_BODIES]
        odd += [
            replace(request, headers={name: value for name, value in request.headers.items() if name != left_out})
            for left_out in request.headers
        ]
        for one in odd:
            answer = await rig.take_push(one)
            assert 200 <= answer.status < 500, (answer, one.body[:40])
        await rig.settle()
        assert "failed" not in {message.reason for message in await rig.parked()}

    async def test_a_push_that_could_not_be_queued_is_not_acknowledged(self, rig: SourceRig) -> None:
        await self.begun(rig)
        key, requests = await self.pushed(rig)
        there = rig.webhooks
        rig.webhooks = replace(there, bus=cast(MessageBus, BusAway()))
        for request in requests:
            answer = await rig.take_push(request)
            assert answer.status == 503, "the vendor takes it for done, and it is nowhere"
        rig.webhooks = there
        for request in requests:
            assert 200 <= (await rig.take_push(request)).status < 300
        await rig.settle()
        assert await rig.texts([key]) == ["pushed"]

    async def test_a_push_is_for_every_tenant_that_reads_the_instance(self, rig: SourceRig) -> None:
        await self.begun(rig)
        await rig.connect(OTHER_TENANT)
        await rig.catch_up()
        key, requests = await self.pushed(rig)
        for request in requests:
            assert 200 <= (await rig.take_push(request)).status < 300
        await rig.settle()
        assert await rig.texts([key]) == await rig.texts([key], OTHER_TENANT) == ["pushed"]

    # Limits

    async def test_a_limit_is_waited_for_and_nobody_asks_before_its_time(self, rig: SourceRig) -> None:
        await self.begun(rig)
        [key] = await self.created(rig, "while the limit lasts")
        before = rig.calls()
        pause = rig.limit_rate(300)
        rig.wait(POLL.total_seconds())
        refused_at = rig.now
        await rig.tick()
        await rig.work()
        assert rig.calls() > before, "no call was made that could be refused"
        refused = rig.limited_calls()
        rig.end_faults()
        while rig.now < refused_at + pause * 0.75:
            rig.wait(pause.total_seconds() / 8)
            await rig.tick()
            await rig.work()
            assert rig.limited_calls() == refused, f"{rig.now - refused_at} after it: {pause} hold"
        assert (await rig.connection()).status == "active"
        assert await rig.texts([key]) == [None]
        rig.wait(pause.total_seconds() / 4)
        await rig.settle(within=timedelta(hours=1))
        await rig.catch_up()
        assert await rig.texts([key]) == ["while the limit lasts"]

    async def test_a_limit_that_one_worker_meets_holds_for_the_others(self, rig: SourceRig) -> None:
        await self.begun(rig)
        [key] = await self.created(rig, "while the limit lasts")
        pause = rig.limit_rate(300)
        await rig.deliver()
        rig.wait(POLL.total_seconds())
        await rig.tick()
        await rig.work()
        rig.end_faults()
        other = rig.another_worker()
        try:
            refused = rig.limited_calls()
            rig.wait(30)
            await self.created(rig, "pushed meanwhile")
            await rig.deliver()
            for _ in range(5):
                rig.wait(2)
                await rig.work(other)
            assert rig.limited_calls() == refused
            rig.wait(pause.total_seconds() + 60)
            await rig.settle(within=timedelta(hours=1), services=other)
            await rig.catch_up()
        finally:
            for source in other.sources.values():
                source.close()
            await other.close()
        assert await rig.texts([key]) == ["while the limit lasts"]

    async def test_error_pages_are_waited_out(self, rig: SourceRig) -> None:
        await self.begun(rig)
        rig.answer_with_html()
        [key] = await self.created(rig, "on a bad day")
        await rig.deliver()
        await rig.catch_up()
        connection, memory = await rig.connection(), await rig.memory()
        assert connection.status == "active", "what passes by itself needs nobody"
        assert memory.last_sync_status == "failed"
        assert memory.error_message
        assert "<" not in memory.error_message
        rig.end_faults()
        await rig.settle(within=timedelta(minutes=30))
        await rig.catch_up()
        assert (await rig.memory()).error_message is None
        assert await rig.texts([key]) == ["on a bad day"]

    # Deletes

    async def test_what_was_deleted_is_deleted(self, rig: SourceRig) -> None:
        await self.begun(rig)
        gone, stays = await self.created(rig, "gone", "stays")
        await rig.catch_up()
        await rig.delete(gone)
        rig.wait(1)
        await rig.deliver()
        await rig.settle()
        await rig.catch_up()
        assert await rig.texts([gone, stays]) == [None, "stays"]
        shard = await rig.stored(gone)
        assert shard is not None
        assert shard.status == "deleted"
        assert (shard.structured_data, shard.unstructured_data) == ({}, None)

    @pytest.mark.parametrize("how", ["deleted", "destroyed"])
    async def test_what_vanished_without_a_word_is_found_gone(self, rig: SourceRig, how: str) -> None:
        await self.begun(rig)
        gone, stays = await self.created(rig, "gone", "stays")
        await rig.catch_up()
        await rig.pushes()
        await (rig.delete if how == "deleted" else rig.destroy)(gone)
        await rig.pushes()
        await rig.catch_up()
        await rig.reconcile()
        assert await rig.texts([gone, stays]) == [None, "stays"]

    # Times

    async def test_records_of_one_instant_are_all_there(self, rig: SourceRig) -> None:
        await self.begun(rig)
        texts = [f"tie {number}" for number in range(7)]
        keys = [await rig.create(text) for text in texts]
        await rig.catch_up()
        assert await rig.texts(keys) == texts

    async def test_of_two_changes_in_one_second_the_last_one_stays(self, rig: SourceRig) -> None:
        await self.begun(rig)
        key = await rig.create("first")
        await rig.deliver()
        await rig.settle(within=timedelta(0))
        rig.wait(0.3)
        await rig.change(key, "second")
        await rig.deliver()
        await rig.settle()
        await rig.catch_up()
        assert await rig.texts([key]) == ["second"]

    @pytest.mark.parametrize("minutes", [5, -5], ids=["ahead", "behind"])
    async def test_a_vendors_clock_that_is_wrong_loses_nothing(self, rig: SourceRig, minutes: int) -> None:
        rig.skew_clock(timedelta(minutes=minutes))
        await self.begun(rig)
        changed, deleted, stays = await self.created(rig, "before", "deleted", "stays")
        await rig.catch_up()
        assert await rig.texts([changed, deleted, stays]) == ["before", "deleted", "stays"]
        await rig.change(changed, "after")
        rig.wait(1)
        await rig.delete(deleted)
        await rig.deliver()
        await rig.settle()
        [new] = await self.created(rig, "new")
        await rig.catch_up()
        assert await rig.texts([changed, deleted, stays, new]) == ["after", None, "stays", "new"]

    async def test_a_vendors_clock_that_is_set_right_loses_nothing(self, rig: SourceRig) -> None:
        rig.skew_clock(timedelta(minutes=5))
        await self.begun(rig)
        [key] = await self.created(rig, "ahead of time")
        await rig.catch_up()
        rig.skew_clock(timedelta(0))
        [new] = await self.created(rig, "new")
        await rig.catch_up()
        assert await rig.texts([key, new]) == ["ahead of time", "new"]

    async def test_the_moment_of_reading_is_when_the_source_was_asked(self, rig: SourceRig, road: VendorRoad) -> None:
        await self.begun(rig)
        await self.created(rig, "one", "two")
        road.seconds = 3
        for event in (await rig.history()).events:
            assert event.read_at is not None
            assert event.read_at <= to_text(road.asked[-1]), "what changes meanwhile would pass for older"
        sent = len(rig.sent)
        await rig.pushes()
        await rig.read()
        events = (await rig.events())[sent:]
        assert events
        assert all(event.read_at and event.read_at <= to_text(road.asked[-1]) for event in events)

    # Order

    async def test_events_in_any_order_end_in_the_newest_state(self, rig: SourceRig) -> None:
        await self.begun(rig)
        [key, deleted] = await self.created(rig, "first", "to be deleted")
        events = await self.told_of(rig)
        for text in ("second", "third"):
            await rig.change(key, text)
            rig.wait(1)
            events += await self.told_of(rig)
        await rig.delete(deleted)
        rig.wait(1)
        events += await self.told_of(rig)
        assert len([event for event in events if event.source_id == key.external_id]) >= 3
        for event in reversed(events):
            await rig.send(renamed(event))
            await rig.normalize()
        assert await rig.texts([key, deleted]) == ["third", None]

    async def told_of(self, rig: SourceRig) -> list[IngestionEvent]:
        """Let the source tell of what happened; its events, taken off the bus before they become shards."""
        await rig.deliver()
        rig.wait(POLL.total_seconds() + 1)
        await rig.tick()
        events = []
        for _ in range(10):
            rig.wait(2)
            await rig.work()
            events += await rig.waiting_events()
        return events

    async def test_history_and_news_of_one_record_end_as_one_shard_with_the_newest(self, rig: SourceRig) -> None:
        old, untouched = await self.created(rig, "as it was", "untouched")
        await rig.connect()
        pages, position = [], None
        while True:
            page = await rig.history(position)
            pages += page.events
            position = page.next_position
            if position is None:
                break
        rig.wait(1)
        await rig.change(old, "as it is")
        await rig.deliver()
        await rig.settle()
        await rig.catch_up()
        await rig.send(*pages, queue=INGESTION_EVENTS_BULK)
        await rig.normalize()
        assert await rig.texts([old, untouched]) == ["as it is", "untouched"]
        ids = [shard.external_relationships[0].external_id for shard in await rig.live()]
        assert len(ids) == len(set(ids))

    # Credentials

    async def test_refused_credentials_stop_the_connection_with_a_remedy_and_no_other(self, rig: SourceRig) -> None:
        await self.begun(rig)
        await rig.connect(OTHER_TENANT)
        await rig.break_secret(TENANT)
        [key] = await self.created(rig, "written meanwhile")
        await rig.catch_up()
        broken, other = await rig.connection(TENANT), await rig.connection(OTHER_TENANT)
        assert broken.status == "failed"
        self.assert_is_a_remedy(rig, broken.error_message)
        assert (other.status, other.error_message) == ("active", None)
        assert await rig.texts([key]) == [None]
        assert await rig.texts([key], OTHER_TENANT) == ["written meanwhile"]
        calls = rig.calls()
        await rig.services.connections.set_status(other, "paused")
        await rig.catch_up()
        assert rig.calls() == calls, "a failed connection is not tried again"

    async def test_what_the_vendor_revokes_stops_the_connection_and_mending_it_loses_nothing(
        self, rig: SourceRig
    ) -> None:
        await self.begun(rig)
        [key] = await self.created(rig, "while nobody could look")
        rig.revoke_credentials()
        await rig.catch_up()
        broken = await rig.connection()
        assert broken.status == "failed"
        self.assert_is_a_remedy(rig, broken.error_message)
        rig.restore_credentials()
        await resume(broken, rig.services.ingestion)
        await rig.settle()
        assert (await rig.connection()).status == "active"
        assert await rig.texts([key]) == ["while nobody could look"]

    def assert_is_a_remedy(self, rig: SourceRig, text: str | None) -> None:
        """A sentence for people, with nothing of the credentials in it."""
        assert text is not None
        assert len(text.split()) >= 5, text
        assert "Traceback" not in text
        assert not any(secret in text for secret in rig.planted)

    async def test_rotated_credentials_need_no_restart(self, rig: SourceRig) -> None:
        await self.begun(rig)
        rig.rotate_credentials()
        [key] = await self.created(rig, "after the rotation")
        await rig.deliver()
        await rig.settle()
        await rig.catch_up()
        assert (await rig.connection()).status == "active"
        assert await rig.texts([key]) == ["after the rotation"]

    async def test_no_secret_shows(self, rig: SourceRig, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        keys = await self.created(rig, "one", "two")
        await self.begun(rig)
        [key] = await self.created(rig, "pushed")
        await rig.deliver(times=2)
        await rig.settle()
        rig.limit_rate(60)
        await rig.catch_up()
        rig.end_faults()
        rig.rotate_credentials()
        await rig.settle(within=timedelta(hours=1))
        await rig.catch_up()
        assert await rig.texts([*keys, key]) == ["one", "two", "pushed"]
        rig.withhold()
        await rig.check()
        await rig.catch_up()
        rig.revoke_credentials()
        await rig.create("never read")
        await rig.deliver()
        await rig.settle()
        await rig.catch_up()
        await rig.break_secret(TENANT)
        await resume(await rig.connection(), rig.services.ingestion)
        await rig.settle()
        assert (await rig.connection()).status == "failed"
        log = caplog.text.encode()
        assert log
        files = [(name, content) for name, content in rig.everything_written() if name not in OWN_KEYS]
        assert any(b"pushed" in content for _, content in files)
        for secret in rig.planted:
            for form in written_forms(secret):
                assert form not in log
                assert [name for name, content in files if form in content] == []

    # Tests of a connection

    async def test_check_finds_a_sound_connection_usable_and_says_where_it_leads(self, rig: SourceRig) -> None:
        await self.created(rig, "one")
        await rig.connect()
        checked = await rig.check()
        assert checked.is_usable
        assert checked.instance == (await rig.connection()).instance != ""
        assert checked.base_url.startswith("https://")
        assert all(finding.remedy == "" for finding in checked.findings if finding.state == "ok")

    async def test_check_says_in_words_what_is_missing(self, rig: SourceRig) -> None:
        await self.created(rig, "one")
        await rig.connect()
        rig.withhold()
        checked = await rig.check()
        wrong = [finding for finding in checked.findings if finding.state != "ok"]
        assert wrong
        for finding in wrong:
            assert finding.what
            self.assert_is_a_remedy(rig, f"{finding.what}: {finding.detail}; {finding.remedy}")
            assert finding.remedy

    async def test_what_may_not_be_read_any_more_is_told_where_people_look(self, rig: SourceRig) -> None:
        await self.begun(rig)
        await self.created(rig, "one")
        rig.withhold()
        await rig.catch_up()
        told = (await rig.connection()).error_message or (await rig.memory()).error_message
        self.assert_is_a_remedy(rig, told)

    # The end

    async def test_a_purge_leaves_nothing_of_a_disconnected_connection(self, rig: SourceRig) -> None:
        await self.begun(rig)
        await rig.connect(OTHER_TENANT)
        keys = await self.created(rig, "one", "two", "three")
        await rig.deliver()
        await rig.settle()
        await rig.catch_up()
        assert await rig.texts(keys) == await rig.texts(keys, OTHER_TENANT) == ["one", "two", "three"]
        # What is remembered of a limit goes, too.
        pause = rig.limit_rate(30)
        await rig.catch_up()
        rig.end_faults()
        rig.wait(pause.total_seconds())
        await rig.settle()
        await disconnect(await rig.connection(), rig.services.ingestion, purge=True)
        await rig.settle(within=timedelta(minutes=5))
        await rig.drain()
        assert (await rig.connection()).status == "disconnected"
        assert await rig.live() == []
        ended = await rig.connection()
        kept = [one.id for one in await rig.states()]
        assert kept == [state_shard_id(TENANT, purge_key(ended))], "all that is remembered is that it is gone"
        query = ShardQuery(TENANT, system=rig.system, include_deleted=True)
        tombstones = (await rig.store.query(query, limit=1000)).items
        assert {one.status for one in tombstones} == {"deleted"}
        assert all((one.structured_data, one.unstructured_data) == ({}, None) for one in tombstones)
        assert not any(f'"{ended.connection_id}"' in message.body for message in await rig.parked())
        assert await rig.texts(keys, OTHER_TENANT) == ["one", "two", "three"]

    async def test_a_disconnected_connection_is_asked_for_nothing(self, rig: SourceRig) -> None:
        await self.begun(rig)
        await disconnect(await rig.connection(), rig.services.ingestion, purge=False)
        calls = rig.calls()
        await rig.create("never read")
        await rig.pushes()
        await rig.catch_up()
        ended = [await rig.connection()]
        await ask(ended, "poll", rig.services.ingestion)
        await ask_for_sweep(ended, rig.services.ingestion)
        await ask_for_history(ended, rig.services.ingestion)
        await rig.settle()
        assert rig.calls() == calls


def told(event: IngestionEvent) -> tuple[object, ...]:
    """What an event says, but not when it was read."""
    return (event.object_type, event.source_id, event.event_type, event.source_version, event.payload)


def renamed(event: IngestionEvent) -> IngestionEvent:
    """The event under another message id: the bus, which drops what it has had, does not help."""
    return event.model_copy(update={"event_id": f"{event.event_id}.again"})
