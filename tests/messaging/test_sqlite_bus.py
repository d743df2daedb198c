"""What the bus on a SQLite file promises beyond the port."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from messaging import sqlite, sqlite_bus
from messaging.bus import BusUnavailableError, Message
from messaging.duplicate_window import PRUNE_EVERY
from messaging.queues import QUEUES, SHARD_EMISSION, QueueProperties
from messaging.sqlite import DataFileError
from messaging.sqlite_bus import SqliteMessageBus
from messaging.times import from_milliseconds


def messages(numbers: range, size: int = 20) -> list[Message]:
    return [Message(body=bytes(size), message_id=f"m{number}") for number in numbers]


async def drained(bus: SqliteMessageBus, most: int = 100) -> list[str]:
    """The ids of all that could be received, which is completed."""
    ids: list[str] = []
    while received := await bus.receive(SHARD_EMISSION, max_messages=most):
        ids += [item.message_id for item in received]
        assert await bus.complete(received) == len(received)
    return ids


async def test_two_buses_on_a_file_share_messages_and_the_duplicate_window(tmp_path: Path) -> None:
    one, two = SqliteMessageBus(tmp_path / "bus"), SqliteMessageBus(tmp_path / "bus")
    await one.send(SHARD_EMISSION, messages(range(10)))
    await two.send(SHARD_EMISSION, messages(range(5, 15)))
    await one.send(SHARD_EMISSION, messages(range(12, 17)))
    first = await two.receive(SHARD_EMISSION, max_messages=10)
    second = await one.receive(SHARD_EMISSION, max_messages=10)
    assert [item.message_id for item in [*first, *second]] == [f"m{number}" for number in range(17)]
    assert await one.complete(first) == 10, "a lock is the token's, whoever shows it"
    await two.close()
    await one.close()
    late = SqliteMessageBus(tmp_path / "bus")
    await late.send(SHARD_EMISSION, messages(range(20)))
    assert await drained(late) == [f"m{number}" for number in [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]]
    await late.close()


async def test_sends_at_the_same_time_from_several_buses_drop_repeats(tmp_path: Path) -> None:
    buses = [SqliteMessageBus(tmp_path / "bus") for _ in range(3)]
    await asyncio.gather(
        *(bus.send(SHARD_EMISSION, messages(range(start, start + 40))) for bus in buses for start in range(0, 200, 20))
    )
    assert sorted(await drained(buses[0])) == sorted(f"m{number}" for number in range(220))
    for bus in buses:
        await bus.close()


async def test_a_cancelled_receive_leaves_its_messages_free_and_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, gate = threading.Event(), threading.Event()

    def held_up(milliseconds: int) -> datetime:
        reached.set()
        gate.wait(100)
        return from_milliseconds(milliseconds)

    bus = SqliteMessageBus(tmp_path / "bus")
    await bus.send(SHARD_EMISSION, messages(range(3)))
    monkeypatch.setattr(sqlite_bus, "from_milliseconds", held_up)
    receiving = asyncio.create_task(bus.receive(SHARD_EMISSION, max_messages=10))
    assert await asyncio.to_thread(reached.wait, 100)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    gate.set()
    received = await bus.receive(SHARD_EMISSION, max_messages=10)
    assert [(item.message_id, item.delivery_count) for item in received] == [("m0", 1), ("m1", 1), ("m2", 1)]
    await bus.close()


async def test_a_file_in_use_is_an_unavailable_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 5)
    monkeypatch.setattr(sqlite, "BUSY_ATTEMPTS", 2)
    bus = SqliteMessageBus(tmp_path / "bus")
    other = apsw.Connection(str(tmp_path / "bus"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusUnavailableError, match="locked by another process"):
        await bus.send(SHARD_EMISSION, messages(range(1)))
    assert await bus.receive(SHARD_EMISSION, max_messages=1) == [], "an empty queue is seen without a write"
    other.execute("ROLLBACK")
    other.close()
    await bus.send(SHARD_EMISSION, messages(range(1)))
    assert await drained(bus) == ["m0"]
    await bus.close()


async def test_a_broken_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bus").write_bytes(b"not a data file" * 1_000)
    with pytest.raises(DataFileError, match=r"move the whole folder .* away") as caught:
        SqliteMessageBus(tmp_path / "bus")
    assert "\n" not in str(caught.value)


async def test_large_batches_that_come_again_are_cut_to_what_is_asked_for(tmp_path: Path) -> None:
    bus = SqliteMessageBus(tmp_path / "bus")
    await bus.send(SHARD_EMISSION, messages(range(300)))
    received = await bus.receive(SHARD_EMISSION, max_messages=256)
    assert len(received) == 256
    assert await bus.abandon(received) == 256
    seen: list[str] = []
    while batch := await bus.receive(SHARD_EMISSION, max_messages=50):
        assert len(batch) <= 50
        assert {item.delivery_count for item in batch} == {1 if len(seen) >= 256 else 2}
        seen += [item.message_id for item in batch]
        assert await bus.complete(batch) == len(batch)
    assert seen == [f"m{number}" for number in range(300)]
    await bus.close()


async def test_the_file_uses_its_room_again(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    bus = SqliteMessageBus(tmp_path / "bus", clock=lambda: now)
    sizes = []
    for turn in range(120):
        await bus.send(SHARD_EMISSION, messages(range(turn * 200, turn * 200 + 200), size=2_000))
        assert len(await drained(bus)) == 200
        now += timedelta(minutes=1)
        sizes.append(await bus._file.run(lambda connection: connection.pragma("page_count")))
    entries = await bus._file.run(lambda connection: connection.execute("SELECT count(*) FROM sent").get)
    assert max(sizes[60:]) <= max(sizes[:60]) + 1, "after some windows of ten turns, nothing grows"
    assert entries <= 10 + PRUNE_EVERY
    await bus.close()


async def test_a_queue_that_is_new_to_the_file_is_added(tmp_path: Path) -> None:
    bus = SqliteMessageBus(tmp_path / "bus")
    await bus.send(SHARD_EMISSION, messages(range(1)))
    await bus.close()
    bus = SqliteMessageBus(tmp_path / "bus", {**QUEUES, "sync-outbound": QueueProperties("sync-outbound")})
    await bus.send("sync-outbound", messages(range(2)))
    assert (await bus.waiting())["sync-outbound"] == 2
    assert (await bus.waiting())[SHARD_EMISSION] == 1
    await bus.close()


async def test_more_messages_fall_due_or_out_at_once_than_one_receive_moves(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    queue = QueueProperties(SHARD_EMISSION, max_delivery_count=1)
    bus = SqliteMessageBus(tmp_path / "bus", {SHARD_EMISSION: queue}, lambda: now)
    for start in range(0, 900, 30):
        await bus.send(SHARD_EMISSION, messages(range(start, start + 30)), delay=timedelta(seconds=1 + start))
    now += timedelta(hours=1)
    received = []
    while batch := await bus.receive(SHARD_EMISSION, max_messages=64):
        received += batch
    assert [item.message_id for item in received] == [f"m{number}" for number in range(900)]
    assert await bus.abandon(received) == 900
    while (await bus.waiting())[SHARD_EMISSION]:
        assert await bus.receive(SHARD_EMISSION, max_messages=64) == []
    assert len(await bus.dead_letters(SHARD_EMISSION, limit=1_000)) == 900
    await bus.close()


async def test_messages_that_come_back_come_in_ever_smaller_batches(tmp_path: Path) -> None:
    """One of them may be what ends the receiver: in the end it is alone, and the others get through."""
    bus = SqliteMessageBus(tmp_path / "bus")
    await bus.send(SHARD_EMISSION, messages(range(300)))
    sizes = []
    for _ in range(6):
        received = await bus.receive(SHARD_EMISSION, max_messages=256)
        sizes.append(len(received))
        assert len({item.delivery_count for item in received}) == 1
        if received[0].message_id == "m0":
            await bus.abandon(received)
    assert sizes == [256, 64, 16, 4, 1, 1]
    assert received[0].delivery_count == 6
    assert sorted(await drained(bus, 256)) == sorted(f"m{number}" for number in range(300))
    await bus.close()


async def test_a_message_that_ends_its_receiver_takes_no_other_along(tmp_path: Path) -> None:
    bus = SqliteMessageBus(tmp_path / "bus")
    await bus.send(SHARD_EMISSION, messages(range(300)))
    done: list[str] = []
    while received := await bus.receive(SHARD_EMISSION, max_messages=256):
        ids = [item.message_id for item in received]
        if "m77" in ids:
            await bus.abandon(received)
        else:
            done += ids
            await bus.complete(received)
    assert sorted(done) == sorted(f"m{number}" for number in range(300) if number != 77)
    assert [letter.message_id for letter in await bus.dead_letters(SHARD_EMISSION)] == ["m77"]
    await bus.close()
