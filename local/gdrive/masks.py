"""Partial responses: ``fields=nextPageToken,files(id,owners/emailAddress)``, held to the API's own schemas."""

import importlib.resources
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from local.gdrive.errors import DriveApiError
from messaging.codec import decode

Selection = Mapping[str, "Selection | None"]
"""What to keep of an object, by name; None keeps all of it, and ``*`` stands for every name."""

_TOKEN: Final = re.compile(r"[\w*-]+|[(),/]")


@cache
def schemas() -> Mapping[str, Any]:
    """The resource schemas of Drive v3, from the discovery document that Google's client library carries."""
    folder = importlib.resources.files("googleapiclient") / "discovery_cache" / "documents"
    found: Mapping[str, Any] = decode((folder / "drive.v3.json").read_bytes())["schemas"]
    return found


def select(value: Any, selection: Selection | None) -> Any:
    """What *selection* keeps of *value*."""
    if selection is None:
        return value
    if isinstance(value, list):
        return [select(each, selection) for each in value]
    if not isinstance(value, dict):
        return value
    every = selection.get("*", {})
    kept = {}
    for name, each in value.items():
        if every is None:
            kept[name] = each
        elif name in selection:
            own = selection[name]
            kept[name] = select(each, None if own is None else _merged(own, every))
        elif every:
            kept[name] = select(each, every)
    return kept


def parse_mask(text: str, schema: str) -> Selection:
    """The selection that *text* asks of a resource of that *schema*.

    Raises:
        DriveApiError: 400 Invalid field selection: a name that the schema lacks, or no mask at all.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s", "", text) or not tokens:
        raise _invalid(text)
    parser = _Parser(tokens, text)
    selection = parser.selection({"$ref": schema})
    if parser.at != len(tokens):
        raise _invalid(text)
    return selection


class _Parser:
    def __init__(self, tokens: list[str], text: str) -> None:
        self._tokens = tokens
        self._text = text
        self.at = 0

    def selection(self, schema: Mapping[str, Any]) -> Selection:
        found: dict[str, Selection | None] = {}
        while True:
            self._field(schema, found)
            if not self._take(","):
                return found

    def _field(self, schema: Mapping[str, Any], found: dict[str, Selection | None]) -> None:
        name = self._tokens[self.at] if self.at < len(self._tokens) else ""
        if not name or name in "(),/":
            raise _invalid(self._text)
        self.at += 1
        inner = _inner(schema, name)
        below: Selection | None = None
        if self._take("/"):
            below = {}
            self._field(inner, below)
        elif self._take("("):
            below = self.selection(inner)
            if not self._take(")"):
                raise _invalid(self._text)
        known = found.get(name, {})
        found[name] = None if known is None or below is None else _merged(known, below)

    def _take(self, token: str) -> bool:
        if self.at < len(self._tokens) and self._tokens[self.at] == token:
            self.at += 1
            return True
        return False


def _merged(one: Selection, other: Selection) -> Selection:
    both = dict(one)
    for name, selection in other.items():
        known = both.get(name, {})
        both[name] = None if known is None or selection is None else _merged(known, selection)
    return both


def _inner(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The schema of the field *name* in what *schema* describes."""
    while "$ref" in schema or schema.get("type") == "array":
        schema = schemas()[schema["$ref"]] if "$ref" in schema else schema["items"]
    properties: Mapping[str, Any] = schema.get("properties", {})
    if name == "*" and (properties or "additionalProperties" in schema):
        # What stands below a star must be a field of each thing it stands for; nobody asks for that here.
        return {"type": "any", "additionalProperties": {}}
    if name in properties:
        found: Mapping[str, Any] = properties[name]
        return found
    if "additionalProperties" in schema:
        other: Mapping[str, Any] = schema["additionalProperties"]
        return other
    raise _invalid(name)


def _invalid(name: str) -> DriveApiError:
    message = f"Invalid field selection {name}"
    return DriveApiError(400, "invalidParameter", message, location=("fields", "parameter"))
