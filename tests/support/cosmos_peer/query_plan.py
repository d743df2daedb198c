"""What a client must know to run a query over several partitions: the query plan, in the shapes of the service.

The shapes are those of the plans that Microsoft publishes with its clients' tests: rewritten queries with
``orderByItems`` and ``payload``, and, for ``ORDER BY RANK``, a query for the statistics and one for each component.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Any

from cosmos_peer.answers import bad_request
from cosmos_peer.json_values import UNDEFINED
from cosmos_peer.partition_keys import WHOLE, EpkRange
from cosmos_peer.sql_evaluation import QueryContext, QueryProgram
from cosmos_peer.sql_syntax import (
    AGGREGATES,
    ArrayOf,
    Binary,
    Call,
    Constant,
    Expression,
    In,
    ObjectOf,
    OrderItem,
    Parameter,
    Query,
    aggregates_in,
    default_alias,
    path_of,
    source_text,
    text_of,
)
from cosmos_peer.vectors import ascending

FILTER = "{documentdb-formattableorderbyquery-filter}"
DOCUMENTS = "{documentdb-formattablehybridsearchquery-totaldocumentcount}"
WORDS = "{{documentdb-formattablehybridsearchquery-totalwordcount-{0}}}"
HITS = "{{documentdb-formattablehybridsearchquery-hitcountsarray-{0}}}"

COMPONENT_FACTOR = 12
"""A component of a rank fusion is asked for so many times what the query takes, as published plans are."""
WORST_SCORE = "1.79769e+308"


@dataclass(frozen=True, slots=True)
class Targets:
    """Where a query's items can be: *ranges* of effective keys, and whether that is one logical partition alone."""

    ranges: tuple[EpkRange, ...]
    single: bool


def targets(query: Query, context: QueryContext) -> Targets:
    """What the conditions on the partition key say: values for all its levels, or for the first ones."""
    alias = query.sources[0].alias if query.sources and query.sources[0].of is None else None
    fixed: dict[tuple[str, ...], list[Any]] = {}
    for condition in _conjuncts(query.where):
        found = _fixed_values(condition, alias, context)
        if found is not None:
            fixed.setdefault(found[0], found[1])
    definition = context.definition.key
    levels = []
    for path in definition.paths:
        if path not in fixed:
            break
        levels.append(fixed[path])
    if not levels or (len(levels) < len(definition.paths) and not definition.hierarchical):
        return Targets((WHOLE,), False)
    spans = [definition.span(definition.value(values)) for values in product(*levels)]
    ranges = sorted(set(spans), key=lambda span: span.low)
    return Targets(tuple(ranges), len(ranges) == 1 and len(levels) == len(definition.paths))


def _conjuncts(where: Expression | None) -> Iterator[Expression]:
    if isinstance(where, Binary) and where.operator == "AND":
        yield from _conjuncts(where.left)
        yield from _conjuncts(where.right)
    elif where is not None:
        yield where


def _fixed_values(
    condition: Expression, alias: str | None, context: QueryContext
) -> tuple[tuple[str, ...], list[Any]] | None:
    if isinstance(condition, Binary) and condition.operator == "=":
        for side, other in ((condition.left, condition.right), (condition.right, condition.left)):
            path = path_of(side)
            if path is not None and path[0] == alias and isinstance(other, Constant | Parameter):
                return _scalars(path[1], [other], context)
    if isinstance(condition, In) and not condition.negated:
        path = path_of(condition.operand)
        if path is not None and path[0] == alias and all(isinstance(i, Constant | Parameter) for i in condition.among):
            return _scalars(path[1], condition.among, context)
    return None


def _scalars(
    path: tuple[str, ...], items: Sequence[Expression], context: QueryContext
) -> tuple[tuple[str, ...], list[Any]] | None:
    values = [context.parameter(i.name) if isinstance(i, Parameter) else i.value for i in items]  # type: ignore[union-attr]  # constants and parameters only
    if any(isinstance(value, list | dict) or value is UNDEFINED for value in values):
        return None
    return path, values


def needs_plan(query: Query) -> bool:
    """Whether a client must merge what partitions answer: the gateway refuses such a query across partitions."""
    return bool(
        query.top is not None
        or query.order_by
        or query.offset is not None
        or query.group_by
        or query.distinct
        or _aggregated(query)
    )


def _selected(query: Query) -> list[Expression]:
    return [query.value] if query.value is not None else [item.expression for item in query.items]


