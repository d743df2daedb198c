"""Large content in a folder: the twin for one machine, shared by all its processes."""

import asyncio
import fcntl
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from messaging.sqlite import DataFileError
from shards.blobs import (
    KEPT,
    PASSING,
    BlobMissingError,
    BlobTooLargeError,
    Space,
    blob_reference,
    checked_reference,
    content_hash,
)
from shards.store import StoreUnavailableError

T = TypeVar("T")

PAGE = 1000
"""References that :meth:`FolderBlobStore.kept` gives at a time."""

_UNFINISHED = "unfinished-"
_LOCK = "payloads.lock"


class FolderBlobStore:
    """Each content is the file ``<folder>/<its reference>``, so ``<folder>/<space>/<tenant>/<sha256>``.

    A file is written beside its place and moved there whole: no reader and no killed process ever leaves half of one.
    As with the SQLite files nothing waits for the disk: a power cut may damage what was put last, :meth:`get` says
    so, and putting the content again mends it.

    Args:
        folder: what the references start from; made when missing.

    Raises:
        DataFileError: the folder can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._passing = folder / PASSING
        for space in (folder / KEPT, self._passing):
            try:
                space.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataFileError(f"{space}: this folder can't be made ({error.strerror})") from error

    async def put(self, tenant_id: str, content: bytes, *, space: Space = KEPT) -> str:
        """Keep *content* and return its reference; content that is there already is written anew."""
        reference = blob_reference(tenant_id, content, space)
        await self._run(lambda: self._put(self._folder / reference, content))
        return reference

    async def get(self, tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        """The content under *reference*, checked against its hash, when it has no more than *limit* bytes."""
        path = self._folder / checked_reference(tenant_id, reference)
        content = await self._run(lambda: _read(path, limit))
        if content is None:
            raise BlobMissingError(f"there is no content {reference}: the file {path} is not there")
        if limit is not None and len(content) > limit:
            raise BlobTooLargeError(reference, f"the folder {self._folder}", limit)
        if content_hash(content) != path.name:
            raise BlobMissingError(
                f"{path} is damaged: its content is not the one that its name is the hash of; put back the file from"
                " a backup, or delete it and have the source read again"
            )
        return content

    async def delete(self, tenant_id: str, references: Sequence[str], *, put_before: datetime | None = None) -> int:
        """Delete content for good, with *put_before* only what was last put before then; how many there were."""
        paths = [self._folder / checked_reference(tenant_id, reference) for reference in dict.fromkeys(references)]
        if put_before is None:
            return await self._run(lambda: sum(map(_unlink, paths)))
        before = put_before.timestamp()
        return await self._run(lambda: sum(self._delete_if_older(path, before) for path in paths))

    async def delete_older(self, before: datetime) -> int:
        """Delete what passes and was last put before then, of all tenants, and unfinished files as old."""
        return await self._run(lambda: self._delete_older(before.timestamp()))

    async def kept(self, beginning: str, before: datetime) -> AsyncIterator[list[str]]:
        """What was last put before then under a hash that begins with *beginning*, a tenant's after another's."""
        for space in await self._run(lambda: sorted((self._folder / KEPT).iterdir())):
            found = await self._run(partial(self._older_in, space, beginning, before.timestamp()))
            for start in range(0, len(found), PAGE):
                yield found[start : start + PAGE]

    async def close(self) -> None:
        """Nothing is kept open."""

    def _put(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as unfinished:
            try:
                unfinished.write(content)
                unfinished.close()
                with self._locked(fcntl.LOCK_SH):
                    Path(unfinished.name).replace(path)
            except BaseException:
                _unlink(Path(unfinished.name))
                raise

    def _delete_older(self, before: float) -> int:
        deleted = 0
        for path in self._passing.glob("*/*"):
            if self._delete_if_older(path, before) and not path.name.startswith(_UNFINISHED):
                deleted += 1
        for path in (self._folder / KEPT).glob(f"*/{_UNFINISHED}*"):
            if _is_older(path, before):
                _unlink(path)
        return deleted

    def _delete_if_older(self, path: Path, before: float) -> bool:
        """Delete the file if it was last put before then, which is seen under one lock: no put comes between."""
        with self._locked(fcntl.LOCK_EX):
            return _is_older(path, before) and _unlink(path)

    def _older_in(self, space: Path, beginning: str, before: float) -> list[str]:
        """The references of one tenant's files whose hash begins so and that were last put before then."""
        names = sorted(path.name for path in space.glob(f"{beginning}*") if _is_older(path, before))
        return [f"{KEPT}/{space.name}/{name}" for name in names if not name.startswith(_UNFINISHED)]

    @contextmanager
    def _locked(self, operation: int) -> Generator[None]:
        """Hold the folder's lock, which keeps :meth:`put` and what deletes the old apart, in all processes."""
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, operation)
            yield

    async def _run(self, work: Callable[[], T]) -> T:
        """What *work* returns, done outside the event loop.

        Raises:
            StoreUnavailableError: the operating system refused something.
        """
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            where = error.filename or self._folder
            raise StoreUnavailableError(
                f"{where} can't be read or written ({error.strerror});"
                " check the path, its permissions and the disk's room"
            ) from error


def _read(path: Path, limit: int | None) -> bytes | None:
    """The file's content, one byte beyond *limit* at most; None when there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(-1 if limit is None else limit + 1)
    except FileNotFoundError:
        return None


def _is_older(path: Path, before: float) -> bool:
    """Whether the file was last written before then; False when it is no longer there."""
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


def _unlink(path: Path) -> bool:
    """Delete the file; whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
