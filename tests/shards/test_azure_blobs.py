"""The Azure twin keeps the contract against Azurite, and what is its own: its errors, and the container it needs."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob.aio import ContainerClient, ExponentialRetry
from azurite import Azurite
from blob_store_contract import ACME, GLOBEX, BlobStoreContract
from node_process import require_node_peers

from messaging.times import utc_now
from shards.azure_blobs import AzureBlobStore, container_client
from shards.blobs import PASSING, BlobMissingError, blob_reference
from shards.store import StoreRefusedError, StoreUnavailableError

NO_RETRY = ExponentialRetry(retry_total=0)

CONTENT = b"what is kept" * 1000


class NoIdentity:
    """A credential where there is no identity to have a token of."""

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        raise ClientAuthenticationError("no managed identity endpoint found")

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *of: object) -> None: ...


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    require_node_peers()
    server = Azurite()
    yield server
    server.end()


@pytest.fixture
def container(azurite: Azurite) -> str:
    return f"of-{uuid4().hex}"


@pytest.fixture
async def blobs(azurite: Azurite, container: str) -> AsyncIterator[AzureBlobStore]:
    store = AzureBlobStore(lambda: container_client(azurite.connection_string, container))
    assert await store.ensure_container()
    yield store
    await store.close()


@pytest.fixture
async def raw(azurite: Azurite, container: str) -> AsyncIterator[ContainerClient]:
    """The container as another program sees it."""
    async with container_client(azurite.connection_string, container) as client:
        yield client


class TestAzureBlobStore(BlobStoreContract):
    """The contract."""


async def test_the_blob_is_named_by_the_reference(blobs: AzureBlobStore, raw: ContainerClient) -> None:
    references = {await blobs.put(tenant, CONTENT) for tenant in (ACME, "Müller & Söhne/東京", "a%2fb?c#d")}

    assert {blob.name async for blob in raw.list_blobs()} == references
    properties = await raw.get_blob_client(blob_reference(ACME, CONTENT)).get_blob_properties()
    assert properties.content_settings.content_type == "application/octet-stream"


async def test_a_damaged_blob_is_named_and_mended_by_the_next_put(blobs: AzureBlobStore, raw: ContainerClient) -> None:
    reference = await blobs.put(ACME, CONTENT)
    await raw.get_blob_client(reference).upload_blob(CONTENT[:-1], overwrite=True)

    with pytest.raises(BlobMissingError, match=f"{reference} .* is damaged"):
        await blobs.get(ACME, reference)

    await blobs.put(ACME, CONTENT)
    assert await blobs.get(ACME, reference) == CONTENT


async def test_what_is_put_again_while_the_old_is_deleted_stays(blobs: AzureBlobStore, raw: ContainerClient) -> None:
    again = await blobs.put(ACME, b"put again", space=PASSING)
    once = await blobs.put(ACME, b"put once", space=PASSING)
    listed = raw.list_blobs()

    class PutMeanwhile:
        """A listing after which, and before anything is deleted by it, content is put again."""

        async def by_page(self) -> AsyncIterator[AsyncIterator[object]]:
            async for page in listed.by_page():
                await blobs.put(ACME, b"put again", space=PASSING)
                yield page

    raw.list_blobs = lambda **_options: PutMeanwhile()  # type: ignore[assignment,method-assign]

    assert await AzureBlobStore(lambda: raw).delete_older(utc_now() + timedelta(hours=1)) == 1

    assert await blobs.get(ACME, again) == b"put again"
    with pytest.raises(BlobMissingError):
        await blobs.get(ACME, once)


async def test_only_what_passes_is_deleted_and_on_every_page(blobs: AzureBlobStore, raw: ContainerClient) -> None:
    await raw.upload_blob("exports/of-another-program", b"", overwrite=True)
    for number in range(5):
        await blobs.put(GLOBEX, f"{number}".encode(), space=PASSING)
    paged = AzureBlobStore(lambda: _in_pages(raw, 2))

    assert await paged.delete_older(utc_now() + timedelta(hours=1)) == 5

    assert [blob.name async for blob in raw.list_blobs()] == ["exports/of-another-program"]


def _in_pages(client: ContainerClient, size: int) -> ContainerClient:
    """*client* with smaller pages than the service's five thousand."""
    whole = client.list_blobs
    client.list_blobs = lambda **options: whole(results_per_page=size, **options)  # type: ignore[method-assign]
    return client


