"""What every shard store does. A store's own test class inherits ShardStoreContract and gives it a ``store``."""

import asyncio
from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from shard_samples import (
    ACME,
    DIMENSIONS,
    GLOBEX,
    MODEL,
    START,
    chunk_of,
    id_of,
    link,
    make,
    unit,
    write,
    write_with_text,
)

from messaging.times import to_text, utc_now
from shards.identity import chunk_id
from shards.model import Acl, Shard, shard_document
from shards.store import (
    InvalidCursorError,
    SearchQuery,
    ShardQuery,
    ShardStore,
    ShardWrite,
    Stage,
    StoreCounts,
)

ANN, BOB = "user:ann@acme.example", "user:bob@acme.example"


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02d}.000Z"


def soon() -> str:
    return to_text(utc_now() + timedelta(seconds=5))


async def names(store: ShardStore, query: ShardQuery, limit: int = 100) -> list[str]:
    page = await store.query(query, limit=limit)
    return [shard.name for shard in page.items]


async def found(store: ShardStore, query: SearchQuery) -> list[str]:
    return [hit.shard.name for hit in await store.search(query)]


async def changed(store: ShardStore, after: str | None) -> tuple[list[Shard], str]:
    """All that has changed since, and where the feed stands then."""
    shards: list[Shard] = []
    page = await store.changes(after=after)
    while page.shards:
        shards.extend(page.shards)
        page = await store.changes(after=page.position)
    return shards, page.position


