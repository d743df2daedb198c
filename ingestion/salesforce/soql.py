"""The queries, and how long they may be."""

from collections.abc import Sequence
from urllib.parse import quote_plus

ORDER = "ORDER BY SystemModstamp, Id"

URI_LIMIT = 15_000
"""Characters of an encoded query: Salesforce takes 16,384 bytes of URI and headers, and the token is among these."""

CHARACTERS_AN_ID = 27
"""What an id of a list takes in an encoded query."""


def page_query(object_type: str, fields: Sequence[str], condition: str, limit: int) -> str:
    """A page of a walk."""
    where = f" WHERE {condition}" if condition else ""
    return f"SELECT {','.join(fields)} FROM {object_type}{where} {ORDER} LIMIT {limit}"


def listing_query(object_type: str, after_id: str | None, limit: int) -> str:
    """A page of the listing of all ids."""
    where = f" WHERE Id > '{after_id}'" if after_id else ""
    return f"SELECT Id FROM {object_type}{where} ORDER BY Id LIMIT {limit}"


def id_page_query(object_type: str, fields: Sequence[str], after_id: str | None, limit: int) -> str:
    """A page of all records in the order of their ids."""
    where = f" WHERE Id > '{after_id}'" if after_id else ""
    return f"SELECT {','.join(fields)} FROM {object_type}{where} ORDER BY Id LIMIT {limit}"


def ids_query(object_type: str, ids: Sequence[str]) -> str:
    """Which of *ids* are there."""
    return f"SELECT Id FROM {object_type} WHERE {ids_condition(ids)}"


def ids_condition(ids: Sequence[str]) -> str:
    """Rows of these ids."""
    return "Id IN ('" + "','".join(ids) + "')"


def field_groups(
    object_type: str, fields: Sequence[str], shared: Sequence[str], condition: str, uri_limit: int
) -> list[list[str]]:
    """*fields* in groups whose query fits into *uri_limit*; each group has the *shared* fields first.

    One group for all but the widest objects.
    """
    others = [field for field in fields if field not in shared]
    overhead = len(quote_plus(page_query(object_type, shared, condition, 2000)))
    groups: list[list[str]] = [list(shared)]
    length = overhead
    for field in others:
        cost = len(field) + len("%2C")
        if length + cost > uri_limit and len(groups[-1]) > len(shared):
            groups.append(list(shared))
            length = overhead
        groups[-1].append(field)
        length += cost
    return groups
