"""Keeps a SQLite file's write-ahead log short, on a thread of its own: whoever writes does not wait for the disk.

A checkpoint syncs the log, copies its pages into the file and syncs that, which takes some 20 ms and needs no lock
that writers want. So it goes through the log a few times, each time over what was written during the time before, and
takes the write lock for the last few pages only. The next write then begins the log anew.

That write syncs the log's header while it holds the lock. In a log that keeps its length (``journal_size_limit``) this
takes a millisecond; where the log was cut and has to grow again, the file system's journal is written as well, and all
writers wait for tens of milliseconds.
"""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import apsw

from messaging.lock_wait import LockWait

logger = logging.getLogger(__name__)

CHECKPOINT_PAGES = 2_000
"""Pages in the write-ahead log at which its content is moved into the file (8 MB of 4 KiB pages)."""

LARGEST_LOG_PAGES = 8 * CHECKPOINT_PAGES
"""Pages (64 MB of 4 KiB pages) at which the log is begun anew even if writers have to wait for it, and for readers."""

PASSES = 4
"""Times that the log is gone through beside writers, at most."""

LAST_PAGES = 32
"""Pages so few that they may be moved under the write lock."""

LOCK_WAIT = 0.003
"""Seconds that a checkpoint waits for the write lock, and, when it has it and all writers wait, for readers."""

TRIES = 10
"""Times that the write lock is asked for."""

READERS_WAIT = 0.1
"""Seconds for which writers wait when the log has grown too long under readers that overlap."""


class Checkpoints:
    """The checkpoints of one file in this process, through a connection of their own.

    Args:
        path: the file, in write-ahead mode once :meth:`note_log` is called.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due_at = CHECKPOINT_PAGES
        self._wait = LockWait(LOCK_WAIT)
        self._connection: apsw.Connection | None = None
        self._running: Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"checkpoint {path.name}")

    def note_log(self, pages: int) -> None:
        """Begin a checkpoint if the log, of *pages* after a commit, is due for one. Returns at once, unless the log
        is so long that writing has to wait for it.

        It is always called by the same thread, and not after :meth:`close`.
        """
        if pages < CHECKPOINT_PAGES:
            self._due_at = CHECKPOINT_PAGES
        crowded = pages >= LARGEST_LOG_PAGES
        if pages >= self._due_at and (self._running is None or self._running.done()):
            self._due_at = pages + CHECKPOINT_PAGES
            self._running = self._thread.submit(self._checkpoint, crowded)
        if crowded and self._running is not None:
            self._running.result()

    def close(self) -> None:
        """End what is under way and close the connection."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _checkpoint(self, crowded: bool) -> None:
        try:
            if self._connection is None:
                self._connection = self._opened()
            self._shorten(self._connection, crowded)
        except apsw.BusyError:
            return  # another process does the same now, or a reader stays: due again CHECKPOINT_PAGES later
        except Exception:
            # Nothing is lost, the log holds it; whoever writes next meets the same disk and is told so.
            logger.exception("%s: its log could not be moved into it; that is tried again as the log grows", self._path)

    def _shorten(self, connection: apsw.Connection, crowded: bool) -> None:
        if crowded:
            self._move(connection)
            self._wait.patience = READERS_WAIT
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            return
        self._wait.patience = LOCK_WAIT
        for _ in range(TRIES):
            if not self._move(connection):
                return
            with suppress(apsw.BusyError):  # a writer or a reader was in the way for longer than others should wait
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
                return

    def _move(self, connection: apsw.Connection) -> bool:
        """Move pages beside writers until few are left; whether moving those is of use.

        It is not when the log has begun anew meanwhile, as the next write does that finds everything moved; nor when
        a reader needs pages from before the last, for which writers need not wait as long as the log has room.

        Raises:
            apsw.BusyError: another process does the same now.
        """
        moved = pages = 0
        for _ in range(PASSES):
            before = moved
            pages, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages < before:
                return False
            if moved == pages and pages - before <= LAST_PAGES:
                break
        return moved == pages

    def _opened(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_handler(self._wait)
        connection.execute("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0")
        return connection