class ShardsContract:
    """Shards: written, linked and asked for."""

    async def test_a_shard_comes_back_as_it_was_written(self, store: ShardStore) -> None:
        shard = make("A", title='Ünïcode\n\u2028 "name"', links=[link("A", "B")])
        [etag] = await store.write_many([ShardWrite(shard, None)])
        stored = await store.get(ACME, shard.id)
        assert stored is not None
        assert etag == stored.etag != ""
        assert shard_document(stored) == shard_document(shard)

    async def test_only_what_is_there_comes_back(self, store: ShardStore) -> None:
        await write(store, make("A"), make("B"))
        assert set(await store.get_many(ACME, [id_of("A"), id_of("gone"), id_of("B")])) == {id_of("A"), id_of("B")}
        assert await store.get(ACME, id_of("gone")) is None
        assert await store.get_many(ACME, []) == {}

    async def test_each_write_is_conditional_by_itself(self, store: ShardStore) -> None:
        old, other = await write(store, make("A"), make("B"))
        [new] = await store.write_many([ShardWrite(make("A", title="second"), old)])
        outcome = await store.write_many(
            [
                ShardWrite(make("A", title="stale"), old),
                ShardWrite(make("B", title="over B"), other),
                ShardWrite(make("C"), None),
                ShardWrite(make("D"), "7"),
                ShardWrite(make("E"), "no etag"),
            ]
        )
        assert [etag is None for etag in outcome] == [True, False, False, True, True]
        assert new != old
        assert (await store.get_many(ACME, [id_of(name) for name in "ABCDE"])).keys() == {id_of(n) for n in "ABC"}
        stored = await store.get(ACME, id_of("A"))
        assert stored is not None
        assert (stored.name, stored.etag) == ("second", new)
        assert await store.write_many([ShardWrite(make("A"), None)]) == [None]

    async def test_writes_of_two_tenants_or_twice_of_one_shard_are_refused(self, store: ShardStore) -> None:
        with pytest.raises(ValueError, match="one tenant"):
            await store.write_many([ShardWrite(make("A"), None), ShardWrite(make("B", tenant=GLOBEX), None)])
        with pytest.raises(ValueError, match="once"):
            await store.write_many([ShardWrite(make("A"), None), ShardWrite(make("A"), None)])

    async def test_one_of_many_writers_at_once_wins(self, store: ShardStore) -> None:
        [etag] = await write(store, make("A"))
        outcomes = await asyncio.gather(
            *(store.write_many([ShardWrite(make("A", title=f"writer {n}"), etag)]) for n in range(8))
        )
        assert sum(outcome != [None] for outcome in outcomes) == 1

    async def test_links_are_seen_from_their_target(self, store: ShardStore) -> None:
        await write(store, make("B", links=[link("B", "A"), link("B", "A", "references", "suggested")]))
        await write(store, make("C", links=[link("C", "A"), link("C", "B"), link("C", "A", "mentions", "rejected")]))
        page = await store.incoming(ACME, id_of("A"))
        seen = {(item.source_name, item.link.relationship_type): item for item in page.items}
        assert seen.keys() == {("B", "child_of"), ("B", "references"), ("C", "child_of")}
        assert len(page.items) == 3
        assert seen["B", "child_of"].link == link("B", "A")
        assert seen["B", "child_of"].source_shard_type_id == "c_account"

    async def test_links_follow_the_shard_that_has_them(self, store: ShardStore) -> None:
        await write(store, make("B", links=[link("B", "A")]))
        await write(store, make("B", links=[link("B", "C"), link("B", "D")]))
        assert (await store.incoming(ACME, id_of("A"))).items == []
        assert len((await store.incoming(ACME, id_of("C"))).items) == 1
        await write(store, make("B", status="deleted", links=[link("B", "C")]))
        assert (await store.incoming(ACME, id_of("C"))).items == []

    async def test_incoming_links_come_in_pages(self, store: ShardStore) -> None:
        await write(
            store, *(make(f"S{n}", links=[link(f"S{n}", "A"), link(f"S{n}", "A", "mentions")]) for n in range(5))
        )
        seen: list[tuple[str, str]] = []
        cursor = None
        while True:
            page = await store.incoming(ACME, id_of("A"), limit=3, cursor=cursor)
            seen.extend((item.source_name, item.link.relationship_type) for item in page.items)
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 10

    async def test_redirects_are_followed_by_reads_and_links(self, store: ShardStore) -> None:
        await write(
            store,
            make("end", title="The end"),
            make("middle", redirect_to=id_of("end")),
            make("start", redirect_to=id_of("middle")),
            make("source", links=[link("source", "start")]),
        )
        resolved = await store.resolve(ACME, id_of("start"))
        assert resolved is not None
        assert resolved.name == "The end"
        redirect = await store.get(ACME, id_of("start"))
        assert redirect is not None
        assert redirect.redirect_to == id_of("middle")
        assert [item.source_name for item in (await store.incoming(ACME, id_of("end"))).items] == ["source"]
        assert (await store.counts(ACME)).links == {"child_of": 1}
        await write(store, make("end", status="deleted"))
        assert (await store.counts(ACME)).links_pending == 1

    async def test_redirects_that_lead_nowhere_give_none(self, store: ShardStore) -> None:
        await write(
            store,
            make("a", redirect_to=id_of("b")),
            make("b", redirect_to=id_of("a")),
            make("c", redirect_to=id_of("gone")),
            make("d", redirect_to=id_of("d")),
            make("source", links=[link("source", "a"), link("source", "c", "mentions")]),
        )
        for name in ("a", "b", "c", "d", "gone"):
            assert await store.resolve(ACME, id_of(name)) is None
        counts = await store.counts(ACME)
        assert (counts.links, counts.links_pending) == ({}, 2)

    async def test_export_gives_live_shards_with_links_by_id(self, store: ShardStore) -> None:
        await write(
            store,
            make("A"),
            make("dead", status="deleted", links=[link("dead", "A")]),
            *(make(f"S{n}", links=[link(f"S{n}", "A")]) for n in range(5)),
        )
        first = await store.export_links(ACME, limit=3)
        second = await store.export_links(ACME, limit=3, cursor=first.cursor)
        ids = [shard.id for shard in first.items + second.items]
        assert ids == sorted(id_of(f"S{n}") for n in range(5))
        assert second.cursor is None

    async def test_each_part_of_a_query_narrows_it(self, store: ShardStore) -> None:
        await write(
            store,
            make("A", updated_at=at(1)),
            make("B", updated_at=at(2), kind="c_contact", object_type="Contact"),
            make("C", updated_at=at(3), system="chat", connection_id="other"),
            make("D", updated_at=at(4), status="deleted"),
            make("E", updated_at=at(5), redirect_to=id_of("A")),
        )
        for query, expected in (
            (ShardQuery(ACME), "ABC"),
            (ShardQuery(ACME, include_deleted=True), "ABCDE"),
            (ShardQuery(ACME, shard_type_ids=("c_contact",)), "B"),
            (ShardQuery(ACME, shard_type_ids=("c_contact", "c_account", "c_none")), "ABC"),
            (ShardQuery(ACME, shard_type_ids=("c_none",)), ""),
            (ShardQuery(ACME, system="crm"), "AB"),
            (ShardQuery(ACME, system="crm", object_type="Contact"), "B"),
            (ShardQuery(ACME, system="crm", shard_type_ids=("c_account",)), "A"),
            (ShardQuery(ACME, instance="org", include_deleted=True), "ABCDE"),
            (ShardQuery(ACME, instance="another"), ""),
            (ShardQuery(ACME, external_id="C"), "C"),
            (ShardQuery(ACME, system="crm", external_id="C"), ""),
            (ShardQuery(ACME, connection_id="other"), "C"),
            (ShardQuery(ACME, updated_after=at(2)), "BC"),
            (ShardQuery(ACME, updated_before=at(2)), "A"),
            (ShardQuery(ACME, updated_after=at(2), updated_before=at(3), system="crm"), "B"),
        ):
            assert await names(store, query) == list(expected), query

    async def test_a_query_gives_only_what_the_reader_may_see(self, store: ShardStore) -> None:
        await write(
            store,
            make("open", acl=Acl.of("anyone"), updated_at=at(1)),
            make("ann", acl=Acl.of(ANN, BOB), updated_at=at(2)),
            make("bob", acl=Acl.of(BOB), updated_at=at(3)),
            make("closed", acl=Acl.of(), updated_at=at(4)),
        )
        for principals, expected in (
            (None, ["open", "ann", "bob", "closed"]),
            (frozenset({ANN, "anyone"}), ["open", "ann"]),
            (frozenset({BOB}), ["ann", "bob"]),
            (frozenset({"user:stranger@acme.example"}), []),
            (frozenset[str](), []),
        ):
            assert await names(store, ShardQuery(ACME, principals=principals)) == expected
            assert await names(store, ShardQuery(ACME, principals=principals, system="crm")) == expected

    async def test_a_shard_that_inherits_its_readers_says_nothing_of_its_scope(self, store: ShardStore) -> None:
        async def of_reader(reader: str) -> tuple[list[str], set[str]]:
            readers = frozenset({reader})
            scopes = await store.readable_scopes(ACME, ["channel", "other", "none"], readers)
            return sorted(await names(store, ShardQuery(ACME, principals=readers))), scopes

        inherited = Acl("channel", (ANN, BOB), inherited=True)
        await write(store, make("early", acl=inherited, read_at=at(1), updated_at=at(1)))
        assert await of_reader(ANN) == ([], set()), "who may read is not known yet"
        await write(
            store,
            make("channel", acl=Acl("channel", (ANN, BOB)), read_at=at(2), updated_at=at(2)),
            make("else", acl=Acl("other", (BOB,)), read_at=at(2), updated_at=at(2)),
        )
        assert await of_reader(ANN) == (["channel", "early"], {"channel"})
        assert await of_reader(BOB) == (["channel", "early", "else"], {"channel", "other"})
        # Bob leaves; whoever reads a message afterwards may still take him for a member.
        await write(store, make("channel", acl=Acl("channel", (ANN,)), read_at=at(3), updated_at=at(3)))
        await write(store, make("late", acl=inherited, read_at=at(4), updated_at=at(4)))
        assert await of_reader(BOB) == (["else"], {"other"})
        assert await of_reader(ANN) == (["channel", "early", "late"], {"channel"})

    async def test_sharing_a_scope_anew_is_one_write(self, store: ShardStore) -> None:
        def in_folder(name: str, *principals: str, read: int) -> None:
            shard = make(name, acl=Acl("folder", principals), read_at=at(read), updated_at=at(read))
            shards.append(shard)

        shards: list[Shard] = []
        in_folder("A", ANN, read=1)
        in_folder("B", ANN, read=1)
        await write(store, *shards)
        assert await names(store, ShardQuery(ACME, principals=frozenset({BOB}))) == []
        shards.clear()
        in_folder("A", BOB, read=3)
        await write(store, *shards)
        assert await names(store, ShardQuery(ACME, principals=frozenset({ANN}))) == []
        assert sorted(await names(store, ShardQuery(ACME, principals=frozenset({BOB})))) == ["A", "B"]
        # A file of the folder that was read before it was shared anew does not bring the old readers back, and
        # neither does a rewrite of one that still says them.
        shards.clear()
        in_folder("C", ANN, read=2)
        in_folder("B", ANN, read=1)
        await write(store, *shards)
        assert await names(store, ShardQuery(ACME, principals=frozenset({ANN}))) == []
        assert sorted(await names(store, ShardQuery(ACME, principals=frozenset({BOB})))) == ["A", "B", "C"]

    async def test_pages_have_everything_once_while_others_write(self, store: ShardStore) -> None:
        await write(store, *(make(f"{n:03d}", updated_at=at(n % 3), kind=f"c_{n % 2}") for n in range(50)))
        seen: Counter[str] = Counter()
        cursor, page_number = None, 0
        while True:
            page = await store.query(ShardQuery(ACME), limit=7, cursor=cursor)
            seen.update(shard.name for shard in page.items)
            cursor = page.cursor
            if cursor is None:
                break
            # Some that were seen are updated, some are deleted, and new ones come: all of them behind the cursor.
            await write(store, make(page.items[0].name, updated_at=at(30), kind=page.items[0].shard_type_id))
            await write(store, make(f"new {page_number}", updated_at="2025-12-31T00:00:00.000Z"))
            page_number += 1
        originals = {f"{n:03d}" for n in range(50)}
        assert originals <= seen.keys()
        updated = {name for name, times in seen.items() if times > 1}
        assert all(times <= 2 for times in seen.values())
        assert len(updated) <= page_number

    @pytest.mark.parametrize("cursor", ["", "x", "no cursor", "ÄÖ", "bnVsbA", "WyIyMDI2Il0", "W10", "e30", "WzEsMl0"])
    async def test_a_cursor_that_is_none_is_refused(self, store: ShardStore, cursor: str) -> None:
        await write(store, make("A"))
        with pytest.raises(InvalidCursorError):
            await store.query(ShardQuery(ACME), cursor=cursor)

    async def test_tenants(self, store: ShardStore) -> None:
        await store.advance("initech", Stage.NORMALIZED, [("sh_1", "c_account", 1)])
        assert await store.tenants() == []
        await write(store, make("A", tenant=GLOBEX))
        await write(store, make("A"))
        assert await store.tenants() == [ACME, GLOBEX]


