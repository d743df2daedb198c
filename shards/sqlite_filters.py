"""The conditions that narrow a query or a search, as SQL over ``heads AS h`` (and ``chunks AS c`` in a search)."""

from collections.abc import Collection
from typing import Any

from shards.sqlite_rows import json_text
from shards.sqlite_schema import CHILD_BITS, CHILD_MASK, LINK_STATUS, LIVE

READABLE_SCOPES = """(
    SELECT scope FROM readers
    WHERE tenant = :tenant AND principal IN (SELECT value FROM json_each(:principals))
)"""
"""The scopes that one of ``:principals`` may read."""

ALIASES = """
    WITH RECURSIVE
        ends (key) AS (
            SELECT key FROM ids WHERE tenant = :tenant AND id = :shard
            UNION SELECT h.redirect FROM ends JOIN heads AS h ON h.key = ends.key WHERE h.redirect IS NOT NULL
        ),
        aliases (key) AS (
            SELECT key FROM ends
            UNION SELECT h.key FROM aliases JOIN heads AS h ON h.redirect = aliases.key
        )
    SELECT key FROM aliases
"""
"""The keys of ``:shard``, of what it was merged into, and of all that was merged into either."""


def conditions(
    *,
    tenant: int,
    types: Collection[int] | None = None,
    systems: Collection[str] = (),
    principals: frozenset[str] | None = None,
    linked_to: str | None = None,
    updated_after: str | None = None,
    updated_before: str | None = None,
    include_deleted: bool = False,
) -> tuple[list[str], dict[str, Any]]:
    """SQL conditions on ``h``, to be joined by AND, and their named bindings."""
    # With linked_to few keys are given; + keeps SQLite from walking all that the tenant has instead.
    where = ["h.tenant = :tenant" if linked_to is None else "+h.tenant = :tenant"]
    bindings: dict[str, Any] = {"tenant": tenant}
    if not include_deleted:
        where.append(f"h.state = {LIVE}")
    if types is not None:
        where.append("h.type IN (SELECT value FROM json_each(:types))")
        bindings["types"] = json_text(list(types))
    if systems:
        where.append(
            f"EXISTS (SELECT 1 FROM externals AS e JOIN origins AS o ON o.origin = e.origin WHERE {children('e.id')}"
            " AND o.system IN (SELECT value FROM json_each(:systems)))"
        )
        bindings["systems"] = json_text(list(systems))
    if principals is not None:
        where.append(f"h.scope IN {READABLE_SCOPES}")
        bindings["principals"] = json_text(sorted(principals))
    if linked_to is not None:
        where.append(
            f"h.key IN (SELECT key FROM ({ALIASES}) UNION SELECT l.id >> {CHILD_BITS} FROM links AS l"
            f" WHERE l.target IN ({ALIASES}) AND l.status <> {LINK_STATUS['rejected']})"
        )
        bindings["shard"] = linked_to
    if updated_after is not None:
        where.append("h.updated_at >= :updated_after")
        bindings["updated_after"] = updated_after
    if updated_before is not None:
        where.append("h.updated_at < :updated_before")
        bindings["updated_before"] = updated_before
    return where, bindings


def children(column: str, key: str = "h.key") -> str:
    """The condition that *column* is the key of a child of the shard *key*."""
    first = f"({key} << {CHILD_BITS})"
    return f"{column} BETWEEN {first} AND ({first} | {CHILD_MASK})"
