"""The syntax tree of a query in Cosmos DB's SQL, and its text."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from cosmos_peer.json_values import UNDEFINED, encode


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal, undefined included."""

    value: Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """``@name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that FROM or JOIN gives."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """``of.name``, ``of["name"]`` or ``of[3]``."""

    of: "Expression"
    name: str | int
    bracketed: bool = False


@dataclass(frozen=True, slots=True)
class Unary:
    """``NOT``, ``-``, ``+`` or ``~``."""

    operator: str
    operand: "Expression"


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator between two operands, in capitals where it is a word."""

    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Between:
    """``operand [NOT] BETWEEN low AND high``."""

    operand: "Expression"
    low: "Expression"
    high: "Expression"
    negated: bool


@dataclass(frozen=True, slots=True)
class In:
    """``operand [NOT] IN (…)``."""

    operand: "Expression"
    among: "tuple[Expression, ...]"
    negated: bool


@dataclass(frozen=True, slots=True)
class Like:
    """``operand [NOT] LIKE pattern [ESCAPE character]``."""

    operand: "Expression"
    pattern: "Expression"
    escape: str | None
    negated: bool


@dataclass(frozen=True, slots=True)
class Conditional:
    """``when ? then : otherwise``."""

    when: "Expression"
    then: "Expression"
    otherwise: "Expression"


@dataclass(frozen=True, slots=True)
class Call:
    """A function's call; *name* as written."""

    name: str
    arguments: "tuple[Expression, ...]"

    @property
    def function(self) -> str:
        """The name in capitals: names of functions know no case."""
        return self.name.upper()


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """``[…]``."""

    items: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class ObjectOf:
    """``{…}``."""

    members: "tuple[tuple[str, Expression], ...]"


@dataclass(frozen=True, slots=True)
class Subquery:
    """``EXISTS(…)``, ``ARRAY(…)`` or a query in parentheses as a value."""

    kind: Literal["EXISTS", "ARRAY", ""]
    query: "Query"


Expression = (
    Constant
    | Parameter
    | Alias
    | Member
    | Unary
    | Binary
    | Between
    | In
    | Like
    | Conditional
    | Call
    | ArrayOf
    | ObjectOf
    | Subquery
)


@dataclass(frozen=True, slots=True)
class Source:
    """One part of FROM: *of* (None: the container itself), each element of it where *each*, under *alias*."""

    alias: str
    of: "Expression | Query | None"
    each: bool


@dataclass(frozen=True, slots=True)
class SelectItem:
    """One expression of a SELECT list; *alias* None where none is given."""

    expression: Expression
    alias: str | None


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One expression of ORDER BY; *direction* None where none is given."""

    expression: Expression
    direction: Literal["ASC", "DESC"] | None

    @property
    def descending(self) -> bool:
        """Whether the greatest comes first."""
        return self.direction == "DESC"


@dataclass(frozen=True, slots=True)
class Query:
    """A query. *value* is SELECT VALUE's expression; without it and *items* it is ``SELECT *``."""

    sources: tuple[Source, ...]
    items: tuple[SelectItem, ...] = ()
    value: Expression | None = None
    distinct: bool = False
    top: Expression | None = None
    where: Expression | None = None
    group_by: tuple[Expression, ...] = ()
    order_by: tuple[OrderItem, ...] = ()
    rank: bool = False
    offset: Expression | None = None
    limit: Expression | None = None


AGGREGATES = {"COUNT": "Count", "SUM": "Sum", "AVG": "Average", "MIN": "Min", "MAX": "Max", "COUNTIF": "CountIf"}
"""Aggregate functions and their names in query plans."""


def children(node: Any) -> Iterator[Any]:
    """The expressions and queries right within *node*."""
    for field in fields(node):
        yield from _nodes(getattr(node, field.name))


