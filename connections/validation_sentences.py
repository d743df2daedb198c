"""What a validation error of msgspec says, as a sentence for who wrote the data: the field first, never its value."""

import re
from collections.abc import Mapping, Sequence

import msgspec

_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "bool": "true or false",
}
_GIVEN = {**_KINDS, "float": "a fraction"}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}

_PLACE = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>\w+)`")
_PATTERN = re.compile(r"Expected `str` matching regex (?P<pattern>.*)")
_BOUND = re.compile(r"Expected `(?P<kind>\w+)` (?P<sign>[<>]=?) (?P<bound>[\d.]+)")
_OTHER_KIND = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<got>\w+)`")
_EMPTY = "Expected `str` of length >= 1"
_NOT_A_CHOICE = "Invalid enum value"


def validation_sentence(
    error: msgspec.ValidationError, *, forms: Mapping[str, str], choices: Mapping[str, Sequence[str]]
) -> str:
    """*error* as a sentence, such as ``auth.flow: must be one of …``.

    Args:
        error: what :func:`msgspec.convert` raised.
        forms: what a text of a pattern is, in words, by pattern.
        choices: the values to choose from, by the name of the field.
    """
    problem = str(error)
    place = _PLACE.search(problem)
    field, said = (place["field"], problem[: place.start()]) if place else ("", problem)
    if missing := _MISSING.fullmatch(said):
        return f"{field}.{missing['name']}: is missing".removeprefix(".")
    told = _told(said, field.rpartition(".")[2], forms, choices)
    # What the data's own checks say of all of it names its fields itself.
    return told if told == said and not field else f"{field or 'it'}: {told}"


def _told(said: str, name: str, forms: Mapping[str, str], choices: Mapping[str, Sequence[str]]) -> str:
    if said.startswith(_NOT_A_CHOICE):
        return f"must be one of {', '.join(choices[name])}"
    if pattern := _PATTERN.fullmatch(said):
        return "must be " + {repr(known): words for known, words in forms.items()}[pattern["pattern"]]
    if bound := _BOUND.fullmatch(said):
        return f"must be {_KINDS[bound['kind']]}, {_BOUNDS[bound['sign']]} {bound['bound'].removesuffix('.0')}"
    if other := _OTHER_KIND.fullmatch(said):
        wanted = " or ".join(_KINDS.get(kind, kind) for kind in other["wanted"].split(" | "))
        return f"must be {wanted}, not {_GIVEN.get(other['got'], other['got'])}"
    if said == _EMPTY:
        return "must not be empty"
    # What the data's own checks say, in words of their own.
    return said
