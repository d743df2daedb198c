"""Any sequence of bus operations against a model of a queue in a list."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from messaging.bus import Message, ReceivedMessage
from messaging.queues import QueueProperties
from messaging.sqlite_bus import SqliteMessageBus

QUEUE = QueueProperties(
    "work",
    lock_duration=timedelta(seconds=5),
    max_delivery_count=3,
    duplicate_detection_window=timedelta(seconds=12),
)
START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Kept:
    """A message the model keeps, in the order in which the queue must give it."""

    name: str
    due_at: int
    deliveries: int = 0
    token: str | None = None
    locked_until: int = 0


@dataclass
class Model:
    """Times in seconds since START."""

    scheduled: list[Kept] = field(default_factory=list)
    queue: list[Kept] = field(default_factory=list)
    buried: list[str] = field(default_factory=list)
    sent_at: dict[str, int] = field(default_factory=dict)


class BusMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="bus-model-")
        self.now = 0
        self.model = Model()
        self.held: list[list[ReceivedMessage]] = []
        self.bus = self.opened()

    def opened(self) -> SqliteMessageBus:
        path = Path(self.folder.name) / "bus.sqlite"
        return SqliteMessageBus(path, {"work": QUEUE}, lambda: START + timedelta(seconds=self.now))

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @rule(names=st.lists(st.integers(0, 40), min_size=1, max_size=8), delay=st.sampled_from([0, 0, 0, 1, 7]))
    def send(self, names: list[int], delay: int) -> None:
        messages = [Message(body=f"{name}@{self.now}".encode(), message_id=f"m{name}") for name in names]
        self.run(self.bus.send("work", messages, delay=timedelta(seconds=delay) if delay else None))
        for message in messages:
            last = self.model.sent_at.get(message.message_id)
            if last is not None and self.now - last < 12:
                continue
            self.model.sent_at[message.message_id] = self.now
            kept = Kept(message.body.decode(), self.now + delay)
            (self.model.scheduled if delay else self.model.queue).append(kept)

    @rule(most=st.integers(1, 6), seconds=st.sampled_from([1, 5, 9]))
    def receive(self, most: int, seconds: int) -> None:
        due = [kept for kept in self.model.scheduled if kept.due_at <= self.now]
        self.model.queue += sorted(due, key=lambda kept: kept.due_at)
        self.model.scheduled = [kept for kept in self.model.scheduled if kept.due_at > self.now]
        received = self.run(self.bus.receive("work", max_messages=most, lock_for=timedelta(seconds=seconds)))
        free = [kept for kept in self.model.queue if kept.locked_until <= self.now]
        again = [kept for kept in free if 0 < kept.deliveries < 3]
        expected = again or [kept for kept in free if not kept.deliveries]
        assert len(received) <= most
        assert bool(received) == bool(expected)
        assert [item.body.decode() for item in received] == [kept.name for kept in expected[: len(received)]]
        for item, kept in zip(received, expected, strict=False):
            kept.deliveries += 1
            assert item.delivery_count == kept.deliveries
            kept.token, kept.locked_until = item.lock_token, self.now + seconds
        if received:
            self.held.append(received)
        letters = self.run(self.bus.dead_letters("work", limit=10_000))
        exhausted = {kept.name for kept in free if kept.deliveries >= 3}
        for letter in letters:
            name = letter.body.decode()
            if name not in self.model.buried:
                assert name in exhausted
                assert letter.reason == "MaxDeliveryCountExceeded"
                self.model.buried.append(name)
                self.model.queue = [kept for kept in self.model.queue if kept.name != name]

    def under_lock(self, messages: list[ReceivedMessage]) -> list[Kept]:
        by_name = {kept.name: kept for kept in self.model.queue}
        found = [by_name.get(item.body.decode()) for item in messages]
        return [
            kept
            for kept, item in zip(found, messages, strict=True)
            if kept and kept.token == item.lock_token and kept.locked_until > self.now
        ]

    def some_held(self, data: st.DataObject) -> list[ReceivedMessage]:
        batch = data.draw(st.sampled_from(self.held))
        return data.draw(st.lists(st.sampled_from(batch), unique_by=lambda item: item.sequence_number, min_size=1))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        messages = self.some_held(data)
        done = self.under_lock(messages)
        assert self.run(self.bus.complete(messages)) == len(done)
        self.model.queue = [kept for kept in self.model.queue if kept not in done]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        messages = self.some_held(data)
        freed = self.under_lock(messages)
        assert self.run(self.bus.abandon(messages)) == len(freed)
        for kept in freed:
            kept.token, kept.locked_until = None, 0

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seconds=st.sampled_from([2, 10]))
    def renew(self, data: st.DataObject, seconds: int) -> None:
        messages = self.some_held(data)
        renewed = self.under_lock(messages)
        assert self.run(self.bus.renew(messages, lock_for=timedelta(seconds=seconds))) == len(renewed)
        for kept in renewed:
            kept.locked_until = self.now + seconds

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def dead_letter(self, data: st.DataObject) -> None:
        messages = self.some_held(data)
        buried = self.under_lock(messages)
        assert self.run(self.bus.dead_letter(messages, reason="r", description="d")) == len(buried)
        self.model.buried += [kept.name for kept in buried]
        self.model.queue = [kept for kept in self.model.queue if kept not in buried]

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def open_again(self) -> None:
        self.run(self.bus.close())
        self.bus = self.opened()
        for kept in self.model.queue:
            kept.token, kept.locked_until = None, 0

    @invariant()
    def depths_agree(self) -> None:
        depth = self.run(self.bus.depths())["work"]
        locked = sum(kept.locked_until > self.now for kept in self.model.queue)
        scheduled = sum(kept.due_at > self.now for kept in self.model.scheduled)
        everything = len(self.model.queue) + len(self.model.scheduled)
        assert (depth.active, depth.locked, depth.scheduled, depth.dead_lettered) == (
            everything - locked - scheduled,
            locked,
            scheduled,
            len(self.model.buried),
        )
        assert self.run(self.bus.waiting()) == {"work": depth.active}

    def teardown(self) -> None:
        self.run(self.bus.close())
        self.runner.close()
        self.folder.cleanup()


TestBusAgainstModel = BusMachine.TestCase
TestBusAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
