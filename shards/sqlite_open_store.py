"""The store's file while it is open, with what this process keeps beside it: what each part of the store works on."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw

from messaging.sqlite import DataFileError, FileBusyError, SqliteFile
from messaging.times import Clock, utc_now
from shards.sqlite_names import Names
from shards.sqlite_schema import APPLICATION_ID, SCHEMA, VERSION
from shards.store import StoreUnavailableError
from shards.vector_matrix import VectorMatrices

TRANSACTION_ROWS = 512
"""A larger write of shards or chunks is several transactions, so that none keeps other writers waiting for long."""

_CACHE_KIB = 16_384


@contextmanager
def store_errors() -> Generator[None]:
    """Turn what the file raises when it can't be read or written now into the port's own error."""
    try:
        yield
    except (DataFileError, FileBusyError, OSError) as error:
        raise StoreUnavailableError(str(error)) from error


class OpenStore:
    """One open store file. The parts of the store extend it, and share its thread and what it remembers.

    Args:
        path: the file; made when missing.
        clock: the present moment.

    Raises:
        DataFileError: the file can't be used; the message says what to do.
        FileBusyError: another process kept the file locked.
    """

    def __init__(self, path: Path | str, *, clock: Clock = utc_now) -> None:
        self._file = SqliteFile(
            path, schema=SCHEMA, version=VERSION, application_id=APPLICATION_ID, prepare=_prepare, cache_kib=_CACHE_KIB
        )
        self._clock = clock
        self._names = Names(self._file)
        self._matrices = VectorMatrices(self._file.path)
        self._closed = False

    async def close(self) -> None:
        """Give back the files. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        await self._file.run(lambda _: self._matrices.close())
        self._file.close()


def _prepare(connection: apsw.Connection) -> None:
    # Sorted rows and IN lists stay in memory; none of them is large.
    connection.execute("PRAGMA temp_store = MEMORY")
