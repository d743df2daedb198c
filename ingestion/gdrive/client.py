"""Drive as this source sees it: Google's client library for one user, behind typed calls and typed errors.

The library's service is not safe between threads, and its own retries heed no Retry-After; so each user has one, its
calls are made one at a time, and nothing is repeated here but by :mod:`ingestion.patience`.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from connections.gdrive_connection import DriveConnection
from connections.secrets import Secret, SecretError, SecretsUnavailableError
from ingestion.errors import CredentialError, RepeatError, TransientError
from ingestion.gdrive import fields
from ingestion.gdrive.call_budget import CallBudget, CallMemory
from ingestion.gdrive.errors import LostTokenError, NotFoundError
from ingestion.patience import LONGEST_WAIT, patiently
from ingestion.source import SourcePorts
from ingestion.vendor_threads import in_vendor_thread
from messaging.times import Clock

if TYPE_CHECKING:
    from ingestion.gdrive.google_library import GoogleLibrary

T = TypeVar("T")

log = logging.getLogger(__name__)

SELF: Final = ""
"""The service account itself, where the connection names no users."""
ALL_DRIVES: Final = {"supportsAllDrives": True}
LISTS_ALL: Final = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}

LARGE_AT_ONCE: Final = 3
"""Large contents that a process holds at a time, whatever it does side by side."""

File = dict[str, Any]
"""A Drive v3 File resource."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Entries of a log; exactly one of the tokens is there: of the next page, or to begin with next time."""

    changes: list[dict[str, Any]]
    next_page: str | None
    new_start: str | None


@dataclass(frozen=True, slots=True)
class FilePage:
    """Files of a listing. *incomplete*: Drive says that it has not searched everything."""

    files: list[File]
    next_page: str | None
    incomplete: bool