def _aggregated(query: Query) -> bool:
    return any(aggregates_in(expression) for expression in _selected(query))


def query_plan(query: Query, context: QueryContext, features: frozenset[str]) -> dict[str, Any]:
    """The plan of a query, for a client that knows *features*.

    Raises:
        RefusedError: 400, the query needs what the client does not know.
    """
    missing = sorted(_features(query) - features)
    if missing:
        raise bad_request(
            "Query contains 1 or more unsupported features. Upgrade your SDK to a version that does support the"
            f" requested features: Query contained {', '.join(missing)}, which the calling client does not support."
        )
    where = targets(query, context)
    ranges = [
        {"min": span.low, "max": span.high, "isMinInclusive": True, "isMaxInclusive": False} for span in where.ranges
    ]
    plan: dict[str, Any] = {"partitionedQueryExecutionInfoVersion": 2}
    if query.rank:
        plan["hybridSearchQueryInfo"] = _hybrid(query, context)
    else:
        plan["queryInfo"] = _info(query, context, where)
    return {**plan, "queryRanges": ranges}


def _features(query: Query) -> set[str]:
    needed = set()
    if query.rank:
        needed.add("HybridSearch")
        if _weights(_ranked(query)):
            needed.add("WeightedRankFusion")
        return needed
    if _aggregated(query):
        needed.add("Aggregate" if query.value is not None else "NonValueAggregate")
        if any(call.function == "COUNTIF" for expression in _selected(query) for call in aggregates_in(expression)):
            needed.add("CountIf")
    if query.group_by:
        needed.add("GroupBy")
    if query.distinct:
        needed.add("Distinct")
    if query.order_by:
        needed.add("OrderBy" if len(query.order_by) == 1 else "MultipleOrderBy")
        if is_scored(query.order_by[0].expression):
            needed.add("NonStreamingOrderBy")
    if query.top is not None:
        needed.add("Top")
    if query.offset is not None:
        needed.add("OffsetAndLimit")
    return needed


def is_scored(expression: Expression) -> bool:
    """Whether an ORDER BY item is a score, which has no index to stream from."""
    return isinstance(expression, Call) and expression.function in ("VECTORDISTANCE", "_VECTORSCORE", "_FULLTEXTSCORE")


def _empty_info() -> dict[str, Any]:
    return {
        "distinctType": "None",
        "top": None,
        "offset": None,
        "limit": None,
        "orderBy": [],
        "orderByExpressions": [],
        "groupByExpressions": [],
        "groupByAliases": [],
        "aggregates": [],
        "groupByAliasToAggregateType": {},
        "rewrittenQuery": "",
        "hasSelectValue": False,
        "dCountInfo": None,
        "hasNonStreamingOrderBy": False,
    }


def _info(query: Query, context: QueryContext, where: Targets) -> dict[str, Any]:
    info = _empty_info()
    program = QueryProgram(query, context)
    merged = _aggregated(query) or query.distinct or query.group_by
    info["hasSelectValue"] = query.value is not None
    if where.single and not merged:
        return info
    info["top"], info["offset"], info["limit"] = map(program.count, (query.top, query.offset, query.limit))
    if _aggregated(query):
        if (
            query.value is None
            or len(aggregates_in(query.value)) != 1
            or query.value is not aggregates_in(query.value)[0]
        ):
            raise bad_request("Compositions of aggregates and other expressions are not allowed across partitions.")
        call = aggregates_in(query.value)[0]
        info["aggregates"] = [AGGREGATES[call.function]]
        info["rewrittenQuery"] = text_of(replace(query, value=_partial(call), offset=None, limit=None, top=None))
        return info
    if query.distinct:
        info["distinctType"] = "Unordered"
    if query.order_by:
        return _ordered(query, info, program)
    if query.offset is not None and not query.distinct:
        most = (info["offset"] or 0) + (info["limit"] or 0)
        info["rewrittenQuery"] = text_of(replace(query, offset=Constant(0), limit=Constant(most)))
    elif query.distinct and (query.offset is not None or query.top is not None):
        info["rewrittenQuery"] = text_of(replace(query, offset=None, limit=None, top=None))
    return info


