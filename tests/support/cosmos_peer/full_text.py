"""Full text as the peer breaks and ranks it: words in lower case, no stop words, no stemming; BM25.

The service's analyzers also drop stop words and stem; what depends on that only a real account shows.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """The words of *text*, in order."""
    return tuple(_WORD.findall(text.casefold()))


def contains(text: str, phrase: str) -> bool:
    """Whether the words of *phrase* stand in *text* one after the other."""
    wanted, there = words(phrase), words(text)
    if not wanted:
        return False
    if len(wanted) == 1:
        return wanted[0] in there
    return any(there[start : start + len(wanted)] == wanted for start in range(len(there) - len(wanted) + 1))


def score(text: str, terms: Sequence[str], documents: float, total_words: float, hits: Sequence[float]) -> float:
    """BM25 of *text* for *terms*: *documents* have *total_words* words, *hits* of them each term."""
    there = words(text)
    counts = Counter(there)
    average = total_words / documents if documents else 0.0
    length = len(there) / average if average else 0.0
    total = 0.0
    for term, having in zip(terms, hits, strict=True):
        wanted = words(term)
        frequency = counts[wanted[0]] if len(wanted) == 1 else float(contains(text, term))
        if frequency:
            weight = math.log(1 + (documents - having + 0.5) / (having + 0.5))
            total += weight * frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * length))
    return total
