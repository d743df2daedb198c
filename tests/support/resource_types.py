"""Checks resources against the types that Azure publishes for Bicep: known properties, kinds, enumerations, bounds.

``tests/deployment/resource_types.json`` holds the types that ``infra/`` uses, as far as it uses them;
``tests/deployment/take_resource_types.py`` takes them anew.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bicep_template import Resource, Runtime

_PLAIN: dict[str, type | tuple[type, ...]] = {"string": str, "int": int, "bool": bool, "object": dict, "array": list}
_SIZES: dict[str, Callable[[Any], int]] = {"minLength": len, "maxLength": len, "minValue": int, "maxValue": int}


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type at one API version. *objects* are the parts by name; *visited* gathers those that a check looked into."""

    body: Mapping[str, Any]
    objects: Mapping[str, Mapping[str, Any]]
    visited: set[str] = field(default_factory=set)

    def problems(self, resource: Resource) -> list[str]:
        """What is wrong with *resource*, each with its place in it."""
        body = {"name": resource.name, **resource.body}
        return [f"{resource.file} {resource.symbol}: {text}" for text in self._object(body, self.body, "")]

    def _object(self, value: Mapping[str, Any], definition: Mapping[str, Any], place: str) -> Iterator[str]:
        if "discriminator" in definition:
            key = definition["discriminator"]
            chosen = definition["elements"].get(str(value.get(key)))
            if chosen is None:
                yield f"{place}.{key} must be one of {', '.join(definition['elements'])}"
                return
            definition = {"properties": {**definition["properties"], **chosen["properties"]}}
        properties, others = definition["properties"], definition.get("others")
        for name, item in value.items():
            where = f"{place}.{name}".lstrip(".")
            if name not in properties and others is None:
                yield f"{where} is no property there; there are {', '.join(properties)}"
            elif name in properties and "ReadOnly" in properties[name].get("flags", ""):
                yield f"{where} can't be set"
            elif item is not None:
                yield from self._value(item, properties.get(name, {"type": others}), where)
        for name, details in properties.items():
            if "Required" in details.get("flags", "") and value.get(name) is None:
                yield f"{place}.{name} is missing".lstrip(".")

    def _value(self, value: Any, details: Mapping[str, Any], place: str) -> Iterator[str]:
        kinds = str(details["type"]).split(" | ")
        # A part may be called what a value in a list of values is called.
        literals = [kind for kind in kinds if kind not in _PLAIN and (len(kinds) > 1 or kind not in self.objects)]
        if "any" in kinds or isinstance(value, Runtime):
            return
        if len(kinds) == 1 and kinds[0].endswith("[]"):
            if not isinstance(value, list):
                yield f"{place} is no array: {value!r}"
                return
            for index, item in enumerate(value):
                yield from self._value(item, {"type": kinds[0].removesuffix("[]")}, f"{place}[{index}]")
        elif len(kinds) == 1 and kinds[0] in self.objects:
            self.visited.add(kinds[0])
            if isinstance(value, dict):
                yield from self._object(value, self.objects[kinds[0]], place)
            else:
                yield f"{place} is no object: {value!r}"
        elif literals and not any(kind in ("int", "bool", "object", "array") for kind in kinds):
            # Where Azure lists values and allows any other text, one that is not listed is a slip all the same.
            if value not in literals:
                yield f"{place} is {value!r}: types known here are {', '.join(kinds)}"
        elif not any(_is(value, kind) for kind in kinds):
            yield f"{place} is {value!r}, no {' or '.join(kinds)}"
        yield from _outside(value, str(details.get("modifiers", "")), place)


def _is(value: Any, kind: str) -> bool:
    if kind == "int" and isinstance(value, bool):
        return False
    return kind in _PLAIN and isinstance(value, _PLAIN[kind])


def _outside(value: Any, modifiers: str, place: str) -> Iterator[str]:
    for modifier in modifiers.split(", "):
        rule, _, limit = modifier.partition(": ")
        if rule not in _SIZES or not limit.lstrip("-").isdigit() or not isinstance(value, (str, int, list)):
            continue
        size = _SIZES[rule](value)
        if (rule.startswith("min") and size < int(limit)) or (rule.startswith("max") and size > int(limit)):
            yield f"{place} is {value!r}, against {modifier}"


def read_types(document: Mapping[str, Any]) -> dict[str, ResourceType]:
    """The types of a ``resource_types.json``, by ``type@version``."""
    return {name: ResourceType(one["body"], one["objects"]) for name, one in document["types"].items()}
