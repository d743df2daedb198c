"""Hybrid search: full text, names and likeness, each ranked by itself and fused by their ranks.

Rare words choose the candidates and frequent ones only help to order them: the cost and the answer of "acme renewal"
are those of "acme", whatever number of chunks has a "renewal". How frequent a word is counts within the tenant alone.

Every candidate query has the reader's conditions within it, so neither a rank nor a score nor the number of hits tells
of what the reader may not see.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from typing import NamedTuple

import apsw
import numpy as np
import numpy.typing as npt

from shards.rank_fusion import Candidate, fused
from shards.sqlite_filters import READABLE_SCOPES, conditions
from shards.sqlite_rows import all_rows, json_rows, json_text, one_row, snapshot
from shards.sqlite_schema import CHILD_BITS, terms_table, text_table
from shards.store import Hit, SearchQuery, Vectors
from shards.vector_matrix import Numbers, VectorMatrices, VectorMatrix

NAME_WEIGHT, BODY_WEIGHT = 4.0, 1.0
"""What a word in the shard's name counts beside one in the text, in BM25."""

MAX_QUERY_CHARACTERS = 1_000
MAX_QUERY_TERMS = 16

MAX_DRIVEN = 4_000
"""How many chunks the words of a query may drive into the ranking, the newest first."""

COUNTED = 20_000
"""A word is counted up to so many chunks; one that has more says nothing."""

SUPPORTING_TERMS = 4
"""How many frequent words help to order what the rare ones found."""

MIN_PREFIX = 3
PREFIX_TERMS = 16
"""A last word that no chunk has, of at least three letters, stands for up to sixteen words that begin with it."""

MIN_RANKED = 50
"""How many shards each ranking has at least, where there are so many."""

FIRST_NEAREST = 256
"""How many of the nearest chunks are tried first."""


class _Term(NamedTuple):
    text: str
    chunks: int
    """How many chunks of the tenant have it, at most COUNTED."""


def find_hits(
    connection: apsw.Connection,
    matrices: VectorMatrices,
    query: SearchQuery,
    *,
    tenant: int,
    types: Sequence[int] | None,
    hit: Callable[[apsw.Connection, Candidate[int]], Hit],
) -> list[Hit]:
    """The best shards for *query*, best first, each read by *hit* with its best chunk.

    Outside any transaction of *connection*; all of it is one snapshot.
    """
    with ExitStack() as stack:
        matrix = None
        if query.vector is not None:
            space = _space(connection, tenant, len(query.vector))
            if space is not None:
                matrix = stack.enter_context(matrices.reading(connection, space, len(query.vector)))
        stack.enter_context(snapshot(connection))
        found = _Search(connection, query, tenant, types).candidates(matrix)
        return [hit(connection, candidate) for candidate in found]


