"""``python -m bench.delivery_generator``: signed Slack deliveries at a steady rate, from a process of its own.

Reads one JSON object from standard input (``url``, ``secret``, ``team``, ``app``, ``channels``, ``users``, ``count``,
``rate`` a second, ``first``: the number that the first one bears) and prints one: how each kind was answered, and the
milliseconds from sending to the answer.

One in ten deliveries repeats an earlier one as Slack's first retry does (fresh timestamp and signature, the same body);
one in a hundred each has a wrong signature, a timestamp of 400 seconds ago, or a signed body that is no JSON.
"""

import asyncio
import hashlib
import hmac
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 32
"""Deliveries that may be under way at once; Slack has no fixed number."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request: its *kind*, body and headers that are made when it is sent."""

    kind: str
    body: bytes
    age: int = 0
    retry: bool = False


def deliveries(given: dict[str, Any]) -> list[Delivery]:
    """What is sent, in its order; always the same for the same input."""
    chance = random.Random(20_261_122)
    made: list[Delivery] = []
    good: list[bytes] = []
    started = time.time()
    for number in range(given["first"], given["first"] + given["count"]):
        turn = number % 100
        if turn == 17:
            made.append(Delivery("malformed", b'{"type": "event_callback", "event": {' + str(number).encode()))
        elif turn % 10 == 9 and good:
            made.append(Delivery("repeat", chance.choice(good[-200:]), retry=True))
        else:
            body = _message(given, number, started, chance)
            kind = {23: "bad signature", 61: "stale"}.get(turn, "good")
            made.append(Delivery(kind, body, age=400 if kind == "stale" else 0))
            if kind == "good":
                good.append(body)
    return made


def _message(given: dict[str, Any], number: int, started: float, chance: random.Random) -> bytes:
    ts = f"{int(started)}.{number:06d}"
    event = {
        "type": "message",
        "channel": chance.choice(given["channels"]),
        "user": chance.choice(given["users"]),
        "text": f"Delivery number {number} of the load, about shipment {chance.randrange(10_000)}",
        "ts": ts,
        "event_ts": ts,
        "channel_type": "channel",
        "team": given["team"],
    }
    return json.dumps(
        {
            "token": "verification",
            "team_id": given["team"],
            "context_team_id": given["team"],
            "api_app_id": given["app"],
            "event": event,
            "type": "event_callback",
            "event_id": f"Ev{number:09d}",
            "event_time": int(started),
            "authorizations": [],
            "is_ext_shared_channel": False,
        }
    ).encode()


class Sender:
    """A connection that is kept open, and what it has seen."""

    def __init__(self, url: str, secret: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self._secret = secret.encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, delivery: Delivery) -> tuple[int, float]:
        """The status of the answer, and the milliseconds it took; on a new connection where the server closed this."""
        try:
            return await self._send(delivery)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            self._streams = None
            return await self._send(delivery)

    async def _send(self, delivery: Delivery) -> tuple[int, float]:
        timestamp = str(int(time.time()) - delivery.age)
        digest = hmac.new(self._secret, b"v0:" + timestamp.encode() + b":" + delivery.body, hashlib.sha256).hexdigest()
        if delivery.kind == "bad signature":
            digest = digest[::-1]
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(delivery.body)}\r\nX-Slack-Request-Timestamp: {timestamp}\r\n"
            f"X-Slack-Signature: v0={digest}\r\n"
            + ("X-Slack-Retry-Num: 1\r\nX-Slack-Retry-Reason: http_timeout\r\n" if delivery.retry else "")
            + "\r\n"
        )
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        started = time.perf_counter()
        writer.write(head.encode() + delivery.body)
        raw = await reader.readuntil(b"\r\n\r\n")
        took = (time.perf_counter() - started) * 1000
        lines = raw.decode("latin-1").split("\r\n")
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
        if length := int(headers.get("content-length", "0")):
            await reader.readexactly(length)
        if headers.get("connection", "").lower() == "close":
            writer.close()
            self._streams = None
        return int(lines[0].split()[1]), took

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def run(given: dict[str, Any]) -> dict[str, Any]:
    """Send everything at the rate, whatever the answers' speed; what came of it."""
    planned = deliveries(given)
    free: asyncio.Queue[Sender] = asyncio.Queue()
    senders = [Sender(given["url"], given["secret"]) for _ in range(CONNECTIONS)]
    for sender in senders:
        free.put_nowait(sender)
    statuses: Counter[str] = Counter()
    times: list[float] = []
    late = 0.0
    started = time.perf_counter()

    async def one(delivery: Delivery, sender: Sender) -> None:
        status, took = await sender.send(delivery)
        statuses[f"{delivery.kind} {status}"] += 1
        if delivery.kind in ("good", "repeat"):
            times.append(took)
        free.put_nowait(sender)

    running: set[asyncio.Task[None]] = set()
    for number, delivery in enumerate(planned):
        wait = started + number / given["rate"] - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        sender = await free.get()
        late = max(late, time.perf_counter() - started - number / given["rate"])
        task = asyncio.create_task(one(delivery, sender))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    seconds = time.perf_counter() - started
    for sender in senders:
        sender.close()
    times.sort()
    distinct = {json.loads(one.body)["event"]["ts"] for one in planned if one.kind in ("good", "repeat")}
    return {
        "statuses": dict(sorted(statuses.items())),
        "distinct": len(distinct),
        "seconds": seconds,
        "rate": len(planned) / seconds,
        "latestMs": late * 1000,
        "ms": {name: times[min(len(times) - 1, int(len(times) * share))] for name, share in SHARES.items()},
    }


SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(json.load(sys.stdin)))) + "\n")
