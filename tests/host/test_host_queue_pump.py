"""Queue functions on the host: what they are handed, what becomes of their messages, and what they can't break."""

import asyncio
import logging
import threading
import typing
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import azure.functions as func
import pytest
from azure.functions.servicebus import ServiceBusMessage as WorkersMessage

from local.host import queue_pump
from local.host.app_index import index_app
from local.host.errors import HostError
from local.host.host_json import HostSettings
from local.host.worker import Worker, run_worker
from messaging.bus import BusUnavailableError, Message, ReceivedMessage
from messaging.queues import QueueProperties
from messaging.sqlite_bus import SqliteMessageBus
from messaging.times import utc_now
from shards.store import ChangePage

Batch = typing.List[func.ServiceBusMessage]  # noqa: UP006 - the worker indexes no list[…]
SETTINGS = HostSettings(max_message_batch_size=10, max_concurrent_calls=4, function_timeout=timedelta(seconds=100))
QUEUES = {
    name: QueueProperties(name, lock_duration=timedelta(seconds=100), max_delivery_count=3) for name in ("jobs", "next")
}


class NoChanges:
    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        return ChangePage([], after or "0")


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteMessageBus]:
    opened = SqliteMessageBus(tmp_path / "bus.sqlite", QUEUES)
    yield opened
    await opened.close()


@asynccontextmanager
async def working(
    app: func.FunctionApp,
    bus: SqliteMessageBus,
    tmp_path: Path,
    *,
    settings: HostSettings = SETTINGS,
    grace: timedelta = timedelta(seconds=10),
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(
        run_worker(index_app(app, settings), bus, NoChanges(), tmp_path / "state", stop, grace=grace)
    )
    try:
        yield
    finally:
        stop.set()
        await running


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the functions under test know nothing of events
            await asyncio.sleep(0.01)


async def send(bus: SqliteMessageBus, count: int, queue: str = "jobs") -> list[str]:
    ids = [f"m{number:03}" for number in range(count)]
    await bus.send(queue, [Message(b'{"n":1}', message_id, "corr", {"tenant": "acme"}) for message_id in ids])
    return ids


async def remaining(bus: SqliteMessageBus, queue: str = "jobs") -> tuple[int, int]:
    depth = (await bus.depths())[queue]
    return depth.active + depth.locked + depth.scheduled, depth.dead_lettered


async def until_settled(bus: SqliteMessageBus, queue: str = "jobs") -> None:
    async with asyncio.timeout(60):
        while (await remaining(bus, queue))[0]:  # noqa: ASYNC110 - the bus tells only when it is asked
            await asyncio.sleep(0.01)


async def test_a_batch_function_is_handed_the_workers_own_messages_and_a_return_completes_them(
    bus: SqliteMessageBus, tmp_path: Path
) -> None:
    app = func.FunctionApp()
    seen: list[func.ServiceBusMessage] = []
    contexts: list[func.Context] = []

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    async def work(messages: Batch, context: func.Context) -> None:
        assert len(messages) <= 10
        seen.extend(messages)
        contexts.append(context)

    ids = await send(bus, 35)
    async with working(app, bus, tmp_path):
        await until_settled(bus)
    assert sorted(message.message_id for message in seen) == ids
    message = seen[0]
    assert type(message) is WorkersMessage
    assert message.get_body() == b'{"n":1}'
    assert message.application_properties == message.user_properties == {"tenant": "acme"}
    assert (message.delivery_count, message.correlation_id, message.content_type) == (1, "corr", "application/json")
    assert isinstance(message.sequence_number, int)
    assert message.locked_until is not None
    assert message.locked_until > utc_now()
    assert message.enqueued_time_utc is not None
    assert message.enqueued_time_utc <= utc_now()
    assert message.lock_token
    assert message.dead_letter_source is None
    assert contexts[0].function_name == "work"
    assert contexts[0].trace_context.trace_parent.startswith("00-")
    assert len({context.invocation_id for context in contexts}) == len(contexts) >= 4


async def test_a_function_of_single_messages_runs_as_many_at_once_as_host_json_says(
    bus: SqliteMessageBus, tmp_path: Path
) -> None:
    app = func.FunctionApp()
    running, most, done = 0, 0, 0

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="jobs")
    async def work(message: func.ServiceBusMessage) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        done += 1

    await send(bus, 20)
    async with working(app, bus, tmp_path):
        await until_settled(bus)
    assert (most, done) == (4, 20)


