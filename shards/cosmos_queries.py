"""Every query that is asked of Cosmos DB, and what makes one.

Each names its tenant twice: as the partition key prefix that the request carries, and in its conditions. The SDK sends
a query of a prefix to one physical partition after the other and joins the answers end to end: it neither merges what
is ordered nor cuts at TOP across them, and knows no cross-partition GROUP BY. So every ordered query orders by a
property that comes back with each row, and whoever asks it merges and cuts (:mod:`shards.cosmos_container`); every
aggregate is a ``VALUE COUNT`` whose parts can be added.

Values go as parameters. The ranking of full text alone carries its values as literals, because the SDK takes the query
apart and recognizes it by its text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shards.store import ShardQuery

MAX_LISTED = 1_000
"""How many values one list of a query has; longer lists are several queries."""

BEFORE_EVERYTHING = ""
"""Sorts before every text."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query's text and its parameters, as ``query_items`` takes them."""

    text: str
    parameters: list[dict[str, object]] = field(default_factory=list)


class _Conditions:
    """Conditions joined by AND, with the parameters they name; the tenant's is the first of each."""

    def __init__(self, tenant_id: str) -> None:
        self.parameters: list[dict[str, object]] = []
        self._where = [f"c.tenantId = {self.value(tenant_id)}"]

    def value(self, value: object) -> str:
        """A new parameter of this value: its name."""
        name = f"@p{len(self.parameters)}"
        self.parameters.append({"name": name, "value": value})
        return name

    def values(self, values: Sequence[str]) -> str:
        """The values as a list that an index is asked for: ``(@p1, @p2)``."""
        return f"({', '.join(self.value(value) for value in values)})"

    def add(self, condition: str) -> None:
        """One more condition."""
        self._where.append(condition)

    def among(self, path: str, values: Sequence[str] | None) -> None:
        """The condition that *path* is one of *values*; None: whatever it is."""
        if values is not None:
            self.add(f"{path} IN {self.values(values)}" if values else "false")

    def query(self, select: str, tail: str = "", *, source: str = "c") -> Query:
        """``SELECT select FROM source WHERE conditions tail``."""
        text = f"SELECT {select} FROM {source} WHERE {' AND '.join(self._where)}{' ' if tail else ''}{tail}"
        return Query(text, self.parameters)


def literal(value: str | Sequence[float]) -> str:
    """The value as it stands in a query's text; its string escapes are JSON's."""
    return json.dumps(value)


# Shards


@dataclass(frozen=True, slots=True)
class ShardFilter:
    """Which live shards a search is about. *scopes* None: readable or not; *linked_to*: it and what links to any."""

    shard_type_ids: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    linked_to: tuple[str, ...] | None = None
    updated_after: str | None = None
    updated_before: str | None = None

    def within(self, scopes: Sequence[str] | None) -> "ShardFilter":
        """The same for these scopes alone."""
        return replace(self, scopes=None if scopes is None else tuple(scopes))


def shards_by_id(tenant_id: str, shard_ids: Sequence[str]) -> Query:
    """Those of the shards that there are."""
    conditions = _Conditions(tenant_id)
    conditions.among("c.id", shard_ids)
    return conditions.query("*")


def shards_in_order(
    query: ShardQuery, scopes: Sequence[str] | None, *, after: str = BEFORE_EVERYTHING, limit: int
) -> Query:
    """The first *limit* shards behind position *after*, oldest update first."""
    conditions = _Conditions(query.tenant_id)
    conditions.add(f"c.derived.position > {conditions.value(after)}")
    _updated(conditions, query.updated_after, query.updated_before)
    if not query.include_deleted:
        conditions.add("c.derived.live = true")
    conditions.among("c.shardTypeId", query.shard_type_ids or None)
    conditions.among("c.acl.scope", scopes)
    given = {
        "system": query.system,
        "instance": query.instance,
        "objectType": query.object_type,
        "externalId": query.external_id,
        "connectionId": query.connection_id,
    }
    of_one = [f"e.{name} = {conditions.value(value)}" for name, value in given.items() if value is not None]
    if of_one:
        conditions.add(f"EXISTS(SELECT VALUE e FROM e IN c.external_relationships WHERE {' AND '.join(of_one)})")
    return conditions.query(f"TOP {limit} *", "ORDER BY c.derived.position")


