"""Hybrid search on Cosmos DB: names, full text and likeness, each ranked by itself and fused by their ranks.

The rankings are asked for apart and fused here, as the SDK would fuse those of ``ORDER BY RANK RRF``, which is not done
by the service either. So ranks count shards, not chunks; what has none of the words, or points away, has no rank; and
both homes give one answer (:mod:`shards.rank_fusion`).

Names are asked of the shards, text and vectors of their chunks. A chunk carries its type and its scope, which are
conditions of every query of chunks. What else a reader may ask for is a matter of the shard: few shards that pass are
found first and become a condition too; of many, the best chunks are looked at, round by round, until enough pass.
Either way what a chunk says is held against its shard as it is now before ranks are counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from shards.cosmos_chunks import CosmosChunks
from shards.cosmos_container import interleaved, together
from shards.cosmos_documents import decimals
from shards.cosmos_queries import (
    MAX_LISTED,
    ChunkFilter,
    ShardFilter,
    first_chunks,
    matching_shards,
    named_shards,
    nearest_chunks,
    passing_shards,
    ranked_chunks,
)
from shards.cosmos_shard_reads import CosmosShardReads, parts_of
from shards.cosmos_words import MAX_QUERY_CHARACTERS, MAX_QUERY_WORDS, folded_words, written_words
from shards.rank_fusion import Candidate, fused
from shards.store import Hit, SearchQuery

MAX_CHOSEN = MAX_LISTED
"""Up to so many shards that pass are found first: as many as one list of a query has."""

MIN_RANKED = 20
"""How many shards each ranking has at least, where there are so many."""

CHUNKS_AT_ONCE, MAX_ROUNDS = 100, 8
"""How many chunks are looked at in a round, and how many rounds there are; each leaves out the shards of those before,
so that one shard of thousands of chunks does not keep the others away."""

MIN_PREFIX = 3
"""A last word that may be unfinished has at least three letters."""


class _Names(NamedTuple):
    """Chunks of shards with all words in their names, shortest name first; the shards called just that."""

    chunks: list[str]
    exact: set[str]


class _Search(NamedTuple):
    """A search with what was found out for it. *chosen* None: so many shards pass that each chunk's is held to it."""

    query: SearchQuery
    given: ShardFilter
    chosen: tuple[str, ...] | None

    @property
    def wanted(self) -> int:
        return max(MIN_RANKED, 2 * self.query.limit)

    @property
    def names_at_most(self) -> int:
        return max(MIN_RANKED, 3 * self.query.limit)