async def test_a_batch_that_raises_comes_again_and_ends_as_dead_letters_while_the_host_lives_on(
    bus: SqliteMessageBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = func.FunctionApp()
    counts: list[int | None] = []
    calm: list[str] = []

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    def furious(messages: Batch) -> None:
        counts.extend(message.delivery_count for message in messages)
        raise ValueError("no\nway")

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="next")
    def steady(message: func.ServiceBusMessage) -> None:
        calm.append(message.message_id)

    await send(bus, 2)
    with caplog.at_level(logging.DEBUG, logger="Function.furious"):
        async with working(app, bus, tmp_path):
            await until_settled(bus)
            await send(bus, 3, "next")
            await until_settled(bus, "next")
    assert sorted(count or 0 for count in counts) == [1, 1, 2, 2, 3, 3]
    assert [letter.reason for letter in await bus.dead_letters("jobs")] == ["MaxDeliveryCountExceeded"] * 2
    assert len(calm) == 3
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 4
    assert "(messages m000, m001; invocation " in errors[1].getMessage()
    assert "(message m000; invocation " in errors[2].getMessage(), "in the end each is alone"
    for record in errors:
        line = record.getMessage()
        assert "function furious failed with ValueError: no way (message" in line
        assert "\n" not in line
        assert record.exc_info is None
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.DEBUG)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), StopIteration(), TimeoutError()])
async def test_whatever_a_function_raises_is_only_its_own_failure(
    bus: SqliteMessageBus, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    app = func.FunctionApp()
    calls = {"jobs": 0, "next": 0}

    def fail_once(queue: str) -> None:
        calls[queue] += 1
        if calls[queue] == 1:
            raise error

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="jobs")
    async def on_the_loop(message: func.ServiceBusMessage) -> None:
        fail_once("jobs")

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="next", cardinality="many")
    def in_a_thread(messages: Batch) -> None:
        fail_once("next")

    await send(bus, 1)
    await send(bus, 1, "next")
    async with working(app, bus, tmp_path):
        await until_settled(bus)
        await until_settled(bus, "next")
    assert calls == {"jobs": 2, "next": 2}
    assert caplog.text.count("(message m000; invocation") == 2


async def test_a_return_value_without_a_binding_fails_the_invocation_as_on_azure(
    bus: SqliteMessageBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = func.FunctionApp()

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="jobs")
    def work(message: func.ServiceBusMessage) -> str:
        return "done"

    await send(bus, 1)
    async with working(app, bus, tmp_path):
        await until_settled(bus)
    assert await remaining(bus) == (0, 1)
    assert "without a $return binding" in caplog.text


async def test_an_async_function_that_outstays_its_time_is_cancelled_and_its_messages_are_given_back(
    bus: SqliteMessageBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = func.FunctionApp()
    counts: list[int | None] = []

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    async def work(messages: Batch) -> None:
        counts.append(messages[0].delivery_count)
        if len(counts) == 1:
            await asyncio.sleep(60)

    await send(bus, 1)
    settings = replace(SETTINGS, function_timeout=timedelta(seconds=0.2))
    async with working(app, bus, tmp_path, settings=settings):
        await until_settled(bus)
    assert counts == [1, 2]
    assert "function work took longer than the functionTimeout of 0.2 s (message m000" in caplog.text


class SteeredBus(SqliteMessageBus):
    """A bus whose locks last for 0.6 seconds of a time that the test moves on."""

    def __init__(self, path: Path) -> None:
        self.now = utc_now()
        self.renewals = 0
        queues = {name: QueueProperties(name, lock_duration=timedelta(seconds=0.6)) for name in ("jobs", "next")}
        super().__init__(path, queues, clock=lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def renew(self, messages: Sequence[ReceivedMessage], *, lock_for: timedelta | None = None) -> int:
        renewed = await super().renew(messages, lock_for=lock_for)
        self.renewals += renewed
        return renewed


async def test_single_messages_keep_their_lock_while_they_run_and_batches_do_not(tmp_path: Path) -> None:
    bus = SteeredBus(tmp_path / "bus.sqlite")
    app = func.FunctionApp()
    singles: list[int | None] = []
    batches: list[int | None] = []

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="jobs")
    async def single(message: func.ServiceBusMessage) -> None:
        singles.append(message.delivery_count)
        for _ in range(3):
            bus.renewals = 0
            await until(lambda: bus.renewals > 0)
            bus.pass_time(0.5)

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="next", cardinality="many")
    async def batch(messages: Batch) -> None:
        batches.append(messages[0].delivery_count)
        if len(batches) == 1:
            bus.pass_time(1.5)

    async with working(app, bus, tmp_path):
        await send(bus, 1)
        await until_settled(bus)
        await send(bus, 1, "next")
        await until_settled(bus, "next")
    await bus.close()
    assert singles == [1]
    assert batches == [1, 2]


