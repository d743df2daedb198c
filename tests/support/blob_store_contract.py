"""What every blob store does. A store's own test class inherits this and gives it a ``blobs`` fixture."""

import asyncio
from datetime import datetime, timedelta

import pytest

from messaging.times import utc_now
from shards.blobs import KEPT, PASSING, BlobMissingError, BlobStore, BlobTooLargeError, blob_reference, content_hash

ACME, GLOBEX = "acme", "globex"
UMLAUTS = "Müller & Söhne/東京 .."


class BlobStoreContract:
    """The tests; each has a store without content."""

    @pytest.mark.parametrize(
        "content",
        [b"", b"x", '{"name": "Ünïcode 東京"}'.encode(), bytes(range(256)) * 4096],
        ids=["empty", "one byte", "multi-byte text", "1 MiB"],
    )
    async def test_content_comes_back_as_it_was_put(self, blobs: BlobStore, content: bytes) -> None:
        reference = await blobs.put(ACME, content)

        assert reference == blob_reference(ACME, content)
        assert await blobs.get(ACME, reference) == content

    @pytest.mark.parametrize("tenant", [UMLAUTS, "Acme", "..", "a/../b", "x" * 300, "東" * 300, "lock", "%2e%2e/%41"])
    async def test_any_tenant_id_has_a_space_of_its_own(self, blobs: BlobStore, tenant: str) -> None:
        ours = await blobs.put(tenant, b"same")
        theirs = await blobs.put(ACME, b"same")

        assert ours.casefold() != theirs.casefold()
        assert await blobs.delete(ACME, [theirs]) == 1
        assert await blobs.get(tenant, ours) == b"same"

    async def test_another_tenants_reference_is_refused_in_every_call(self, blobs: BlobStore) -> None:
        reference = await blobs.put(GLOBEX, b"theirs")
        ours = await blobs.put(ACME, b"ours")

        with pytest.raises(BlobMissingError, match="outside the space of tenant acme"):
            await blobs.get(ACME, reference)
        with pytest.raises(BlobMissingError, match="outside the space of tenant acme"):
            await blobs.delete(ACME, [ours, reference])

        assert await blobs.get(GLOBEX, reference) == b"theirs"
        assert await blobs.get(ACME, ours) == b"ours"

    @pytest.mark.parametrize(
        "reference",
        [
            "",
            "payloads/acme/",
            "payloads/acme/../globex/" + "0" * 64,
            "others/acme/" + "0" * 64,
            "/etc/passwd",
            "payloads/acme/" + "0" * 64 + "\n",
        ],
    )
    async def test_what_is_no_reference_is_refused(self, blobs: BlobStore, reference: str) -> None:
        with pytest.raises(BlobMissingError, match=r"no reference of the form|outside the space"):
            await blobs.get(ACME, reference)

    async def test_what_was_never_put_is_missing_by_name(self, blobs: BlobStore) -> None:
        reference = blob_reference(ACME, b"never put")

        with pytest.raises(BlobMissingError, match=reference):
            await blobs.get(ACME, reference)

    async def test_no_more_is_read_than_the_caller_takes(self, blobs: BlobStore) -> None:
        content, empty = b"0123456789" * 1000, await blobs.put(ACME, b"")
        reference = await blobs.put(ACME, content)

        assert await blobs.get(ACME, reference, limit=len(content)) == content
        assert await blobs.get(ACME, empty, limit=0) == b""
        for limit in (0, 1, len(content) - 1):
            with pytest.raises(BlobTooLargeError, match=rf"{reference}.* more than {limit:,} bytes"):
                await blobs.get(ACME, reference, limit=limit)
        with pytest.raises(BlobMissingError, match="there is no content"):
            await blobs.get(ACME, blob_reference(ACME, b"never put"), limit=1)

    async def test_deleted_content_is_gone_and_counted_once(self, blobs: BlobStore) -> None:
        first, second = await blobs.put(ACME, b"first"), await blobs.put(ACME, b"second")

        assert await blobs.delete(ACME, [first, first, blob_reference(ACME, b"never put")]) == 1
        assert await blobs.delete(ACME, [first]) == 0
        assert await blobs.delete(ACME, []) == 0
        with pytest.raises(BlobMissingError):
            await blobs.get(ACME, first)
        assert await blobs.get(ACME, second) == b"second"

    async def test_content_put_many_times_at_once_is_kept_once(self, blobs: BlobStore) -> None:
        content = b"the same again" * 1000

        references = await asyncio.gather(*(blobs.put(ACME, content) for _ in range(24)))

        [reference] = set(references)
        assert await blobs.get(ACME, reference) == content
        assert await blobs.delete(ACME, references) == 1

    async def test_many_contents_at_once_all_come_back(self, blobs: BlobStore) -> None:
        contents = [f"content {number}".encode() * 50 for number in range(40)]

        references = await asyncio.gather(*(blobs.put(ACME, content) for content in contents))

        assert await asyncio.gather(*(blobs.get(ACME, reference) for reference in references)) == contents

    async def test_only_content_put_before_then_is_deleted_of_all_tenants(self, blobs: BlobStore) -> None:
        tenants = (ACME, GLOBEX, UMLAUTS)
        references = {tenant: await blobs.put(tenant, b"kept for a while", space=PASSING) for tenant in tenants}

        assert await blobs.delete_older(utc_now() - timedelta(hours=1)) == 0
        assert await blobs.get(ACME, references[ACME]) == b"kept for a while"
        assert await blobs.delete_older(utc_now() + timedelta(hours=1)) == 3
        assert await blobs.delete_older(utc_now() + timedelta(hours=1)) == 0
        for tenant, reference in references.items():
            with pytest.raises(BlobMissingError):
                await blobs.get(tenant, reference)

    async def test_what_is_kept_stays_however_old_and_apart_from_what_passes(self, blobs: BlobStore) -> None:
        kept, passing = await blobs.put(ACME, b"the same"), await blobs.put(ACME, b"the same", space=PASSING)

        assert (kept, passing) == tuple(blob_reference(ACME, b"the same", space) for space in (KEPT, PASSING))
        assert await blobs.delete_older(utc_now() + timedelta(hours=1)) == 1
        assert await blobs.get(ACME, kept) == b"the same"
        with pytest.raises(BlobMissingError):
            await blobs.get(ACME, passing)
        assert await blobs.delete(ACME, [kept, passing]) == 1

    async def test_what_is_kept_is_listed_by_the_beginning_of_its_hash_and_by_age(self, blobs: BlobStore) -> None:
        later, earlier = utc_now() + timedelta(hours=1), utc_now() - timedelta(hours=1)
        contents = [f"content {number}".encode() for number in range(20)]
        put = {await blobs.put(tenant, content) for tenant in (ACME, GLOBEX, UMLAUTS) for content in contents}
        await blobs.put(ACME, b"passing", space=PASSING)

        async def listed(beginning: str, before: datetime = later) -> list[str]:
            return [reference async for page in blobs.kept(beginning, before) for reference in page]

        for beginning in ("", content_hash(contents[0])[:1], content_hash(contents[1])[:2], content_hash(b"none")):
            found = await listed(beginning)
            assert len(found) == len(set(found))
            assert set(found) == {one for one in put if one.rpartition("/")[2].startswith(beginning)}
            assert await listed(beginning, earlier) == []

    async def test_what_was_put_since_then_is_not_deleted(self, blobs: BlobStore) -> None:
        references = [await blobs.put(ACME, content) for content in (b"first", b"second")]
        missing = blob_reference(ACME, b"never put")

        assert await blobs.delete(ACME, references, put_before=utc_now() - timedelta(hours=1)) == 0
        assert await blobs.get(ACME, references[0]) == b"first"
        later = utc_now() + timedelta(hours=1)
        assert await blobs.delete(ACME, [*references, missing], put_before=later) == 2
        assert [page async for page in blobs.kept("", later) if page] == []

    async def test_content_put_again_counts_as_new(self, blobs: BlobStore) -> None:
        again = await blobs.put(ACME, b"put again", space=PASSING)
        once = await blobs.put(ACME, b"put once", space=PASSING)
        await asyncio.sleep(1.1)  # a home may keep the time in whole seconds
        between = utc_now()
        await asyncio.sleep(1.1)
        await blobs.put(ACME, b"put again", space=PASSING)

        assert await blobs.delete_older(between) == 1
        assert await blobs.get(ACME, again) == b"put again"
        with pytest.raises(BlobMissingError):
            await blobs.get(ACME, once)
