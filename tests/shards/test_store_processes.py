"""Several real processes on one store file, some of them killed."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest
import store_process
from shard_samples import ACME, id_of, unit

from shards.model import decode_shard
from shards.sqlite_schema import CHILD_BITS
from shards.sqlite_store import SqliteShardStore
from shards.store import SearchQuery, ShardQuery

PROCESS = Path(store_process.__file__)
ROOT = Path(__file__).parents[2]


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _nothing_goes_on_after_a_test_that_failed() -> Iterator[None]:
    yield
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()


def start(*arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(PROCESS), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def lines(process: subprocess.Popen[str]) -> list[str]:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output.splitlines()


async def test_of_two_processes_that_write_one_state_one_wins(tmp_path: Path) -> None:
    racers = [start("race", tmp_path / "store.db", 60, name) for name in ("ann", "bob")]
    won = [int(line.split()[1]) for racer in racers for line in lines(racer)]
    assert sorted(won) == list(range(1, 121))
    store = SqliteShardStore(tmp_path / "store.db")
    stored = await store.get(ACME, id_of("contested"))
    assert stored is not None
    assert stored.revision == 120
    assert len((await store.incoming(ACME, id_of("R120"))).items) == 1
    assert (await store.incoming(ACME, id_of("R119"))).items == []
    await store.close()


async def test_the_change_feed_skips_nothing_that_is_written_meanwhile(tmp_path: Path) -> None:
    store = SqliteShardStore(tmp_path / "store.db")
    writers = [start("churn", tmp_path / "store.db", seed) for seed in (1, 2)]
    try:
        newest: dict[str, str] = {}
        position = "0"
        pages = 0
        until = time.monotonic() + 60
        while (pages < 60 or len(newest) <= 60) and time.monotonic() < until:
            page = await store.changes(after=position, limit=50)
            pages += bool(page.shards)
            places = [int(shard.etag) for shard in page.shards]
            assert places == sorted(places)
            assert int(page.position) >= int(position)
            position = page.position
            newest.update({shard.id: shard.etag for shard in page.shards})
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate(timeout=60)
    while (page := await store.changes(after=position)).shards:
        position = page.position
        newest.update({shard.id: shard.etag for shard in page.shards})
    everything = await store.query(ShardQuery(ACME), limit=1000)
    assert newest == {shard.id: shard.etag for shard in everything.items}
    assert len(newest) > 60
    await store.close()


async def test_a_killed_writer_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    moments = random.Random(11)
    for seed in range(5):
        writer = start("churn", path, seed)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        await asyncio.sleep(moments.uniform(0.05, 0.5))
        writer.kill()
        writer.communicate(timeout=60)
        await assert_consistent(path)


async def assert_consistent(path: Path) -> None:
    """Every table says the same of every shard, and the searches of every chunk."""
    store = SqliteShardStore(path)
    connection = apsw.Connection(str(path))
    [check] = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    assert check == "ok"
    names: dict[int, str] = {}
    links: set[tuple[int, str]] = set()
    for key, position, head_position, name, doc in connection.execute(
        "SELECT h.key, d.position, h.position, h.name, d.doc FROM heads AS h LEFT JOIN docs AS d USING (key)"
    ):
        shard = decode_shard(doc)
        assert (position, name) == (head_position, shard.name)
        names[key] = name
        links.update((key, link.target_shard_id) for link in shard.internal_relationships)
    assert links == set(
        connection.execute(f"SELECT l.id >> {CHILD_BITS}, i.id FROM links AS l JOIN ids AS i ON i.key = l.target")
    )
    chunks = dict(connection.execute("SELECT c.id, t.text FROM chunks AS c JOIN texts AS t USING (id)"))
    for table in ("chunks", "texts"):
        assert connection.execute(f"SELECT count(*) FROM {table}").get == len(chunks)
    assert (connection.execute("SELECT sum(chunks) FROM tenants").get or 0) == len(chunks)
    vectors = set(connection.execute("SELECT id, vector FROM chunks WHERE vector IS NOT NULL"))
    assert vectors == set(connection.execute("SELECT chunk, id FROM vectors WHERE chunk IS NOT NULL"))
    if connection.execute("SELECT 1 FROM tenants").get is not None:
        connection.execute("INSERT INTO text_1 (text_1) VALUES ('integrity-check')")
        assert {row[0] for row in connection.execute("SELECT rowid FROM text_1('text')")} == set(chunks)
        for chunk in list(chunks)[::50]:
            words = f'name : "{names[chunk >> CHILD_BITS].split()[1]}" AND body : "{chunks[chunk].split()[0]}"'
            assert chunk in {row[0] for row in connection.execute("SELECT rowid FROM text_1(?)", (words,))}
    connection.close()
    wanted = unit(1, 0.2, 1)
    hits = await store.search(SearchQuery(ACME, "", wanted, limit=5))
    stored = [chunk for hit in hits for chunk in await store.chunks(ACME, hit.shard.id)]
    likeness = {chunk.id: np.frombuffer(chunk.vector, np.float32) @ wanted for chunk in stored if chunk.vector}
    best = [likeness[hit.chunk.id] for hit in hits]
    assert best == sorted(best, reverse=True)
    assert bool(hits) == bool(vectors)
    await store.close()