async def test_a_container_that_is_not_there_names_the_command_that_makes_it(azurite: Azurite) -> None:
    blobs = AzureBlobStore(lambda: container_client(azurite.connection_string, "not-made"))
    try:
        for call in (
            blobs.put(ACME, CONTENT),
            blobs.get(ACME, blob_reference(ACME, CONTENT)),
            blobs.delete(ACME, [blob_reference(ACME, CONTENT)]),
            blobs.delete_older(utc_now()),
        ):
            with pytest.raises(StoreUnavailableError, match=r"no container not-made .* `shardline provision`"):
                await call
        assert await blobs.ensure_container()
        assert not await blobs.ensure_container()
        assert await blobs.get(ACME, await blobs.put(ACME, CONTENT)) == CONTENT
    finally:
        await blobs.close()


async def test_a_refused_identity_names_the_role_it_needs(azurite: Azurite, container: str) -> None:
    wrong_key = azurite.connection_string.replace("AccountKey=Eby8", "AccountKey=AAAA")
    blobs = AzureBlobStore(lambda: container_client(wrong_key, container))

    with pytest.raises(StoreUnavailableError, match="Storage Blob Data Contributor") as refused:
        await blobs.put(ACME, CONTENT)

    assert "AAAA" not in str(refused.value)
    await blobs.close()


async def test_an_identity_without_a_token_names_the_role_too(container: str) -> None:
    blobs = AzureBlobStore(
        lambda: ContainerClient("https://account.blob.invalid", container, NoIdentity(), retry_policy=NO_RETRY)
    )

    with pytest.raises(StoreUnavailableError, match="Storage Blob Data Contributor"):
        await blobs.put(ACME, CONTENT)

    await blobs.close()


async def test_a_store_that_is_away_is_told_apart_and_comes_back(tmp_path: Path) -> None:
    require_node_peers()
    azurite = Azurite(tmp_path)

    def connect() -> ContainerClient:
        return ContainerClient.from_connection_string(azurite.connection_string, "payloads", retry_policy=NO_RETRY)

    blobs = AzureBlobStore(connect)
    try:
        await blobs.ensure_container()
        reference = await blobs.put(ACME, CONTENT)
        azurite.stop()

        for call in (
            blobs.put(ACME, CONTENT),
            blobs.get(ACME, reference),
            blobs.delete(ACME, [reference]),
            blobs.delete_older(utc_now()),
        ):
            with pytest.raises(StoreUnavailableError, match=r"container payloads .*: the call failed"):
                await call

        azurite.start_again()
        assert await blobs.get(ACME, reference) == CONTENT
    finally:
        azurite.end()
        await blobs.close()


async def test_a_call_without_an_answer_ends(monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    async def keep_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()

    monkeypatch.setattr("shards.azure_blobs.CALL_TIMEOUT", timedelta(seconds=0.2))
    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:{port}/a;"
    blobs = AzureBlobStore(lambda: container_client(address, container))

    with pytest.raises(StoreUnavailableError, match="no answer within"):
        await blobs.put(ACME, CONTENT)

    await blobs.close()
    server.close()


def _answering(status: int, code: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int((re.search(rb"(?i)content-length: (\d+)", head) or [b"", b"0"])[1]))
        lines = (
            f"HTTP/1.1 {status} Told",
            f"x-ms-error-code: {code}",
            "Content-Length: 0",
            "Connection: close",
            "",
            "",
        )
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidUri", StoreRefusedError),
        (400, "InvalidHeaderValue", StoreRefusedError),
        (405, "UnsupportedHttpVerb", StoreRefusedError),
        (409, "BlobImmutableDueToPolicy", StoreRefusedError),
        (413, "RequestBodyTooLarge", StoreRefusedError),
        (409, "ContainerBeingDeleted", StoreUnavailableError),
        (403, "AuthorizationFailure", StoreUnavailableError),
        (401, "NoAuthenticationInformation", StoreUnavailableError),
        (408, "RequestTimeout", StoreUnavailableError),
        (429, "TooManyRequests", StoreUnavailableError),
        (500, "InternalError", StoreUnavailableError),
        (503, "ServerBusy", StoreUnavailableError),
    ],
)
async def test_only_what_may_pass_is_a_store_that_is_away(status: int, code: str, kind: type[Exception]) -> None:
    """What is away is asked again for ever."""
    async with await asyncio.start_server(_answering(status, code), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:{port}/a;"
        blobs = AzureBlobStore(
            lambda: ContainerClient.from_connection_string(address, "payloads", retry_policy=NO_RETRY)
        )
        for call in (
            blobs.put(ACME, CONTENT),
            blobs.get(ACME, blob_reference(ACME, CONTENT)),
            blobs.delete(ACME, [blob_reference(ACME, CONTENT)]),
            blobs.delete_older(utc_now()),
        ):
            with pytest.raises(kind, match="container payloads") as raised:
                await call
            assert "\n" not in str(raised.value)
        await blobs.close()


async def test_nothing_is_connected_before_the_first_call(container: str) -> None:
    def connect() -> ContainerClient:
        raise AssertionError("not asked for")

    await AzureBlobStore(connect).close()
