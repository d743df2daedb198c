"""What the shard store costs: microseconds a record for what the chain does, and milliseconds a search.

    python bench/store_bench.py [--records 20000] [--chunks 100000] [--json]

Beside each stands a floor from the same run: the bare SQLite insert of the same JSON, the bare NumPy product over the
same vectors, and sqlite-vec's own distance function over them.
"""

import argparse
import asyncio
import gc
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import apsw
import numpy as np
import sqlite_vec

from shards.identity import chunk_id, link_id, shard_id
from shards.model import (
    Acl,
    Chunk,
    ExternalRelationship,
    InternalRelationship,
    Shard,
    UnstructuredData,
    encode_shard,
)
from shards.sqlite_store import SqliteShardStore
from shards.store import SearchQuery, ShardWrite, Stage, Vectors

T = TypeVar("T")

TENANT = "acme"
BATCH = 256
DIMENSIONS = 256
MODEL = "bench"
NOW = "2026-01-01T00:00:00.000Z"
SEARCHES = 25

_random = random.Random(7)
_words = [
    "".join(_random.choices("bcdfghklmnprstvw", k=1) + _random.choices("aeiou", k=1) + _random.choices("lmnrst", k=3))
    for _ in range(30_000)
]
# Zipf: the n-th word is used 1/n as often as the first.
_weights = list(accumulate(1 / n for n in range(1, len(_words) + 1)))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report: wall clock, and for the steps of the chain also the CPU time of all threads."""

    what: str
    value: float
    unit: str
    cpu: float | None = None
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds an item."""

    wall: float
    cpu: float


def sentence(words: int) -> str:
    """Text whose words are as frequent as those of a language."""
    return " ".join(_random.choices(_words, cum_weights=_weights, k=words))


def make_shard(number: int) -> Shard:
    """An account, contact or opportunity of 1.5 to 2 KB, which links to up to two shards."""
    kind = ("Account", "Contact", "Opportunity")[number % 3]
    identifier = shard_id(TENANT, "crm", "org", kind, f"{kind}-{number:08d}")
    targets = [shard_id(TENANT, "crm", "org", "Account", f"Account-{_random.randrange(number + 10) // 3 * 3:08d}")]
    links = [
        InternalRelationship(
            id=link_id(identifier, relation, target),
            target_shard_id=target,
            target_shard_type_id="c_account",
            relationship_type=relation,
            status="active",
            confidence=Decimal(1),
            source="crm",
            method="structured-field",
            evidence={"field": "AccountId"},
            created_at=NOW,
            created_by="system",
        )
        for relation, target in zip(("opportunity_for", "child_of"), targets * (number % 3), strict=False)
    ]
    return Shard(
        id=identifier,
        tenant_id=TENANT,
        shard_type_id=f"c_{kind.lower()}",
        structured_data={
            "name": sentence(3).title(),
            "amount": 120_000 + number,
            "probability": Decimal("0.25"),
            "currency": "USD",
            "stage": "negotiation_review",
            "closeDate": "2026-12-31",
            "description": sentence(40),
            "nextStep": sentence(12),
            "customFields": {f"Field_{n}__c": sentence(3) for n in range(4)},
        },
        unstructured_data=UnstructuredData(text=sentence(20)),
        external_relationships=[
            ExternalRelationship(
                system="crm",
                instance="org",
                system_type="crm",
                object_type=kind,
                external_id=f"{kind}-{number:08d}",
                external_url=f"https://crm.example/{kind}/{number}",
                last_synced_at=NOW,
                source_version=NOW,
                read_at=NOW,
                connection_id="connection",
            )
        ],
        internal_relationships=links,
        acl=Acl.of("tenant") if number % 10 else Acl.of(f"user:u{number % 500}@acme.example"),
        fingerprint=f"{number:032x}",
        created_at=NOW,
        updated_at=f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
    )


