"""The bulk lane waits while the chain is full, and all who wait look at it together."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from messaging.bus import BusUnavailableError, QueueDepth
from messaging.queues import QUEUES, SHARD_EMISSION
from messaging.sqlite_bus import SqliteMessageBus
from processors.backpressure import MOST_UNFINISHED, until_the_chain_digests

EMPTY = QueueDepth(active=0, locked=0, scheduled=0, dead_lettered=0, oldest_enqueued_at=None)
FULL = QueueDepth(active=MOST_UNFINISHED, locked=0, scheduled=0, dead_lettered=0, oldest_enqueued_at=None)


class Watched(SqliteMessageBus):
    """A bus that counts who looks, and tells of a stage what it is to tell."""

    looks = 0
    emission: QueueDepth | Exception = EMPTY

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.looked_twice = asyncio.Event()

    async def depths(self) -> dict[str, QueueDepth]:
        self.looks += 1
        if self.looks == 2:
            self.looked_twice.set()
        await asyncio.sleep(0)
        if isinstance(self.emission, Exception):
            raise self.emission
        return {**dict.fromkeys(QUEUES, EMPTY), SHARD_EMISSION: self.emission}


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path / "bus.db")
    yield made
    await made.close()


async def test_those_who_begin_together_look_once(bus: Watched) -> None:
    await asyncio.gather(*(until_the_chain_digests(bus) for _ in range(16)))
    assert bus.looks == 1


async def test_a_full_chain_is_waited_for_together(bus: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.backpressure.LOOKING_SHARE", 1.0)
    bus.emission = FULL
    waiting = [asyncio.create_task(until_the_chain_digests(bus)) for _ in range(16)]
    await bus.looked_twice.wait()
    assert not any(task.done() for task in waiting)
    bus.emission = EMPTY
    await asyncio.gather(*waiting)
    assert bus.looks <= 4


async def test_a_bus_that_does_not_tell_fails_all_who_asked_and_is_asked_again(bus: Watched) -> None:
    bus.emission = BusUnavailableError("away")
    failed = await asyncio.gather(*(until_the_chain_digests(bus) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in failed] == [BusUnavailableError] * 3
    assert bus.looks == 1
    bus.emission = EMPTY
    await until_the_chain_digests(bus)
    assert bus.looks == 2
