"""Compiles expressions and queries to Python functions over items.

A value of the wrong type makes an operation undefined; undefined is neither true nor false. Equality of two defined
values of different types is false (so ``!=`` is true); their order is undefined.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from operator import add, mul, sub, truediv
from typing import Any, NoReturn

from cosmos_peer import full_text
from cosmos_peer.answers import bad_request, undecided
from cosmos_peer.container_definitions import ContainerDefinition, VectorPath
from cosmos_peer.json_values import UNDEFINED, SortKey, as_stored, canonical, equal, type_rank
from cosmos_peer.sql_functions import FUNCTIONS
from cosmos_peer.sql_syntax import (
    AGGREGATES,
    Alias,
    ArrayOf,
    Between,
    Binary,
    Call,
    Conditional,
    Constant,
    Expression,
    In,
    Like,
    Member,
    ObjectOf,
    Parameter,
    Query,
    Source,
    Subquery,
    Unary,
    aggregates_in,
    children,
    default_alias,
    path_of,
)
from cosmos_peer.vectors import as_vector, vector_score

Row = list[Any]
"""The values of the aliases, in the order in which FROM and JOIN name them; the container's item is the first."""
Scope = dict[str, int]
Compiled = Callable[[Row], Any]

ROOT = ""
"""The item itself, under whatever alias."""


@dataclass(frozen=True, slots=True)
class QueryContext:
    """What a query is asked of and with: the container's policies, and the parameters with their ``@``."""

    definition: ContainerDefinition
    parameters: Mapping[str, Any]

    def parameter(self, name: str) -> Any:
        """The value of a parameter.

        Raises:
            RefusedError: 400, it is not given.
        """
        if name not in self.parameters:
            raise bad_request(f"The parameter '{name}' is used in the query and not given.")
        return self.parameters[name]


def query_parameters(given: Any) -> dict[str, Any]:
    """The parameters of a request by name.

    Raises:
        RefusedError: 400, malformed.
    """
    found: dict[str, Any] = {}
    for entry in given or []:
        if not isinstance(entry, dict) or not str(entry.get("name", "")).startswith("@") or "value" not in entry:
            raise bad_request(f"The query parameter {entry} is invalid.")
        found[entry["name"]] = as_stored(entry["value"])
    return found


def compile_filter(condition: Query, context: QueryContext) -> Callable[[Any], bool]:
    """Whether the ``FROM … WHERE`` holds for an item."""
    program = QueryProgram(condition, context)
    return lambda body: next(program.bindings([body]), None) is not None