class ChangeFeedContract:
    """Shards as the change feed has them."""

    async def test_the_change_feed_has_the_newest_state_of_each_shard_once(self, store: ShardStore) -> None:
        first, before = await changed(store, None)
        assert first == []
        await write(store, make("A"), make("B"))
        await write(store, make("C", tenant=GLOBEX))
        for start in (None, before):
            some, position = await changed(store, start)
            assert sorted(shard.name for shard in some) == ["A", "B", "C"]
        assert await changed(store, position) == ([], position)
        await write(store, make("A", title="A again"))
        every, _ = await changed(store, None)
        assert sorted(shard.name for shard in every) == ["A again", "B", "C"]
        [newest], _ = await changed(store, position)
        assert newest == await store.get(ACME, id_of("A"))

    async def test_the_change_feed_comes_in_pages_and_goes_on_while_others_write(self, store: ShardStore) -> None:
        await write(store, *(make(f"{n:02d}", tenant=(ACME, GLOBEX)[n % 2]) for n in range(0, 40, 2)))
        await write(store, *(make(f"{n:02d}", tenant=(ACME, GLOBEX)[n % 2]) for n in range(1, 40, 2)))
        seen: dict[str, str] = {}
        position: str | None = None
        written = 0
        while (page := await store.changes(after=position, limit=7)).shards:
            assert len(page.shards) <= 7
            position = page.position
            seen.update({shard.id: shard.etag for shard in page.shards})
            if written < 5:
                await write(store, make("00", title=f"{written} times again"), make(f"new {written}"))
                written += 1
        stored = {
            shard.id: shard.etag
            for tenant in (ACME, GLOBEX)
            for shard in (await store.query(ShardQuery(tenant), limit=1000)).items
        }
        assert seen == stored
        assert len(seen) == 45
        assert (await store.changes(after=page.position)).shards == []

    @pytest.mark.parametrize("position", ["", "x", "-1", "no position", "ÄÖ", "bnVsbA", "e30", "9" * 30])
    async def test_a_position_that_is_none_is_refused(self, store: ShardStore, position: str) -> None:
        await write(store, make("A"))
        with pytest.raises(InvalidCursorError):
            await store.changes(after=position)