async def test_a_small_batch_waits_for_more_when_host_json_asks_for_it(bus: SqliteMessageBus, tmp_path: Path) -> None:
    app = func.FunctionApp()
    sizes: list[int] = []

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    async def work(messages: Batch) -> None:
        sizes.append(len(messages))

    settings = replace(SETTINGS, min_message_batch_size=4, max_batch_wait_time=timedelta(seconds=100))
    async with working(app, bus, tmp_path, settings=settings):
        for number in range(4):
            await bus.send("jobs", [Message(b"{}", f"m{number}")])
            await asyncio.sleep(0.05)
        await until_settled(bus)
    assert sizes == [4]


async def test_a_message_that_this_process_sends_is_taken_without_waiting_for_the_next_look(
    bus: SqliteMessageBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_pump, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(queue_pump, "LONGEST_PAUSE", 3600.0)
    app = func.FunctionApp()
    taken = asyncio.Event()

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    async def work(messages: Batch) -> None:
        await bus.send("next", [Message(message.get_body(), message.message_id) for message in messages])

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="next", cardinality="many")
    async def after(messages: Batch) -> None:
        taken.set()

    worker = Worker(index_app(app, SETTINGS), bus, NoChanges(), tmp_path)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await asyncio.sleep(0.2)
    await send(bus, 1)
    worker.wake("jobs")
    async with asyncio.timeout(60):
        await taken.wait()
    stop.set()
    await running


async def test_the_grace_period_over_what_still_runs_is_given_back_with_what_was_fetched_ahead(
    bus: SqliteMessageBus, tmp_path: Path
) -> None:
    app = func.FunctionApp()
    begun: list[int] = []

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    async def work(messages: Batch) -> None:
        begun.append(len(messages))
        await asyncio.sleep(60)

    await send(bus, 30)
    async with working(app, bus, tmp_path, grace=timedelta(seconds=0.2)):
        await until(lambda: bool(begun))
    depth = (await bus.depths())["jobs"]
    assert (depth.active, depth.locked) == (30, 0)


class FailingBus(SteeredBus):
    """A bus that is away for the first call of each kind that is named, and for longer than its locks last."""

    def __init__(self, path: Path, *failures: str) -> None:
        super().__init__(path)
        self._failures = set(failures)

    def _fail(self, call: str) -> None:
        if call in self._failures:
            self._failures.discard(call)
            self.pass_time(1)
            raise BusUnavailableError("the bus is away")

    async def receive(
        self, queue: str, *, max_messages: int, lock_for: timedelta | None = None
    ) -> list[ReceivedMessage]:
        self._fail("receive")
        return await super().receive(queue, max_messages=max_messages, lock_for=lock_for)

    async def complete(self, messages: Sequence[ReceivedMessage]) -> int:
        self._fail("complete")
        return await super().complete(messages)


async def test_a_bus_that_is_away_is_reported_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bus = FailingBus(tmp_path / "bus.sqlite", "receive", "complete")
    app = func.FunctionApp()
    counts: list[int | None] = []

    @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="jobs", cardinality="many")
    def work(messages: Batch) -> None:
        counts.append(messages[0].delivery_count)

    await send(bus, 1)
    async with working(app, bus, tmp_path):
        await until_settled(bus)
    await bus.close()
    assert counts == [1, 2]
    assert "queue jobs can't be read, trying again in 0.5 s: the bus is away" in caplog.text
    assert "message m000 can't be completed" in caplog.text


async def test_a_queue_that_does_not_exist_fails_the_start(bus: SqliteMessageBus, tmp_path: Path) -> None:
    app = func.FunctionApp()

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="nowhere")
    def work(message: func.ServiceBusMessage) -> None: ...

    with pytest.raises(HostError, match="queue nowhere of function work does not exist"):
        await run_worker(index_app(app, SETTINGS), bus, NoChanges(), tmp_path, asyncio.Event())


async def test_a_thread_that_cannot_be_ended_makes_the_worker_give_way(bus: SqliteMessageBus, tmp_path: Path) -> None:
    app = func.FunctionApp()

    over = threading.Event()

    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="jobs")
    def work(message: func.ServiceBusMessage) -> None:
        over.wait(100)

    await send(bus, 1)
    settings = replace(SETTINGS, function_timeout=timedelta(seconds=0.1))
    worker = Worker(index_app(app, settings), bus, NoChanges(), tmp_path)
    async with asyncio.timeout(60):
        await worker.run(asyncio.Event())
    assert worker.threads_running > 0
    over.set()
    assert await remaining(bus) == (1, 0)
