"""Several real processes on one bus file, some of them killed."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from messaging.queues import SHARD_EMISSION
from messaging.sqlite_bus import SqliteMessageBus

PROCESS = Path(__file__).with_name("bus_process.py")
ALL = 1_000_000
"""More messages than there are."""


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _nothing_goes_on_after_a_test_that_failed() -> Iterator[None]:
    yield
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()


def start(log: Path, *arguments: object) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
        )
    STARTED.append(process)
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    """Tell it that there will be no more, and wait for its end."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def said(log: Path, word: str) -> list[int]:
    """The numbers after *word* in whole lines; a killed process may leave half a line."""
    lines = log.read_text().split("\n")[:-1]
    return [int(line.split()[1]) for line in lines if line.startswith(f"{word} ")]


def wait_for(log: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while log.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, f"{log.name} never had {lines} lines"
        time.sleep(0.002)


def test_two_producers_and_two_consumers_lose_and_double_nothing(tmp_path: Path) -> None:
    file = tmp_path / "bus.sqlite"
    producers = [
        start(tmp_path / f"producer{index}", "produce", file, SHARD_EMISSION, first, 2_000, 50)
        for index, first in enumerate((0, 1_500))  # 500 ids are sent by both
    ]
    consumers = [
        start(tmp_path / f"consumer{index}", "consume", file, SHARD_EMISSION, batch, ALL)
        for index, batch in enumerate((64, 7))
    ]
    for process in [*producers, *consumers]:
        finish(process)
    received = [number for index in (0, 1) for number in said(tmp_path / f"consumer{index}", "received")]
    completed = [number for index in (0, 1) for number in said(tmp_path / f"consumer{index}", "completed")]
    assert sorted(received) == sorted(completed) == list(range(3_500))


async def test_a_killed_producer_has_sent_what_send_returned_for(tmp_path: Path) -> None:
    file = tmp_path / "bus.sqlite"
    chance = random.Random(20260301)
    acknowledged: set[int] = set()
    for attempt in range(4):
        log = tmp_path / f"producer{attempt}"
        # Each begins anew, so what an earlier one has sent is sent again and dropped.
        producer = start(log, "produce", file, SHARD_EMISSION, 0, 100_000, chance.choice((1, 16, 200)))
        wait_for(log, chance.randrange(100, 900))
        kill(producer)
        acknowledged.update(said(log, "sent"))
    bus = SqliteMessageBus(file)
    received: list[int] = []
    while batch := await bus.receive(SHARD_EMISSION, max_messages=500):
        received += [int(item.message_id[1:]) for item in batch]
        assert all(item.body == item.message_id[1:].encode() * 50 for item in batch)
        assert await bus.complete(batch) == len(batch)
    await bus.close()
    assert acknowledged <= set(received)
    assert len(received) == len(set(received))


@pytest.mark.parametrize("batch", [1, 64])
async def test_what_a_killed_consumer_held_comes_again_at_the_next_start(tmp_path: Path, batch: int) -> None:
    file = tmp_path / "bus.sqlite"
    chance = random.Random(batch)
    finish(start(tmp_path / "producer", "produce", file, SHARD_EMISSION, 0, 3_000, 100))
    logs = []
    for attempt in range(4):
        logs.append(tmp_path / f"consumer{attempt}")
        consumer = start(logs[-1], "consume", file, SHARD_EMISSION, batch, 600)
        wait_for(logs[-1], chance.randrange(1, 400))
        kill(consumer)
    logs.append(tmp_path / "last")
    finish(start(logs[-1], "consume", file, SHARD_EMISSION, batch, ALL))
    completed = Counter(number for log in logs for number in said(log, "completed"))
    received = Counter(number for log in logs for number in said(log, "received"))
    bus = SqliteMessageBus(file)
    depth = (await bus.depths())[SHARD_EMISSION]
    letters = await bus.dead_letters(SHARD_EMISSION, limit=1_000)
    await bus.close()
    assert (depth.active, depth.locked) == (0, 0)
    assert letters == []
    assert set(received) == set(range(3_000))
    assert max(completed.values()) == 1
    # A kill falls between the commit and the print for at most one half batch a time.
    assert len(completed) >= 3_000 - 4 * (batch + 1) // 2
    # Received twice is only what a killed consumer held: at most one batch a kill.
    assert sum(received.values()) <= 3_000 + 4 * batch


async def test_locks_of_a_dead_process_are_freed_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    file = tmp_path / "bus.sqlite"
    finish(start(tmp_path / "producer", "produce", file, SHARD_EMISSION, 0, 10, 1))
    living = SqliteMessageBus(file)
    held = await living.receive(SHARD_EMISSION, max_messages=4)
    holder = start(tmp_path / "holder", "hold", file, SHARD_EMISSION, 3)
    wait_for(tmp_path / "holder", 3)
    assert await living.release_dead_owners() == 0
    kill(holder)
    assert await living.release_dead_owners() == 3
    opened = SqliteMessageBus(file)
    assert (await opened.depths())[SHARD_EMISSION].locked == 4
    assert await living.complete(held) == 4
    again = await opened.receive(SHARD_EMISSION, max_messages=100)
    assert [item.delivery_count for item in again] == [2, 2, 2]
    await opened.close()
    assert (await living.depths())[SHARD_EMISSION].active == 6, "closing frees what it held"
    await living.close()
