"""Partial updates: the six operations of a patch, and the condition that guards it.

At most 10 operations; the partition key, the id and system properties can't be patched.
"""

import copy
from dataclasses import dataclass
from typing import Any

from cosmos_peer.answers import bad_request, undecided
from cosmos_peer.container_definitions import ContainerDefinition
from cosmos_peer.json_values import UNDEFINED, as_stored
from cosmos_peer.partitions import Item
from cosmos_peer.sql_evaluation import QueryContext, compile_filter
from cosmos_peer.sql_parser import parse_condition

MAX_OPERATIONS = 10
_VERBS = ("add", "set", "replace", "remove", "incr", "move")


@dataclass(frozen=True, slots=True)
class PatchOperation:
    """One operation; *value* is undefined where the verb takes none."""

    verb: str
    path: tuple[str, ...]
    value: Any
    origin: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Patch:
    """A decoded patch."""

    operations: tuple[PatchOperation, ...]
    condition: str | None
    definition: ContainerDefinition

    @classmethod
    def decoded(cls, body: Any, definition: ContainerDefinition) -> "Patch":
        """The patch in a request's body.

        Raises:
            RefusedError: 400.
        """
        if not isinstance(body, dict) or not isinstance(body.get("operations"), list):
            raise bad_request("A patch is an object with 'operations'.")
        if body.keys() - {"operations", "condition"}:
            raise bad_request(f"Unknown properties of a patch: {sorted(body)}.")
        entries = body["operations"]
        if not 1 <= len(entries) <= MAX_OPERATIONS:
            raise bad_request(f"A patch has 1 to {MAX_OPERATIONS} operations, not {len(entries)}.")
        return cls(tuple(_operation(entry, definition) for entry in entries), body.get("condition"), definition)

    def applies_to(self, item: Item) -> bool:
        """Whether the condition holds for the item as it stands.

        Raises:
            RefusedError: 400, the condition is no SQL that the peer knows.
        """
        if self.condition is None:
            return True
        return compile_filter(parse_condition(self.condition), QueryContext(self.definition, {}))(item.body)


def _operation(entry: Any, definition: ContainerDefinition) -> PatchOperation:
    verb = entry.get("op")
    if verb not in _VERBS:
        raise bad_request(f"The patch operation {verb!r} is none of {_VERBS}.")
    if entry.keys() - {"op", "path", "value", "from"}:
        raise bad_request(f"Unknown properties of a patch operation: {sorted(entry)}.")
    if verb in ("remove", "move"):
        value: Any = UNDEFINED
    elif "value" not in entry:
        raise bad_request(f"The patch operation {verb} has no value.")
    else:
        value = as_stored(entry["value"])
    path = _path(entry.get("path"), definition)
    origin = _path(entry.get("from"), definition) if verb == "move" else None
    if origin is not None and path[: len(origin)] == origin:
        raise bad_request("A patch can't move a value into itself.")
    return PatchOperation(verb, path, value, origin)


def _path(text: Any, definition: ContainerDefinition) -> tuple[str, ...]:
    if not isinstance(text, str) or not text.startswith("/") or text == "/":
        raise bad_request(f"The patch path {text!r} is invalid.")
    names = tuple(name.replace("~1", "/").replace("~0", "~") for name in text[1:].split("/"))
    if names[0] in ("id", "_rid", "_self", "_etag", "_ts", "_attachments"):
        raise bad_request(f"The path '{text}' can't be patched: it is the id or a system property.")
    for key in definition.key.paths:
        if names == key[: len(names)] or names[: len(key)] == key:
            raise bad_request(f"The path '{text}' can't be patched: it is part of the partition key.")
    return names


def patched(document: dict[str, Any], operations: tuple[PatchOperation, ...]) -> dict[str, Any]:
    """The document after the operations, each seeing what those before it did.

    Raises:
        RefusedError: 400, an operation finds no place for what it does; nothing is changed.
    """
    result = copy.deepcopy(document)
    for operation in operations:
        if operation.verb == "move":
            assert operation.origin is not None
            value = _at(result, operation.origin)
            if value is UNDEFINED:
                raise bad_request(f"For the move operation, there is nothing at /{'/'.join(operation.origin)}.")
            _remove(result, operation.origin)
            _put(result, operation.path, value, inserting=True)
        elif operation.verb == "remove":
            _remove(result, operation.path)
        elif operation.verb == "incr":
            _put(result, operation.path, _sum(_at(result, operation.path), operation), inserting=False)
        elif operation.verb == "replace":
            if _at(result, operation.path) is UNDEFINED:
                raise bad_request(f"For the replace operation, there is nothing at /{'/'.join(operation.path)}.")
            _put(result, operation.path, operation.value, inserting=False)
        else:
            _put(result, operation.path, operation.value, inserting=operation.verb == "add")
    return result


def _sum(value: Any, operation: PatchOperation) -> Any:
    if type(operation.value) not in (int, float):
        raise bad_request("The increment of a patch is no number.")
    if value is UNDEFINED:
        return operation.value
    if type(value) not in (int, float):
        raise bad_request(f"For the incr operation, /{'/'.join(operation.path)} is no number.")
    return as_stored(value + operation.value)


def _index(names: list[Any], name: str) -> int | None:
    return int(name) if name.isdecimal() and int(name) < len(names) else None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and (index := _index(value, name)) is not None:
            value = value[index]
        else:
            return UNDEFINED
    return value


def _parent(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    parent = _at(document, path[:-1])
    if not isinstance(parent, dict | list):
        raise bad_request(f"The patch path /{'/'.join(path)} leads through what is no object or array.")
    return parent


def _remove(document: dict[str, Any], path: tuple[str, ...]) -> None:
    parent = _parent(document, path)
    if isinstance(parent, list):
        index = _index(parent, path[-1])
        if index is None:
            raise bad_request(f"For the remove operation, there is nothing at /{'/'.join(path)}.")
        del parent[index]
    elif path[-1] not in parent:
        raise bad_request(f"For the remove operation, there is nothing at /{'/'.join(path)}.")
    else:
        del parent[path[-1]]


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any, *, inserting: bool) -> None:
    parent = _parent(document, path)
    if isinstance(parent, dict):
        parent[path[-1]] = value
        return
    if path[-1] == "-":
        parent.append(value)
        return
    if not path[-1].isdecimal() or int(path[-1]) > len(parent):
        raise bad_request(f"The patch path /{'/'.join(path)} is not within the array.")
    index = int(path[-1])
    if inserting or index == len(parent):
        if not inserting:
            raise undecided("a patch that sets the element after an array's last")
        parent.insert(index, value)
    else:
        parent[index] = value