def linking_shards(tenant_id: str, targets: Sequence[str], *, after: str, limit: int) -> Query:
    """The first *limit* live shards that link to any of *targets*, by id from *after* on, which is one of them."""
    conditions = _Conditions(tenant_id)
    conditions.add(_links_to(conditions, targets))
    conditions.add(f"c.id >= {conditions.value(after)}")
    return conditions.query(f"TOP {limit} *", "ORDER BY c.id")


def shards_with_links(tenant_id: str, *, after: str, limit: int) -> Query:
    """The first *limit* live shards with links, by id behind *after*."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.derived.live = true")
    conditions.add("c.derived.links > 0")
    conditions.add(f"c.id > {conditions.value(after)}")
    return conditions.query(f"TOP {limit} *", "ORDER BY c.id")


def redirects(tenant_id: str, to: Sequence[str] | None = None) -> Query:
    """Merged records and where they went; with *to*, those that went there."""
    conditions = _Conditions(tenant_id)
    conditions.add("IS_DEFINED(c.redirectTo)")
    conditions.among("c.redirectTo", to)
    return conditions.query("c.id, c.redirectTo")


def live_shards(tenant_id: str, shard_ids: Sequence[str]) -> Query:
    """The ids of those of the shards that are live."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.derived.live = true")
    conditions.among("c.id", shard_ids)
    return conditions.query("VALUE c.id")


def active_links(tenant_id: str) -> Query:
    """Type and target of each active link of a live shard."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.derived.live = true")
    conditions.add("c.derived.links > 0")
    conditions.add("l.status = 'active'")
    return conditions.query("l.relationshipType, l.targetShardId", source="c JOIN l IN c.internal_relationships")


def next_shard_type(tenant_id: str, after: str) -> Query:
    """The first type behind *after* that a live shard has: a seek of the index, where DISTINCT would read them all."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.derived.live = true")
    conditions.add(f"c.shardTypeId > {conditions.value(after)}")
    return conditions.query("TOP 1 VALUE c.shardTypeId", "ORDER BY c.shardTypeId")


def count_shards(tenant_id: str, *, live: bool, shard_type_id: str | None = None) -> Query:
    """How many shards are live or not, of one type or all."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.derived.live = {'true' if live else 'false'}")
    if shard_type_id is not None:
        conditions.add(f"c.shardTypeId = {conditions.value(shard_type_id)}")
    return conditions.query("VALUE COUNT(1)")


def matching_shards(tenant_id: str, given: ShardFilter, *, limit: int) -> Query:
    """The ids of *limit* shards that pass, whichever."""
    conditions = _Conditions(tenant_id)
    _passing(conditions, given)
    return conditions.query(f"TOP {limit} VALUE c.id")


def passing_shards(tenant_id: str, given: ShardFilter, shard_ids: Sequence[str]) -> Query:
    """The ids of those of the shards that pass."""
    conditions = _Conditions(tenant_id)
    conditions.among("c.id", shard_ids)
    _passing(conditions, given)
    return conditions.query("VALUE c.id")


def named_shards(tenant_id: str, given: ShardFilter, words: Sequence[str], *, prefix: str | None, limit: int) -> Query:
    """The *limit* shards with the shortest names that have all *words* and, if given, one that begins with *prefix*."""
    conditions = _Conditions(tenant_id)
    _passing(conditions, given)
    for word in words:
        conditions.add(f"ARRAY_CONTAINS(c.derived.words, {conditions.value(word)})")
    if prefix is not None:
        begins = f"STARTSWITH(w, {conditions.value(prefix)})"
        conditions.add(f"EXISTS(SELECT VALUE w FROM w IN c.derived.words WHERE {begins})")
    return conditions.query(f"TOP {limit} c.id, c.derived.words, c.derived.nameLength", "ORDER BY c.derived.nameLength")


def _passing(conditions: _Conditions, given: ShardFilter) -> None:
    conditions.add("c.derived.live = true")
    conditions.among("c.shardTypeId", given.shard_type_ids or None)
    conditions.among("c.acl.scope", given.scopes)
    if given.systems:
        systems = conditions.values(given.systems)
        conditions.add(f"EXISTS(SELECT VALUE e FROM e IN c.external_relationships WHERE e.system IN {systems})")
    if given.linked_to is not None:
        itself = f"c.id IN {conditions.values(given.linked_to)}"
        conditions.add(f"({itself} OR {_links_to(conditions, given.linked_to)})")
    _updated(conditions, given.updated_after, given.updated_before)


def _links_to(conditions: _Conditions, targets: Sequence[str]) -> str:
    """The condition that a live shard links to one of *targets* (what is dead has no targets)."""
    each = [f"ARRAY_CONTAINS(c.derived.targets, {conditions.value(target)})" for target in targets]
    return f"({' OR '.join(each)})"


def _updated(conditions: _Conditions, after: str | None, before: str | None) -> None:
    # A position is the time of the update, a space and the id: it sorts behind its time and before every later one.
    if after is not None:
        conditions.add(f"c.derived.position >= {conditions.value(after)}")
    if before is not None:
        conditions.add(f"c.derived.position < {conditions.value(before)}")


# Progress, scopes, tenants, charges


def progress_of(tenant_id: str, shard_ids: Sequence[str]) -> Query:
    """The progress of those of the shards that have one."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.kind = 'progress'")
    conditions.among("c.id", shard_ids)
    return conditions.query("*")


