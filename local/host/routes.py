"""Route templates of HTTP functions: ``shards/{id}``, ``items/{id:int}``, ``files/{*path}``, ``list/{page?}``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_PARAMETER: Final = re.compile(r"\{(\*{0,2})(\w+)(?::([^{}]*?))?(\?)?\}")
_CONSTRAINT: Final = re.compile(r"(\w+)(?:\(([^()]*)\))?")
_GUID: Final = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def _number(value: str) -> int | None:
    return int(value) if re.fullmatch(r"-?\d{1,19}", value, re.ASCII) else None


def _between(value: str, low: int, high: int) -> bool:
    number = _number(value)
    return number is not None and low <= number <= high


_LEAST, _MOST = -(2**63), 2**63 - 1

_CONSTRAINTS: Final[Mapping[str, tuple[tuple[int, ...], Callable[..., bool]]]] = {
    "int": ((0,), lambda value: _between(value, -(2**31), 2**31 - 1)),
    "long": ((0,), lambda value: _between(value, _LEAST, _MOST)),
    "alpha": ((0,), lambda value: re.fullmatch(r"[a-z]*", value, re.IGNORECASE | re.ASCII) is not None),
    "bool": ((0,), lambda value: value.lower() in {"true", "false"}),
    "guid": ((0,), lambda value: _GUID.fullmatch(value) is not None),
    "length": ((1, 2), lambda value, low, high=None: low <= len(value) <= (low if high is None else high)),
    "minlength": ((1,), lambda value, low: len(value) >= low),
    "maxlength": ((1,), lambda value, high: len(value) <= high),
    "min": ((1,), lambda value, low: _between(value, low, _MOST)),
    "max": ((1,), lambda value, high: _between(value, _LEAST, high)),
    "range": ((2,), _between),
}
"""The constraints of ASP.NET Core routing by name: how many numbers each may take, and what it asks of a value."""


@dataclass(frozen=True, slots=True)
class _Constraint:
    """What a value of a parameter must be."""

    name: str
    numbers: tuple[int, ...]

    def allows(self, value: str) -> bool:
        return _CONSTRAINTS[self.name][1](value, *self.numbers)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment of a template: a literal (in lower case), or a parameter."""

    literal: str = ""
    parameter: str = ""
    constraints: tuple[_Constraint, ...] = ()
    optional: bool = False
    rest: bool = False

    @property
    def rank(self) -> int:
        if self.rest:
            return 3
        if self.parameter:
            return 1 if self.constraints else 2
        return 0


class RouteTemplate:
    """A template of the Functions host's routing (a whole segment is a literal or a parameter).

    Templates sort by how narrow they are: where two match a path, the first of the sorted ones answers, so a literal
    wins over a constrained parameter, that over a free one, and that over a catch-all.
    """

    def __init__(self, template: str) -> None:
        """Read *template*.

        Raises:
            ValueError: it is none that this host can serve; the text says why.
        """
        self.template = template.strip("/")
        self._segments = tuple(_segment(template, text) for text in self.template.split("/") if text)
        names = [segment.parameter for segment in self._segments if segment.parameter]
        if len(names) != len(set(names)):
            raise ValueError(f"route {template!r} names a parameter twice")
        for position, segment in enumerate(self._segments[:-1]):
            if segment.rest or (segment.optional and not self._segments[position + 1].optional):
                raise ValueError(f"route {template!r}: an optional or catch-all parameter must come last")

    @property
    def sort_key(self) -> tuple[tuple[int, ...], str]:
        """Narrower templates first."""
        return tuple(segment.rank for segment in self._segments), self.template

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for templates that match the same paths."""
        return tuple((s.literal, s.rank, s.constraints, s.optional) for s in self._segments)

    def match(self, raw_path: str) -> dict[str, str] | None:
        """The parameters of *raw_path* (percent-encoded, without query), or None when it is another route's.

        Literals match without regard to case.
        """
        path = raw_path.strip("/")
        parts = path.split("/") if path else []
        parameters: dict[str, str] = {}
        for position, segment in enumerate(self._segments):
            if segment.rest:
                rest = unquote("/".join(parts[position:]))
                if not all(constraint.allows(rest) for constraint in segment.constraints):
                    return None
                return parameters | {segment.parameter: rest}
            if position >= len(parts):
                if segment.optional:
                    continue
                return None
            value = unquote(parts[position])
            if segment.parameter:
                if not value or not all(constraint.allows(value) for constraint in segment.constraints):
                    return None
                parameters[segment.parameter] = value
            elif value.lower() != segment.literal:
                return None
        return parameters if len(parts) <= len(self._segments) else None


def _segment(template: str, text: str) -> _Segment:
    if "{" not in text and "}" not in text:
        return _Segment(literal=text.lower())
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise ValueError(f"route {template!r}: segment {text!r} must be a literal or one {{parameter}}")
    stars, name, constraints, optional = match.groups()
    if stars and optional:
        raise ValueError(f"route {template!r}: catch-all {text!r} can't be optional too")
    return _Segment(
        parameter=name,
        constraints=tuple(_constraint(template, word) for word in (constraints or "").split(":") if word),
        optional=bool(optional),
        rest=bool(stars),
    )


def _constraint(template: str, text: str) -> _Constraint:
    match = _CONSTRAINT.fullmatch(text)
    if match is None or match[1] not in _CONSTRAINTS:
        raise ValueError(
            f"route {template!r}: constraint {text!r} is not one this host knows ({', '.join(sorted(_CONSTRAINTS))})"
        )
    numbers = [_number(number.strip()) for number in match[2].split(",")] if match[2] else []
    known = tuple(number for number in numbers if number is not None)
    if len(known) != len(numbers) or len(known) not in _CONSTRAINTS[match[1]][0]:
        raise ValueError(f"route {template!r}: constraint {text!r} lacks its numbers")
    return _Constraint(match[1], known)