class _Search:
    """One search, within one snapshot of the tables."""

    def __init__(
        self, connection: apsw.Connection, query: SearchQuery, tenant: int, types: Sequence[int] | None
    ) -> None:
        self._connection = connection
        self._query = query
        self._text = text_table(tenant)
        self._terms_table = terms_table(tenant)
        self._ranked = max(MIN_RANKED, 3 * query.limit)
        self._where, self._bindings = conditions(
            tenant=tenant,
            types=types,
            systems=query.systems,
            principals=query.principals,
            linked_to=query.linked_to,
            updated_after=query.updated_after,
            updated_before=query.updated_before,
        )
        self._of_chunks = [*self._where]
        if query.principals is not None:
            # The chunk's own scope too: it may lag behind its shard's, or be another's.
            self._of_chunks.append(f"c.scope IN {READABLE_SCOPES}")
        [self._all_chunks] = one_row(connection, "SELECT chunks FROM tenants WHERE tenant = ?", (tenant,))

    def candidates(self, matrix: VectorMatrix | None) -> list[Candidate[int]]:
        words = self._words(self._query.text)
        by_words: list[Sequence[int]] = []
        by_likeness: Sequence[int] = []
        exact: set[int] = set()
        if words:
            terms = self._terms(words)
            named, exact = self._by_name(words, terms)
            by_text = self._by_text(terms) or self._by_text(self._completed(words))
            by_words = [by_text[: self._ranked], named]
        if matrix is not None and self._query.vector is not None:
            by_likeness = self._by_likeness(matrix, self._query.vector)
        return fused(by_words, by_likeness, exact, shard_of=_shard_of)[: self._query.limit]

    # Text

    def _words(self, text: str) -> list[str]:
        """The words of *text* as the full-text index has them, each once."""
        tokenizer = self._connection.fts5_tokenizer("unicode61", ["remove_diacritics", "2"])
        data = text[:MAX_QUERY_CHARACTERS].encode("utf-8", "ignore")
        words = tokenizer(data, apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False)
        return list(dict.fromkeys(str(word) for word in words))[:MAX_QUERY_TERMS]

    def _terms(self, words: Sequence[str]) -> list[_Term]:
        """The words that the tenant's text has, rarest first; for a last one that it has not, what begins with it."""
        terms = _rarest_first(_Term(word, self._chunks_with(word)) for word in words)
        if all(term.text != words[-1] for term in terms):
            terms = _rarest_first([*terms, *self._completed(words)])
        return terms

    def _completed(self, words: Sequence[str]) -> list[_Term]:
        """What the last of *words*, when it may be unfinished, begins of what the tenant's text has; rarest first."""
        if len(words[-1]) < MIN_PREFIX or not self._query.text[-1:].isalnum():
            return []
        return _rarest_first(_Term(word, self._chunks_with(word)) for word in self._completions(words[-1]))

    def _chunks_with(self, word: str) -> int:
        [chunks] = one_row(
            self._connection,
            f"SELECT count(*) FROM (SELECT 1 FROM {self._text}(?) LIMIT {COUNTED})",
            (_quoted(word),),
        )
        return int(chunks)

    def _completions(self, prefix: str) -> list[str]:
        return [
            word
            for (word,) in self._connection.execute(
                f"SELECT term FROM {self._terms_table} WHERE term > ? AND term < ? LIMIT {PREFIX_TERMS}",
                (prefix, prefix + "\U0010ffff"),
            )
        ]

    def _by_text(self, terms: Sequence[_Term]) -> list[int]:
        """Chunks by BM25, one a shard. A word that only others may read of is as good as none: the next ones drive."""
        while terms:
            rare = self._rare(terms)
            found = self._by_rare(rare, terms) if rare else self._by_frequent(terms)
            if found:
                return found
            terms = terms[max(len(rare), 1) :]
        return []

    def _by_frequent(self, terms: Sequence[_Term]) -> list[int]:
        """Chunks that have all of *terms*, else those that have the rarest."""
        together = self._driven(" AND ".join(_quoted(term.text) for term in terms))
        if len(together) >= self._query.limit or len(terms) == 1:
            return _one_a_shard(chunk for chunk, _ in together)
        rarest = self._driven(_quoted(terms[0].text))
        return _one_a_shard(chunk for chunk, _ in [*together, *rarest])

    def _by_rare(self, rare: Sequence[_Term], terms: Sequence[_Term]) -> list[int]:
        """Chunks that have any of *rare*, the first of *terms*; the others help to order them."""
        drivers = " OR ".join(_quoted(term.text) for term in rare)
        scores = dict(self._driven(drivers))
        for term in terms[len(rare) : len(rare) + SUPPORTING_TERMS]:
            weight = self._weight(term)
            if weight > 0:
                for (chunk,) in self._connection.execute(
                    f"SELECT rowid FROM {self._text}(?)", (f"({drivers}) AND {_quoted(term.text)}",)
                ):
                    if chunk in scores:
                        scores[chunk] += weight
        return _one_a_shard(sorted(scores, key=lambda chunk: -scores[chunk]))

    def _rare(self, terms: Sequence[_Term]) -> Sequence[_Term]:
        """The first of *terms* that may drive: each in few of the tenant's chunks, together within the budget."""
        most = max(self._all_chunks // 10, min(50, self._all_chunks // 2))
        driven = 0
        for number, term in enumerate(terms):
            driven += term.chunks
            if term.chunks > most or (number and driven > MAX_DRIVEN):
                return terms[:number]
        return terms

    def _weight(self, term: _Term) -> float:
        """The inverse document frequency, as in BM25."""
        if term.chunks >= COUNTED:
            return 0.0
        return max(0.0, math.log((self._all_chunks - term.chunks + 0.5) / (term.chunks + 0.5)))

    def _driven(self, match: str) -> list[tuple[int, float]]:
        """The chunks that *match* and the reader may see, best first, with their scores."""
        rows = all_rows(
            self._connection,
            f"""
            SELECT id, score FROM (
                SELECT c.id AS id, -bm25({self._text}, {NAME_WEIGHT}, {BODY_WEIGHT}) AS score
                FROM {self._text} CROSS JOIN chunks AS c ON c.id = {self._text}.rowid
                CROSS JOIN heads AS h ON h.key = c.id >> {CHILD_BITS}
                WHERE {self._text} MATCH :match AND {" AND ".join(self._of_chunks)}
                ORDER BY {self._text}.rowid DESC LIMIT {MAX_DRIVEN}
            ) ORDER BY score DESC, id
            """,
            {**self._bindings, "match": match},
        )
        return [(chunk, score) for chunk, score in rows]

    def _by_name(self, words: Sequence[str], terms: Sequence[_Term]) -> tuple[list[int], set[int]]:
        """Chunks of shards with all *words* in their name, shortest name first; the shards called just that."""
        wanted = set(words)
        if not wanted <= {term.text for term in terms}:
            return [], set()
        drivers = [term.text for term in self._rare(terms) if term.text in wanted] or words
        rows = all_rows(
            self._connection,
            f"""
            SELECT min(id), name FROM (
                SELECT c.id AS id, h.name AS name
                FROM {self._text} CROSS JOIN chunks AS c ON c.id = {self._text}.rowid
                CROSS JOIN heads AS h ON h.key = c.id >> {CHILD_BITS}
                WHERE {self._text} MATCH :match AND {" AND ".join(self._of_chunks)}
                ORDER BY {self._text}.rowid DESC LIMIT {MAX_DRIVEN}
            ) GROUP BY id >> {CHILD_BITS} ORDER BY length(name), 1 LIMIT {4 * self._ranked}
            """,
            {**self._bindings, "match": f"name : ({' AND '.join(_quoted(word) for word in drivers)})"},
        )
        named = [(chunk, found) for chunk, name in rows if wanted <= (found := set(self._words(name)))]
        exact = {chunk >> CHILD_BITS for chunk, found in named if found == wanted}
        return [chunk for chunk, _ in named[: self._ranked]], exact

    # Likeness

    def _by_likeness(self, matrix: VectorMatrix, vector: Vectors) -> list[int]:
        """Chunks by the cosine of their vector with *vector*, one a shard; those that point away are left out."""
        likeness = matrix.likeness(vector)
        chunks = matrix.chunks
        likeness[chunks == 0] = 0
        if self._query.principals is not None:
            likeness[~self._readable(matrix.scopes)] = 0
        if self._query.linked_to is None:
            # Most readers may see most of what is near: look at the nearest before asking for all that passes.
            for most in (FIRST_NEAREST, 16 * FIRST_NEAREST):
                nearest = _nearest(likeness, chunks, most)
                found = _one_a_shard(self._allowed(nearest))
                if len(found) >= self._ranked or len(nearest) < most:
                    return found
        likeness[~np.isin(chunks >> CHILD_BITS, self._allowed_shards())] = 0
        for step in count(1):
            most = FIRST_NEAREST * 4**step
            nearest = _nearest(likeness, chunks, most)
            found = _one_a_shard(self._allowed(nearest))
            if len(found) >= self._ranked or len(nearest) < most:
                return found
        raise AssertionError("unreachable: the count is endless")

    def _readable(self, scopes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        numbers = [scope for (scope,) in self._connection.execute(f"SELECT * FROM {READABLE_SCOPES}", self._bindings)]
        table = np.zeros(max(int(scopes.max(initial=0)), max(numbers, default=0)) + 1, dtype=np.bool_)
        table[numbers] = True
        return table[scopes]

    def _allowed(self, chunks: Sequence[int]) -> Iterator[int]:
        """Those of the chunks that have a vector and that the reader may see, in their order."""
        found = json_rows(
            self._connection,
            f"SELECT json_group_array(c.id) FROM json_each(:chunks) AS j CROSS JOIN chunks AS c ON c.id = j.value"
            f" CROSS JOIN heads AS h ON h.key = c.id >> {CHILD_BITS}"
            f" WHERE c.vector IS NOT NULL AND {' AND '.join(self._of_chunks)}",
            {**self._bindings, "chunks": json_text(chunks)},
        )
        allowed = set(found)
        return (chunk for chunk in chunks if chunk in allowed)

    def _allowed_shards(self) -> Numbers:
        [keys] = one_row(
            self._connection,
            f"SELECT group_concat(h.key) FROM heads AS h WHERE {' AND '.join(self._where)}",
            self._bindings,
        )
        return np.array([] if keys is None else str(keys).split(","), dtype=np.int64)


def _space(connection: apsw.Connection, tenant: int, dimensions: int) -> int | None:
    """The tenant's newest model whose vectors are this long."""
    space = connection.execute(
        "SELECT max(space) FROM spaces WHERE tenant = ? AND dimensions = ?", (tenant, dimensions)
    ).get
    return None if space is None else int(space)


def _nearest(likeness: Vectors, chunks: Numbers, most: int) -> list[int]:
    """The chunks of the *most* greatest likenesses above 0, greatest first."""
    # Zeros first: a partition among many equal numbers is slow.
    rows = np.flatnonzero(likeness > 0)
    if most < len(rows):
        rows = rows[np.argpartition(likeness[rows], -most)[-most:]]
    rows = rows[np.argsort(-likeness[rows], kind="stable")]
    numbers: list[int] = chunks[rows].tolist()
    return numbers


def _one_a_shard(chunks: Iterable[int]) -> list[int]:
    """The first chunk of each shard, in their order."""
    first: dict[int, int] = {}
    for chunk in chunks:
        first.setdefault(chunk >> CHILD_BITS, chunk)
    return list(first.values())


def _rarest_first(terms: Iterable[_Term]) -> list[_Term]:
    """Those of the terms that any chunk has."""
    return sorted((term for term in terms if term.chunks), key=lambda term: term.chunks)


def _shard_of(chunk: int) -> int:
    return chunk >> CHILD_BITS


def _quoted(word: str) -> str:
    """*word* as a string of the full-text query language, in which nothing is an operator."""
    return '"' + word.replace('"', '""') + '"'