def lagging(tenant_id: str, *, before: str, limit: int) -> Query:
    """The progress of the *limit* shards that have been behind and still for longest, since before *before*.

    What lags alone has ``behindSince``, so this costs nothing to speak of when nothing does.
    """
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.behindSince < {conditions.value(before)}")
    return conditions.query(f"TOP {limit} *", "ORDER BY c.behindSince")


def first_behind(tenant_id: str) -> Query:
    """Since when one shard has been behind; nothing when none is."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.behindSince > {conditions.value(BEFORE_EVERYTHING)}")
    return conditions.query("TOP 1 VALUE c.behindSince")


def count_behind(tenant_id: str, stage: str) -> Query:
    """How many shards *stage* is behind on."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"ARRAY_CONTAINS(c.behind, {conditions.value(stage)})")
    return conditions.query("VALUE COUNT(1)")


def scopes_of(tenant_id: str, principals: Sequence[str]) -> Query:
    """The scopes that one of *principals* may read."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.kind = 'scope'")
    conditions.add(f"EXISTS(SELECT VALUE p FROM p IN c.principals WHERE p IN {conditions.values(principals)})")
    return conditions.query("VALUE c.scope")


def tenant_directory(directory: str) -> Query:
    """All tenants."""
    conditions = _Conditions(directory)
    conditions.add("c.kind = 'tenant'")
    return conditions.query("c.tenant, c.hasShards")


def kept_charges(directory: str) -> Query:
    """What each process has been charged on each day that is kept."""
    conditions = _Conditions(directory)
    conditions.add("c.kind = 'charges'")
    return conditions.query("c.day, c.charges")


# Chunks

_CHUNK_STATE = "c.id, c.shardId, c.hash, c.aclScope, c.updatedAt, c.waiting, c._etag"
_CHUNK_WITHOUT_VECTOR = (
    "c.id, c.tenantId, c.shardId, c.shardTypeId, c.ordinal, c.text, c.hash, c.aclScope, c.model, c.dimensions,"
    " c.updatedAt, c.place"
)


@dataclass(frozen=True, slots=True)
class ChunkFilter:
    """Which chunks a search is about. *scopes* None: readable or not; *shard_ids* None: of whatever shard.

    *but_of* are shards that are left out: they were found already.
    """

    shard_type_ids: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    shard_ids: tuple[str, ...] | None = None
    but_of: tuple[str, ...] = ()


def chunk_states(tenant_id: str, shard_ids: Sequence[str]) -> Query:
    """What is known of the chunks of these shards, without text and vectors."""
    conditions = _Conditions(tenant_id)
    conditions.among("c.shardId", shard_ids)
    return conditions.query(_CHUNK_STATE)


def chunk_states_by_id(tenant_id: str, chunk_ids: Sequence[str]) -> Query:
    """The same of those of the chunks that there are."""
    conditions = _Conditions(tenant_id)
    conditions.among("c.id", chunk_ids)
    return conditions.query(_CHUNK_STATE)


def chunks_of(tenant_id: str, shard_id: str) -> Query:
    """All chunks of a shard, with vectors."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.shardId = {conditions.value(shard_id)}")
    return conditions.query("*")