class CosmosSearch(CosmosShardReads, CosmosChunks):
    """:meth:`shards.store.ShardStore.search`."""

    async def search(self, query: SearchQuery) -> list[Hit]:
        """See :meth:`shards.store.ShardStore.search`.

        Raises:
            ValueError: the vector is not as long as the container's.
        """
        text = query.text[:MAX_QUERY_CHARACTERS]
        words = folded_words(text)[:MAX_QUERY_WORDS]
        if query.vector is not None:
            self.check_dimensions(len(query.vector))
        elif not words:
            return []
        search = await self._prepared(query)
        if search is None:
            return []
        names, by_text, by_likeness = await asyncio.gather(
            self._by_name(search, words), self._by_text(search, written_words(text)), self._by_likeness(search)
        )
        best = {_shard_of(chunk): chunk for chunk in by_text}
        named = [best.get(_shard_of(chunk), chunk) for chunk in names.chunks]
        # A name says more than a text: what has the words in it comes before all that has them in its text.
        by_words = [list(dict.fromkeys([*named, *by_text])), named]
        found = fused(by_words, by_likeness, names.exact, shard_of=_shard_of)[: query.limit]
        return await self._hits(query.tenant_id, found)

    async def _prepared(self, query: SearchQuery) -> _Search | None:
        """The search with its scopes and shards; None when no shard can pass."""
        scopes = await self._scopes(query.tenant_id, query.principals)
        linked_to = None
        if query.linked_to is not None:
            linked_to = tuple(await self._aliases(query.tenant_id, query.linked_to))
        given = ShardFilter(
            query.shard_type_ids, query.systems, scopes, linked_to, query.updated_after, query.updated_before
        )
        if scopes == ():
            return None
        if not query.systems and linked_to is None and query.updated_after is None and query.updated_before is None:
            return _Search(query, given, None)
        chosen = await self._matching(query.tenant_id, given)
        if not chosen:
            return None
        return _Search(query, given, chosen if len(chosen) <= MAX_CHOSEN else None)

    async def _matching(self, tenant_id: str, given: ShardFilter) -> tuple[str, ...]:
        """The shards that pass; of more than :data:`MAX_CHOSEN`, one more than these."""
        found = await together(
            self._shards.rows(tenant_id, matching_shards(tenant_id, given.within(part), limit=MAX_CHOSEN + 1))
            for part in parts_of(given.scopes)
        )
        return tuple(shard_id for rows in found for shard_id in rows)[: MAX_CHOSEN + 1]

    # Names

    async def _by_name(self, search: _Search, words: Sequence[str]) -> _Names:
        if not words:
            return _Names([], set())
        tenant_id = search.query.tenant_id
        unfinished = len(words[-1]) >= MIN_PREFIX and search.query.text[-1:].isalnum()
        found = await together(
            self._shards.first(
                tenant_id,
                named_shards(
                    tenant_id,
                    search.given.within(part),
                    words[:-1] if unfinished else words,
                    prefix=words[-1] if unfinished else None,
                    limit=search.names_at_most,
                ),
                lambda row: (row["nameLength"], row["id"]),
                search.names_at_most,
            )
            for part in parts_of(search.given.scopes)
        )
        rows = sorted((row for rows in found for row in rows), key=lambda row: (row["nameLength"], row["id"]))
        shards = [row["id"] for row in rows][: search.names_at_most]
        chunks = await self._first_chunks(tenant_id, shards, search.given.scopes)
        exact = {row["id"] for row in rows if set(row["words"]) == set(words)}
        return _Names([chunks[shard] for shard in shards if shard in chunks], exact & chunks.keys())

    async def _first_chunks(
        self, tenant_id: str, shard_ids: Sequence[str], scopes: Sequence[str] | None
    ) -> dict[str, str]:
        """The first chunk of each of the shards that has one that may be read."""
        found = await together(
            self._chunks.of_list(tenant_id, shard_ids, partial(first_chunks, tenant_id, scopes=part))
            for part in parts_of(scopes)
        )
        return {row["shardId"]: row["id"] for rows in found for row in rows}

    # Text and likeness

    async def _by_text(self, search: _Search, words: Sequence[str]) -> list[str]:
        """Chunks by BM25, one a shard."""
        terms = words[:MAX_QUERY_WORDS]
        tenant_id = search.query.tenant_id

        async def ranked(filters: Sequence[ChunkFilter]) -> list[str]:
            pages = await together(
                self._chunks.pages(
                    tenant_id, ranked_chunks(tenant_id, given, terms, limit=CHUNKS_AT_ONCE), local_ranks=True
                )
                for given in filters
            )
            # No score comes with a row, so the rankings of several partitions can't be merged by it.
            return interleaved([[row["id"] for row in page] for of_filter in pages for page in of_filter])

        return await self._best(search, ranked) if terms else []

    async def _by_likeness(self, search: _Search) -> list[str]:
        """Chunks by the cosine of their vector with the query's, one a shard; those that point away are left out."""
        vector = search.query.vector
        if vector is None:
            return []
        numbers, tenant_id = decimals(vector), search.query.tenant_id

        async def nearest(filters: Sequence[ChunkFilter]) -> list[str]:
            found = await together(
                self._chunks.first(
                    tenant_id,
                    nearest_chunks(tenant_id, given, numbers, limit=CHUNKS_AT_ONCE),
                    _most_alike,
                    CHUNKS_AT_ONCE,
                )
                for given in filters
            )
            rows = sorted((row for rows in found for row in rows if row["likeness"] > 0), key=_most_alike)
            return [row["id"] for row in rows[:CHUNKS_AT_ONCE]]

        return await self._best(search, nearest)

    async def _best(
        self, search: _Search, ranking: Callable[[Sequence[ChunkFilter]], Awaitable[list[str]]]
    ) -> list[str]:
        """The first chunk of each shard that passes, in the order of a *ranking* of some chunks that pass filters."""
        best: list[str] = []
        seen: dict[str, None] = {}
        for _ in range(MAX_ROUNDS):
            chunks = await ranking(_chunk_filters(search, tuple(seen)))
            best.extend(await self._passing(search, chunks))
            seen.update(dict.fromkeys(map(_shard_of, chunks)))
            if len(best) >= search.wanted or len(chunks) < CHUNKS_AT_ONCE:
                break
        return best

    async def _passing(self, search: _Search, chunks: Sequence[str]) -> list[str]:
        """The first chunk of each shard that passes as it is now, in their order."""
        first: dict[str, str] = {}
        for chunk in chunks:
            first.setdefault(_shard_of(chunk), chunk)
        if search.chosen is not None:
            return list(first.values())
        tenant_id = search.query.tenant_id
        found = await together(
            self._shards.of_list(tenant_id, first, partial(passing_shards, tenant_id, search.given.within(part)))
            for part in parts_of(search.given.scopes)
        )
        passing = {shard for shards in found for shard in shards}
        return [chunk for shard, chunk in first.items() if shard in passing]

    async def _hits(self, tenant_id: str, found: Sequence[Candidate[str]]) -> list[Hit]:
        shards = await self.get_many(tenant_id, [_shard_of(candidate.chunk) for candidate in found])
        chunks = {
            chunk.id: chunk for chunk in await self.chunks_by_id(tenant_id, [candidate.chunk for candidate in found])
        }
        return [
            Hit(shard=shards[_shard_of(candidate.chunk)], chunk=chunks[candidate.chunk], score=candidate.score)
            for candidate in found
            # One that was deleted since it was ranked is no answer.
            if candidate.chunk in chunks and _shard_of(candidate.chunk) in shards
        ]


def _most_alike(row: dict[str, Any]) -> tuple[float, str]:
    return (-row["likeness"], row["id"])


def _chunk_filters(search: _Search, but_of: tuple[str, ...]) -> list[ChunkFilter]:
    """The conditions on chunks; several where the reader has more scopes, or more shards pass, than a list holds."""
    return [
        ChunkFilter(
            search.query.shard_type_ids,
            None if scopes is None else tuple(scopes),
            None if shards is None else tuple(shards),
            but_of,
        )
        for scopes in parts_of(search.given.scopes)
        for shards in parts_of(search.chosen)
    ]


def _shard_of(chunk: str) -> str:
    return chunk.rpartition(".")[0]