class ProgressContract:
    """How far the stages are."""

    async def test_progress_never_goes_back(self, store: ShardStore) -> None:
        await write(store, make("A"))
        for stage, revision in ((Stage.NORMALIZED, 3), (Stage.NORMALIZED, 2), (Stage.PREPARED, 1), (Stage.PREPARED, 3)):
            await store.advance(ACME, stage, [(id_of("A"), "c_account", revision)])
        progress = (await store.progress(ACME, [id_of("A"), id_of("gone")]))[id_of("A")]
        assert (progress.normalized, progress.enriched, progress.prepared, progress.embedded) == (3, 0, 3, 0)
        assert (progress.tenant_id, progress.shard_id, progress.shard_type_id) == (ACME, id_of("A"), "c_account")
        assert await store.progress(ACME, [id_of("gone")]) == {}
        # Progress stands outside the shard: neither its etag nor the change feed moves.
        assert len((await changed(store, None))[0]) == 1

    async def test_lagging_are_those_of_which_a_stage_is_behind(self, store: ShardStore) -> None:
        for name, tenant in (("A", ACME), ("B", GLOBEX), ("done", ACME)):
            await store.advance(tenant, Stage.NORMALIZED, [(id_of(name, tenant), "c_account", 2)])
        for stage in (Stage.ENRICHED, Stage.PREPARED, Stage.EMBEDDED):
            await store.advance(ACME, stage, [(id_of("done"), "c_account", 2)])
        await store.advance(ACME, Stage.ENRICHED, [(id_of("A"), "c_account", 2)])
        assert {progress.shard_id for progress in await store.lagging(before=soon())} == {
            id_of("A"),
            id_of("B", GLOBEX),
        }
        assert len(await store.lagging(before=soon(), limit=1)) == 1
        assert await store.lagging(before=START) == []
        assert await store.stages_behind() == {Stage.ENRICHED: 1, Stage.PREPARED: 2, Stage.EMBEDDED: 2}
        await store.advance(ACME, Stage.NORMALIZED, [(id_of("done"), "c_account", 3)])
        assert len(await store.lagging(before=soon())) == 3