def chunks_by_id(tenant_id: str, chunk_ids: Sequence[str]) -> Query:
    """Those of the chunks that there are, without vectors."""
    conditions = _Conditions(tenant_id)
    conditions.among("c.id", chunk_ids)
    return conditions.query(_CHUNK_WITHOUT_VECTOR)


def shards_waiting(tenant_id: str, shard_ids: Sequence[str], *, limit: int) -> Query:
    """The shard of each of *limit* chunks without a vector."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.waiting = true")
    conditions.among("c.shardId", shard_ids)
    return conditions.query(f"TOP {limit} VALUE c.shardId")


def first_chunks(tenant_id: str, shard_ids: Sequence[str], *, scopes: Sequence[str] | None) -> Query:
    """The first chunk of each of the shards."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.ordinal = 0")
    conditions.among("c.shardId", shard_ids)
    conditions.among("c.aclScope", scopes)
    return conditions.query("c.id, c.shardId")


def count_chunks(tenant_id: str, *, with_vector: bool = False) -> Query:
    """How many chunks there are, or have a vector."""
    conditions = _Conditions(tenant_id)
    if with_vector:
        conditions.add("c.waiting = false")
    return conditions.query("VALUE COUNT(1)")


def nearest_chunks(tenant_id: str, given: ChunkFilter, vector: Sequence[float], *, limit: int) -> Query:
    """The *limit* chunks whose vectors are most like *vector*, with their cosine."""
    conditions = _Conditions(tenant_id)
    conditions.add("c.waiting = false")
    conditions.among("c.shardTypeId", given.shard_type_ids or None)
    conditions.among("c.aclScope", given.scopes)
    conditions.among("c.shardId", given.shard_ids)
    if given.but_of:
        conditions.add(f"c.shardId NOT IN {conditions.values(given.but_of)}")
    likeness = f"VectorDistance(c.vector, {conditions.value(list(vector))})"
    return conditions.query(f"TOP {limit} c.id, c.shardId, {likeness} AS likeness", f"ORDER BY {likeness}")


def ranked_chunks(tenant_id: str, given: ChunkFilter, words: Sequence[str], *, limit: int) -> Query:
    """The *limit* chunks that have any of *words*, best first by BM25."""
    terms = ", ".join(literal(word) for word in words)
    where = [f"c.tenantId = {literal(tenant_id)}"]
    for path, values in (
        ("c.shardTypeId", given.shard_type_ids or None),
        ("c.aclScope", given.scopes),
        ("c.shardId", given.shard_ids),
    ):
        if values is not None:
            where.append(f"{path} IN ({', '.join(literal(value) for value in values)})" if values else "false")
    if given.but_of:
        where.append(f"c.shardId NOT IN ({', '.join(literal(value) for value in given.but_of)})")
    where.append(f"FullTextContainsAny(c.text, {terms})")
    return Query(
        f"SELECT TOP {limit} c.id, c.shardId FROM c WHERE {' AND '.join(where)}"
        f" ORDER BY RANK FullTextScore(c.text, {terms})"
    )


# Parked messages


def parked_in_order(tenant_id: str, *, reason: str | None, queue: str | None, after: str, limit: int) -> Query:
    """The first *limit* parked messages behind position *after*, oldest first."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.position > {conditions.value(after)}")
    if reason is not None:
        conditions.add(f"c.reason = {conditions.value(reason)}")
    if queue is not None:
        conditions.add(f"c.queue = {conditions.value(queue)}")
    return conditions.query(f"TOP {limit} *", "ORDER BY c.position")


def parked_by_id(tenant_id: str, parked_ids: Sequence[str]) -> Query:
    """The ids of those of the messages that are parked."""
    conditions = _Conditions(tenant_id)
    conditions.among("c.id", parked_ids)
    return conditions.query("VALUE c.id")


def next_parked_reason(tenant_id: str, after: str) -> Query:
    """The first reason behind *after* that a message is parked for."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.reason > {conditions.value(after)}")
    return conditions.query("TOP 1 VALUE c.reason", "ORDER BY c.reason")


def count_parked(tenant_id: str, reason: str) -> Query:
    """How many messages are parked for *reason*."""
    conditions = _Conditions(tenant_id)
    conditions.add(f"c.reason = {conditions.value(reason)}")
    return conditions.query("VALUE COUNT(1)")
