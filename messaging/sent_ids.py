"""The ids that were sent to a queue lately, held in memory at 16 bytes an id.

An id is 20 bytes. Of each, the first eight are kept, with the number of the log entry that has it in full: what is
found here is a candidate, to be confirmed there; what is not found was not sent.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ID_BYTES = 20

RECENT_IDS = 4_096
"""Ids that wait in a dictionary until they are sorted into a run."""

LARGEST_RUN = 1 << 18
"""Ids a run; larger ones would hold up the sender while they are merged."""

Run = tuple[NDArray[np.uint64], NDArray[np.int64]]
"""Keys in ascending order without repeats, and for each the number of its entry."""


class SentIds:
    """Finds in which log entry an id may stand. *latest* is the number of the last entry added."""

    def __init__(self) -> None:
        self.latest = 0
        self._oldest = 0
        self._recent: dict[int, int] = {}
        self._runs: list[Run] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(keys) for keys, _ in self._runs)

    def add(self, number: int, ids: bytes) -> None:
        """Remember entry *number*, later than all before it, whose ids stand one behind the other in *ids*."""
        self.latest = number
        self._recent.update(dict.fromkeys(_keys(ids).tolist(), number))
        if len(self._recent) >= RECENT_IDS:
            self._sort_recent()

    def find(self, ids: Sequence[bytes]) -> dict[int, int]:
        """For each of *ids* that may have been sent: its index, and the number of the last entry that may have it."""
        keys = _keys(b"".join(ids))
        found: dict[int, int] = {}
        for run_keys, run_numbers in self._runs:
            places = np.minimum(np.searchsorted(run_keys, keys), len(run_keys) - 1)
            for index in np.flatnonzero(run_keys[places] == keys).tolist():
                found[index] = int(run_numbers[places[index]])
        as_numbers = keys.tolist()
        if not self._recent.keys().isdisjoint(as_numbers):
            found.update((index, self._recent[key]) for index, key in enumerate(as_numbers) if key in self._recent)
        return found

    def forget_before(self, number: int) -> None:
        """Let go of entries before *number*; their memory is freed by and by."""
        self._oldest = number
        while self._runs and int(self._runs[0][1].max()) < number:
            del self._runs[0]

    def _sort_recent(self) -> None:
        keys = np.fromiter(self._recent.keys(), np.uint64, len(self._recent))
        numbers = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        self._recent.clear()
        self._runs.append(_merged([(keys, numbers)], self._oldest))
        while len(self._runs) > 1:
            before, last = len(self._runs[-2][0]), len(self._runs[-1][0])
            if before > 2 * last or before + last > LARGEST_RUN:
                break
            self._runs[-2:] = [_merged(self._runs[-2:], self._oldest)]
        self._runs = [run for run in self._runs if len(run[0])]


def _keys(ids: bytes) -> NDArray[np.uint64]:
    return np.ascontiguousarray(np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES)[:, :8]).view(np.uint64).ravel()


def _merged(runs: list[Run], oldest: int) -> Run:
    """One run of the entries from *oldest* on; where a key stands in several, its latest entry stays."""
    keys = np.concatenate([keys for keys, _ in reversed(runs)])
    numbers = np.concatenate([numbers for _, numbers in reversed(runs)])
    order = np.argsort(keys, kind="stable")
    keys, numbers = keys[order], numbers[order]
    kept = numbers >= oldest
    kept[1:] &= keys[1:] != keys[:-1]
    return keys[kept], numbers[kept]
