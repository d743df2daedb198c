"""Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): several rankings of chunks become one of shards."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Generic, NamedTuple, TypeVar

RANK_CONSTANT = 60
"""k: an answer's score is the sum of 1/(k + rank)."""

EXACT_NAME_SCORE = 1.0
"""A shard that is called what was asked comes first: more than all ranks together can give."""

ChunkKey = TypeVar("ChunkKey", int, str)
ShardKey = TypeVar("ShardKey", int, str)


class Candidate(NamedTuple, Generic[ChunkKey]):
    """A shard that answers: the key of its best chunk, and its score."""

    chunk: ChunkKey
    score: float


def fused(
    by_words: Sequence[Sequence[ChunkKey]],
    by_likeness: Sequence[ChunkKey],
    exact: Collection[ShardKey],
    *,
    shard_of: Callable[[ChunkKey], ShardKey],
) -> list[Candidate[ChunkKey]]:
    """The shards of all rankings, best first; the best chunk is the one that ranks highest anywhere.

    Each ranking has one chunk a shard; *exact* are the shards that are called just what was asked. Of equal scores
    that comes first which its words rank higher: a shard that has the word asked for, before its equal that is only
    like it.
    """
    scores: dict[ShardKey, float] = {}
    best: dict[ShardKey, tuple[int, ChunkKey]] = {}
    by_words_best: dict[ShardKey, int] = {}
    for ranking in by_words:
        for rank, chunk in enumerate(ranking, start=1):
            shard = shard_of(chunk)
            by_words_best[shard] = min(rank, by_words_best.get(shard, rank))
    rankings = list(by_words)
    rankings.append(by_likeness)
    for ranking in rankings:
        for rank, chunk in enumerate(ranking, start=1):
            shard = shard_of(chunk)
            scores[shard] = scores.get(shard, EXACT_NAME_SCORE if shard in exact else 0.0) + 1 / (RANK_CONSTANT + rank)
            if shard not in best or rank < best[shard][0]:
                best[shard] = (rank, chunk)
    order = sorted(scores, key=lambda shard: (-scores[shard], by_words_best.get(shard, math.inf), shard))
    return [Candidate(best[shard][1], scores[shard]) for shard in order]
