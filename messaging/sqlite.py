"""What the SQLite twins stand on: a stamped data file, and one thread that does all the work on it.

Only ``apsw`` opens these files: a second SQLite library in the process would break their POSIX locks.

apsw gives up the GIL in every step of a statement, and the thread then has to win it back from a busy event loop,
which can take a whole switch interval (``sys.getswitchinterval()``, 5 ms unless set). So work that runs here wants
few statements with many values in each (one blob, ``json_each(?)``, ``apsw.carray``), not ``executemany``.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from messaging.checkpoints import LARGEST_LOG_PAGES, Checkpoints
from messaging.lock_wait import LockWait

logger = logging.getLogger(__name__)

T = TypeVar("T")

Work = Callable[[apsw.Connection], T]
"""Something to do with the connection, on the file's own thread."""

BUSY_TIMEOUT_MS = 1_000
"""How long one statement waits for another process's lock."""

BUSY_ATTEMPTS = 10
"""How often a write is begun before it fails for good: about ten seconds in all."""


MOST_TOGETHER = 64
"""Pieces of work of :meth:`SqliteFile.write_together` in one transaction."""


class DataFileError(Exception):
    """A data file can't be used. The message is one line, with the file and what to do."""


class FileBusyError(Exception):
    """Another process has held the file's write lock for too long; the work was not done."""