class ChunksContract:
    """Chunks and vectors, and what is counted of all."""

    async def test_counts(self, store: ShardStore) -> None:
        assert await store.counts(ACME) == StoreCounts()
        await write(
            store,
            make("A"),
            make("P", kind="integration.state"),
            make("dead", status="deleted"),
            make("old", status="archived"),
            make("merged", redirect_to=id_of("A")),
            make("B", links=[link("B", "A"), link("B", "later"), link("B", "dead"), link("B", "merged", "mentions")]),
            make("C", links=[link("C", "A", status="suggested"), link("C", "B", status="rejected")]),
            make("gone", status="deleted", links=[link("gone", "A")]),
        )
        shard = make("A")
        await write_with_text(store, shard, "text", unit(1, 0))
        await store.put_chunks(ACME, [chunk_of(shard, "more", ordinal=1)])
        assert await store.counts(ACME) == StoreCounts(
            shards={"c_account": 4, "integration.state": 1},
            deleted=3,
            chunks=2,
            vectors=1,
            links={"child_of": 1, "mentions": 1},
            links_pending=2,
        )
        await write(store, make("later"))
        assert (await store.counts(ACME)).links == {"child_of": 2, "mentions": 1}

    async def test_chunks_come_back_in_order_with_their_vectors(self, store: ShardStore) -> None:
        shard = make("A")
        await write(store, shard)
        chunks = [chunk_of(shard, f"text {n} ß", ordinal=n) for n in (10, 2, 0)]
        await store.put_chunks(ACME, chunks)
        await store.put_vectors(ACME, [(chunks[1].id, "text 2 ß")], unit(3, 4)[np.newaxis], model=MODEL)
        stored = await store.chunks(ACME, shard.id)
        assert [chunk.ordinal for chunk in stored] == [0, 2, 10]
        assert stored[0] == chunks[2]
        assert (stored[1].model, stored[1].dimensions) == (MODEL, DIMENSIONS)
        assert stored[1].vector == unit(3, 4).tobytes()
        by_id = await store.chunks_by_id(ACME, [chunks[0].id, "sh_gone.00000", "no id", chunks[1].id])
        assert [chunk.text for chunk in by_id] == ["text 10 ß", "text 2 ß"]
        assert all(chunk.vector is None for chunk in by_id)

    async def test_a_vector_lives_as_long_as_the_hash(self, store: ShardStore) -> None:
        shard = make("A")
        chunk = await write_with_text(store, shard, "first", unit(1, 0))
        moved = chunk_of(shard, "other words", text_hash=chunk.hash, scope="folder")
        await store.put_chunks(ACME, [moved])
        [state] = (await store.chunk_states(ACME, [shard.id]))[shard.id].values()
        assert (state.hash, state.acl_scope, state.has_vector) == (chunk.hash, "folder", True)
        assert [stored.text for stored in await store.chunks(ACME, shard.id)] == ["other words"]
        assert await store.shards_without_vectors(ACME, [shard.id]) == set()
        await store.put_chunks(ACME, [chunk_of(shard, "second")])
        [state] = (await store.chunk_states(ACME, [shard.id]))[shard.id].values()
        assert (state.hash, state.has_vector) == ("second", False)
        assert await store.shards_without_vectors(ACME, [shard.id, id_of("gone")]) == {shard.id}
        # The vector of the text before comes too late.
        await store.put_vectors(ACME, [(chunk.id, "first")], unit(1, 0)[np.newaxis], model=MODEL)
        assert await store.shards_without_vectors(ACME, [shard.id]) == {shard.id}

    async def test_a_chunk_put_without_a_vector_takes_the_progress_of_its_shard_back(self, store: ShardStore) -> None:
        async def embedded(name: str) -> int:
            return (await store.progress(ACME, [id_of(name)]))[id_of(name)].embedded

        changed, kept = make("changed"), make("kept")
        for shard in (changed, kept):
            await write_with_text(store, shard, "first", unit(1, 0))
        finished = [(shard.id, "c_account", 3) for shard in (changed, kept)]
        for stage in Stage:
            await store.advance(ACME, stage, finished)
        assert await store.lagging(before=soon()) == []

        await store.put_chunks(ACME, [chunk_of(changed, "second"), chunk_of(kept, "first", scope="folder")])
        assert (await embedded("changed"), await embedded("kept")) == (2, 3)
        assert [progress.shard_id for progress in await store.lagging(before=soon())] == [changed.id]
        await store.put_chunks(ACME, [chunk_of(changed, "third")])
        assert await embedded("changed") == 2, "it goes back below the revision, and no further"
        await store.advance(ACME, Stage.EMBEDDED, finished)
        await store.put_chunks(ACME, [chunk_of(kept, "one more", ordinal=1)])
        assert (await embedded("changed"), await embedded("kept")) == (3, 2)

    async def test_a_chunk_of_a_shard_that_no_stage_knows_makes_no_progress(self, store: ShardStore) -> None:
        await write_with_text(store, make("A"), "first")
        assert await store.progress(ACME, [id_of("A")]) == {}

    async def test_chunks_that_are_not_their_shards_own_are_refused(self, store: ShardStore) -> None:
        shard = make("A")
        wrong = chunk_of(shard, "text")
        wrong.id = chunk_id(shard.id, 7)
        with pytest.raises(ValueError, match="not the id"):
            await store.put_chunks(ACME, [wrong])
        with pytest.raises(ValueError, match="another tenant"):
            await store.put_chunks(GLOBEX, [chunk_of(shard, "text")])

    async def test_vectors_that_are_none_are_refused(self, store: ShardStore) -> None:
        chunk = await write_with_text(store, make("A"), "text")
        with pytest.raises(ValueError, match="matrix"):
            await store.put_vectors(ACME, [(chunk.id, "text")], np.zeros((2, DIMENSIONS), np.float32), model=MODEL)
        with pytest.raises(ValueError, match="finite"):
            await store.put_vectors(
                ACME, [(chunk.id, "text")], np.full((1, DIMENSIONS), np.nan, np.float32), model=MODEL
            )

    async def test_deleted_chunks_are_gone_from_everywhere(self, store: ShardStore) -> None:
        shard = make("A", title="Plain")
        chunk = await write_with_text(store, shard, "zebra", unit(1, 0))
        assert await found(store, SearchQuery(ACME, "zebra", unit(1, 0))) == ["Plain"]
        await store.delete_chunks(ACME, [chunk.id, chunk.id, "no id"])
        assert await store.chunk_states(ACME, [shard.id]) == {}
        assert await found(store, SearchQuery(ACME, "zebra", None)) == []
        assert await found(store, SearchQuery(ACME, "", unit(1, 0))) == []
        counts = await store.counts(ACME)
        assert (counts.chunks, counts.vectors) == (0, 0)


