"""The text of a Drive file: downloaded or exported once for each version of its content, and kept in the blob store."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import uuid4

from connections.gdrive_connection import DriveConnection
from ingestion.content.content_error import ContentError
from ingestion.content.extractor import ExtractionFailedError
from ingestion.content.kept_text import Extracted
from ingestion.content.kinds import is_read
from ingestion.errors import TransientError
from ingestion.gdrive.client import DriveClient
from ingestion.gdrive.errors import (
    ContentTooLargeError,
    FileRefusedError,
    NotFoundError,
    PolicyError,
    RequestRefusedError,
)
from ingestion.gdrive.events import Content, instance_of
from ingestion.gdrive.mime_types import FOLDER, NATIVE, SHORTCUT
from shards.blobs import BlobStore
from shards.file_text import has_text, put_text

DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

EXPORTS: Final[Mapping[str, tuple[str, ...]]] = {
    NATIVE + "document": ("text/markdown", "text/plain"),
    NATIVE + "spreadsheet": (XLSX,),
    NATIVE + "presentation": ("text/plain",),
    NATIVE + "site": ("text/plain",),
    NATIVE + "mail-layout": ("text/plain",),
}
"""What native types are exported as, best first. Markdown carries pictures, so plain text may fit where it does not; a
workbook has all sheets, where csv has the first alone."""

LINKS: Final[Mapping[str, tuple[str, ...]]] = {
    NATIVE + "document": ("text/plain", DOCX),
    NATIVE + "spreadsheet": (XLSX,),
    NATIVE + "presentation": ("text/plain", PPTX, "application/pdf"),
}
"""Which export links are followed where the export would have more than the 10 MB that Drive gives."""

FIRST_SHEET: Final = "text/csv"
"""The last resort for a spreadsheet: its first sheet alone."""

LARGE: Final = 4 * 1024 * 1024
"""Bytes above which a content waits for a turn. Google's own kinds are exported in up to 10 MB, mostly far fewer."""

_NO_TEXT = ("image/", "audio/", "video/", "font/", "application/zip", "application/gzip", "application/x-")
_PASSING = frozenset({"downloadQuotaExceeded"})
"""Refusals that end by themselves; the others end when somebody changes the file."""
QUOTA_PAUSE: Final = timedelta(hours=1)
"""After such a refusal; no answer says when it ends, which takes a day at most."""
_OF_THE_MACHINE = frozenset({"timeout", "memory"})
"""What a busy machine makes of a good file: kept without the content's version, so that it is tried again."""

RECENT_SECONDS: Final = 3600.0
"""For how long a process names a text again that it has put: far shorter than the sweep of texts lets one be that
nothing names, or it would take what an event still to come names."""


class ContentPassingError(TransientError):
    """Drive gives no more of this one content for now."""


class TextExtractor(Protocol):
    """What reads files: :class:`ingestion.content.extractor.ContentExtractor`."""

    async def extract(self, content: bytes, mime_type: str, name: str) -> Extracted:
        """The text of *content*; raises ContentError and ExtractionFailedError."""

    async def close(self) -> None:
        """End its processes."""


def content_version(file: Mapping[str, Any]) -> str:
    """What moves when the content does, and not when the file is renamed, moved or shared.

    A binary file has a checksum. A native one has none: its modifiedTime moves with every edit, and stays where only
    name, place or permissions change, for which ``version`` moves. Empty for what has no content.
    """
    mime_type = str(file.get("mimeType") or "")
    if mime_type in (FOLDER, SHORTCUT):
        return ""
    for name in ("md5Checksum", "sha256Checksum", "headRevisionId"):
        if file.get(name):
            return f"{name}:{file[name]}"
    return f"modifiedTime:{file.get('modifiedTime', '')}"


