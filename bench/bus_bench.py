"""What a durable hop costs: send, receive and complete on the SQLite bus, beside plain SQL on the same bodies.

Run ``python bench/bus_bench.py``. Each row is the best of three rounds. CPU is the process's own, of all threads.
The floor does the same work without a bus, on the event loop's own thread: one ``executemany`` INSERT, one SELECT and
one DELETE a batch, each in a transaction, no locks, no ids, no order between processes.
"""

import argparse
import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
from rich.console import Console
from rich.table import Table

from messaging.bus import Message, ReceivedMessage
from messaging.message_ids import message_id
from messaging.queues import SHARD_EMISSION
from messaging.sqlite_bus import SqliteMessageBus

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds a message, of wall clock and of CPU."""

    wall: float
    cpu: float


async def timed(messages: int, work: Callable[[], Awaitable[None]]) -> Cost:
    """What *work* on *messages* messages costs each."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return Cost((time.perf_counter() - wall) / messages * 1e6, (time.process_time() - cpu) / messages * 1e6)


def sample_messages(count: int, body_bytes: int) -> list[Message]:
    """Messages as the chain sends them: a digest for an id, a correlation id and four properties."""
    text = secrets.token_hex(body_bytes // 2).encode()
    generation = secrets.token_hex(8)
    return [
        Message(
            body=text,
            message_id=message_id(SHARD_EMISSION, f"acme|sh_{number}", generation),
            correlation_id=f"correlation-{number}",
            properties={"tenantId": "acme", "schemaVersion": 1, "generation": 0, "traceparent": "00-" + "a" * 50},
        )
        for number in range(count)
    ]


async def bus_round(folder: Path, messages: list[Message], batch: int) -> dict[str, Cost]:
    """Costs of a backlog sent whole, then received and completed; and of batches that go straight through."""
    bus = SqliteMessageBus(folder / "bus.sqlite")
    try:

        async def send() -> None:
            for start in range(0, len(messages), batch):
                await bus.send(SHARD_EMISSION, messages[start : start + batch])

        async def drain() -> None:
            done = 0
            while received := await bus.receive(SHARD_EMISSION, max_messages=batch):
                done += await bus.complete(received)
            assert done == len(messages), f"{done} of {len(messages)} came through"

        sent = await timed(len(messages), send)
        drained = await timed(len(messages), drain)
        again = sample_messages(len(messages), len(messages[0].body))

        async def hop() -> None:
            done = 0
            for start in range(0, len(again), batch):
                await bus.send(SHARD_EMISSION, again[start : start + batch])
                received: list[ReceivedMessage] = await bus.receive(SHARD_EMISSION, max_messages=batch)
                done += await bus.complete(received)
            while received := await bus.receive(SHARD_EMISSION, max_messages=batch):
                done += await bus.complete(received)
            assert done == len(again), f"{done} of {len(again)} came through"

        return {"send": sent, "receive + complete": drained, "whole hop": await timed(len(again), hop)}
    finally:
        await bus.close()


async def floor_round(folder: Path, messages: list[Message], batch: int) -> dict[str, Cost]:
    """The same bodies through a plain table."""
    connection = apsw.Connection(str(folder / "floor.sqlite"))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE message (number INTEGER PRIMARY KEY, id TEXT, body BLOB)")
    try:

        def insert(start: int) -> None:
            with connection:
                connection.executemany(
                    "INSERT INTO message (id, body) VALUES (?, ?)",
                    [(message.message_id, message.body) for message in messages[start : start + batch]],
                )

        def take() -> int:
            rows = connection.execute("SELECT * FROM message ORDER BY number LIMIT ?", (batch,)).fetchall()
            with connection:
                connection.executemany("DELETE FROM message WHERE number = ?", [(row[0],) for row in rows])
            return len(rows)

        async def send() -> None:
            for start in range(0, len(messages), batch):
                insert(start)

        async def drain() -> None:
            while take():
                pass

        async def hop() -> None:
            for start in range(0, len(messages), batch):
                insert(start)
                take()

        count = len(messages)
        return {
            "send": await timed(count, send),
            "receive + complete": await timed(count, drain),
            "whole hop": await timed(count, hop),
        }
    finally:
        connection.close()


async def poll_cost(folder: Path) -> float:
    """Microseconds of asking an idle bus whether work waits."""
    bus = SqliteMessageBus(folder / "idle.sqlite")
    try:
        started = time.perf_counter()
        for _ in range(1_000):
            await bus.waiting()
        return (time.perf_counter() - started) / 1_000 * 1e6
    finally:
        await bus.close()


def best(costs: list[dict[str, Cost]], step: str) -> Cost:
    """The round of least CPU."""
    return min((cost[step] for cost in costs), key=lambda cost: cost.cpu)


async def measure(count: int, body_bytes: int, batches: list[int]) -> Table:
    """The table of all measurements."""
    table = Table(title=f"{count:,} messages of {body_bytes:,} bytes")
    for heading in ("batch", "step", "messages/s", "µs each", "CPU µs each", "floor CPU µs", "times the floor"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for batch in batches:
        of_bus, of_floor = [], []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(prefix="bus-bench-") as name:
                messages = sample_messages(count, body_bytes)
                of_floor.append(await floor_round(Path(name), messages, batch))
                of_bus.append(await bus_round(Path(name), messages, batch))
        for step in ("send", "receive + complete", "whole hop"):
            bus, floor = best(of_bus, step), best(of_floor, step)
            table.add_row(
                str(batch),
                step,
                f"{1e6 / bus.wall:,.0f}",
                f"{bus.wall:.1f}",
                f"{bus.cpu:.1f}",
                f"{floor.cpu:.1f}",
                f"{bus.cpu / floor.cpu:.2f}",
            )
        table.add_section()
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--body", type=int, default=1_024, help="bytes a body")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    arguments = parser.parse_args()
    console = Console(width=120)
    console.print(asyncio.run(measure(arguments.messages, arguments.body, arguments.batch)))
    with tempfile.TemporaryDirectory(prefix="bus-bench-") as name:
        console.print(f"asking an idle bus whether work waits: {asyncio.run(poll_cost(Path(name))):.0f} µs")


if __name__ == "__main__":
    main()
