"""The tables of the SQLite store, and the small integers that stand for the long names in them.

Every shard id has a small integer key from the moment anything names it, so links and chunks are narrow and a link can
be written before its target exists. What belongs to a shard has its key in the upper bits of its own: chunk and link
``n`` of a shard are ``key << CHILD_BITS | n``, which makes "all chunks of a shard" a range of the table itself.

Narrow tables stand apart from wide ones (``heads`` from ``docs``, ``chunks`` from ``texts``): conditions, filters and
counts read the narrow ones alone.
"""

from collections.abc import Iterable, Sequence

import apsw

from shards.model import LinkStatus, Shard
from shards.sqlite_rows import json_text, put_rows

APPLICATION_ID = 0x53484C53
"""``SHLS``: what marks a file as a shard store."""

VERSION = 1

CHILD_BITS = 20
"""How many bits of a child's key are its ordinal: a shard has at most 1,048,576 chunks, links or external ids."""
CHILD_MASK = (1 << CHILD_BITS) - 1

SLOT_BITS = 32
"""How many bits of a vector's id are its slot within its space."""

LIVE, REDIRECT, DELETED = 0, 1, 2
"""``heads.state``."""

LINK_STATUS: dict[LinkStatus, int] = {"active": 0, "suggested": 1, "rejected": 2}
"""``links.status``."""

SCHEMA = """
CREATE TABLE store (uuid BLOB NOT NULL, position INTEGER NOT NULL);
INSERT INTO store VALUES (randomblob(16), 0);

CREATE TABLE tenants (tenant INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, chunks INTEGER NOT NULL DEFAULT 0);
CREATE TABLE words (word INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

CREATE TABLE origins (
    origin INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, system TEXT NOT NULL, instance TEXT NOT NULL,
    object_type TEXT NOT NULL, connection TEXT NOT NULL,
    UNIQUE (tenant, system, instance, object_type, connection)
);

CREATE TABLE origin_types (origin INTEGER NOT NULL, type INTEGER NOT NULL, PRIMARY KEY (origin, type)) WITHOUT ROWID;

CREATE TABLE scopes (
    scope INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, name TEXT NOT NULL, acl INTEGER,
    asked_at TEXT NOT NULL DEFAULT '', UNIQUE (tenant, name)
);
CREATE TABLE acls (
    acl INTEGER PRIMARY KEY, scope INTEGER NOT NULL, principals TEXT NOT NULL, UNIQUE (scope, principals)
);
CREATE TABLE readers (
    tenant INTEGER NOT NULL, principal TEXT NOT NULL, scope INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, scope)
) WITHOUT ROWID;
CREATE INDEX readers_of_scope ON readers (scope);

CREATE TABLE ids (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE (tenant, id));

CREATE TABLE heads (
    key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, type INTEGER NOT NULL, state INTEGER NOT NULL, redirect INTEGER,
    scope INTEGER NOT NULL, acl INTEGER NOT NULL, position INTEGER NOT NULL, updated_at TEXT NOT NULL,
    origins_hash INTEGER NOT NULL, links_hash INTEGER NOT NULL, name TEXT NOT NULL
);
CREATE UNIQUE INDEX heads_by_position ON heads (position);
CREATE INDEX heads_by_update ON heads (tenant, type, updated_at);
CREATE INDEX heads_by_redirect ON heads (redirect) WHERE redirect IS NOT NULL;

CREATE TABLE docs (key INTEGER PRIMARY KEY, position INTEGER NOT NULL, doc BLOB NOT NULL);

CREATE TABLE externals (id INTEGER PRIMARY KEY, origin INTEGER NOT NULL, external_id TEXT NOT NULL);
CREATE INDEX externals_by_id ON externals (origin, external_id);

CREATE TABLE links (
    id INTEGER PRIMARY KEY, target INTEGER NOT NULL, relation INTEGER NOT NULL, status INTEGER NOT NULL
);
CREATE INDEX links_by_target ON links (target);

CREATE TABLE progress (
    key INTEGER PRIMARY KEY, type INTEGER NOT NULL, normalized INTEGER NOT NULL DEFAULT 0,
    enriched INTEGER NOT NULL DEFAULT 0, prepared INTEGER NOT NULL DEFAULT 0, embedded INTEGER NOT NULL DEFAULT 0,
    updated_ms INTEGER NOT NULL
);
CREATE INDEX progress_lagging ON progress (updated_ms)
    WHERE enriched < normalized OR prepared < normalized OR embedded < normalized;

CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, type INTEGER NOT NULL, scope INTEGER NOT NULL, vector INTEGER,
    hash TEXT NOT NULL
);
CREATE TABLE texts (id INTEGER PRIMARY KEY, updated_at TEXT NOT NULL, place TEXT NOT NULL, text TEXT NOT NULL);

CREATE TABLE spaces (
    space INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, model TEXT NOT NULL, dimensions INTEGER NOT NULL,
    UNIQUE (tenant, model, dimensions)
);
CREATE TABLE vectors (id INTEGER PRIMARY KEY, chunk INTEGER, vector BLOB);
CREATE INDEX vectors_free ON vectors (chunk) WHERE chunk IS NULL;
CREATE TABLE vector_changes (position INTEGER PRIMARY KEY AUTOINCREMENT, vector INTEGER NOT NULL);

CREATE TABLE parked (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, reason TEXT NOT NULL, queue TEXT NOT NULL, parked_at TEXT NOT NULL,
    message BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX parked_by_time ON parked (parked_at, id);
CREATE INDEX parked_by_tenant ON parked (tenant, parked_at, id);
"""
"""``origin_types`` has the types that records of an origin were ever kept as, so that a query walks no others.

``heads.origins_hash`` and ``links_hash`` tell whether the rows in ``externals`` and ``links`` must be rewritten.

``vectors`` rows are slots: they are given to another chunk, never removed, so that slot n is row n of the matrix file.
``vector_changes`` tells which slots below the newest one have changed since the matrix was last written.
"""

