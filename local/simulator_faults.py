"""Faults on demand: what the vendor, its edge or the network does to calls now and then."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """One thing that goes wrong. *path* is a part of the paths it is for, every call of the API and of login if empty.

    It sees every call it is for: the first *skip* pass, then *times* are hit (``None``: all until it is cleared).
    A hit waits *delay* seconds, and with a *status* answers that and no more.
    """

    status: int | None = None
    body: str = ""
    content_type: str = "application/json;charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    skip: int = 0
    times: int | None = 1
    delay: float = 0.0
    seen: int = 0
    hits: int = 0

    def strikes(self, path: str) -> bool:
        """Whether the call of *path* is one to hit; counts it."""
        if self.path not in path:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class Faults:
    """The faults that are armed. *kinds* are the vendor's own, by name, as fields of :class:`Fault`."""

    def __init__(self, kinds: Mapping[str, Mapping[str, Any]]) -> None:
        self._kinds = kinds
        self._armed: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, armed: Fault | str, **changes: Any) -> Fault:
        """Arm a fault, or the vendor's of that name with *changes* to its fields.

        Raises:
            ValueError: no such kind, or no such field.
        """
        made = self._named(armed, changes) if isinstance(armed, str) else armed
        with self._lock:
            self._armed.append(made)
        return made

    def _named(self, kind: str, changes: Mapping[str, Any]) -> Fault:
        if kind not in self._kinds:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(self._kinds)}")
        try:
            return Fault(**{**self._kinds[kind], **changes})
        except TypeError as error:
            raise ValueError(f"a fault takes no such field: {error}") from error

    def clear(self) -> None:
        """Disarm all."""
        with self._lock:
            self._armed.clear()

    def strike(self, path: str) -> Fault | None:
        """The fault that hits this call; the first armed one when several would. All of them count it."""
        with self._lock:
            hit: Fault | None = None
            for armed in self._armed:
                if armed.strikes(path) and hit is None:
                    hit = armed
            return hit
