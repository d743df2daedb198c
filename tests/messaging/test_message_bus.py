"""Both twins of the bus: the SQLite file, and Service Bus through the real SDK against a peer on the wire."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.servicebus.aio import ServiceBusClient
from message_bus_contract import QUEUES, MessageBusContract, bodies, message
from service_bus_peer import ServiceBusPeer
from service_bus_receiver import ServiceBusReceiver

from messaging.service_bus import ServiceBusMessageBus
from messaging.sqlite_bus import SqliteMessageBus

Connect = Callable[[], ServiceBusClient]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class TestSqliteMessageBus(MessageBusContract):
    @pytest.fixture
    def clock(self) -> Clock:
        self.moved = Clock()
        return self.moved

    @pytest.fixture
    async def bus(self, tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteMessageBus]:
        bus = SqliteMessageBus(tmp_path / "bus.sqlite", QUEUES, clock)
        yield bus
        await bus.close()

    @pytest.fixture
    def receiver(self, bus: SqliteMessageBus) -> SqliteMessageBus:
        return bus

    async def pass_time(self, duration: timedelta) -> None:
        self.moved.now += duration

    async def test_an_id_is_free_again_after_the_window(self, bus: SqliteMessageBus) -> None:
        await bus.send("work", [message(1)])
        await self.pass_time(timedelta(minutes=9, seconds=59))
        await bus.send("work", [message(1)])
        assert len(await self.receive_all(bus)) == 1
        await self.pass_time(timedelta(seconds=1))
        await bus.send("work", [message(1)])
        await bus.send("work", [message(1)])
        assert bodies(await self.receive_all(bus))[-1:] == ["body 1"]
        depth = (await bus.depths())["work"]
        assert depth.active + depth.locked == 2

    async def test_what_waits_is_what_can_be_received_now(self, bus: SqliteMessageBus) -> None:
        await bus.send("work", [message(1)], delay=timedelta(minutes=5))
        await bus.send("work", [message(2)])
        assert await bus.waiting() == {"work": 1, "other": 0}
        await bus.receive("work", max_messages=10)
        assert await bus.waiting() == {"work": 0, "other": 0}
        await self.pass_time(timedelta(seconds=60))
        assert await bus.waiting() == {"work": 1, "other": 0}
        await self.pass_time(timedelta(minutes=4))
        assert await bus.waiting() == {"work": 2, "other": 0}

    async def test_messages_received_before_come_in_batches_of_their_own(self, bus: SqliteMessageBus) -> None:
        await bus.send("work", [message(1), message(2)])
        await bus.abandon(await bus.receive("work", max_messages=1))
        assert bodies(await bus.receive("work", max_messages=10)) == ["body 1"]
        assert bodies(await bus.receive("work", max_messages=10)) == ["body 2"]

    async def test_ids_like_digests_are_told_apart_by_case_and_blanks(self, bus: SqliteMessageBus) -> None:
        digest = "ab" * 20
        ids = [digest, digest.upper(), "ab " + "ab" * 18 + "a", digest[:-1] + "x", ""]
        await bus.send("work", [message(number, message_id=text) for number, text in enumerate(ids)])
        await bus.send("work", [message(9, message_id=digest)])
        assert [item.message_id for item in await self.receive_all(bus)] == ids

    async def test_locked_messages_are_told_from_those_that_wait(self, bus: SqliteMessageBus) -> None:
        await bus.send("work", [message(number) for number in range(5)])
        await bus.receive("work", max_messages=2)
        depth = (await bus.depths())["work"]
        assert (depth.active, depth.locked) == (3, 2)


class TestServiceBusMessageBus(MessageBusContract):
    @pytest.fixture
    async def bus(self, peer: ServiceBusPeer, connect: Connect) -> AsyncIterator[ServiceBusMessageBus]:
        self.peer = peer
        bus = ServiceBusMessageBus(connect, queues=QUEUES, clock=peer.time.now)
        yield bus
        await bus.close()

    @pytest.fixture
    def receiver(self, service_bus_receiver: ServiceBusReceiver) -> ServiceBusReceiver:
        return service_bus_receiver

    async def pass_time(self, duration: timedelta) -> None:
        self.peer.advance(duration)