class SqliteFile:
    """A SQLite file that carries its format's stamp, in write-ahead mode, worked on by one thread of its own.

    The event loop is never blocked: :meth:`run` and :meth:`write` hand the work to the thread and await it, one at a
    time in the order asked for. A task that is cancelled while it waits cuts nothing in two: work that has begun is
    done whole, work that has not is not begun.

    A second object on the same path is a second connection, with its own thread: reads through it run beside writes.

    Args:
        path: the file; its folder is made when it is missing.
        schema: statements that make the tables of an empty file.
        version: the format's version, kept as ``user_version``; at least 1.
        application_id: the format's own number, kept as ``application_id``; not 0.
        prepare: called once with the new connection, before anything is read (to load an extension, say).
        cache_kib: page cache of this connection, in KiB.
        page_size: bytes a page of a new file.

    Raises:
        DataFileError: the file is not of this format, of a newer version, damaged, or can't be opened.
        FileBusyError: another process kept the file locked.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        schema: str,
        version: int,
        application_id: int,
        prepare: Callable[[apsw.Connection], None] | None = None,
        cache_kib: int = 8_192,
        page_size: int = 4_096,
    ) -> None:
        self.path = Path(path)
        self._schema = schema
        self._version = version
        self._application_id = application_id
        self._log_pages = 0
        self._checkpoints = Checkpoints(self.path)
        self._closed = False
        self._waiting: list[tuple[Work[Any], Future[Any]]] = []
        self._waiting_lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite {self.path.name}")
        try:
            self._connection = self._thread.submit(self._open, prepare, cache_kib, page_size).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    async def run(self, work: Work[T], *, if_cancelled: Callable[[apsw.Connection, T], None] | None = None) -> T:
        """What *work* returns; it reads, or opens its own transactions with :meth:`transaction`.

        *if_cancelled* is called on the file's thread with the connection and the result when the awaiting task was
        cancelled after the work had begun, so that nobody will ever see the result (to give back a lock, say).

        Raises:
            DataFileError: the file is damaged, its disk full or unreadable.
            FileBusyError: another process kept the file locked.
        """
        return await self._await(self._thread.submit(self._guarded, work), if_cancelled)

    async def write(self, work: Work[T], *, if_cancelled: Callable[[apsw.Connection, T], None] | None = None) -> T:
        """What *work* returns, done in one write transaction; see :meth:`transaction` and :meth:`run`."""
        return await self._await(self._thread.submit(self._guarded, lambda _: self.transaction(work)), if_cancelled)

    async def write_together(self, work: Work[T]) -> T:
        """As :meth:`write`, in one transaction with what other tasks wait to write: one wait for the lock for all.

        An exception of another's work undoes *work* too, which is then done again by itself: it changes nothing but
        the file.
        """
        future: Future[T] = Future()
        with self._waiting_lock:
            if not self._waiting:
                # Before it waits itself: after the file's end this raises, and nobody may join what is never written.
                self._thread.submit(self._write_waiting)
            self._waiting.append((work, future))
        return await asyncio.wrap_future(future)

    def transaction(self, work: Work[T]) -> T:
        """What *work* returns, done between BEGIN IMMEDIATE and COMMIT; only from work on the file's thread.

        An exception of *work* rolls all of it back. *work* starts only once it has the write lock, so it runs once;
        it must not take more than a few milliseconds, because every other writer waits for it.

        Raises:
            FileBusyError: another process kept the write lock.
        """
        connection = self._connection
        self._retry_busy(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            result = work(connection)
            self._retry_busy(lambda: connection.execute("COMMIT"))
        except BaseException:
            # SQLite itself has rolled back after a full disk or an I/O error.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._checkpoints.note_log(self._log_pages)
        return result

    def run_now(self, work: Work[T]) -> T:
        """As :meth:`run`, but blocks the caller: for start and stop, outside the event loop."""
        return self._thread.submit(self._guarded, work).result()

    def close(self) -> None:
        """Finish the work asked for and close the file. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()
        self._checkpoints.close()

    async def _await(self, future: Future[T], if_cancelled: Callable[[apsw.Connection, T], None] | None) -> T:
        if if_cancelled is None:
            return await asyncio.wrap_future(future)
        undo = if_cancelled
        try:
            # Shielded: a cancelled wrap_future would also cancel the future, and hide its result from the undoing.
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancel() and not self._closed:
                # Submitted now, it runs behind the work in progress and before a close that follows.
                self._thread.submit(self._undo, future, undo)
            raise

    def _undo(self, future: Future[T], undo: Callable[[apsw.Connection, T], None]) -> None:
        if future.exception() is not None:
            return  # the work itself failed, and has rolled back
        try:
            undo(self._connection, future.result())
        except (apsw.Error, FileBusyError):
            logger.exception("%s: the result of a cancelled call could not be given back", self.path)

    def _write_waiting(self) -> None:
        with self._waiting_lock:
            waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST_TOGETHER):
            wanted = [one for one in waiting[start : start + MOST_TOGETHER] if one[1].set_running_or_notify_cancel()]
            try:
                results = self._in_one_transaction([work for work, _ in wanted]) if wanted else []
            except (FileBusyError, DataFileError) as error:
                for _, future in wanted:
                    future.set_exception(error)
            except Exception:  # noqa: BLE001 - of whichever work: each gets its own
                for work, future in wanted:
                    self._write_alone(work, future)
            else:
                for (_, future), result in zip(wanted, results, strict=True):
                    future.set_result(result)

    def _in_one_transaction(self, works: Sequence[Work[Any]]) -> list[Any]:
        return self._guarded(lambda _: self.transaction(lambda connection: [work(connection) for work in works]))

    def _write_alone(self, work: Work[Any], future: "Future[Any]") -> None:
        try:
            future.set_result(self._in_one_transaction([work])[0])
        except Exception as error:  # noqa: BLE001 - raised by who awaits it
            future.set_exception(error)

    def _guarded(self, work: Work[T]) -> T:
        try:
            return work(self._connection)
        except apsw.BusyError as error:
            raise FileBusyError(self._busy_text()) from error
        except apsw.Error as error:
            explained = self._explained(error)
            if explained is None:
                raise
            raise explained from error

    def _open(
        self, prepare: Callable[[apsw.Connection], None] | None, cache_kib: int, page_size: int
    ) -> apsw.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataFileError(f"{self.path}: its folder can't be made ({error.strerror})") from error
        try:
            connection = apsw.Connection(str(self.path))
        except apsw.Error as error:
            raise self._explained(error) or error from error
        try:
            connection.set_busy_handler(LockWait(BUSY_TIMEOUT_MS / 1000))
            if prepare is not None:
                prepare(connection)
            if not self._is_ours(connection):
                connection.execute(f"PRAGMA page_size = {page_size}")
            self._retry_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            connection.execute(
                f"PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -{cache_kib};"
                f"PRAGMA journal_size_limit = {LARGEST_LOG_PAGES * page_size}; PRAGMA wal_autocheckpoint = 0"
            )
            connection.set_wal_hook(self._note_log_pages)
            self._make_tables(connection)
        except apsw.BusyError as error:
            connection.close()
            raise FileBusyError(self._busy_text()) from error
        except apsw.Error as error:
            connection.close()
            raise self._explained(error) or error from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: apsw.Connection) -> None:
        self._retry_busy(lambda: connection.execute("BEGIN IMMEDIATE"))
        try:
            # Asked again under the lock: another process may have made them meanwhile.
            if not self._is_ours(connection):
                connection.execute(self._schema)
                connection.pragma("application_id", self._application_id)
                connection.pragma("user_version", self._version)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _is_ours(self, connection: apsw.Connection) -> bool:
        """Whether the file has this format's tables; False for an empty file."""
        # One statement is one snapshot: another process may be stamping the file at this moment.
        stamp = self._retry_busy(
            lambda: (
                connection.execute(
                    "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM"
                    " pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
                ).get
            )
        )
        application_id, version, objects = (int(number) for number in stamp)
        if application_id == 0 and version == 0 and objects == 0:
            return False
        if application_id != self._application_id:
            raise DataFileError(
                f"{self.path} is a SQLite file of another kind; nothing was changed in it. Name another file or folder"
            )
        if version > self._version:
            raise DataFileError(
                f"{self.path} has format {version}, newer than the {self._version} of this Shardline; run the newer one"
            )
        if version < self._version:
            raise DataFileError(
                f"{self.path} has format {version}, older than the {self._version} of this Shardline;"
                f" {self._fresh_start()}"
            )
        return True

    def _note_log_pages(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _retry_busy(self, step: Callable[[], T]) -> T:
        """*step*'s result. SQLite skips its own waiting where it could deadlock, so BUSY is asked again here."""
        for attempt in range(1, BUSY_ATTEMPTS + 1):
            try:
                return step()
            except apsw.BusyError as error:
                if attempt == BUSY_ATTEMPTS:
                    raise FileBusyError(self._busy_text()) from error
                time.sleep(0.005 * attempt)
        raise AssertionError("unreachable: the loop returns or raises")

    def _busy_text(self) -> str:
        return f"{self.path} is locked by another process"

    def _fresh_start(self) -> str:
        """The remedy for a file that can't be used any more: queues and store hold one state between them."""
        return (
            f"its files belong together: move the whole folder {self.path.parent} away, or put a backup of all of it"
            " in its place, and start again"
        )

    def _explained(self, error: apsw.Error) -> DataFileError | None:
        """The one line for an error of the file itself; None for an error of the statement."""
        match error:
            case apsw.NotADBError() | apsw.CorruptError():
                return DataFileError(f"{self.path} is damaged or no SQLite file ({error}); {self._fresh_start()}")
            case apsw.FullError():
                return DataFileError(f"{self.path} can't grow: the disk is full; make room and start again")
            case apsw.CantOpenError() | apsw.PermissionsError() | apsw.ReadOnlyError() | apsw.IOError():
                return DataFileError(
                    f"{self.path} can't be read and written ({error}); check the path and its permissions"
                )
            case _:
                return None
