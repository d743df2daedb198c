"""Sends that wait for the file together go into it together: one transaction and one wait for its lock for all."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

from messaging.bus import Message

LARGEST_JOINED = 16
"""Messages of a send that others may join: a longer one has a transaction of its own."""

MOST_TOGETHER = 256
"""Messages of sends that go together."""

MOST_BYTES_TOGETHER = 512 * 1024

Send = Callable[[Callable[[], Sequence[Message]]], Awaitable[None]]
"""Sends what its argument gives when it is about to, on the file's own thread."""


class _Together:
    """Sends that go together; closed once the file's thread has taken their messages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: list[Message] = []
        self._bytes = 0
        self._taken = False

    def join(self, messages: Sequence[Message]) -> bool:
        """Whether *messages* go with these: not when these have gone, or are many."""
        size = sum(len(message.body) for message in messages)
        with self._lock:
            many = len(self._messages) + len(messages) > MOST_TOGETHER or self._bytes + size > MOST_BYTES_TOGETHER
            if self._taken or (many and self._messages):
                return False
            self._messages.extend(messages)
            self._bytes += size
            return True

    def take(self) -> Sequence[Message]:
        """All messages; none joins from here on."""
        with self._lock:
            self._taken = True
            return self._messages


class JoinedSends:
    """The sends of one queue by one process."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: tuple[_Together, asyncio.Task[None]] | None = None

    async def send(self, messages: Sequence[Message]) -> None:
        """Send *messages*, with those of other tasks that wait at the same time: all of them or none.

        A task that is cancelled meanwhile takes nothing back: its messages may be sent.

        Raises:
            Exception: what the send raised, to each whose messages were part of it.
        """
        if self._waiting is not None and self._waiting[0].join(messages):
            task = self._waiting[1]
        else:
            together = _Together()
            together.join(messages)
            task = asyncio.ensure_future(self._send(together.take))
            self._waiting = (together, task)
        await asyncio.shield(task)