class SearchContract:
    """Hybrid search."""

    async def test_the_one_that_is_called_so_comes_first(self, store: ShardStore) -> None:
        await write_with_text(store, make("1", title="Acme renewal 2026"), "Acme Corp and Acme Corp", unit(1, 0))
        await write_with_text(store, make("2", title="Acme Corp"), "an account", unit(0, 1))
        await write_with_text(store, make("3", title="Other"), "Acme Corp " * 5, unit(1, 0))
        assert (await found(store, SearchQuery(ACME, "acme corp", unit(1, 0))))[0] == "Acme Corp"
        assert (await found(store, SearchQuery(ACME, "ACME renewal", None)))[0] == "Acme renewal 2026"

    async def test_a_rare_word_counts_and_a_frequent_one_does_not(self, store: ShardStore) -> None:
        for n in range(60):
            await write_with_text(store, make(str(n)), "meeting notes meeting" if n else "notes about a zeppelin")
        assert (await found(store, SearchQuery(ACME, "meeting zeppelin notes", None)))[0] == "0"
        assert len(await found(store, SearchQuery(ACME, "meeting notes", None, limit=20))) == 20

    async def test_names_count_more_than_texts(self, store: ShardStore) -> None:
        await write_with_text(store, make("text", title="Nothing"), "quarterly review")
        await write_with_text(store, make("name", title="Quarterly plan"), "something else")
        assert await found(store, SearchQuery(ACME, "quarterly", None)) == ["Quarterly plan", "Nothing"]
        await write(store, make("name", title="Yearly plan"))
        assert await found(store, SearchQuery(ACME, "quarterly", None)) == ["Nothing"]
        assert await found(store, SearchQuery(ACME, "yearly", None)) == ["Yearly plan"]

    async def test_the_last_word_may_be_unfinished(self, store: ShardStore) -> None:
        await write_with_text(store, make("A", title="Zürich branch"), "text")
        assert await found(store, SearchQuery(ACME, "zuri", None)) == ["Zürich branch"]
        assert await found(store, SearchQuery(ACME, "zuri ", None)) == []

    async def test_likeness_finds_what_shares_no_word(self, store: ShardStore) -> None:
        await write_with_text(store, make("near"), "one", unit(1, 0.1, 0))
        await write_with_text(store, make("far"), "two", unit(0, 0.1, 1))
        await write_with_text(store, make("away"), "three", unit(-1, 0, 0))
        assert await found(store, SearchQuery(ACME, "unknown", unit(1, 0, 0.01))) == ["near", "far"]

    @pytest.mark.parametrize("order", [("word", "near"), ("near", "word")])
    async def test_the_word_asked_for_comes_before_its_equal_in_likeness(
        self, store: ShardStore, order: tuple[str, str]
    ) -> None:
        texts = {"word": ("one owl", None), "near": ("a bird", unit(1, 0))}
        for name in order:
            await write_with_text(store, make(name), *texts[name])
        hits = await store.search(SearchQuery(ACME, "owl", unit(1, 0)))
        assert [hit.shard.name for hit in hits] == ["word", "near"]
        assert hits[0].score == hits[1].score

    async def test_a_shard_is_one_hit_with_its_best_chunk(self, store: ShardStore) -> None:
        shard = make("A")
        await write(store, shard, make("B"))
        await store.put_chunks(ACME, [chunk_of(shard, text, ordinal=n) for n, text in enumerate(["x", "owl", "y"])])
        await store.put_chunks(ACME, [chunk_of(make("B"), "z")])
        await store.put_vectors(
            ACME,
            [(chunk_id(shard.id, 0), "x"), (chunk_id(shard.id, 2), "y"), (chunk_id(id_of("B"), 0), "z")],
            np.stack([unit(1, 1), unit(1, 0), unit(0, 1)]),
            model=MODEL,
        )
        [hit] = await store.search(SearchQuery(ACME, "owl", None))
        assert (hit.chunk.text, hit.chunk.place, hit.shard.name) == ("owl", {"heading": "Überschrift"}, "A")
        hits = await store.search(SearchQuery(ACME, "", unit(1, 0.05)))
        assert [(hit.shard.name, hit.chunk.text) for hit in hits] == [("A", "y"), ("B", "z")]
        assert hits[0].score > hits[1].score

    async def test_a_search_is_narrowed_before_it_is_cut(self, store: ShardStore) -> None:
        for n in range(40):
            await write_with_text(store, make(f"noise {n}", acl=Acl.of(BOB)), "owl owl owl", unit(1, 0))
        await write_with_text(
            store,
            make(
                "mine",
                acl=Acl.of(ANN),
                kind="c_message",
                system="chat",
                updated_at=at(9),
                links=[link("mine", "account")],
            ),
            "one owl among many other words",
            unit(1, 1),
        )
        for query in (
            SearchQuery(ACME, "owl", unit(1, 0), limit=1, principals=frozenset({ANN})),
            SearchQuery(ACME, "owl", unit(1, 0), limit=1, shard_type_ids=("c_message",)),
            SearchQuery(ACME, "owl", unit(1, 0), limit=1, systems=("chat", "mail")),
            SearchQuery(ACME, "owl", unit(1, 0), limit=1, linked_to=id_of("account")),
            SearchQuery(ACME, "owl", unit(1, 0), limit=1, linked_to=id_of("mine")),
            SearchQuery(ACME, "owl", unit(1, 0), limit=1, updated_after=at(5)),
            SearchQuery(ACME, "owl", None, limit=1, principals=frozenset({ANN})),
            SearchQuery(ACME, "", unit(1, 0), limit=1, principals=frozenset({ANN})),
        ):
            assert await found(store, query) == ["mine"], query
        for query in (
            SearchQuery(ACME, "owl", unit(1, 0), principals=frozenset({"anyone"})),
            SearchQuery(ACME, "owl", unit(1, 0), shard_type_ids=("c_none",)),
            SearchQuery(ACME, "owl", unit(1, 0), updated_before=START),
            SearchQuery(ACME, "owl", unit(1, 0), linked_to=id_of("nothing")),
        ):
            assert await found(store, query) == [], query

    async def test_what_is_hidden_changes_no_score(self, store: ShardStore) -> None:
        for n in range(5):
            await write_with_text(store, make(str(n), acl=Acl.of(ANN)), "owl " * (n + 1), unit(1, n))
        query = SearchQuery(ACME, "owl", unit(1, 0), principals=frozenset({ANN}))
        before = [(hit.shard.id, hit.score) for hit in await store.search(query)]
        # Neighbours of the best that outrank all of them, for BOB alone, and as frequent as what was there.
        await write_with_text(store, make("hidden", acl=Acl.of(BOB)), "something else", unit(1, 0))
        assert [(hit.shard.id, hit.score) for hit in await store.search(query)] == before

    async def test_what_is_deleted_or_hidden_anew_is_found_no_more(self, store: ShardStore) -> None:
        for name in ("deleted", "merged", "closed"):
            await write_with_text(store, make(name), "owl", unit(1, 0))
        everyone = SearchQuery(ACME, "owl", unit(1, 0), principals=frozenset({"tenant"}))
        assert sorted(await found(store, everyone)) == ["closed", "deleted", "merged"]
        await write(
            store,
            make("deleted", status="deleted"),
            make("merged", redirect_to=id_of("closed")),
            make("closed", acl=Acl.of(ANN)),
        )
        # The chunks still say who could read them before.
        assert await found(store, everyone) == []
        assert await found(store, SearchQuery(ACME, "owl", unit(1, 0))) == ["closed"]

    async def test_a_search_for_nothing_finds_nothing(self, store: ShardStore) -> None:
        assert await store.search(SearchQuery(ACME, "owl", unit(1, 0))) == []
        await write_with_text(store, make("A"), "owl", unit(1, 0))
        for text in ("", "   ", "?!", "🦉", '"'):
            assert await store.search(SearchQuery(ACME, text, None)) == []
        assert await found(store, SearchQuery(ACME, "", unit(-1, 0))) == []

    @pytest.mark.parametrize(
        "text",
        [
            '"',
            "owl AND",
            "NEAR(owl, 2)",
            "owl* OR",
            "name:owl",
            "-owl",
            "^owl",
            "(owl",
            "owl'); --",
            "\x00owl",
            "🦉 owl",
        ],
    )
    async def test_operators_are_words(self, store: ShardStore, text: str) -> None:
        await write_with_text(store, make("A"), "an owl", unit(1, 0))
        assert await found(store, SearchQuery(ACME, text, None)) == ["A"] * ("owl" in text)


