"""The port to what is kept: shards, their chunks and vectors, the progress of their stages, and search."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shards.model import Chunk, InternalRelationship, Shard

T = TypeVar("T")

Vectors = npt.NDArray[np.float32]


class StoreUnavailableError(Exception):
    """The store did not answer; the same call may work later."""


class StoreRefusedError(Exception):
    """The store refuses a call as it is, whenever it is made; the message says in one line which, and why."""


class ItemTooLargeError(Exception):
    """An item is larger than the store can keep, whenever it is tried; the message says which and by how much."""


class InvalidCursorError(ValueError):
    """A cursor that this store did not give out for this query."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of the answer, and where the rest goes on; *cursor* is None on the last page."""

    items: list[T]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ShardWrite:
    """A shard to write. *if_etag* None: only when there is none under its id; else only over that etag."""

    shard: Shard
    if_etag: str | None


@dataclass(frozen=True, slots=True)
class ShardQuery:
    """Which shards of a tenant: each part that is given narrows the answer. Times are ISO texts, *after* inclusive.

    *principals* None: the operator's own view; else only what one of them may read.
    """

    tenant_id: str
    shard_type_ids: tuple[str, ...] = ()
    system: str | None = None
    instance: str | None = None
    object_type: str | None = None
    external_id: str | None = None
    connection_id: str | None = None
    updated_after: str | None = None
    updated_before: str | None = None
    include_deleted: bool = False
    principals: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class IncomingLink:
    """A link as its target sees it."""

    source_shard_id: str
    source_shard_type_id: str
    source_name: str
    link: InternalRelationship