class DriveClient:
    """Calls as *subject*. All raise the errors of :mod:`ingestion.errors` and :mod:`ingestion.gdrive.errors`."""

    def __init__(
        self,
        connection: DriveConnection,
        subject: str,
        ports: SourcePorts,
        budget: CallBudget,
        *,
        large: asyncio.Semaphore,
        simulator: str | None,
    ) -> None:
        self.subject = subject
        self.large = large
        """What a content that takes much memory waits for its turn at."""
        self._connection = connection
        self._ports = ports
        self._budget = budget
        self._simulator = simulator
        self._turn = asyncio.Lock()
        self._thread_turn = threading.Lock()
        self._library: GoogleLibrary | None = None
        self._root: str | None = None
        self.calls = 0
        """Calls made so far."""

    @property
    def name(self) -> str:
        """Whose calls these are, as the log says it."""
        return f"connection {self._connection.connection_id} as {self.subject or 'the service account'}"

    async def about(self) -> dict[str, Any]:
        """Who this user is."""
        return await self._json("about", lambda s: s.about().get(fields=fields.ABOUT))

    async def drives(self) -> dict[str, str]:
        """The shared drives that the user is a member of: their names by id."""
        found: dict[str, str] = {}
        page: str | None = None
        while True:
            answer = await self._json("drives.list", partial(_drives, page))
            found |= {str(drive["id"]): str(drive.get("name", "")) for drive in answer.get("drives", [])}
            page = answer.get("nextPageToken")
            if not page:
                return found

    async def start_token(self, drive_id: str | None) -> str:
        """Where the log of the user, or of a shared drive, stands now."""
        more = {} if drive_id is None else {"driveId": drive_id}
        answer = await self._json(
            "changes.getStartPageToken",
            lambda s: s.changes().getStartPageToken(fields=fields.START_TOKEN, **ALL_DRIVES, **more),
        )
        return str(answer["startPageToken"])

    async def changes(self, token: str, drive_id: str | None, *, page_size: int) -> ChangePage:
        """A page of the log that *token* is of.

        Raises:
            LostTokenError: the token is not known (any more).
            NotFoundError: the user is no member of the shared drive (any more).
        """
        more = {} if drive_id is None else {"driveId": drive_id}
        try:
            answer = await self._json(
                "changes.list",
                lambda s: s.changes().list(
                    pageToken=token,
                    pageSize=page_size,
                    fields=fields.CHANGES,
                    includeRemoved=True,
                    spaces="drive",
                    **LISTS_ALL,
                    **more,
                ),
            )
        except NotFoundError as error:
            if drive_id is None:
                raise LostTokenError(str(error)) from None
            raise
        next_page, new_start = answer.get("nextPageToken"), answer.get("newStartPageToken")
        if bool(next_page) == bool(new_start):
            raise TransientError("Drive's page of changes has both tokens or none")
        return ChangePage(answer.get("changes", []), next_page, new_start)

    async def files(
        self, q: str, mask: str, *, page_size: int, page: str | None = None, drive_id: str | None = None
    ) -> FilePage:
        """A page of a listing of what the user sees (of My Drive and what is shared with them), or of a shared drive.

        Raises:
            LostTokenError: the page token has ended.
        """
        corpus = {"corpora": "user"} if drive_id is None else {"corpora": "drive", "driveId": drive_id}
        answer = await self._json(
            "files.list",
            lambda s: s.files().list(
                q=q, pageSize=page_size, pageToken=page, fields=mask, spaces="drive", **LISTS_ALL, **corpus
            ),
        )
        return FilePage(answer.get("files", []), answer.get("nextPageToken"), bool(answer.get("incompleteSearch")))

    async def children(self, folder_id: str, *, page: str | None = None, drive_id: str | None = None) -> FilePage:
        """A page of the ids of what is in a folder and not in the bin; *drive_id*: the folder's shared drive, of which
        the user is a member.

        Raises:
            LostTokenError: the page token has ended.
        """
        q = f"'{folder_id}' in parents and trashed = false"
        return await self.files(q, fields.CHILDREN, page_size=1000, page=page, drive_id=drive_id)

    async def file(self, file_id: str, mask: str = fields.FILE) -> File:
        """A file by its id.

        Raises:
            NotFoundError: there is none that the user may see.
        """
        return await self._json("files.get", lambda s: s.files().get(fileId=file_id, fields=mask, **ALL_DRIVES))

    async def root(self) -> str | None:
        """The id of the top of the user's My Drive; None when the user has none."""
        if self._root is None:
            try:
                self._root = str((await self.file("root", "id"))["id"])
            except NotFoundError:
                self._root = ""
        return self._root or None

    async def permissions(self, file_id: str) -> list[dict[str, Any]]:
        """All permissions of a file, inherited ones included.

        Raises:
            FileRefusedError: the user may not see them.
        """
        found: list[dict[str, Any]] = []
        page: str | None = None
        while True:
            answer = await self._json("permissions.list", partial(_permissions, file_id, page))
            found += answer.get("permissions", [])
            page = answer.get("nextPageToken")
            if not page:
                return found

    async def media(self, file_id: str, *, limit: int) -> bytes:
        """The bytes of a binary file.

        Raises:
            ContentTooLargeError: there are more than *limit*; no more were read.
            FileRefusedError: Drive gives none.
        """
        return await self._bytes("files.get media", lambda s: s.files().get_media(fileId=file_id, **ALL_DRIVES), limit)

    async def export(self, file_id: str, mime_type: str, *, limit: int) -> bytes:
        """A native file as *mime_type*; Drive exports up to 10 MB.

        Raises:
            ContentTooLargeError: there are more bytes than *limit*.
            FileRefusedError: ``exportSizeLimitExceeded`` and others.
        """
        return await self._bytes(
            "files.export", lambda s: s.files().export_media(fileId=file_id, mimeType=mime_type), limit
        )

    async def linked(self, link: str, *, limit: int) -> bytes:
        """What an export link of a file leads to; no limit of Drive's holds there.

        Raises:
            ContentTooLargeError: there are more bytes than *limit*.
        """
        return await self._called("export link", lambda library: library.linked(link, limit=limit))

    async def watch(self, token: str, drive_id: str | None, channel: Mapping[str, Any]) -> dict[str, Any]:
        """Open a push channel on a log."""
        more = {} if drive_id is None else {"driveId": drive_id}
        return await self._json(
            "changes.watch",
            lambda s: s.changes().watch(
                pageToken=token, body=dict(channel), includeRemoved=True, spaces="drive", **LISTS_ALL, **more
            ),
        )

    async def stop_channel(self, channel_id: str, resource_id: str) -> None:
        """Close a push channel.

        Raises:
            NotFoundError: it has ended, or was another user's.
        """
        body = {"id": channel_id, "resourceId": resource_id}
        await self._called("channels.stop", lambda library: library.run(lambda s: s.channels().stop(body=body)))

    def close(self) -> None:
        """Give back connections."""
        if self._library is not None:
            self._library.close()

    async def _json(self, what: str, request: Callable[[Any], Any]) -> dict[str, Any]:
        answer = await self._called(what, lambda library: library.run(request))
        if not isinstance(answer, dict):
            raise TransientError(f"Drive's answer to {what} is no object")
        return answer

    async def _bytes(self, what: str, request: Callable[[Any], Any], limit: int) -> bytes:
        answer = await self._called(what, lambda library: library.run(request, limit=limit))
        return bytes(answer)

    async def _called(self, what: str, call: "Callable[[GoogleLibrary], T]") -> T:
        return await patiently(f"{self.name}: {what}", partial(self._once, call))

    async def _once(self, call: "Callable[[GoogleLibrary], T]") -> T:
        async with self._turn:
            library = await self._opened()
            await self._budget.take()
            self.calls += 1
            try:
                return await in_vendor_thread(self._in_thread, library, call)
            except TransientError as error:
                if error.after is not None and error.after > LONGEST_WAIT:
                    await self._budget.refuse(error.after)
                raise
            except CredentialError:
                # The key may have been changed since it was read.
                if not await self._key_changed(library):
                    raise
                self._library = None
                raise RepeatError("the service account's key has been changed: it is read anew") from None

    async def _opened(self) -> "GoogleLibrary":
        if self._library is None:
            secret = await self._secret(fresh=False)
            self._library = await in_vendor_thread(_library, secret, self.subject, self._simulator, self._ports.clock)
        return self._library

    async def _key_changed(self, library: "GoogleLibrary") -> bool:
        return await self._secret(fresh=True) != library.secret

    async def _secret(self, *, fresh: bool) -> Secret:
        reference = self._connection.auth.service_account
        try:
            return await self._ports.secrets.get(self._connection.tenant_id, reference, fresh=fresh)
        except SecretError as error:
            raise CredentialError(str(error)) from None
        except SecretsUnavailableError as error:
            raise TransientError(str(error)) from None

    def _in_thread(self, library: "GoogleLibrary", call: "Callable[[GoogleLibrary], T]") -> T:
        # A cancelled task leaves its thread running: the next call of this user waits for it here.
        with self._thread_turn:
            return call(library)


