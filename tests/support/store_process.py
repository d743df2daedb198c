"""A writer in a process of its own, for tests that race and kill it.

``python store_process.py race FILE ROUNDS NAME`` overwrites one shard again and again and prints each revision it won.
``python store_process.py churn FILE SEED`` writes, rewrites, embeds and deletes shards until it is killed.
"""

import asyncio
import random
import sys

import numpy as np
from shard_samples import ACME, MODEL, chunk_of, id_of, link, make, unit, write

from shards.sqlite_store import SqliteShardStore
from shards.store import SearchQuery, ShardWrite, Stage


async def race(path: str, rounds: int, name: str) -> None:
    store = SqliteShardStore(path)
    won = 0
    while won < rounds:
        stored = await store.get(ACME, id_of("contested"))
        revision = 1 if stored is None else stored.revision + 1
        shard = make("contested", title=f"revision {revision} by {name}", links=[link("contested", f"R{revision}")])
        shard.revision = revision
        [etag] = await store.write_many([ShardWrite(shard, None if stored is None else stored.etag)])
        if etag is not None:
            won += 1
            print(f"won {revision}", flush=True)
    await store.close()


async def churn(path: str, seed: int) -> None:
    store = SqliteShardStore(path)
    choose = random.Random(seed)
    print("open", flush=True)
    turn = 0
    while True:
        turn += 1
        names = choose.sample([f"S{n}" for n in range(300)], 60)
        mark = f"mark{seed}x{turn}"
        shards = [make(name, title=f"{name} {mark}", links=[link(name, f"T{turn % 7}")]) for name in names]
        await write(store, *shards)
        chunks = [chunk_of(shard, f"{mark} text of {shard.name}", ordinal=n) for shard in shards for n in range(2)]
        await store.put_chunks(ACME, chunks)
        vectors = np.stack([unit(choose.random(), choose.random(), 1) for _ in chunks])
        await store.put_vectors(ACME, [(chunk.id, chunk.hash) for chunk in chunks], vectors, model=MODEL)
        await store.advance(ACME, Stage.NORMALIZED, [(shard.id, shard.shard_type_id, turn) for shard in shards])
        await store.delete_chunks(ACME, [chunk.id for chunk in chunks[:20]])
        await store.search(SearchQuery(ACME, mark, unit(1, 1, 1)))
        print(f"turn {turn}", flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["race", path, rounds, name]:
            asyncio.run(race(path, int(rounds), name))
        case ["churn", path, seed]:
            asyncio.run(churn(path, int(seed)))
        case other:
            raise SystemExit(f"what is {other}?")


if __name__ == "__main__":
    main()
