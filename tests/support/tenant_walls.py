"""Records of two tenants that look alike, and everything that a store tells one of them: for what must not show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from shard_samples import ACME, GLOBEX, MODEL, chunk_of, id_of, link, make, unit, write

from messaging.times import to_text, utc_now
from shards.identity import chunk_id
from shards.model import Acl, Shard, shard_document
from shards.parked import ParkedMessage, ParkedMessages
from shards.store import Page, SearchQuery, ShardQuery, ShardStore, Stage

ANN, BOB = "user:ann@acme.example", "user:bob@acme.example"
NAMES = ("one", "two", "three", "four")
WORDS = ("owl", "lark", "wren", "renewal", "zürich")
ACLS = (Acl.of("tenant"), Acl.of(ANN), Acl.of(BOB), Acl.of(ANN, BOB), Acl.of(), Acl("folder", (BOB,)))
READERS: tuple[frozenset[str] | None, ...] = (None, frozenset({ANN, "tenant"}), frozenset({BOB}), frozenset())


@dataclass(frozen=True, slots=True)
class Record:
    """One record of whichever tenant: what is kept of it."""

    name: str
    title: str
    text: str
    acl: Acl
    second: int
    targets: tuple[str, ...]
    redirect: str | None
    deleted: bool
    embedded: bool
    angle: int
    parked: bool

    def shard(self, tenant: str) -> Shard:
        """Its shard."""
        return make(
            self.name,
            tenant=tenant,
            title=self.title,
            acl=self.acl,
            updated_at=f"2026-01-01T00:00:{self.second:02d}.000Z",
            links=[link(self.name, target, tenant=tenant) for target in self.targets],
            status="deleted" if self.deleted else "active",
            redirect_to=None if self.redirect is None else id_of(self.redirect, tenant),
        )


def records() -> st.SearchStrategy[list[Record]]:
    """Up to four records with names of their own."""
    phrase = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
    record = st.builds(
        Record,
        name=st.sampled_from(NAMES),
        title=phrase,
        text=phrase,
        acl=st.sampled_from(ACLS),
        second=st.integers(0, 59),
        targets=st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
        redirect=st.none() | st.none() | st.sampled_from(NAMES),
        deleted=st.sampled_from([False, False, False, True]),
        embedded=st.booleans(),
        angle=st.integers(0, 90),
        parked=st.booleans(),
    )
    return st.lists(record, min_size=1, max_size=len(NAMES), unique_by=lambda one: one.name)


async def keep(store: ShardStore, parked: ParkedMessages, tenant: str, given: Sequence[Record]) -> None:
    """Write the records of a tenant, with all that comes of a record."""
    shards = {record: record.shard(tenant) for record in given}
    await write(store, *shards.values())
    await store.put_chunks(tenant, [chunk_of(shard, record.text) for record, shard in shards.items()])
    embedded = [(record, shard) for record, shard in shards.items() if record.embedded]
    if embedded:
        vectors = [unit(np.cos(np.radians(one.angle)), np.sin(np.radians(one.angle))) for one, _ in embedded]
        references = [(chunk_id(shard.id, 0), record.text) for record, shard in embedded]
        await store.put_vectors(tenant, references, np.stack(vectors), model=MODEL)
    await store.advance(tenant, Stage.NORMALIZED, [(shard.id, shard.shard_type_id, 1) for shard in shards.values()])
    if embedded:
        finished = [(shard.id, shard.shard_type_id, 1) for _, shard in embedded]
        for stage in (Stage.ENRICHED, Stage.PREPARED, Stage.EMBEDDED):
            await store.advance(tenant, stage, finished)
    await parked.park([_parked(tenant, record) for record in given if record.parked])


def _parked(tenant: str, record: Record) -> ParkedMessage:
    return ParkedMessage(
        id=f"pk_{tenant}_{record.name}",
        tenant_id=tenant,
        queue="ingestion-events",
        reason=record.title.split()[0],
        detail=record.text,
        body=record.text,
        message_id=record.name,
        parked_at=f"2026-01-01T00:00:{record.second:02d}.000Z",
    )


async def picture(store: ShardStore, parked: ParkedMessages, tenant: str = ACME) -> dict[str, Any]:
    """Everything that the store's calls tell a tenant, asked for with its own ids and with those of the other."""
    ids = [id_of(name, owner) for owner in (ACME, GLOBEX) for name in NAMES]
    chunks = [chunk_id(shard, 0) for shard in ids]
    found: dict[str, Any] = {
        "get": [await store.get(tenant, shard) for shard in ids],
        "get_many": await store.get_many(tenant, ids),
        "resolve": [await store.resolve(tenant, shard) for shard in ids],
        "incoming": [await _all_pages_of_links(store, tenant, shard) for shard in ids],
        "progress": await store.progress(tenant, ids),
        "chunk_states": await store.chunk_states(tenant, ids),
        "chunks": [await store.chunks(tenant, shard) for shard in ids],
        "chunks_by_id": await store.chunks_by_id(tenant, chunks),
        "shards_without_vectors": await store.shards_without_vectors(tenant, ids),
        "counts": await store.counts(tenant),
        "export_links": [shard_document(shard) for shard in (await store.export_links(tenant)).items],
        "parked": (await parked.parked(tenant)).items,
        "parked_counts": await parked.parked_counts(tenant),
    }
    for principals in READERS:
        found[f"reader {principals}"] = await readers_picture(store, principals, tenant)
    return found


