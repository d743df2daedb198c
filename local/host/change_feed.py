"""Change feeds: each function follows the shards' changes from its own position, in order, skipping none."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import azure.functions as func

from local.host.app_index import FeedFunction
from local.host.errors import HostError
from local.host.invocation import InvocationFailedError, Invoker
from local.host.state_files import StateFile
from shards.model import encode_shard
from shards.store import ChangePage, StoreUnavailableError

_log = logging.getLogger("Host.ChangeFeed")

_FIRST_RETRY: Final = 0.5
_LONGEST_RETRY: Final = 60.0
_SKIM: Final = 1000


class ChangeFeed(Protocol):
    """The part of the shard store that a change feed needs."""

    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        """The newest state of each shard written since position *after*, None for the beginning."""


class FeedFollower:
    """Gives one function each change of the feed at least once, one batch at a time.

    The position is kept in *folder* once the function has returned; when it raises, the same changes come again, with
    growing pauses. *on_progress* is called after each batch.
    """

    def __init__(
        self, function: FeedFunction, feed: ChangeFeed, invoker: Invoker, folder: Path, on_progress: Callable[[], None]
    ) -> None:
        self.function = function
        self._feed = feed
        self._invoker = invoker
        self._file = StateFile(folder, function.name)
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._stopping = False
        self._position = self._remembered()

    def _remembered(self) -> str | None:
        state = self._file.read()
        if state is None:
            return None
        position = state.get("position")
        if not isinstance(position, str):
            raise HostError(f"{self._file.path} names no position; remove it to begin anew")
        return position

    def wake(self) -> None:
        """Look at the feed now; called when something may have been written."""
        self._wake.set()

    def stop(self) -> None:
        """Begin no other batch; :meth:`run` returns after the one that runs."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until :meth:`stop`."""
        retry = _FIRST_RETRY
        while not self._stopping:
            self._wake.clear()
            try:
                position = await self._place()
                page = await self._feed.changes(after=position, limit=self.function.max_items)
                if page.shards:
                    await self._give(page)
            except InvocationFailedError:
                await self._wait(retry, wakeable=False)
                retry = min(retry * 2, _LONGEST_RETRY)
            except StoreUnavailableError as error:
                _log.error("the change feed can't be read, trying again in %g s: %s", retry, error)
                await self._wait(retry, wakeable=False)
                retry = min(retry * 2, _LONGEST_RETRY)
            else:
                retry = _FIRST_RETRY
                if not page.shards:
                    await self._wait(self.function.poll_delay.total_seconds(), wakeable=True)

    async def _give(self, page: ChangePage) -> None:
        documents = func.DocumentList(func.Document.from_dict(json.loads(encode_shard(shard))) for shard in page.shards)
        first, last = page.shards[0].id, page.shards[-1].id
        await self._invoker.invoke(
            self.function, documents, what=lambda: f"{len(documents)} changes, of {first} to that of {last}"
        )
        await self._move(page.position)
        self._on_progress()

    async def _move(self, position: str) -> str:
        await asyncio.to_thread(self._file.write, {"position": position})
        self._position = position
        return position

    async def _place(self) -> str | None:
        """The position to go on from."""
        if self._position is None and not self.function.from_beginning:
            return await self._move(await self._end())
        return self._position

    async def _end(self) -> str:
        """The position of the last change there is: a function that is new follows what comes after it."""
        page = await self._feed.changes(after=None, limit=_SKIM)
        while page.shards:
            page = await self._feed.changes(after=page.position, limit=_SKIM)
        return page.position

    async def _wait(self, seconds: float, *, wakeable: bool) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._stopping and (left := until - loop.time()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return
            if wakeable:
                return
            self._wake.clear()