class RecentContents:
    """Texts that a process has read lately: what tells of them may still be on its way to the store.

    A file is often asked for twice within moments: by the log, and with the folder that it is in.
    """

    def __init__(self, most: int = 5_000, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._found: OrderedDict[tuple[str, ...], tuple[float, Content]] = OrderedDict()

    def of(self, connection: DriveConnection, file: Mapping[str, Any]) -> Content | None:
        """What was read of *file* within :data:`RECENT_SECONDS`, the last of it."""
        found = self._found.get(self._key(connection, file))
        return found[1] if found is not None and self._monotonic() < found[0] + RECENT_SECONDS else None

    def keep(self, connection: DriveConnection, file: Mapping[str, Any], content: Content) -> None:
        """Remember what was read of *file*."""
        key = self._key(connection, file)
        self._found[key] = (self._monotonic(), content)
        self._found.move_to_end(key)
        if len(self._found) > self._most:
            self._found.popitem(last=False)

    def _key(self, connection: DriveConnection, file: Mapping[str, Any]) -> tuple[str, ...]:
        return connection.tenant_id, instance_of(connection), str(file["id"])


class ContentReader:
    """Fetches contents, has their text read, and keeps it."""

    def __init__(
        self,
        connection: DriveConnection,
        extractor: TextExtractor,
        blobs: BlobStore,
        recent: RecentContents | None = None,
    ) -> None:
        self._connection = connection
        self._extractor = extractor
        self._blobs = blobs
        self._recent = recent or RecentContents()
        self.fetched = 0
        """How many contents were asked for."""

    async def content(self, file: Mapping[str, Any], client: DriveClient, stored: Content | None) -> Content | None:
        """The content of *file*: as *stored*, or read lately, while it is the same; None for what has none.

        Raises:
            TransientError: the content can't be had now; what else is known of the file holds.
            BudgetExhaustedError, CredentialError: ask again.
            NotFoundError: the file is gone meanwhile.
            StoreUnavailableError: the text can't be kept now.
        """
        mime_type, version = str(file.get("mimeType") or ""), content_version(file)
        if mime_type in (FOLDER, SHORTCUT):
            return None
        again = False
        for known in (stored, self._recent.of(self._connection, file)):
            if known is not None and version and known.version == version:
                if known.ref is None or await has_text(self._blobs, self._connection.tenant_id, known.ref):
                    return known
                # It went with a deletion that was still on its way when the file was back already.
                again = True
        native = mime_type.startswith(NATIVE)
        if mime_type not in EXPORTS if native else not _may_have_text(mime_type):
            return Content("none", version)
        size, limit = int(file.get("size") or 0), self._connection.content_bytes
        if not native and size > limit:
            return _too_large(version, f"the file has {size:,} bytes, more than the {limit:,} that are read")
        self.fetched += 1
        async with client.large if size > LARGE else nullcontext():
            fetched = await self._fetched(file, client, limit, again=again)
        if fetched.status == "extracted":
            self._recent.keep(self._connection, file, fetched)
        return fetched

    async def _fetched(self, file: Mapping[str, Any], client: DriveClient, limit: int, *, again: bool) -> Content:
        mime_type, version = str(file.get("mimeType") or ""), content_version(file)
        native = mime_type.startswith(NATIVE)
        try:
            if native:
                content, kind = await self._exported(file, mime_type, client, limit)
            else:
                content, kind = await client.media(str(file["id"]), limit=limit), mime_type
        except ContentTooLargeError as error:
            return _too_large(version, str(error))
        except FileRefusedError as error:
            if error.reason in _PASSING:
                raise ContentPassingError(f"refused: {error}", QUOTA_PAUSE) from None
            # Kept without its version, so that it is tried again whenever the file changes in any way.
            return Content("failed", problem=f"refused: {error}"[:500])
        except PolicyError as error:
            return Content("failed", problem=f"refused: {error}"[:500])
        except RequestRefusedError as error:
            return Content("failed", version, problem=f"refused: {error}"[:500])
        first_sheet = native and kind == FIRST_SHEET
        return await self.kept(file, content, kind, truncated=first_sheet, again=again)

    async def kept(
        self, file: Mapping[str, Any], content: bytes, kind: str, *, truncated: bool = False, again: bool = False
    ) -> Content:
        """What becomes of *content*, which is of media type *kind*; *again*: under a name that it never had.

        Raises:
            TransientError: it can't be read now.
            StoreUnavailableError: the text can't be kept now.
        """
        version, name = content_version(file), str(file.get("name") or "")
        try:
            text = await self._extractor.extract(content, kind, name)
        except ContentError as error:
            if error.reason == "unsupported-type":
                return Content("none", version)
            known = "" if error.reason in _OF_THE_MACHINE else version
            return Content("failed", known, problem=f"{error.reason}: {error.detail}"[:500])
        except ExtractionFailedError as error:
            raise TransientError(f"the text of {name!r} can't be read now: {error}") from None
        if not text.parts:
            return Content("extracted", version, truncated=truncated or text.truncated)
        reference = await put_text(
            self._blobs,
            self._connection.tenant_id,
            str(file["id"]),
            f"{file['version']}.{uuid4().hex}" if again else str(file["version"]),
            text.parts,
            instance=instance_of(self._connection),
        )
        return Content("extracted", version, reference, truncated=truncated or text.truncated)

    async def _exported(
        self, file: Mapping[str, Any], mime_type: str, client: DriveClient, limit: int
    ) -> tuple[bytes, str]:
        """The bytes of a native file, and their media type."""
        file_id = str(file["id"])
        refused: FileRefusedError | RequestRefusedError | None = None
        for kind in EXPORTS[mime_type]:
            try:
                return await client.export(file_id, kind, limit=limit), kind
            except FileRefusedError as error:
                if error.reason != "exportSizeLimitExceeded":
                    raise
                refused = error
            except RequestRefusedError as error:
                # A file of this kind is not exported as such everywhere.
                refused = error
        links = file.get("exportLinks")
        for kind in LINKS.get(mime_type, ()):
            link = links.get(kind) if isinstance(links, Mapping) else None
            if not isinstance(link, str):
                continue
            try:
                return await client.linked(link, limit=limit), kind
            except (FileRefusedError, RequestRefusedError, NotFoundError) as error:
                refused = error if not isinstance(error, NotFoundError) else refused
        if mime_type == NATIVE + "spreadsheet":
            return await client.export(file_id, FIRST_SHEET, limit=limit), FIRST_SHEET
        if refused is None:
            raise AssertionError("a native type that is exported has a kind to try")
        raise refused


def _may_have_text(mime_type: str) -> bool:
    return is_read(mime_type) or not mime_type.lower().startswith(_NO_TEXT)


def _too_large(version: str, problem: str) -> Content:
    return Content("none", version, problem=f"too-large: {problem}")
