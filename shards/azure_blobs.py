"""Large content in Azure Blob Storage: the twin for the home on Azure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobProperties, ContentSettings, StorageErrorCode
from azure.storage.blob.aio import ContainerClient, ExponentialRetry

from messaging.concurrent_calls import results_of
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
from shards.store import StoreRefusedError, StoreUnavailableError

T = TypeVar("T")

CALLS_AT_ONCE = 16
"""How many calls run at a time: each holds its content in memory, and a connection."""

CALL_TIMEOUT = timedelta(seconds=60)
"""How long one call may take with its retries: a batch has half of its queue's lock, two and a half minutes."""

_WHOLE_SECOND = timedelta(seconds=1)
"""What the service cuts off a blob's last-modified time is less than this."""

_BYTES = ContentSettings(content_type="application/octet-stream")


def container_client(account: str, container: str, credential: AsyncTokenCredential | None = None) -> ContainerClient:
    """A client of *container* that gives up in seconds, not in the minutes of the SDK's own defaults.

    Args:
        account: a connection string; with a *credential* the address of the account's blob service.
        container: its name; :meth:`AzureBlobStore.ensure_container` makes it.
        credential: the identity to use; the caller closes it.

    Raises:
        ValueError: *account* is no connection string.
    """
    patience: dict[str, Any] = {
        "retry_policy": ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1),
        "connection_timeout": 5,
        "read_timeout": 20,
    }
    if credential is None:
        return ContainerClient.from_connection_string(account, container, **patience)
    return ContainerClient(account, container, credential, **patience)


