"""A producer or a consumer in a process of its own, for tests that kill it.

``python bus_process.py produce FILE QUEUE FIRST COUNT BATCH`` prints each message number once send() has returned.
``python bus_process.py consume FILE QUEUE BATCH MOST`` prints each message number before and after it is completed. It
ends when nothing is there and its standard input has ended; from MOST messages on it receives none and waits for that.
``python bus_process.py hold FILE QUEUE COUNT`` receives and then does nothing.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine

from messaging.bus import Message
from messaging.sqlite_bus import SqliteMessageBus


async def produce(path: str, queue: str, first: int, count: int, batch: int) -> None:
    bus = SqliteMessageBus(path)
    for start in range(first, first + count, batch):
        numbers = range(start, min(start + batch, first + count))
        await bus.send(queue, [Message(body=str(number).encode() * 50, message_id=f"m{number}") for number in numbers])
        print(*(f"sent {number}\n" for number in numbers), sep="", end="", flush=True)
    await bus.close()


async def consume(path: str, queue: str, batch: int, most: int) -> None:
    over = threading.Thread(target=sys.stdin.read, daemon=True)
    over.start()
    bus = SqliteMessageBus(path)
    print("open", flush=True)
    count = 0
    while True:
        last = not over.is_alive()
        received = await bus.receive(queue, max_messages=batch) if count < most else []
        if not received:
            if last:
                break
            await asyncio.sleep(0.01)
            continue
        count += len(received)
        print(*(f"received {item.message_id[1:]}\n" for item in received), sep="", end="", flush=True)
        half = len(received) // 2  # two unequal ends: a batch is carved at times
        for part in (received[:half], received[half:]):
            if part and await bus.complete(part) == len(part):
                print(*(f"completed {item.message_id[1:]}\n" for item in part), sep="", end="", flush=True)
    await bus.close()


async def hold(path: str, queue: str, count: int) -> None:
    bus = SqliteMessageBus(path)
    for item in await bus.receive(queue, max_messages=count):
        print(f"received {item.message_id[1:]}", flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    role, file, name, *numbers = sys.argv[1:]
    roles: dict[str, Callable[..., Coroutine[None, None, None]]] = {
        "produce": produce,
        "consume": consume,
        "hold": hold,
    }
    asyncio.run(roles[role](file, name, *map(int, numbers)))
