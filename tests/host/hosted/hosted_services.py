"""Bus and change feed of the sample app: a file bus with queues of its own, and a feed from a file of shards."""

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from messaging.queues import QueueProperties
from messaging.sqlite_bus import SqliteMessageBus
from shards.model import decode_shard
from shards.store import ChangePage

QUEUES = {
    name: QueueProperties(name, lock_duration=timedelta(seconds=30), max_delivery_count=3)
    for name in ("first", "second", "slow", "stuck")
}


class FileFeed:
    """One stored shard a line; a line's number is its position."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        first = int(after or 0)
        shards = [decode_shard(line) for line in lines[first : first + limit]]
        return ChangePage(shards, str(first + len(shards)))


@dataclass
class HostedServices:
    queues: SqliteMessageBus
    store: FileFeed

    async def close(self) -> None:
        await self.queues.close()


@cache
def services() -> HostedServices:
    folder = Path(os.environ["HOSTED_DATA"])
    return HostedServices(SqliteMessageBus(folder / "bus.sqlite", QUEUES), FileFeed(folder / "feed.jsonl"))
