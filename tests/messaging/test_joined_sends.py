"""Sends that wait at the same time go together, each is told what became of them, and none is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from messaging.bus import BusUnavailableError, Message
from messaging.joined_sends import MOST_TOGETHER, JoinedSends
from messaging.queues import SOURCE_WORK
from messaging.sqlite_bus import SqliteMessageBus


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SqliteMessageBus]:
    made = SqliteMessageBus(tmp_path / "bus.db")
    yield made
    await made.close()


def message(number: int) -> Message:
    """A message of its own."""
    return Message(body=f'{{"n":{number}}}'.encode(), message_id=f"m{number}")


async def received(bus: SqliteMessageBus) -> list[str]:
    """The ids of all messages, taken off the queue."""
    found: list[str] = []
    while messages := await bus.receive(SOURCE_WORK, max_messages=500):
        found += [one.message_id for one in messages]
        await bus.complete(messages)
    return found


async def test_what_many_tasks_send_at_once_is_all_there_once_and_in_order(bus: SqliteMessageBus) -> None:
    numbers = [*range(600), *range(0, 600, 7)]
    await asyncio.gather(*(bus.send(SOURCE_WORK, [message(number)]) for number in numbers))
    assert await received(bus) == [f"m{number}" for number in range(600)]


async def test_a_cancelled_task_takes_no_other_along(bus: SqliteMessageBus) -> None:
    tasks = [asyncio.ensure_future(bus.send(SOURCE_WORK, [message(number)])) for number in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[20].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert {f"m{number}" for number in range(50)} - {"m0", "m20"} <= set(await received(bus))


async def test_those_that_wait_go_in_one_and_no_more_than_fit() -> None:
    sent: list[int] = []
    first = asyncio.Event()

    async def send(taken: Callable[[], Sequence[Message]]) -> None:
        if not sent:
            sent.append(len(taken()))
            await first.wait()
        else:
            await asyncio.sleep(0)
            sent.append(len(taken()))

    joined = JoinedSends(send)
    tasks = [asyncio.ensure_future(joined.send([message(0)]))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.ensure_future(joined.send([message(number)])) for number in range(1, MOST_TOGETHER + 11)]
    await asyncio.sleep(0)
    first.set()
    await asyncio.gather(*tasks)
    assert sent == [1, MOST_TOGETHER, 10]


async def test_each_is_told_that_the_bus_is_away() -> None:
    async def send(taken: Callable[[], Sequence[Message]]) -> None:
        taken()
        raise BusUnavailableError("away")

    joined = JoinedSends(send)
    ends = await asyncio.gather(*(joined.send([message(number)]) for number in range(3)), return_exceptions=True)
    assert [type(end) for end in ends] == [BusUnavailableError] * 3