def _drives(page: str | None, service: Any) -> Any:
    return service.drives().list(pageSize=100, pageToken=page, fields=fields.DRIVES)


def _permissions(file_id: str, page: str | None, service: Any) -> Any:
    return service.permissions().list(
        fileId=file_id, pageSize=100, pageToken=page, fields=fields.PERMISSIONS, **ALL_DRIVES
    )


def _library(secret: Secret, subject: str, simulator: str | None, clock: Clock) -> "GoogleLibrary":
    from ingestion.gdrive.google_library import GoogleLibrary

    return GoogleLibrary(secret, subject, simulator, clock)


class DriveClients:
    """The clients of a process, one a connection and user."""

    def __init__(self, ports: SourcePorts, *, simulator: str | None) -> None:
        self._ports = ports
        self._simulator = simulator
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._clients: dict[tuple[str, str, str], tuple[DriveConnection, DriveClient]] = {}
        self._most: dict[tuple[str, str], int] = {}

    def of(self, connection: DriveConnection, subject: str) -> DriveClient:
        """The client that calls as *subject*; a new one when the connection's login has changed."""
        key = (connection.tenant_id, connection.connection_id, subject)
        self._most[key[:2]] = connection.calls_per_minute
        known = self._clients.get(key)
        if known is not None and known[0].auth.service_account == connection.auth.service_account:
            return known[1]
        if known is not None:
            known[1].close()
        client = DriveClient(
            connection,
            subject,
            self._ports,
            self._budget(connection, subject),
            large=self._large,
            simulator=self._simulator,
        )
        self._clients[key] = (connection, client)
        return client

    def drop(self, connection: DriveConnection) -> None:
        """Forget the connection's logins."""
        whose = (connection.tenant_id, connection.connection_id)
        for key in [key for key in self._clients if key[:2] == whose]:
            self._clients.pop(key)[1].close()

    def close(self) -> None:
        """Give back all connections."""
        for _, client in self._clients.values():
            client.close()
        self._clients.clear()

    def _budget(self, connection: DriveConnection, subject: str) -> CallBudget:
        empty = CallMemory(
            name=f"calls of {subject or connection.connection_id}",
            integration_id=connection.connection_id,
            integration_type=connection.system,
            last_sync_status="success",
        )
        whose = (connection.tenant_id, connection.connection_id)
        key = f"{connection.connection_id}/calls/{subject}"
        return CallBudget(
            self._ports.states,
            tenant_id=connection.tenant_id,
            key=key,
            empty=empty,
            most=lambda: self._most[whose],
            clock=self._ports.clock,
        )


def subjects_of(connection: DriveConnection) -> tuple[str, ...]:
    """The users that the connection acts for, in lower case; the service account itself where it names none."""
    return tuple(dict.fromkeys(subject.lower() for subject in connection.auth.subjects)) or (SELF,)