class AzureBlobStore:
    """Each content is the blob that its reference names, in one container.

    Args:
        connect: makes the client, when the first call needs it; :meth:`close` closes it.
    """

    def __init__(self, connect: Callable[[], ContainerClient]) -> None:
        self._connect = connect
        self._made: ContainerClient | None = None
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)

    async def ensure_container(self) -> bool:
        """Make the container when there is none; whether there was none."""
        try:
            await self._call(self._container.create_container, ResourceExistsError)
        except ResourceExistsError:
            return False
        return True

    async def put(self, tenant_id: str, content: bytes, *, space: Space = KEPT) -> str:
        """Keep *content* and return its reference; content that is there already is written over.

        Writing over is one request that is right in every case: it renews the time that the account's lifecycle rule
        and :meth:`delete_older` count from, mends what is damaged, and leaves no moment in which the content could go
        between being found and being renewed. Content is rarely put twice, so asking first would cost more requests
        than it saved uploads.
        """
        reference = blob_reference(tenant_id, content, space)
        blob = self._container.get_blob_client(reference)
        await self._call(partial(blob.upload_blob, content, overwrite=True, content_settings=_BYTES))
        return reference

    async def get(self, tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        """The content under *reference*, checked against its hash, when it has no more than *limit* bytes."""
        blob = self._container.get_blob_client(checked_reference(tenant_id, reference))
        # One byte beyond the limit tells that there is more, without another request for the size.
        part: dict[str, Any] = {} if limit is None else {"offset": 0, "length": limit + 1}

        async def download() -> bytes:
            content: bytes = await (await blob.download_blob(**part)).readall()
            return content

        try:
            content = await self._call(download, ResourceNotFoundError)
        except ResourceNotFoundError:
            raise BlobMissingError(f"there is no content {reference} in {self._place}") from None
        if limit is not None and len(content) > limit:
            raise BlobTooLargeError(reference, self._place, limit)
        if content_hash(content) != reference.rpartition("/")[2]:
            raise BlobMissingError(
                f"the blob {reference} in {self._place} is damaged: its content is not the one that its name is the"
                " hash of; delete it and have the source read again"
            )
        return content

    async def delete(self, tenant_id: str, references: Sequence[str], *, put_before: datetime | None = None) -> int:
        """Delete content for good, with *put_before* only what was last put before then; how many there were.

        As in :meth:`delete_older`, what was put less than a second before then stays.
        """
        names = [checked_reference(tenant_id, reference) for reference in dict.fromkeys(references)]
        unchanged: dict[str, Any] = {}
        if put_before is not None:
            unchanged["if_unmodified_since"] = put_before - _WHOLE_SECOND
        return sum(await results_of(self._delete(name, **unchanged) for name in names))

    async def delete_older(self, before: datetime) -> int:
        """Delete what passes and was last put before then, of all tenants; how many there were.

        The service tells times in whole seconds, so what was put less than a second before then stays.
        """
        deleted = 0
        pages = self._container.list_blobs(name_starts_with=f"{PASSING}/").by_page()
        while (page := await self._call(partial(anext, pages, None))) is not None:
            blobs: list[BlobProperties] = [blob async for blob in page]
            old = [blob for blob in blobs if blob.last_modified + _WHOLE_SECOND <= before]
            unchanged: dict[str, Any] = {"match_condition": MatchConditions.IfNotModified}
            deleted += sum(await results_of(self._delete(blob.name, etag=blob.etag, **unchanged) for blob in old))
        return deleted

    async def kept(self, beginning: str, before: datetime) -> AsyncIterator[list[str]]:
        """What was last put before then under a hash that begins with *beginning*, a tenant's after another's.

        As in :meth:`delete_older`, what was put less than a second before then is left out.
        """
        spaces = self._container.walk_blobs(name_starts_with=f"{KEPT}/", delimiter="/").by_page()
        while (page := await self._call(partial(anext, spaces, None))) is not None:
            for space in [space.name async for space in page]:
                blobs = self._container.list_blobs(name_starts_with=f"{space}{beginning}").by_page()
                while (found := await self._call(partial(anext, blobs, None))) is not None:
                    yield [blob.name async for blob in found if blob.last_modified + _WHOLE_SECOND <= before]

    async def close(self) -> None:
        """Close the client, when there is one."""
        if self._made is not None:
            await self._made.close()
            self._made = None

    async def _delete(self, name: str, **unchanged: Any) -> bool:
        """Delete the blob, on the conditions of *unchanged* as the SDK takes them; whether it was deleted."""
        blob = self._container.get_blob_client(name)
        try:
            await self._call(partial(blob.delete_blob, **unchanged), *_GONE_OR_NEWER)
        except _GONE_OR_NEWER:
            return False
        return True

    @property
    def _container(self) -> ContainerClient:
        if self._made is None:
            self._made = self._connect()
        return self._made

    @property
    def _place(self) -> str:
        return f"container {self._container.container_name} of {self._container.primary_hostname}"

    async def _call(self, call: Callable[[], Awaitable[T]], *answers: type[HttpResponseError]) -> T:
        """What *call* returns, in its turn; those of the service's errors that are *answers* to it are raised as such.

        Raises:
            StoreUnavailableError: it may work later: nothing answers, the service is busy, the identity has no access,
                or there is no container.
            StoreRefusedError: the service refuses it, and would at any later time.
        """
        async with self._turns:
            try:
                async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                    return await call()
            except (AzureError, TimeoutError) as error:
                if getattr(error, "error_code", None) in _OF_THE_CONTAINER:
                    raise StoreUnavailableError(
                        f"there is no {self._place}: run `shardline provision`, which makes it"
                    ) from error
                if isinstance(error, answers):
                    raise
                kind = StoreUnavailableError if _passes(error) else StoreRefusedError
                raise kind(f"{self._place}: {_explained(error)}") from error


_OF_THE_CONTAINER = (StorageErrorCode.CONTAINER_NOT_FOUND, StorageErrorCode.CONTAINER_BEING_DELETED)

_GONE_OR_NEWER = (ResourceNotFoundError, ResourceModifiedError)

_PASSING = frozenset({401, 403, 408, 429})
"""Whoever has no access may be given it: roles take minutes to reach the service."""


def _passes(error: AzureError | TimeoutError) -> bool:
    """Whether the same call may work later: there was no answer, half of one, or one that says so."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    return status is None or status < 400 or status in _PASSING or status >= 500


def _explained(error: AzureError | TimeoutError) -> str:
    """What is wrong and what to do, in one line and without the request's address, which may hold a signature."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CALL_TIMEOUT.total_seconds():.0f} s"
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = getattr(error, "error_code", None)
    told = getattr(code, "value", code) or type(error).__name__
    if status in {401, 403} or isinstance(error, ClientAuthenticationError):
        return (
            f"access was refused ({told}): give the identity the role Storage Blob Data Contributor on the storage"
            " account, and look whether the account's network rules let it in"
        )
    return f"the call failed ({told})" if status is None else f"the service answered {status} ({told})"