class QueryProgram:
    """A compiled query: its rows, and what it makes of them."""

    def __init__(self, query: Query, context: QueryContext, outer: Scope | None = None) -> None:
        self.query = query
        self._context = context
        self._scope: Scope = dict(outer or {ROOT: 0})
        self._sources = [made for source in query.sources if (made := self._source(source)) is not None]
        self._where = None if query.where is None else self.compiled(query.where)
        self.grouped = bool(query.group_by) or self.aggregates
        self._group_by = [self.compiled(key) for key in query.group_by]
        self._project = self._projection()

    @property
    def aggregates(self) -> bool:
        """Whether the query asks for aggregates."""
        selected = [item.expression for item in self.query.items]
        return any(aggregates_in(node) for node in ([self.query.value] if self.query.value else selected))

    def compiled(self, node: Expression) -> Compiled:
        """The expression as a function of a row of this query."""
        return _Compiler(self._context, self._scope).compiled(node)

    def vector_policy(self, node: Call) -> VectorPath | None:
        """The embedding policy of the path that a VectorDistance is about."""
        return _Compiler(self._context, self._scope).vector_policy(node)

    def count(self, node: Expression | None) -> int | None:
        """The number of TOP, OFFSET or LIMIT.

        Raises:
            RefusedError: 400, none.
        """
        if node is None:
            return None
        value = self._context.parameter(node.name) if isinstance(node, Parameter) else node.value  # type: ignore[union-attr]  # the parser lets nothing else be a count
        if type(value) is not int or not 0 <= value <= 2**31 - 1:
            raise bad_request(f"The TOP, OFFSET or LIMIT value {value} is no integer from 0 to 2147483647.")
        return value

    def bindings(self, row: Row) -> Iterator[Row]:
        """The rows that FROM and JOIN make of *row* (the item, or a row of the query around) and WHERE lets pass."""
        rows: Iterator[Row] = iter([row])
        for source in self._sources:
            rows = self._expanded(rows, source)
        if self._where is None:
            return rows
        where = self._where
        return (found for found in rows if where(found) is True)

    @staticmethod
    def _expanded(rows: Iterator[Row], source: Callable[[Row], Sequence[Any]]) -> Iterator[Row]:
        return ([*row, value] for row in rows for value in source(row))

    def projected(self, row: Row) -> Any:
        """What the SELECT makes of one row; undefined where it makes nothing."""
        return self._project(row)

    def groups(self, rows: Iterator[Row]) -> Iterator[Any]:
        """What the SELECT makes of each group; without GROUP BY all rows are one, even none."""
        aggregating = _Aggregating(self.query, self._context, self._scope)
        if not self._group_by:
            yield aggregating.value([list(row) for row in rows])
            return
        groups: dict[tuple[bytes, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple(canonical(key(row)) for key in self._group_by), []).append(row)
        for members in groups.values():
            yield aggregating.value(members)

    def values(self, row: Row) -> list[Any]:
        """All results of a subquery for a row of the query around it."""
        query = self.query
        rows = self.bindings(row)
        if query.order_by:
            raise undecided("ORDER BY in a subquery")
        found = self.groups(rows) if self.grouped else (self.projected(each) for each in rows)
        results = [value for value in found if value is not UNDEFINED]
        if query.distinct:
            results = list({canonical(value): value for value in results}.values())
        start = self.count(query.offset) or 0
        most = self.count(query.top if query.top is not None else query.limit)
        return list(islice(results, start, None if most is None else start + most))

    def _source(self, source: Source) -> Callable[[Row], Sequence[Any]] | None:
        if source.of is None:
            self._scope[source.alias] = 0
            return None
        if isinstance(source.of, Query):
            inner = QueryProgram(source.of, self._context, self._scope)
            values: Callable[[Row], Sequence[Any]] = inner.values
            if source.each:
                values = lambda row: [element for value in inner.values(row) for element in _elements(value)]  # noqa: E731
        else:
            value_of = self.compiled(source.of)
            if source.each:
                values = lambda row: _elements(value_of(row))  # noqa: E731
            else:
                values = lambda row: () if (value := value_of(row)) is UNDEFINED else (value,)  # noqa: E731
        self._scope[source.alias] = max(self._scope.values()) + 1
        return values

    def _projection(self) -> Compiled:
        query = self.query
        if self.grouped:
            return _no_projection
        if query.value is not None:
            return self.compiled(query.value)
        if not query.items:
            place = self._scope[query.sources[0].alias] if query.sources else 0
            return lambda row: row[place]
        unnamed = count(1)
        members = [(default_alias(item, unnamed), self.compiled(item.expression)) for item in query.items]
        _check_aliases([name for name, _ in members])
        return lambda row: {name: value for name, member in members if (value := member(row)) is not UNDEFINED}


def _check_aliases(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise bad_request(f"A property name of the SELECT list is specified more than once: {sorted(names)}.")


def _no_projection(row: Row) -> NoReturn:
    raise AssertionError("a query with aggregates has no projection of one row")


def _elements(value: Any) -> Sequence[Any]:
    return value if type(value) is list else ()


class _Aggregating:
    """The SELECT of a query with GROUP BY or aggregates: each aggregate is a value of a row of its own."""

    def __init__(self, query: Query, context: QueryContext, scope: Scope) -> None:
        compiler = _Compiler(context, scope)
        selected = [query.value] if query.value is not None else [item.expression for item in query.items]
        if not selected:
            raise bad_request("'SELECT *' can't be used together with aggregates or GROUP BY.")
        self._width = max(scope.values()) + 1
        self._aggregates: list[tuple[str, Compiled]] = []
        inner = dict(scope)
        replaced = [self._replaced(expression, compiler, inner) for expression in selected]
        outer = _Compiler(context, inner)
        self._value = None if query.value is None else outer.compiled(replaced[0])
        unnamed = count(1)
        self._members = [
            (default_alias(item, unnamed), outer.compiled(expression))
            for item, expression in zip(query.items, replaced, strict=query.value is None)
        ]
        _check_aliases([name for name, _ in self._members])

    def _replaced(self, node: Any, compiler: "_Compiler", scope: Scope) -> Any:
        if isinstance(node, Call) and node.function in AGGREGATES:
            if len(node.arguments) != 1:
                raise bad_request(f"The function '{node.name}' requires 1 argument.")
            if aggregates_in(node.arguments[0]):
                raise bad_request("An aggregate can't be within an aggregate.")
            name = f"${len(self._aggregates)}"
            self._aggregates.append((node.function, compiler.compiled(node.arguments[0])))
            scope[name] = self._width + len(self._aggregates) - 1
            return Alias(name)
        if isinstance(node, Query) or not aggregates_in(node):
            return node
        changed = {}
        for field in node.__dataclass_fields__:
            changed[field] = self._replaced_part(getattr(node, field), compiler, scope)
        return type(node)(**changed)

    def _replaced_part(self, part: Any, compiler: "_Compiler", scope: Scope) -> Any:
        if isinstance(part, tuple):
            return tuple(self._replaced_part(each, compiler, scope) for each in part)
        return self._replaced(part, compiler, scope) if hasattr(part, "__dataclass_fields__") else part

    def value(self, rows: list[Row]) -> Any:
        """What the SELECT says of these rows together."""
        first = rows[0] if rows else [UNDEFINED] * self._width
        row = [*first, *(_aggregate(function, [member(row) for row in rows]) for function, member in self._aggregates)]
        if self._value is not None:
            return self._value(row)
        return {name: value for name, member in self._members if (value := member(row)) is not UNDEFINED}


def _aggregate(function: str, values: list[Any]) -> Any:
    defined = [value for value in values if value is not UNDEFINED]
    if function == "COUNT":
        return len(defined)
    if function == "COUNTIF":
        return sum(value is True for value in defined)
    if function in ("MIN", "MAX"):
        chosen = min if function == "MIN" else max
        comparable = bool(defined) and all(type_rank(value) <= 5 for value in defined)
        return chosen(defined, key=SortKey) if comparable else UNDEFINED
    if any(type(value) not in (int, float) for value in defined):
        return UNDEFINED
    total = as_stored(sum(defined))
    return total if function == "SUM" else total / len(defined) if defined else UNDEFINED


def _like(pattern: str, escape: str | None) -> re.Pattern[str]:
    parts = []
    characters = iter(pattern)
    for character in characters:
        if escape is not None and character == escape:
            parts.append(re.escape(next(characters, "")))
        elif character == "%":
            parts.append(".*")
        elif character == "_":
            parts.append(".")
        elif character == "[":
            raise undecided("LIKE with a set of characters")
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


class _Compiler:
    """Compiles expressions within one scope."""

    def __init__(self, context: QueryContext, scope: Scope) -> None:
        self._context = context
        self._scope = scope

    def compiled(self, node: Expression) -> Compiled:  # noqa: PLR0911, PLR0912 - a branch for each kind of node
        """The expression as a function of a row."""
        match node:
            case Constant(value):
                return lambda _: value
            case Parameter(name):
                given = self._context.parameter(name)
                return lambda _: given
            case Alias(name):
                place = self._scope[name]
                return lambda row: row[place]
            case Member():
                return self._member(node)
            case Unary(operator, operand):
                return _unary(operator, self.compiled(operand))
            case Binary():
                return self._binary(node)
            case Between(operand, low, high, negated):
                return self._between(operand, low, high, negated)
            case In(operand, among, negated):
                return self._in(operand, among, negated)
            case Like():
                return self._like(node)
            case Conditional(when, then, otherwise):
                test, yes, no = self.compiled(when), self.compiled(then), self.compiled(otherwise)
                return lambda row: yes(row) if test(row) is True else no(row)
            case ArrayOf(items):
                values = [self.compiled(item) for item in items]
                return lambda row: [value for each in values if (value := each(row)) is not UNDEFINED]
            case ObjectOf(members):
                named = [(name, self.compiled(value)) for name, value in members]
                _check_aliases([name for name, _ in named])
                return lambda row: {name: value for name, each in named if (value := each(row)) is not UNDEFINED}
            case Subquery(kind, query):
                return self._subquery(kind, query)
            case Call():
                return self._call(node)

    def _member(self, node: Member) -> Compiled:
        of, name = self.compiled(node.of), node.name
        if isinstance(name, int):
            index = name

            def element(row: Row) -> Any:
                values = of(row)
                return values[index] if type(values) is list and index < len(values) else UNDEFINED

            return element

        def member(row: Row) -> Any:
            value = of(row)
            return value.get(name, UNDEFINED) if type(value) is dict else UNDEFINED

        return member

    def _binary(self, node: Binary) -> Compiled:  # noqa: PLR0911 - a branch for each operator
        left, right = self.compiled(node.left), self.compiled(node.right)
        match node.operator:
            case "AND":
                return _both(left, right)
            case "OR":
                return _either(left, right)
            case "??":
                return lambda row: right(row) if (value := left(row)) is UNDEFINED else value
            case "=":
                return _equality(left, right, True)
            case "!=":
                return _equality(left, right, False)
            case "<" | ">" | "<=" | ">=":
                return _comparison(left, right, node.operator)
            case "||":
                return lambda row: FUNCTIONS["CONCAT"].call(left(row), right(row))
            case "+" | "-" | "*" | "/" | "%":
                return _arithmetic(left, right, node.operator)
        raise undecided(f"the operator {node.operator}")

    def _between(self, operand: Expression, low: Expression, high: Expression, negated: bool) -> Compiled:
        value = self.compiled(operand)
        inside = _both(_comparison(value, self.compiled(low), ">="), _comparison(value, self.compiled(high), "<="))
        return _unary("NOT", inside) if negated else inside

    def _in(self, operand: Expression, among: Sequence[Expression], negated: bool) -> Compiled:
        value = self.compiled(operand)
        if all(isinstance(item, Constant | Parameter) for item in among):
            fixed = frozenset(canonical(self.compiled(item)([])) for item in among)

            def hashed(row: Row) -> Any:
                found = value(row)
                return UNDEFINED if found is UNDEFINED else canonical(found) in fixed

            return _unary("NOT", hashed) if negated else hashed
        items = [self.compiled(item) for item in among]

        def contained(row: Row) -> Any:
            found = value(row)
            if found is UNDEFINED:
                return UNDEFINED
            return any((item := each(row)) is not UNDEFINED and equal(found, item) for each in items)

        return _unary("NOT", contained) if negated else contained

    def _like(self, node: Like) -> Compiled:
        text, pattern = self.compiled(node.operand), self.compiled(node.pattern)

        def like(row: Row) -> Any:
            value, form = text(row), pattern(row)
            if type(value) is not str or type(form) is not str:
                return UNDEFINED
            return _like(form, node.escape).fullmatch(value) is not None

        return _unary("NOT", like) if node.negated else like

    def _subquery(self, kind: str, query: Query) -> Compiled:
        program = QueryProgram(query, self._context, self._scope)
        if kind == "EXISTS" and not program.grouped and not query.order_by and query.offset is None:
            return lambda row: any(program.projected(found) is not UNDEFINED for found in program.bindings(row))
        if kind == "EXISTS":
            return lambda row: bool(program.values(row))
        if kind == "ARRAY":
            return program.values

        def scalar(row: Row) -> Any:
            values = program.values(row)
            if len(values) > 1:
                raise bad_request("The cardinality of a scalar subquery result set cannot be greater than one.")
            return values[0] if values else UNDEFINED

        return scalar

    # Functions

    def _call(self, node: Call) -> Compiled:
        name = node.function
        if name in AGGREGATES:
            raise bad_request(f"Aggregate function '{node.name}' is only allowed in the SELECT clause.")
        special = {
            "VECTORDISTANCE": self._vector_distance,
            "_VECTORSCORE": self._vector_distance,
            "FULLTEXTCONTAINS": self._text_contains,
            "FULLTEXTCONTAINSALL": self._text_contains,
            "FULLTEXTCONTAINSANY": self._text_contains,
            "_FULLTEXTWORDCOUNT": self._word_count,
            "_FULLTEXTSCORE": self._text_score,
        }.get(name)
        if special is not None:
            return special(node)
        if name in ("FULLTEXTSCORE", "RRF"):
            raise bad_request(f"The {node.name} function is only allowed in the ORDER BY RANK clause.")
        signature = FUNCTIONS.get(name)
        if signature is None:
            raise bad_request(f"'{node.name}' is not a recognized built-in function name.")
        if not signature.least <= len(node.arguments) <= signature.most:
            raise bad_request(f"The function '{node.name}' requires {signature.least} argument(s).")
        arguments = [self.compiled(argument) for argument in node.arguments]
        call = signature.call
        if len(arguments) == 1:
            only = arguments[0]
            return lambda row: call(only(row))
        if len(arguments) == 2:
            one, two = arguments
            return lambda row: call(one(row), two(row))
        return lambda row: call(*[argument(row) for argument in arguments])

    def _policy_path(self, node: Expression) -> tuple[str, ...] | None:
        path = path_of(node)
        if path is None or self._scope.get(path[0]) != 0:
            return None
        return path[1]

    def vector_policy(self, node: Call) -> VectorPath | None:
        """The policy of the path that a VectorDistance is about."""
        path = self._policy_path(node.arguments[0]) if node.arguments else None
        return None if path is None else self._context.definition.vectors.get(path)

    def _vector_distance(self, node: Call) -> Compiled:
        if not 2 <= len(node.arguments) <= 4:
            raise bad_request(f"The function '{node.name}' requires 2 to 4 arguments.")
        policy = self.vector_policy(node)
        options = self.compiled(node.arguments[3])([]) if len(node.arguments) == 4 else {}
        if not isinstance(options, dict) or options.keys() - {"distanceFunction", "dataType"}:
            raise undecided(f"VectorDistance with the options {options}")
        distance = options.get("distanceFunction", policy.distance if policy else None)
        if distance is None:
            raise bad_request("VectorDistance of a path without a Vector Embedding Policy needs a distanceFunction.")
        stored, asked = self.compiled(node.arguments[0]), self.compiled(node.arguments[1])
        fixed = _is_fixed(node.arguments[1])
        vector = as_vector(asked([])) if fixed else None
        if policy is not None and fixed and (vector is None or len(vector) != policy.dimensions):
            raise bad_request(
                f"The vector of VectorDistance is no array of {policy.dimensions} numbers, as the policy has them."
            )
        dimensions = policy.dimensions if policy else None

        def distance_of(row: Row) -> Any:
            value = stored(row)
            # What is not as long as the policy says is not in the index.
            if dimensions is not None and (type(value) is not list or len(value) != dimensions):
                return UNDEFINED
            return vector_score(value, vector if fixed else as_vector(asked(row)), distance)

        return distance_of

    def _text_path(self, node: Call) -> Compiled:
        path = self._policy_path(node.arguments[0]) if node.arguments else None
        if path is None or path not in self._context.definition.texts:
            raise bad_request(f"The first argument of {node.name} is no path of the Full Text Policy.")
        return self.compiled(node.arguments[0])

    def _terms(self, node: Call, arguments: Sequence[Expression]) -> list[str]:
        terms = []
        for argument in arguments:
            if not isinstance(argument, Constant | Parameter):
                raise bad_request(f"The search terms of {node.name} must be literals or parameters.")
            term = self.compiled(argument)([])
            if type(term) is not str:
                raise bad_request(f"The search terms of {node.name} must be strings, not {term!r}.")
            terms.append(term)
        return terms

    def _text_contains(self, node: Call) -> Compiled:
        text = self._text_path(node)
        terms = self._terms(node, node.arguments[1:])
        if not terms or (node.function == "FULLTEXTCONTAINS" and len(terms) != 1):
            raise bad_request(f"The function '{node.name}' has a wrong number of arguments.")
        combine = any if node.function == "FULLTEXTCONTAINSANY" else all

        def contains(row: Row) -> Any:
            value = text(row)
            if type(value) is not str:
                return UNDEFINED
            return combine(full_text.contains(value, term) for term in terms)

        return contains

    def _word_count(self, node: Call) -> Compiled:
        text = self._text_path(node)
        return lambda row: len(full_text.words(value)) if type(value := text(row)) is str else UNDEFINED

    def _text_score(self, node: Call) -> Compiled:
        text = self._text_path(node)
        if len(node.arguments) != 5 or not isinstance(node.arguments[1], ArrayOf):
            raise bad_request("The function '_FullTextScore' has wrong arguments.")
        terms = self._terms(node, node.arguments[1].items)
        documents, total, hits = (self.compiled(argument)([]) for argument in node.arguments[2:])

        def score(row: Row) -> Any:
            value = text(row)
            return full_text.score(value, terms, documents, total, hits) if type(value) is str else UNDEFINED

        return score


def _is_fixed(node: Expression) -> bool:
    """Whether the expression says the same of every item."""
    if isinstance(node, ArrayOf):
        return all(map(_is_fixed, node.items))
    return isinstance(node, Constant | Parameter)


def _both(left: Compiled, right: Compiled) -> Compiled:
    def both(row: Row) -> Any:
        first = left(row)
        if first is False:
            return False
        second = right(row)
        if second is False:
            return False
        return True if first is True and second is True else UNDEFINED

    return both


def _either(left: Compiled, right: Compiled) -> Compiled:
    def either(row: Row) -> Any:
        first = left(row)
        if first is True:
            return True
        second = right(row)
        if second is True:
            return True
        return False if first is False and second is False else UNDEFINED

    return either


def _equality(left: Compiled, right: Compiled, wanted: bool) -> Compiled:
    def same(row: Row) -> Any:
        one = left(row)
        if one is UNDEFINED:
            return UNDEFINED
        other = right(row)
        if other is UNDEFINED:
            return UNDEFINED
        if type(one) is str and type(other) is str:
            return (one == other) is wanted
        return equal(one, other) is wanted

    return same


def _comparison(left: Compiled, right: Compiled, operator: str) -> Compiled:
    def compare(row: Row) -> Any:
        one, other = left(row), right(row)
        rank = type_rank(one)
        if rank != type_rank(other) or rank in (0, 6, 7):
            return UNDEFINED
        if rank == 1:
            return operator in ("<=", ">=")
        if operator == "<":
            return one < other
        if operator == ">":
            return one > other
        return one <= other if operator == "<=" else one >= other

    return compare


def _arithmetic(left: Compiled, right: Compiled, operator: str) -> Compiled:
    def calculate(row: Row) -> Any:
        one, other = left(row), right(row)
        if type(one) not in (int, float) or type(other) not in (int, float):
            return UNDEFINED
        if other == 0 and operator in ("/", "%"):
            return UNDEFINED
        return as_stored(_ARITHMETIC[operator](one, other))

    return calculate


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
    # The remainder has the sign of the dividend.
    "%": lambda one, other: abs(one) % abs(other) * (1 if one >= 0 else -1),
}


def _unary(operator: str, operand: Compiled) -> Compiled:
    def negated(row: Row) -> Any:
        value = operand(row)
        return (not value) if type(value) is bool else UNDEFINED

    def numeric(row: Row) -> Any:
        value = operand(row)
        if type(value) not in (int, float):
            return UNDEFINED
        return -value if operator == "-" else value

    if operator == "NOT":
        return negated
    if operator == "~":
        raise undecided("the operator ~")
    return numeric


def indexed_paths(node: Any, alias: str) -> Iterator[tuple[str, ...]]:
    """The paths of the item under *alias* that an expression speaks of, those of its subqueries too."""
    path = path_of(node)
    if path is not None and path[0] in (alias, ROOT):
        yield path[1]
        return
    for child in children(node):
        yield from indexed_paths(child, alias)