def make_chunk(shard: Shard, words: int) -> Chunk:
    """The one chunk of a shard."""
    return Chunk(
        id=chunk_id(shard.id, 0),
        tenant_id=TENANT,
        shard_id=shard.id,
        shard_type_id=shard.shard_type_id,
        ordinal=0,
        text=f"everywhere {shard.name} {sentence(words)}",
        hash=f"{shard.fingerprint}",
        acl_scope=shard.acl.scope,
        updated_at=NOW,
    )


def make_vectors(rows: int) -> Vectors:
    """Unit vectors."""
    vectors = np.random.default_rng(7).standard_normal((rows, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """*items* as the chain hands them over."""
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


async def each(items: Sequence[T], call: Callable[[Sequence[T]], Awaitable[object]]) -> Cost:
    """What *call* on batches costs an item."""
    # What the benchmark itself holds is no business of the garbage collector.
    gc.collect()
    gc.freeze()
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches(items):
        await call(batch)
    return Cost((time.perf_counter() - wall) / len(items) * 1e6, (time.process_time() - cpu) / len(items) * 1e6)


async def chain(folder: Path, records: int) -> list[Row]:
    """What the chain does to each record."""
    shards = [make_shard(number) for number in range(records)]
    ids = [shard.id for shard in shards]
    chunks = [make_chunk(shard, 60) for shard in shards]
    vectors = make_vectors(records)
    rows_of = dict(zip(ids, range(records), strict=True))
    steps = [(shard.id, shard.shard_type_id, 1) for shard in shards]
    store = SqliteShardStore(folder / "chain.db")
    rows = [Row("JSON of a shard", statistics.mean(len(encode_shard(shard)) for shard in shards), "bytes")]

    def add(what: str, cost: Cost, goal: float | None = None) -> None:
        rows.append(Row(what, cost.wall, "µs/record", cost.cpu, goal))

    add("floor: bare INSERT of the JSON", floor_insert(folder / "floor.db", shards))
    add("write_many, new", await each(shards, lambda batch: store.write_many([ShardWrite(s, None) for s in batch])), 45)
    add("get_many", await each(ids, lambda batch: store.get_many(TENANT, batch)), 12)
    stored = await store.get_many(TENANT, ids)
    for shard in stored.values():
        shard.updated_at = "2026-02-01T00:00:00.000Z"
    add(
        "write_many, changed",
        await each(list(stored.values()), lambda batch: store.write_many([ShardWrite(s, s.etag) for s in batch])),
        45,
    )
    for stage in Stage:
        add(f"advance {stage}", await each(steps, lambda batch, stage=stage: store.advance(TENANT, stage, batch)), 4)  # type: ignore[misc]  # a default binds the loop's value
    add("progress", await each(ids, lambda batch: store.progress(TENANT, batch)))
    add("chunk_states, none", await each(ids, lambda batch: store.chunk_states(TENANT, batch)))
    add("put_chunks", await each(chunks, lambda batch: store.put_chunks(TENANT, batch)), 40)
    add("chunks_by_id", await each([c.id for c in chunks], lambda batch: store.chunks_by_id(TENANT, batch)))
    add(
        "put_vectors",
        await each(
            chunks,
            lambda batch: store.put_vectors(
                TENANT,
                [(chunk.id, chunk.hash) for chunk in batch],
                vectors[rows_of[batch[0].shard_id] : rows_of[batch[-1].shard_id] + 1],
                model=MODEL,
            ),
        ),
        12,
    )
    add("shards_without_vectors", await each(ids, lambda batch: store.shards_without_vectors(TENANT, batch)))
    started = time.perf_counter()
    await store.counts(TENANT)
    rows.append(Row("counts", (time.perf_counter() - started) * 1e3, "ms"))
    await store.close()
    return rows


def floor_insert(path: Path, shards: Sequence[Shard]) -> Cost:
    """What a shard costs of encoding it and inserting it under its id, in the same batches."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE shards (id TEXT PRIMARY KEY, doc BLOB)")
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches(shards):
        with connection:
            connection.executemany("INSERT INTO shards VALUES (?, ?)", [(s.id, encode_shard(s)) for s in batch])
    cost = Cost((time.perf_counter() - wall) / len(shards) * 1e6, (time.process_time() - cpu) / len(shards) * 1e6)
    connection.close()
    return cost


async def searching(folder: Path, chunks: int) -> list[Row]:
    """Searches over *chunks* chunks, in milliseconds at the median; "everywhere" is a word in all of them."""
    store = SqliteShardStore(folder / "search.db")
    vectors = make_vectors(chunks)
    for start in range(0, chunks, BATCH):
        shards = [make_shard(number) for number in range(start, min(start + BATCH, chunks))]
        pieces = [make_chunk(shard, 60) for shard in shards]
        await store.write_many([ShardWrite(shard, None) for shard in shards])
        await store.put_chunks(TENANT, pieces)
        await store.put_vectors(
            TENANT, [(p.id, p.hash) for p in pieces], vectors[start : start + len(pieces)], model=MODEL
        )
    rows = []
    started = time.perf_counter()
    await store.search(SearchQuery(TENANT, "", vectors[0]))
    rows.append(Row("first search: the matrix file is made", (time.perf_counter() - started) * 1e3, "ms"))
    [some] = [frozenset({"tenant", "user:u20@acme.example"})]
    few = frozenset({"user:u20@acme.example"})
    rare, common = _words[3_000], _words[1]
    for name, text, vector in (
        ("text, a rare word", rare, None),
        ("text, a word in every chunk", "everywhere", None),
        ("text, three frequent words", f"everywhere {common} {_words[2]}", None),
        ("text, rare and frequent words", f"everywhere {rare} {common}", None),
        ("vector", "", vectors[1]),
        ("hybrid", f"everywhere {rare} {common}", vectors[1]),
    ):
        for who, principals in (("operator", None), ("reader of most", some), ("reader of few", few)):
            query = SearchQuery(TENANT, text, vector, limit=10, principals=principals)
            rows.append(Row(f"{name}; {who}", await median(lambda query=query: store.search(query)), "ms"))  # type: ignore[misc]  # a default binds the loop's value
    typed = SearchQuery(TENANT, rare, vectors[1], shard_type_ids=("c_opportunity",), updated_after=NOW)
    rows.append(Row("hybrid, of a type and time; operator", await median(lambda: store.search(typed)), "ms"))
    await store.close()
    rows.extend(floors(folder / "floor-vectors.db", vectors))
    return rows


async def median(call: Callable[[], Awaitable[object]]) -> float:
    """The median of some calls, in milliseconds."""
    times = []
    for _ in range(SEARCHES):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def floors(path: Path, vectors: Vectors) -> list[Row]:
    """Nearest 50 by a flat product in memory, and by sqlite-vec's function over a table."""

    def flat() -> None:
        likeness = vectors @ vectors[1]
        np.argpartition(likeness, -50)[-50:]

    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA cache_size = -300000")
    connection.execute("CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB)")
    with connection:
        connection.executemany("INSERT INTO vectors (vector) VALUES (?)", ((row.tobytes(),) for row in vectors))
    nearest = "SELECT id FROM vectors ORDER BY vec_distance_cosine(vector, ?) LIMIT 50"

    def table() -> None:
        connection.execute(nearest, (vectors[1].tobytes(),)).fetchall()

    rows = []
    for name, call in (("floor: flat NumPy product", flat), ("floor: sqlite-vec vec_distance_cosine", table)):
        times = []
        for _ in range(SEARCHES):
            started = time.perf_counter()
            call()
            times.append((time.perf_counter() - started) * 1e3)
        rows.append(Row(name, statistics.median(times), "ms"))
    connection.close()
    return rows


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description="Measure the shard store.")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--chunks", type=int, default=100_000, help="0 leaves the searches out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(chain(Path(folder), options.records))
        if options.chunks:
            rows += asyncio.run(searching(Path(folder), options.chunks))
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        cpu = "" if row.cpu is None else f"  {row.cpu:>6.1f} of CPU"
        goal = "" if row.goal is None else f"   (goal {row.goal:g})"
        print(f"{row.what:<48} {row.value:>10.1f} {row.unit}{cpu}{goal}")


if __name__ == "__main__":
    main()