class Stage(StrEnum):
    """The stages whose progress is kept, in the order a revision passes them."""

    NORMALIZED = "normalized"
    ENRICHED = "enriched"
    PREPARED = "prepared"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest revision of a shard that each stage has finished; *normalized* is the newest there is.

    *embedded* is behind as long as a chunk has no vector since it was put (see :meth:`ShardStore.put_chunks`).
    """

    tenant_id: str
    shard_id: str
    shard_type_id: str
    normalized: int = 0
    enriched: int = 0
    prepared: int = 0
    embedded: int = 0
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class ChunkState:
    """What preparation needs to know of a stored chunk to tell whether it changed."""

    hash: str
    acl_scope: str
    has_vector: bool


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A hybrid search within one tenant: *text* for full text, *vector* (unit length) for likeness.

    *principals* None: the operator's own view; else hits and scores come only from what one of them may read.
    *linked_to*: only shards that are it or link to it.
    """

    tenant_id: str
    text: str
    vector: Vectors | None
    limit: int = 10
    principals: frozenset[str] | None = None
    shard_type_ids: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    linked_to: str | None = None
    updated_after: str | None = None
    updated_before: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A shard that answers, its best chunk, and a score that only orders this answer."""

    shard: Shard
    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some of the change feed, and the *position* behind it: a text that means something to its store alone."""

    shards: list[Shard]
    position: str


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What a tenant has: live shards by type, tombstones (those of merged records too), chunks, vectors, and links.

    *links* are active links of live shards whose target is alive, by type; *links_pending* those whose target is not.
    """

    shards: dict[str, int] = field(default_factory=dict)
    deleted: int = 0
    chunks: int = 0
    vectors: int = 0
    links: dict[str, int] = field(default_factory=dict)
    links_pending: int = 0


class ShardStore(Protocol):
    """Every call names its tenant and never sees another's.

    All raise :class:`StoreUnavailableError` when the store is away. Those that write raise :class:`ItemTooLargeError`
    for what the store can never keep.
    """

    async def get(self, tenant_id: str, shard_id: str) -> Shard | None:
        """The shard, tombstones and redirects included, None when there is none."""

    async def get_many(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Shard]:
        """Those of the shards that there are, by id."""

    async def resolve(self, tenant_id: str, shard_id: str) -> Shard | None:
        """As :meth:`get`, following redirects of merged records to the shard that stands for it now."""

    async def readable_scopes(self, tenant_id: str, scopes: Sequence[str], principals: frozenset[str]) -> set[str]:
        """Those of the scopes that one of *principals* may read, as the newest reading of each says."""

    async def write_many(self, writes: Sequence[ShardWrite]) -> list[str | None]:
        """Write each shard whose condition holds; its new etag, or None where the condition did not hold.

        The writes are of one tenant and of different shards. Outgoing links become visible to :meth:`incoming` with
        them, and the change feed shows them in the order they were written.
        """

    async def query(self, query: ShardQuery, *, limit: int = 100, cursor: str | None = None) -> Page[Shard]:
        """Shards by type, source, external id and time, oldest update first, in pages.

        Raises:
            InvalidCursorError: *cursor* is none of this query's.
        """

    async def incoming(
        self, tenant_id: str, shard_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[IncomingLink]:
        """Links of live shards to this shard, rejected ones left out."""

    async def progress(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Progress]:
        """How far each shard's stages are; a shard nothing is known of is left out."""

    async def advance(self, tenant_id: str, stage: Stage, shards: Sequence[tuple[str, str, int]]) -> None:
        """Record that *stage* has finished the revision of each ``(shard id, shard type id, revision)``; never back.

        Only :meth:`put_chunks` takes a stage back.
        """

    async def lagging(self, *, before: str, limit: int = 1000) -> list[Progress]:
        """Shards of all tenants of which a stage is behind its revision and nothing moved since *before*."""

    async def stages_behind(self) -> dict[Stage, int]:
        """How many shards of all tenants each stage is behind on."""

    async def chunk_states(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, dict[str, ChunkState]]:
        """By shard id, by chunk id."""

    async def put_chunks(self, tenant_id: str, chunks: Sequence[Chunk]) -> None:
        """Write the chunks; one whose hash is new loses its vector, one whose hash is the same keeps it.

        With the same transaction a shard that is left with a chunk without a vector is no longer embedded: where its
        progress says that the newest revision is, it says so of the one before, as of now. So :meth:`lagging` finds
        it until the vectors are there, whoever wrote the chunk and whatever became of the writer.
        """

    async def delete_chunks(self, tenant_id: str, chunk_ids: Sequence[str]) -> None:
        """Delete the chunks with their text and vectors."""

    async def chunks(self, tenant_id: str, shard_id: str) -> list[Chunk]:
        """All chunks of a shard in order, with vectors."""

    async def chunks_by_id(self, tenant_id: str, chunk_ids: Sequence[str]) -> list[Chunk]:
        """Those of the chunks that there are, without vectors."""

    async def put_vectors(
        self, tenant_id: str, chunks: Sequence[tuple[str, str]], vectors: Vectors, *, model: str
    ) -> None:
        """Give each ``(chunk id, hash)`` that still has this hash its row of *vectors*.

        *vectors* is n × dimensions, each row of unit length.
        """

    async def shards_without_vectors(self, tenant_id: str, shard_ids: Sequence[str]) -> set[str]:
        """Those of the shards that have a chunk without a vector."""

    async def search(self, query: SearchQuery) -> list[Hit]:
        """The best shards for the query, best first, each once; deleted ones never."""

    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        """The change feed of all tenants: the newest state of each shard written since *after*, each shard once.

        *after* is the position of an earlier page, None for the feed's beginning. A page without shards is the end of
        what there is now; what is written later comes after its position. The states of one shard come in their order.

        Raises:
            InvalidCursorError: *after* is no position of this store's feed.
        """

    async def counts(self, tenant_id: str) -> StoreCounts:
        """What the tenant has."""

    async def tenants(self) -> list[str]:
        """All tenants that have a shard."""

    async def export_links(self, tenant_id: str, *, limit: int = 1000, cursor: str | None = None) -> Page[Shard]:
        """Live shards that have links, in pages by id."""

    async def close(self) -> None:
        """Give back files and connections."""
