"""The small integers that stand for long names in the store's tables: found, and given out to what is new."""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

import apsw

from messaging.sqlite import SqliteFile
from shards.sqlite_rows import json_rows, json_text, one_row, put_rows
from shards.sqlite_schema import text_schema

AclKey = tuple[int, str, tuple[str, ...]]
"""Tenant, scope and principals."""

OriginKey = tuple[int, str, str, str, str]
"""Tenant, system, instance, object type and connection."""

_CACHE_ENTRIES = 50_000


class _NewNames(NamedTuple):
    words: list[str]
    origins: list[OriginKey]
    scopes: list[tuple[int, str]]
    acls: list[AclKey]


class Names:
    """The integers of tenants, words (shard and link types), origins, scopes and acls, remembered once read.

    The methods run on the thread of *file*. Those that learn must run outside a transaction: what a transaction that
    is rolled back had learnt would be remembered wrongly.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._tenants: dict[str, int] = {}
        self._words: dict[str, int] = {}
        self._word_texts: dict[int, str] = {}
        self._origins: dict[OriginKey, int] = {}
        self._scopes: dict[tuple[int, str], int] = {}
        self._acls: dict[AclKey, int] = {}
        self._origin_types: set[tuple[int, int]] = set()

    def tenant(self, connection: apsw.Connection, tenant_id: str) -> int | None:
        """The tenant's integer, None when nothing was ever written for it."""
        number = self._tenants.get(tenant_id)
        if number is None:
            number = connection.execute("SELECT tenant FROM tenants WHERE id = ?", (tenant_id,)).get
            if number is not None:
                self._tenants[tenant_id] = number
        return number

    def word(self, connection: apsw.Connection, text: str) -> int | None:
        """The integer of a shard type or a link type, None when nothing has it."""
        number = self._words.get(text)
        if number is None:
            number = connection.execute("SELECT word FROM words WHERE text = ?", (text,)).get
            if number is not None:
                self._words[text] = number
                self._word_texts[number] = text
        return number

    def types(self, connection: apsw.Connection, shard_type_ids: Sequence[str]) -> list[int] | None:
        """The integers of the types asked for, None when none were; a type that nothing has is left out."""
        if not shard_type_ids:
            return None
        numbers = (self.word(connection, text) for text in shard_type_ids)
        return [number for number in numbers if number is not None]

    def text(self, connection: apsw.Connection, word: int) -> str:
        """The shard type or link type of an integer."""
        text = self._word_texts.get(word)
        if text is None:
            text = str(connection.execute("SELECT text FROM words WHERE word = ?", (word,)).get)
            self._word_texts[word] = text
        return text

    def learn_tenant(self, connection: apsw.Connection, tenant_id: str) -> int:
        """The tenant's integer; a tenant that is new is given one and a full-text table."""
        if tenant_id not in self._tenants:
            self._file.transaction(lambda connection: _add_tenant(connection, tenant_id))
        tenant = self.tenant(connection, tenant_id)
        if tenant is None:
            raise AssertionError("a tenant that was just written is there")
        return tenant

    def learn(
        self,
        connection: apsw.Connection,
        *,
        words: Iterable[str] = (),
        origins: Iterable[OriginKey] = (),
        scopes: Iterable[tuple[int, str]] = (),
        acls: Iterable[AclKey] = (),
    ) -> None:
        """Give integers to those of the names that are new. Until the next call, all of them are known."""
        self._forget_some()
        new = _NewNames(
            words=[word for word in words if word not in self._words],
            origins=[origin for origin in origins if origin not in self._origins],
            scopes=[scope for scope in scopes if scope not in self._scopes],
            acls=[acl for acl in acls if acl not in self._acls],
        )
        if any(new):
            self._file.transaction(lambda connection: _add_names(connection, new))
            self._read(connection, new)

    def learn_origin_types(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Keep which types the records of an origin are kept as: pairs of the integers of both."""
        new = [pair for pair in pairs if pair not in self._origin_types]
        if new:
            self._file.transaction(lambda connection: put_rows(connection, "INSERT OR IGNORE INTO origin_types", new))
            self._origin_types.update(new)

    def known_word(self, text: str) -> int:
        """The integer of a word that was learnt."""
        return self._words[text]

    def known_origin(self, key: OriginKey) -> int:
        """The integer of an origin that was learnt."""
        return self._origins[key]

    def known_scope(self, tenant: int, name: str) -> int:
        """The integer of a scope that was learnt."""
        return self._scopes[tenant, name]

    def known_acl(self, key: AclKey) -> int:
        """The integer of an acl that was learnt."""
        return self._acls[key]

    def _forget_some(self) -> None:
        """Keep the memory bounded."""
        for cache in (self._origins, self._scopes, self._acls, self._origin_types):
            if len(cache) > _CACHE_ENTRIES:
                cache.clear()

    def _read(self, connection: apsw.Connection, new: _NewNames) -> None:
        """Remember the integers of names that are committed."""
        for word in new.words:
            self.word(connection, word)
        for origin in new.origins:
            self._origins[origin] = connection.execute(
                "SELECT origin FROM origins"
                " WHERE tenant = ? AND system = ? AND instance = ? AND object_type = ? AND connection = ?",
                origin,
            ).get
        for scope in (*new.scopes, *((tenant, name) for tenant, name, _ in new.acls)):
            self._scopes[scope] = connection.execute(
                "SELECT scope FROM scopes WHERE tenant = ? AND name = ?", scope
            ).get
        for acl in new.acls:
            tenant, scope_name, principals = acl
            self._acls[acl] = connection.execute(
                "SELECT acl FROM acls WHERE scope = ? AND principals = ?",
                (self._scopes[tenant, scope_name], json_text(principals)),
            ).get


def known_keys(connection: apsw.Connection, tenant: int, ids: Iterable[str]) -> dict[str, int | None]:
    """The key of each shard id, None where nothing has named it yet."""
    distinct = list(dict.fromkeys(ids))
    if not distinct:
        return {}
    found = json_rows(
        connection,
        "SELECT json_group_array(i.key) FROM json_each(?2) AS j LEFT JOIN ids AS i ON i.tenant = ?1 AND i.id = j.value",
        (tenant, json_text(distinct)),
    )
    return dict(zip(distinct, found, strict=True))


def with_new_keys(connection: apsw.Connection, tenant: int, keys: dict[str, int | None]) -> dict[str, int]:
    """*keys*, with new ones given out where there were none; within a write transaction of the caller."""
    if None not in keys.values():
        return {name: key for name, key in keys.items() if key is not None}
    [newest] = one_row(connection, "SELECT coalesce(max(key), 0) FROM ids")
    numbers = count(newest + 1)
    fresh = {name: next(numbers) for name, key in keys.items() if key is None}
    put_rows(connection, "INSERT INTO ids", [(key, tenant, name) for name, key in fresh.items()])
    return {name: fresh[name] if key is None else key for name, key in keys.items()}


def _add_tenant(connection: apsw.Connection, tenant_id: str) -> None:
    # Another process may have added it meanwhile.
    if connection.execute("SELECT 1 FROM tenants WHERE id = ?", (tenant_id,)).get is None:
        connection.execute("INSERT INTO tenants (id) VALUES (?)", (tenant_id,))
        connection.execute(text_schema(connection.last_insert_rowid()))


def _add_names(connection: apsw.Connection, new: _NewNames) -> None:
    connection.executemany("INSERT OR IGNORE INTO words (text) VALUES (?)", [(word,) for word in new.words])
    connection.executemany(
        "INSERT OR IGNORE INTO origins (tenant, system, instance, object_type, connection) VALUES (?, ?, ?, ?, ?)",
        new.origins,
    )
    scopes = [*new.scopes, *((tenant, scope) for tenant, scope, _ in new.acls)]
    connection.executemany("INSERT OR IGNORE INTO scopes (tenant, name) VALUES (?, ?)", scopes)
    connection.executemany(
        "INSERT OR IGNORE INTO acls (scope, principals) SELECT scope, ? FROM scopes WHERE tenant = ? AND name = ?",
        [(json_text(principals), tenant, scope) for tenant, scope, principals in new.acls],
    )