def _partial(call: Call) -> Expression:
    """What one partition says of an aggregate, so that the parts can be merged."""
    argument = call.arguments
    if call.function == "AVG":
        parts = ObjectOf((("sum", Call("SUM", argument)), ("count", Call("COUNT", argument))))
        return ArrayOf((ObjectOf((("item", parts),)),))
    if call.function in ("MIN", "MAX"):
        second = ObjectOf(((call.function.lower(), call), ("count", Call("COUNT", argument))))
        return ArrayOf((ObjectOf((("item", call), ("item2", second))),))
    return ArrayOf((ObjectOf((("item", call),)),))


def _ordered(query: Query, info: dict[str, Any], program: QueryProgram) -> dict[str, Any]:
    if query.distinct:
        if query.value is None or [item.expression for item in query.order_by] != [query.value]:
            raise bad_request("DISTINCT with ORDER BY is only allowed on the value that is ordered by.")
        info["distinctType"] = "Ordered"
    info["orderBy"] = [sort_order(item, program) for item in query.order_by]
    info["orderByExpressions"] = [text_of(item.expression) for item in query.order_by]
    info["hasNonStreamingOrderBy"] = is_scored(query.order_by[0].expression)
    where = f"({FILTER})" if query.where is None else f"({text_of(query.where)} AND ({FILTER}))"
    if query.value is not None:
        where = f"({where} AND IS_DEFINED({text_of(query.value)}))"
    taken = info["top"]
    if query.offset is not None:
        taken = (info["offset"] or 0) + (info["limit"] or 0)
    items = ", ".join(f'{{"item": {text_of(item.expression)}}}' for item in query.order_by)
    info["rewrittenQuery"] = _rewritten(
        query, taken, f"[{items}] AS orderByItems, {_payload(query)} AS payload", where, _ordering(query.order_by)
    )
    return info


def sort_order(item: OrderItem, program: QueryProgram) -> str:
    """``Ascending`` or ``Descending``; by a score the best comes first, whichever way that is."""
    if isinstance(item.expression, Call) and item.expression.function in ("VECTORDISTANCE", "_VECTORSCORE"):
        return "Ascending" if ascending(distance_of(item.expression, program)) else "Descending"
    return "Descending" if item.descending else "Ascending"


def distance_of(call: Call, program: QueryProgram) -> str:
    """The distance function that a VectorDistance goes by.

    Raises:
        RefusedError: 400, none.
    """
    if len(call.arguments) == 4:
        options = program.compiled(call.arguments[3])([])
        if isinstance(options, dict) and "distanceFunction" in options:
            return str(options["distanceFunction"])
    policy = program.vector_policy(call)
    if policy is None:
        raise bad_request("VectorDistance of a path without a Vector Embedding Policy needs a distanceFunction.")
    return policy.distance


def _rewritten(query: Query, taken: int | None, selected: str, where: str, ordering: str) -> str:
    top = "" if taken is None else f"TOP {taken} "
    root = query.sources[0].alias
    sources = " JOIN ".join(map(source_text, query.sources))
    return f"SELECT {top}{root}._rid, {selected}\nFROM {sources}\nWHERE {where}\nORDER BY {ordering}"


def _ordering(items: Sequence[OrderItem]) -> str:
    return ", ".join(text_of(item.expression) + (f" {item.direction}" if item.direction else "") for item in items)


def _payload(query: Query) -> str:
    if query.value is not None:
        return text_of(query.value)
    if not query.items:
        return query.sources[0].alias
    unnamed = count(1)
    return text_of(ObjectOf(tuple((default_alias(item, unnamed), item.expression) for item in query.items)))


# ORDER BY RANK


def _ranked(query: Query) -> Call:
    expression = query.order_by[0].expression
    if len(query.order_by) != 1 or query.order_by[0].direction is not None or not isinstance(expression, Call):
        raise bad_request("ORDER BY RANK takes one FullTextScore or RRF, without ASC or DESC.")
    if expression.function not in ("FULLTEXTSCORE", "RRF"):
        raise bad_request("ORDER BY RANK takes one FullTextScore or RRF.")
    return expression


def _weights(ranked: Call) -> list[float]:
    last = ranked.arguments[-1] if ranked.arguments else None
    if ranked.function != "RRF" or not isinstance(last, ArrayOf):
        return []
    weights = [item.value for item in last.items if isinstance(item, Constant) and type(item.value) in (int, float)]
    if len(weights) != len(last.items) or len(weights) != len(ranked.arguments) - 1:
        raise bad_request("The weights of RRF are an array of as many numbers as it has components.")
    return weights


