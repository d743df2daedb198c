"""The built-in functions of Cosmos DB's SQL that the peer knows; arguments of the wrong type give undefined.

An unknown function is the service's 400, never a guess.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cosmos_peer.answers import undecided
from cosmos_peer.json_values import UNDEFINED, canonical, equal

Function = Callable[..., Any]


class Signature(NamedTuple):
    """A function and how many arguments it takes."""

    call: Function
    least: int
    most: int


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _text_test(test: Callable[[str, str], bool]) -> Function:
    def call(text: Any, part: Any, ignoring_case: Any = False) -> Any:
        if type(text) is not str or type(part) is not str or type(ignoring_case) is not bool:
            return UNDEFINED
        return test(text.lower(), part.lower()) if ignoring_case else test(text, part)

    return call


def _of_text(change: Callable[[str], Any]) -> Function:
    return lambda text: change(text) if type(text) is str else UNDEFINED


def _of_number(change: Callable[[float], Any]) -> Function:
    return lambda value: change(value) if _number(value) else UNDEFINED


def _length(text: str) -> int:
    if any(ord(character) > 0xFFFF for character in text):
        raise undecided("LENGTH of a text with characters outside the basic plane")
    return len(text)


def _array_contains(values: Any, wanted: Any, partial: Any = False) -> Any:
    if type(values) is not list or wanted is UNDEFINED or type(partial) is not bool:
        return UNDEFINED
    if partial and type(wanted) is dict:
        return any(_covers(value, wanted) for value in values)
    return any(equal(value, wanted) for value in values)


def _covers(value: Any, wanted: dict[str, Any]) -> bool:
    return type(value) is dict and all(
        name in value and (_covers(value[name], part) if type(part) is dict else equal(value[name], part))
        for name, part in wanted.items()
    )


def _contains_any(values: Any, *wanted: Any) -> Any:
    if type(values) is not list or UNDEFINED in wanted:
        return UNDEFINED
    return any(equal(value, one) for one in wanted for value in values)


def _contains_all(values: Any, *wanted: Any) -> Any:
    if type(values) is not list or UNDEFINED in wanted:
        return UNDEFINED
    return all(any(equal(value, one) for value in values) for one in wanted)


def _concat(*texts: Any) -> Any:
    return "".join(texts) if all(type(text) is str for text in texts) else UNDEFINED


def _substring(text: Any, start: Any, length: Any) -> Any:
    if type(text) is not str or not _number(start) or not _number(length):
        return UNDEFINED
    first = max(int(start), 0)
    return text[first : first + max(int(length), 0)]


def _replace(text: Any, old: Any, new: Any) -> Any:
    if not all(type(part) is str for part in (text, old, new)):
        return UNDEFINED
    return text.replace(old, new) if old else text


def _left(text: Any, length: Any) -> Any:
    return text[: max(int(length), 0)] if type(text) is str and _number(length) else UNDEFINED


def _right(text: Any, length: Any) -> Any:
    if type(text) is not str or not _number(length):
        return UNDEFINED
    return text[len(text) - int(length) :] if 0 < length < len(text) else text if length > 0 else ""


def _index_of(text: Any, part: Any) -> Any:
    return text.find(part) if type(text) is str and type(part) is str else UNDEFINED


def _slice(values: Any, start: Any, length: Any = None) -> Any:
    if type(values) is not list or type(start) is not int or type(length) not in (int, type(None)):
        return UNDEFINED
    first = start if start >= 0 else max(len(values) + start, 0)
    return values[first:] if length is None else values[first : first + max(length, 0)]


def _array_concat(*arrays: Any) -> Any:
    if any(type(array) is not list for array in arrays):
        return UNDEFINED
    return [value for array in arrays for value in array]


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({canonical(value): value for value in reversed(values)}.values())[::-1]


def _intersection(left: Any, right: Any) -> Any:
    if type(left) is not list or type(right) is not list:
        return UNDEFINED
    there = {canonical(value) for value in right}
    return _distinct([value for value in left if canonical(value) in there])


def _union(left: Any, right: Any) -> Any:
    return _distinct(left + right) if type(left) is list and type(right) is list else UNDEFINED


def _is(*types: type) -> Function:
    return lambda value: type(value) in types


def _round(value: float) -> Any:
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def _iif(when: Any, then: Any, otherwise: Any) -> Any:
    return then if when is True else otherwise


FUNCTIONS: dict[str, Signature] = {
    "STARTSWITH": Signature(_text_test(str.startswith), 2, 3),
    "ENDSWITH": Signature(_text_test(str.endswith), 2, 3),
    "CONTAINS": Signature(_text_test(lambda text, part: part in text), 2, 3),
    "STRINGEQUALS": Signature(_text_test(lambda text, part: text == part), 2, 3),
    "LOWER": Signature(_of_text(str.lower), 1, 1),
    "UPPER": Signature(_of_text(str.upper), 1, 1),
    "LENGTH": Signature(_of_text(_length), 1, 1),
    "TRIM": Signature(_of_text(str.strip), 1, 1),
    "LTRIM": Signature(_of_text(str.lstrip), 1, 1),
    "RTRIM": Signature(_of_text(str.rstrip), 1, 1),
    "REVERSE": Signature(_of_text(lambda text: text[::-1]), 1, 1),
    "CONCAT": Signature(_concat, 2, 64),
    "SUBSTRING": Signature(_substring, 3, 3),
    "REPLACE": Signature(_replace, 3, 3),
    "LEFT": Signature(_left, 2, 2),
    "RIGHT": Signature(_right, 2, 2),
    "INDEX_OF": Signature(_index_of, 2, 2),
    "ARRAY_CONTAINS": Signature(_array_contains, 2, 3),
    "ARRAY_CONTAINS_ANY": Signature(_contains_any, 2, 10_000),
    "ARRAY_CONTAINS_ALL": Signature(_contains_all, 2, 10_000),
    "ARRAY_LENGTH": Signature(lambda value: len(value) if type(value) is list else UNDEFINED, 1, 1),
    "ARRAY_SLICE": Signature(_slice, 2, 3),
    "ARRAY_CONCAT": Signature(_array_concat, 2, 64),
    "SETINTERSECT": Signature(_intersection, 2, 2),
    "SETUNION": Signature(_union, 2, 2),
    "IS_DEFINED": Signature(lambda value: value is not UNDEFINED, 1, 1),
    "IS_NULL": Signature(lambda value: value is None, 1, 1),
    "IS_BOOL": Signature(_is(bool), 1, 1),
    "IS_NUMBER": Signature(_is(int, float), 1, 1),
    "IS_STRING": Signature(_is(str), 1, 1),
    "IS_ARRAY": Signature(_is(list), 1, 1),
    "IS_OBJECT": Signature(_is(dict), 1, 1),
    "IS_PRIMITIVE": Signature(_is(bool, int, float, str, type(None)), 1, 1),
    "ABS": Signature(_of_number(abs), 1, 1),
    "CEILING": Signature(_of_number(math.ceil), 1, 1),
    "FLOOR": Signature(_of_number(math.floor), 1, 1),
    "ROUND": Signature(_of_number(_round), 1, 1),
    "IIF": Signature(_iif, 3, 3),
}
"""Functions of plain values; those of full text and vectors need the container and are compiled apart."""
