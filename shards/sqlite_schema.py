"""The tables of the SQLite store.

Every shard id has a small integer key from the moment anything names it, so links and chunks are narrow and a link can
be written before its target exists. What belongs to a shard has its key in the upper bits of its own: chunk and link
``n`` of a shard are ``key << CHILD_BITS | n``, which makes "all chunks of a shard" a range of the table itself.

Narrow tables stand apart from wide ones (``heads`` from ``docs``, ``chunks`` from ``texts``): conditions, filters and
counts read the narrow ones alone.
"""

from shards.model import LinkStatus, Shard

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


def text_table(tenant: int) -> str:
    """The full-text table of one tenant: its own, so that its word statistics are its own."""
    return f"text_{tenant}"


def terms_table(tenant: int) -> str:
    """The terms that the tenant's full-text table has."""
    return f"terms_{tenant}"


def text_schema(tenant: int) -> str:
    """The statements that make the tables of one tenant."""
    # Contentless: the text stands in texts already. detail=column keeps which words are in the name and which in the
    # body and leaves out positions, which nothing asks for. automerge 8 instead of 4 halves the merging of segments.
    name = text_table(tenant)
    return f"""
    CREATE VIRTUAL TABLE {name} USING fts5(name, body, content='', contentless_delete=1, detail=column,
        tokenize='unicode61 remove_diacritics 2');
    INSERT INTO {name} ({name}, rank) VALUES ('automerge', 8);
    CREATE VIRTUAL TABLE {terms_table(tenant)} USING fts5vocab({name}, 'row');
    """


def shard_state(shard: Shard) -> int:
    """``heads.state`` of the shard."""
    if shard.redirect_to is not None:
        return REDIRECT
    return DELETED if shard.status == "deleted" else LIVE