def _nodes(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _nodes(item)
    elif hasattr(value, "__dataclass_fields__"):
        yield value


def aggregates_in(node: Any) -> list[Call]:
    """The aggregates of an expression, not those of its subqueries."""
    if isinstance(node, Query):
        return []
    if isinstance(node, Call) and node.function in AGGREGATES:
        return [node]
    return [found for child in children(node) for found in aggregates_in(child)]


def path_of(node: Any) -> tuple[str, tuple[str, ...]] | None:
    """``c.a["b"]`` as ``("c", ("a", "b"))``; an element of an array is the name ``[]``; None for what is no path."""
    if isinstance(node, Alias):
        return node.name, ()
    if not isinstance(node, Member):
        return None
    inner = path_of(node.of)
    if inner is None:
        return None
    return inner[0], (*inner[1], node.name if isinstance(node.name, str) else "[]")


def default_alias(item: SelectItem, unnamed: Iterator[int]) -> str:
    """The name of a SELECT item's value: its alias, else the last name of its path, else the next ``$n``."""
    if item.alias is not None:
        return item.alias
    if isinstance(item.expression, Alias):
        return item.expression.name
    if isinstance(item.expression, Member) and isinstance(item.expression.name, str):
        return item.expression.name
    return f"${next(unnamed)}"


def text_of(node: Any) -> str:  # noqa: PLR0911, PLR0912 - a branch for each kind of node
    """The node as SQL, in the form in which query plans have it."""
    match node:
        case Constant(value):
            return "undefined" if value is UNDEFINED else encode(value).decode()
        case Parameter(name) | Alias(name):
            return name
        case Member(of, name, bracketed):
            return f"{text_of(of)}[{json.dumps(name)}]" if bracketed else f"{text_of(of)}.{name}"
        case Unary(operator, operand):
            return f"({operator} {text_of(operand)})"
        case Binary(operator, left, right):
            return f"({text_of(left)} {operator} {text_of(right)})"
        case Between(operand, low, high, negated):
            return f"({text_of(operand)} {'NOT ' * negated}BETWEEN {text_of(low)} AND {text_of(high)})"
        case In(operand, among, negated):
            return f"({text_of(operand)} {'NOT ' * negated}IN ({_listed(among)}))"
        case Like(operand, pattern, escape, negated):
            ending = "" if escape is None else f" ESCAPE {json.dumps(escape)}"
            return f"({text_of(operand)} {'NOT ' * negated}LIKE {text_of(pattern)}{ending})"
        case Conditional(when, then, otherwise):
            return f"({text_of(when)} ? {text_of(then)} : {text_of(otherwise)})"
        case Call(name, arguments):
            return f"{name}({_listed(arguments)})"
        case ArrayOf(items):
            return f"[{_listed(items)}]"
        case ObjectOf(members):
            return "{" + ", ".join(f"{json.dumps(name)}: {text_of(value)}" for name, value in members) + "}"
        case Subquery(kind, query):
            return f"{kind}({text_of(query)})"
        case Query():
            return _query_text(node)
    raise AssertionError(f"no text for {node!r}")


def _listed(nodes: tuple[Any, ...]) -> str:
    return ", ".join(map(text_of, nodes))


def source_text(source: Source) -> str:
    """A part of FROM as SQL."""
    if source.of is None:
        return source.alias
    inner = f"({text_of(source.of)})" if isinstance(source.of, Query) else text_of(source.of)
    return f"{source.alias} IN {inner}" if source.each else f"{inner} AS {source.alias}"


def _query_text(query: Query) -> str:
    if query.value is not None:
        selected = f"VALUE {text_of(query.value)}"
    elif query.items:
        selected = ", ".join(
            text_of(item.expression) + (f" AS {item.alias}" if item.alias else "") for item in query.items
        )
    else:
        selected = "*"
    top = "" if query.top is None else f"TOP {text_of(query.top)} "
    clauses = [f"SELECT {'DISTINCT ' * query.distinct}{top}{selected}"]
    if query.sources:
        clauses.append("FROM " + " JOIN ".join(map(source_text, query.sources)))
    if query.where is not None:
        clauses.append(f"WHERE {text_of(query.where)}")
    if query.group_by:
        clauses.append(f"GROUP BY {_listed(query.group_by)}")
    if query.order_by:
        ordered = ", ".join(
            text_of(item.expression) + (f" {item.direction}" if item.direction else "") for item in query.order_by
        )
        clauses.append(f"ORDER BY {'RANK ' * query.rank}{ordered}")
    if query.offset is not None and query.limit is not None:
        clauses.append(f"OFFSET {text_of(query.offset)} LIMIT {text_of(query.limit)}")
    return "\n".join(clauses)
