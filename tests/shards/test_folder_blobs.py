"""The folder keeps the contract, and what is its own: whole files, several processes, damage, errors of the system."""

import asyncio
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from blob_store_contract import ACME, BlobStoreContract

from messaging.sqlite import DataFileError
from messaging.times import utc_now
from shards.blobs import PASSING, BlobMissingError, Space, blob_reference
from shards.folder_blobs import FolderBlobStore
from shards.store import StoreUnavailableError

ROOT = Path(__file__).resolve().parents[2]

CONTENT = b"what is kept" * 1000

PUTTING_FOR_EVER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from shards.folder_blobs import FolderBlobStore

    async def main():
        blobs = FolderBlobStore(Path(sys.argv[1]))
        for number in range(10**9):
            content = b"%d " % (number % 4) * 200_000
            print(await blobs.put("acme", content), flush=True)

    asyncio.run(main())
""")


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobStore:
    return FolderBlobStore(tmp_path / "blobs")


class TestFolderBlobStore(BlobStoreContract):
    """The contract."""


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def put_until_killed(folder: Path, *, times: int) -> set[str]:
    """The references that a process told before it was killed, in the midst of its work."""
    command = [sys.executable, "-c", PUTTING_FOR_EVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as putting:
        assert putting.stdout is not None
        told = {putting.stdout.readline().strip() for _ in range(times)}
        putting.kill()
    return told


async def test_the_file_is_named_by_the_reference(blobs: FolderBlobStore, tmp_path: Path) -> None:
    reference = await blobs.put(ACME, CONTENT)

    assert files(tmp_path / "blobs" / "payloads") == [tmp_path / "blobs" / reference]
    assert (tmp_path / "blobs" / reference).read_bytes() == CONTENT


async def test_every_file_of_every_tenant_is_in_the_folder(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path / "blobs")

    for tenant in ("..", "../..", "/", "a/b", "\0", "."):
        await blobs.put(tenant, CONTENT)

    assert len(files(tmp_path / "blobs" / "payloads")) == 6
    assert len(files(tmp_path)) == 6 + len(["payloads.lock"])


async def test_a_damaged_file_is_named_and_mended_by_the_next_put(blobs: FolderBlobStore, tmp_path: Path) -> None:
    reference = await blobs.put(ACME, CONTENT)
    path = tmp_path / "blobs" / reference
    path.write_bytes(CONTENT[:-1])

    with pytest.raises(BlobMissingError, match="is damaged") as damaged:
        await blobs.get(ACME, reference)
    assert str(path) in str(damaged.value)

    await blobs.put(ACME, CONTENT)
    assert await blobs.get(ACME, reference) == CONTENT


async def test_a_process_killed_while_it_puts_leaves_only_whole_files(blobs: FolderBlobStore, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"

    for reference in put_until_killed(folder, times=25):
        assert await blobs.get(ACME, reference)
    for path in files(folder / "payloads"):
        if not path.name.startswith("unfinished-"):
            assert await blobs.get(ACME, f"payloads/acme/{path.name}")


@pytest.mark.parametrize("space", ["payloads", "messages"])
async def test_what_a_killed_process_left_unfinished_goes_with_the_old(
    blobs: FolderBlobStore, tmp_path: Path, space: Space
) -> None:
    reference = await blobs.put(ACME, CONTENT, space=space)
    left = (tmp_path / "blobs" / reference).with_name("unfinished-x1y2")
    left.write_bytes(CONTENT[:100])
    os.utime(left, (1_700_000_000, 1_700_000_000))

    assert await blobs.delete_older(utc_now() - timedelta(days=1)) == 0

    assert files(tmp_path / "blobs" / space) == [tmp_path / "blobs" / reference]


async def test_what_one_process_puts_while_another_deletes_the_old_stays(tmp_path: Path) -> None:
    first, second = FolderBlobStore(tmp_path / "blobs"), FolderBlobStore(tmp_path / "blobs")
    path = tmp_path / "blobs" / await first.put(ACME, CONTENT, space=PASSING)
    start = utc_now() - timedelta(days=1)
    done = asyncio.Event()

    async def put_again_and_again() -> None:
        for _ in range(150):
            with suppress(FileNotFoundError):
                os.utime(path, (1_700_000_000, 1_700_000_000))
            assert await first.get(ACME, await first.put(ACME, CONTENT, space=PASSING)) == CONTENT
        done.set()

    async def delete_again_and_again() -> None:
        while not done.is_set():
            await second.delete_older(start)

    await asyncio.gather(put_again_and_again(), delete_again_and_again())


async def test_what_the_system_refuses_is_the_stores_error_with_the_path(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path / "blobs")
    in_the_way = tmp_path / "blobs" / "payloads" / ACME
    in_the_way.write_text("a file where the tenant's folder should be")

    with pytest.raises(StoreUnavailableError, match="check the path") as refused:
        await blobs.put(ACME, CONTENT)
    assert str(in_the_way) in str(refused.value)
    with pytest.raises(StoreUnavailableError):
        await blobs.get(ACME, blob_reference(ACME, CONTENT))

    in_the_way.unlink()
    assert await blobs.get(ACME, await blobs.put(ACME, CONTENT)) == CONTENT


def test_a_folder_that_cant_be_made_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataFileError, match=r"file/payloads: this folder can't be made"):
        FolderBlobStore(tmp_path / "file")