IS_LAGGING = "(enriched < normalized OR prepared < normalized OR embedded < normalized)"
"""The condition of the index ``progress_lagging``, in the words that SQLite knows it by."""

AclKey = tuple[int, str, tuple[str, ...]]
OriginKey = tuple[int, str, str, str, str]

_CACHE_ENTRIES = 50_000


def text_table(tenant: int) -> str:
    """The full-text table of one tenant: its own, so that its word statistics are its own."""
    return f"text_{tenant}"


def terms_table(tenant: int) -> str:
    """The terms that the tenant's full-text table has."""
    return f"terms_{tenant}"


def _text_schema(tenant: int) -> str:
    # Contentless: the text stands in texts already. detail=column keeps which words are in the name and which in the
    # body and leaves out positions, which nothing asks for. automerge 8 instead of 4 halves the merging of segments.
    name = text_table(tenant)
    return f"""
    CREATE VIRTUAL TABLE {name} USING fts5(name, body, content='', contentless_delete=1, detail=column,
        tokenize='unicode61 remove_diacritics 2');
    INSERT INTO {name} ({name}, rank) VALUES ('automerge', 8);
    CREATE VIRTUAL TABLE {terms_table(tenant)} USING fts5vocab({name}, 'row');
    """


class Names:
    """The integers of tenants, words (shard and link types), origins, scopes and acls, remembered once read.

    The methods run on the store's thread. :meth:`learn` must run outside a larger transaction: what a transaction that
    is rolled back had learnt would be remembered wrongly.
    """

    def __init__(self) -> None:
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

    def text(self, connection: apsw.Connection, word: int) -> str:
        """The shard type or link type of an integer."""
        text = self._word_texts.get(word)
        if text is None:
            text = str(connection.execute("SELECT text FROM words WHERE word = ?", (word,)).get)
            self._word_texts[word] = text
        return text

    def knows_tenant(self, tenant_id: str) -> bool:
        """Whether the tenant needs no learning."""
        return tenant_id in self._tenants

    def learn_tenant(self, connection: apsw.Connection, tenant_id: str) -> None:
        """Give the tenant an integer and a full-text table, within a write transaction of the caller."""
        if connection.execute("SELECT 1 FROM tenants WHERE id = ?", (tenant_id,)).get is None:
            connection.execute("INSERT INTO tenants (id) VALUES (?)", (tenant_id,))
            connection.execute(_text_schema(connection.last_insert_rowid()))

    def forget_some(self) -> None:
        """Keep the memory bounded; call it before asking what is missing, never between that and the use."""
        for cache in (self._origins, self._scopes, self._acls, self._origin_types):
            if len(cache) > _CACHE_ENTRIES:
                cache.clear()

    def missing_words(self, texts: Iterable[str]) -> list[str]:
        """Those of the words that have to be learnt."""
        return [text for text in texts if text not in self._words]

    def missing_origins(self, keys: Iterable[OriginKey]) -> list[OriginKey]:
        """Those of the origins that have to be learnt."""
        return [key for key in keys if key not in self._origins]

    def missing_scopes(self, keys: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Those of the scopes that have to be learnt."""
        return [key for key in keys if key not in self._scopes]

    def missing_acls(self, keys: Iterable[AclKey]) -> list[AclKey]:
        """Those of the acls that have to be learnt."""
        return [key for key in keys if key not in self._acls]

    def missing_origin_types(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of the pairs of an origin and a type that have to be written."""
        return [pair for pair in pairs if pair not in self._origin_types]

    def add_origin_types(self, connection: apsw.Connection, pairs: Sequence[tuple[int, int]]) -> None:
        """Write the pairs that are new, within a write transaction of the caller."""
        put_rows(connection, "INSERT OR IGNORE INTO origin_types", pairs)

    def remember_origin_types(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Remember pairs that are committed."""
        self._origin_types.update(pairs)

    def add(
        self,
        connection: apsw.Connection,
        *,
        words: Sequence[str] = (),
        origins: Sequence[OriginKey] = (),
        scopes: Sequence[tuple[int, str]] = (),
        acls: Sequence[AclKey] = (),
    ) -> None:
        """Write the names that are new, within a write transaction of the caller; :meth:`read` them once it stands."""
        connection.executemany("INSERT OR IGNORE INTO words (text) VALUES (?)", [(word,) for word in words])
        connection.executemany(
            "INSERT OR IGNORE INTO origins (tenant, system, instance, object_type, connection) VALUES (?, ?, ?, ?, ?)",
            origins,
        )
        all_scopes = [*scopes, *((tenant, scope) for tenant, scope, _ in acls)]
        connection.executemany("INSERT OR IGNORE INTO scopes (tenant, name) VALUES (?, ?)", all_scopes)
        connection.executemany(
            "INSERT OR IGNORE INTO acls (scope, principals) SELECT scope, ? FROM scopes WHERE tenant = ? AND name = ?",
            [(_principals_text(principals), tenant, scope) for tenant, scope, principals in acls],
        )

    def read(
        self,
        connection: apsw.Connection,
        *,
        words: Sequence[str] = (),
        origins: Sequence[OriginKey] = (),
        scopes: Sequence[tuple[int, str]] = (),
        acls: Sequence[AclKey] = (),
    ) -> None:
        """Remember the integers of names that are committed."""
        for word in words:
            self.word(connection, word)
        for origin in origins:
            self._origins[origin] = connection.execute(
                "SELECT origin FROM origins"
                " WHERE tenant = ? AND system = ? AND instance = ? AND object_type = ? AND connection = ?",
                origin,
            ).get
        for scope in (*scopes, *((tenant, name) for tenant, name, _ in acls)):
            self._scopes[scope] = connection.execute(
                "SELECT scope FROM scopes WHERE tenant = ? AND name = ?", scope
            ).get
        for acl in acls:
            tenant, scope_name, principals = acl
            self._acls[acl] = connection.execute(
                "SELECT acl FROM acls WHERE scope = ? AND principals = ?",
                (self._scopes[tenant, scope_name], _principals_text(principals)),
            ).get

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


def _principals_text(principals: tuple[str, ...]) -> str:
    return json_text(principals)


def shard_state(shard: Shard) -> int:
    """``heads.state`` of the shard."""
    if shard.redirect_to is not None:
        return REDIRECT
    return DELETED if shard.status == "deleted" else LIVE