class TenantsContract:
    """What one tenant knows of another."""

    async def test_a_tenant_never_sees_another(self, store: ShardStore) -> None:
        mine, theirs = make("same", title="Same"), make("same", title="Same", tenant=GLOBEX)
        theirs.internal_relationships = [link("same", "other", tenant=GLOBEX)]
        await write_with_text(store, mine, "owl", unit(1, 0))
        kept = await store.get(ACME, mine.id)
        assert kept is not None
        before = (
            await store.counts(ACME),
            await store.search(SearchQuery(ACME, "owl same", unit(1, 0))),
            await store.query(ShardQuery(ACME, include_deleted=True)),
        )
        chunk = await write_with_text(store, theirs, "owl", unit(1, 0))
        for n in range(30):
            await write_with_text(store, make(f"more {n}", tenant=GLOBEX), "owl same", unit(1, 0))
        await store.advance(GLOBEX, Stage.NORMALIZED, [(theirs.id, "c_account", 1)])
        after = (
            await store.counts(ACME),
            await store.search(SearchQuery(ACME, "owl same", unit(1, 0))),
            await store.query(ShardQuery(ACME, include_deleted=True)),
        )
        assert before == after
        assert await store.get(ACME, theirs.id) is None
        assert await store.get_many(ACME, [theirs.id]) == {}
        assert await store.resolve(ACME, theirs.id) is None
        assert (await store.incoming(ACME, id_of("other", GLOBEX))).items == []
        assert await store.progress(ACME, [theirs.id]) == {}
        assert await store.chunk_states(ACME, [theirs.id]) == {}
        assert await store.chunks(ACME, theirs.id) == []
        assert await store.chunks_by_id(ACME, [chunk.id]) == []
        assert await store.shards_without_vectors(ACME, [theirs.id]) == set()
        assert (await store.export_links(ACME)).items == []
        assert await store.search(SearchQuery(ACME, "owl", unit(1, 0), linked_to=theirs.id)) == []
        await store.delete_chunks(ACME, [chunk.id])
        await store.put_vectors(ACME, [(chunk.id, chunk.hash)], unit(0, 1)[np.newaxis], model=MODEL)
        [stored] = await store.chunks(GLOBEX, theirs.id)
        assert stored.vector == unit(1, 0).tobytes()
        assert await store.write_many([ShardWrite(make("same"), kept.etag)]) != [None]


class ShardStoreContract(
    ShardsContract, ChangeFeedContract, ProgressContract, ChunksContract, SearchContract, TenantsContract
):
    """All of it; each test has an empty store."""