def _hybrid(query: Query, context: QueryContext) -> dict[str, Any]:
    ranked = _ranked(query)
    weights = _weights(ranked)
    calls: list[Expression] = [ranked]
    if ranked.function == "RRF":
        calls = list(ranked.arguments[: len(weights)] if weights else ranked.arguments)
        if len(calls) < 2:
            raise bad_request("RRF takes at least two components.")
    program = QueryProgram(replace(query, order_by=(), rank=False), context)
    top, skip, limit = map(program.count, (query.top, query.offset, query.limit))
    take = top if top is not None else limit
    components = [_component(call, number, program, context) for number, call in enumerate(calls)]
    scores = [
        f"({component.text} ?? {component.worst(weights[number] if weights else 1)})"
        for number, component in enumerate(components)
    ]
    infos = []
    for number, component in enumerate(components):
        reversed_ = bool(weights) and weights[number] < 0
        info = _empty_info()
        info["top"] = None if take is None else COMPONENT_FACTOR * (take + (skip or 0))
        info["orderBy"] = ["Ascending" if component.ascending != reversed_ else "Descending"]
        info["orderByExpressions"] = [component.text]
        info["hasNonStreamingOrderBy"] = True
        where = f"({FILTER})" if query.where is None else f"({text_of(query.where)} AND ({FILTER}))"
        info["rewrittenQuery"] = _rewritten(
            query,
            info["top"],
            f'[{{"item": {component.text}}}] AS orderByItems,'
            f' {{"payload": {_payload(query)}, "componentScores": [{", ".join(scores)}]}} AS payload',
            where,
            component.text + component.direction(reversed_),
        )
        infos.append(info)
    texts = [component.statistics for component in components if component.statistics]
    statistics = (
        f"SELECT COUNT(1) AS documentCount, [{', '.join(texts)}] AS fullTextStatistics\n"
        f"FROM {source_text(query.sources[0])}"
    )
    return {
        "globalStatisticsQuery": statistics,
        "componentQueryInfos": infos,
        "componentWithoutPayloadQueryInfos": [],
        "projectionQueryInfo": None,
        "componentWeights": weights,
        "skip": skip,
        "take": take,
        "requiresGlobalStatistics": bool(texts),
    }


@dataclass(frozen=True, slots=True)
class _Component:
    """One score of a fusion as SQL, which way is best, and the statistics that it needs."""

    text: str
    ascending: bool
    statistics: str

    def worst(self, weight: float) -> str:
        """The score of what has none."""
        if self.statistics:
            return "-1"
        return WORST_SCORE if self.ascending != (weight < 0) else f"-{WORST_SCORE}"

    def direction(self, reversed_: bool) -> str:
        """What stands behind it in ORDER BY."""
        if self.statistics:
            return " ASC" if reversed_ else " DESC"
        return " DESC" if reversed_ and self.ascending else " ASC" if reversed_ else ""


def _component(call: Expression, number: int, program: QueryProgram, context: QueryContext) -> _Component:
    if isinstance(call, Call) and call.function == "VECTORDISTANCE":
        score = Call("_VectorScore", call.arguments)
        program.compiled(score)
        return _Component(text_of(score), ascending(distance_of(call, program)), "")
    if not isinstance(call, Call) or call.function != "FULLTEXTSCORE" or len(call.arguments) < 2:
        raise bad_request("The components of a rank are FullTextScore and VectorDistance.")
    path, *terms = call.arguments
    if not all(isinstance(term, Constant | Parameter) for term in terms):
        raise bad_request("The search terms of FullTextScore must be literals or parameters.")
    named = path_of(path)
    if named is None or named[1] not in context.definition.indexing.texts:
        raise bad_request("FullTextScore takes a path that has a Full Text Index.")
    listed = text_of(ArrayOf(tuple(terms)))
    hits = ", ".join(f"COUNTIF(FullTextContains({text_of(path)}, {text_of(term)}))" for term in terms)
    return _Component(
        f"_FullTextScore({text_of(path)}, {listed}, {DOCUMENTS}, {WORDS.format(number)}, {HITS.format(number)})",
        False,
        f'{{"totalWordCount": SUM(_FullTextWordCount({text_of(path)})), "hitCounts": [{hits}]}}',
    )


def root_alias(query: Query) -> str:
    """What the query calls the container's item."""
    first = query.sources[0] if query.sources else None
    return first.alias if first is not None and first.of is None else ""
