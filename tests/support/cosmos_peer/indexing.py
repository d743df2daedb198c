"""Which paths of a container are indexed, by the rules of indexing policies."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cosmos_peer.answers import bad_request

Path = tuple[str, ...]
"""The names on the way to a value; ``[]`` stands for any element of an array."""
Direction = Literal["ascending", "descending"]

_STEP = re.compile(r'/(?:"((?:[^"\\]|\\.)*)"|([^/"?*\[\]]+)|(\[\])|(\?)|(\*))')


@dataclass(frozen=True, slots=True)
class IndexPath:
    """One included or excluded path: it covers what stands at *names* only, or, *deep*, all below as well."""

    names: Path
    deep: bool

    def covers(self, path: Path) -> bool:
        """Whether it speaks about *path*."""
        if len(path) < len(self.names) or (len(path) > len(self.names) and not self.deep):
            return False
        return path[: len(self.names)] == self.names

    @property
    def precision(self) -> tuple[int, bool]:
        """Longer paths win over shorter ones, ``/?`` over ``/*``."""
        return len(self.names), not self.deep


def index_path(text: str) -> IndexPath:
    """The path of an indexing policy in *text*.

    Raises:
        RefusedError: 400, it does not end in ``/?`` or ``/*``, or is malformed.
    """
    names, ending = _steps(text)
    if ending not in ("?", "*") or (ending == "?" and not names):
        raise bad_request(f"The indexing path '{text}' could not be accepted: it must end in '/?' or '/*'.")
    return IndexPath(names, ending == "*")


def property_path(text: Any, what: str) -> Path:
    """The names in a plain path (*what* says whose, for the error).

    Raises:
        RefusedError: 400, malformed, or with a wildcard or an array step.
    """
    names, ending = _steps(text)
    if ending or not names or "[]" in names:
        raise bad_request(f"The {what} path '{text}' is invalid: wildcards and array elements are not allowed in it.")
    return names


def _steps(text: Any) -> tuple[Path, str]:
    names: list[str] = []
    position = 0
    while isinstance(text, str) and position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            break
        quoted, plain, array, scalar, wildcard = step.groups()
        position = step.end()
        if scalar or wildcard:
            if position < len(text):
                break
            return tuple(names), scalar or wildcard
        names.append(array or plain or quoted)
    if not isinstance(text, str) or not text or position < len(text):
        raise bad_request(f"The path '{text}' could not be accepted, failed near position '{position}'.")
    return tuple(names), ""


@dataclass(frozen=True, slots=True)
class IndexingPolicy:
    """An indexing policy in force."""

    consistent: bool
    included: tuple[IndexPath, ...]
    excluded: tuple[IndexPath, ...]
    composite: tuple[tuple[tuple[Path, Direction], ...], ...]
    vectors: dict[Path, str]
    texts: frozenset[Path]
    _known: dict[Path, bool] = field(default_factory=dict, compare=False)

    def indexes(self, path: Path) -> bool:
        """Whether values at *path* are in the range index."""
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self.consistent and self._covered(path)
        return known

    def _covered(self, path: Path) -> bool:
        best = max(
            ((rule.precision, included) for included, rules in ((True, self.included), (False, self.excluded))
             for rule in rules if rule.covers(path)),
            default=((0, False), False),
        )  # fmt: skip
        return best[1]

    def names(self, path: Path) -> bool:
        """Whether *path* itself is included, not by a wildcard above it."""
        return any(rule.names == path for rule in self.included)

    def orders(self, wanted: Sequence[tuple[Path, Direction]]) -> bool:
        """Whether a composite index serves this order: the same paths, all directions the same or all the other way."""
        for composite in self.composite:
            if [path for path, _ in composite] == [path for path, _ in wanted]:
                same = {have == want for (_, have), (_, want) in zip(composite, wanted, strict=True)}
                if len(same) == 1:
                    return True
        return False
