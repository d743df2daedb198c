"""The pages in docs/shards/core-types say what the shard types say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect
import pytest

from processors.mapping.salesforce_fields import TABLES
from shards.types import SHARD_TYPES, ShardType

DOCS = Path(__file__).parents[2] / "docs" / "shards"
PAGES = DOCS / "core-types"
KINDS = sorted(SHARD_TYPES.values(), key=lambda kind: kind.id)


def page(kind: ShardType) -> str:
    return (PAGES / f"{kind.id}.md").read_text(encoding="utf-8")


def table(text: str, heading: str) -> list[list[str]]:
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"no section {heading}"
    rows = [line.strip().strip("|").split("|") for line in section[1].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def type_words(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.UnionType):
        [kind] = [option for option in kind.types if not isinstance(option, msgspec.inspect.NoneType)]
    if isinstance(kind, msgspec.inspect.LiteralType):
        return "one of " + ", ".join(f"`{value}`" for value in sorted(kind.values, key=str))
    if isinstance(kind, msgspec.inspect.ListType):
        return "list of texts" if isinstance(kind.item_type, msgspec.inspect.StrType) else "list of objects"
    if isinstance(kind, msgspec.inspect.DictType):
        return "object of texts" if isinstance(kind.value_type, msgspec.inspect.StrType) else "object"
    names: dict[type[Any], str] = {
        msgspec.inspect.StrType: "text",
        msgspec.inspect.DecimalType: "number",
        msgspec.inspect.IntType: "integer",
        msgspec.inspect.BoolType: "boolean",
        msgspec.inspect.DateType: "date",
        msgspec.inspect.DateTimeType: "date and time",
        msgspec.inspect.StructType: "object",
    }
    return names[type(kind)]


def declared_fields(struct: msgspec.inspect.StructType, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for field in struct.fields:
        yield prefix + field.encode_name, type_words(field.type), "yes" if field.required else "no"
        options = field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,)
        for option in options:
            if isinstance(option, msgspec.inspect.StructType):
                yield from declared_fields(option, f"{prefix}{field.encode_name}.")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_page_lists_the_fields_of_the_type(kind: ShardType) -> None:
    struct = msgspec.inspect.type_info(kind.data)
    assert isinstance(struct, msgspec.inspect.StructType)
    written = [(row[0].strip("`"), row[1], row[2]) for row in table(page(kind), "Fields")]
    assert sorted(written) == sorted(declared_fields(struct))
    assert all(row[4] for row in table(page(kind), "Fields")), "a field without a meaning"


@pytest.mark.parametrize("salesforce", TABLES.values(), ids=lambda salesforce: salesforce.object_type)
def test_page_names_the_source_field(salesforce: Any) -> None:
    sources = {row[0].strip("`"): row[3] for row in table(page(SHARD_TYPES[salesforce.shard_type_id]), "Fields")}
    for source, rule in salesforce.fields.items():
        assert f"`{source}`" in sources[rule.name]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_page_lists_the_links_of_the_type(kind: ShardType) -> None:
    written = [(row[0].strip("`"), row[1].strip("`"), row[2].strip("`"), row[3]) for row in table(page(kind), "Links")]
    declared = [
        (
            link.field,
            link.relationship_type,
            link.target_shard_type_id,
            "; ".join(
                f"{system}: `{name}` by `{link.source_fields[system]}`"
                for system, name in link.target_object_types.items()
            )
            or "the field holds the shard id",
        )
        for link in kind.links
    ]
    assert written == declared


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_example_is_valid(kind: ShardType) -> None:
    example = re.search(r"```json\n(.*?)```", page(kind), re.DOTALL)
    assert example
    kind.validate(json.loads(example[1]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_page_says_whether_search_finds_it(kind: ShardType) -> None:
    section = page(kind).partition("## Text for search")[2]
    assert ("never goes through the chain" in section) is not kind.searchable


def test_index_and_folder_hold_exactly_the_core_types() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\(core-types/(.+?)\.md\)", index)) == [kind.id for kind in KINDS]
    assert sorted(path.stem for path in PAGES.glob("*.md")) == [kind.id for kind in KINDS]