async def operators_picture(store: ShardStore, parked: ParkedMessages, tenant: str = ACME) -> dict[str, Any]:
    """What of the calls that span tenants is about this one."""
    soon = to_text(utc_now().replace(year=2100))
    return {
        "lagging": [one for one in await store.lagging(before=soon) if one.tenant_id == tenant],
        "parked": [one for one in (await parked.parked()).items if one.tenant_id == tenant],
        "changes": sorted(
            (shard.id, shard.etag) for shard in (await store.changes(after=None)).shards if shard.tenant_id == tenant
        ),
    }


async def readers_picture(
    store: ShardStore, principals: frozenset[str] | None, tenant: str = ACME
) -> dict[str, list[Any]]:
    """What a reader sees of a tenant: all pages of queries, and the hits of searches with their scores."""
    seen: dict[str, list[Any]] = {}
    for query in (
        ShardQuery(tenant, principals=principals),
        ShardQuery(tenant, principals=principals, system="crm", updated_after="2026-01-01T00:00:20.000Z"),
        ShardQuery(tenant, principals=principals, include_deleted=True),
    ):
        shards: list[str] = []
        cursor: str | None = None
        while True:
            page: Page[Shard] = await store.query(query, limit=2, cursor=cursor)
            shards.extend(shard.id for shard in page.items)
            cursor = page.cursor
            if cursor is None:
                break
        seen[repr(query)] = shards
    for search in (
        SearchQuery(tenant, "owl renewal", unit(1, 0), principals=principals),
        SearchQuery(tenant, "zurich", None, principals=principals),
        SearchQuery(tenant, "lar", unit(0, 1), principals=principals, systems=("crm",)),
        SearchQuery(tenant, "", unit(1, 1), principals=principals),
        SearchQuery(tenant, "wren", None, principals=principals, linked_to=id_of("one", tenant)),
        SearchQuery(tenant, "wren", unit(1, 1), principals=principals, linked_to=id_of("one", _other(tenant))),
    ):
        kind = "several words" if " " in search.text else "one word"
        hits = await store.search(search)
        seen[f"{kind}: {search.text} {search.systems} {search.linked_to} {search.vector is None}"] = [
            (hit.shard.id, hit.chunk.id, hit.score) for hit in hits
        ]
    return seen


def _other(tenant: str) -> str:
    return GLOBEX if tenant == ACME else ACME


async def _all_pages_of_links(store: ShardStore, tenant: str, shard: str) -> list[Any]:
    links: list[Any] = []
    cursor: str | None = None
    while True:
        page = await store.incoming(tenant, shard, limit=1, cursor=cursor)
        links.extend(page.items)
        cursor = page.cursor
        if cursor is None:
            return links
