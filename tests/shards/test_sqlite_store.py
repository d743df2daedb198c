"""The SQLite store keeps the contract, and what is its own: files, their errors, and the matrix beside them."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_samples import ACME, GLOBEX, MODEL, chunk_of, id_of, make, unit, write, write_with_text
from shard_store_contract import ShardStoreContract, found

from messaging.sqlite import DataFileError
from shards.sqlite_store import SqliteShardStore
from shards.store import SearchQuery, ShardQuery, StoreUnavailableError


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteShardStore]:
    opened = SqliteShardStore(tmp_path / "store.db")
    yield opened
    await opened.close()


class TestSqliteShardStore(ShardStoreContract):
    """The contract."""


def matrix_files(folder: Path) -> list[Path]:
    return list(folder.glob("store.db.vectors-*"))


def matrix_file(folder: Path) -> Path:
    [path] = matrix_files(folder)
    return path


async def test_a_store_opened_again_has_what_was_written(tmp_path: Path) -> None:
    first = SqliteShardStore(tmp_path / "store.db")
    await write_with_text(first, make("A"), "owl", unit(1, 0))
    await first.close()
    second = SqliteShardStore(tmp_path / "store.db")
    assert await found(second, SearchQuery(ACME, "owl", unit(1, 0))) == ["A"]
    assert await second.write_many([]) == []
    await second.close()


async def test_the_change_feed_has_all_tenants_in_the_order_of_the_writes(store: SqliteShardStore) -> None:
    await write(store, make("A"), make("B"))
    await write(store, make("C", tenant=GLOBEX))
    assert [shard.name for shard in (await store.changes(after=None)).shards] == ["A", "B", "C"]
    await write(store, make("A", title="A again"))
    assert [shard.name for shard in (await store.changes(after=None)).shards] == ["B", "C", "A again"]
    assert [shard.name for shard in (await store.changes(after=None, limit=1)).shards] == ["B"]


async def test_two_open_stores_see_each_other(store: SqliteShardStore, tmp_path: Path) -> None:
    other = SqliteShardStore(tmp_path / "store.db")
    await write_with_text(store, make("A"), "owl", unit(1, 0))
    assert await found(other, SearchQuery(ACME, "", unit(1, 0))) == ["A"]
    chunk = await write_with_text(other, make("B"), "lark", unit(0, 1))
    assert await found(store, SearchQuery(ACME, "", unit(0, 1))) == ["B"]
    await store.delete_chunks(ACME, [chunk.id])
    assert await found(other, SearchQuery(ACME, "", unit(0, 1))) == []
    await other.close()


async def test_the_matrix_is_made_only_for_a_search(store: SqliteShardStore, tmp_path: Path) -> None:
    chunk = await write_with_text(store, make("A"), "owl", unit(1, 0))
    await store.delete_chunks(ACME, [chunk.id])
    await found(store, SearchQuery(ACME, "owl", None))
    assert matrix_files(tmp_path) == []


async def test_a_deleted_vector_is_overwritten_in_the_matrix(store: SqliteShardStore, tmp_path: Path) -> None:
    marked = unit(0.123, 0.456, 0.789)
    chunk = await write_with_text(store, make("A"), "owl", marked)
    await write_with_text(store, make("B"), "lark", unit(1, 0, 0))
    await found(store, SearchQuery(ACME, "", marked))
    assert marked.tobytes() in matrix_file(tmp_path).read_bytes()
    await store.delete_chunks(ACME, [chunk.id])
    assert marked.tobytes() not in matrix_file(tmp_path).read_bytes()
    size = matrix_file(tmp_path).stat().st_size
    await write_with_text(store, make("C"), "wren", unit(0, 1, 0))
    assert await found(store, SearchQuery(ACME, "", unit(0, 1, 0))) == ["C"]
    assert matrix_file(tmp_path).stat().st_size == size


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other", "longer"])
async def test_a_matrix_that_is_missing_or_damaged_is_made_anew(
    store: SqliteShardStore, tmp_path: Path, damage: str
) -> None:
    for n in range(10):
        await write_with_text(store, make(str(n)), f"text {n}", unit(1, n))
    await found(store, SearchQuery(ACME, "", unit(1, 0)))
    await store.close()
    path = matrix_file(tmp_path)
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "other":
            path.write_bytes(b"x" * len(data))
        case "longer":
            path.write_bytes(data + b"x" * 100)
    again = SqliteShardStore(tmp_path / "store.db")
    assert (await found(again, SearchQuery(ACME, "", unit(1, 9), limit=3))) == ["9", "8", "7"]
    await again.close()


async def test_a_matrix_of_another_store_is_not_believed(store: SqliteShardStore, tmp_path: Path) -> None:
    for n in range(3):
        await write_with_text(store, make(str(n)), f"text {n}", unit(1, n))
    await found(store, SearchQuery(ACME, "", unit(1, 0)))
    other = SqliteShardStore(tmp_path / "other" / "store.db")
    await write_with_text(other, make("A"), "text", unit(0, 1))
    shutil.copy(matrix_file(tmp_path), tmp_path / "other")
    assert await found(other, SearchQuery(ACME, "", unit(0, 1))) == ["A"]
    await other.close()


async def test_a_new_model_has_a_matrix_of_its_own(store: SqliteShardStore) -> None:
    chunk = await write_with_text(store, make("A"), "owl", unit(1, 0))
    assert await found(store, SearchQuery(ACME, "", unit(1, 0))) == ["A"]
    await store.put_vectors(ACME, [(chunk.id, chunk.hash)], unit(0, 1, 0, 0)[np.newaxis], model="wider")
    assert await found(store, SearchQuery(ACME, "", unit(1, 0))) == []
    assert await found(store, SearchQuery(ACME, "", unit(0, 1, 0, 0))) == ["A"]
    [stored] = await store.chunks(ACME, id_of("A"))
    assert (stored.model, stored.dimensions) == ("wider", 4)
    assert (await store.counts(ACME)).vectors == 1


async def test_only_rare_words_bring_shards_into_the_answer(store: SqliteShardStore) -> None:
    for n in range(60):
        await write_with_text(store, make(str(n)), "meeting notes meeting" if n else "notes about a zeppelin")
    assert await found(store, SearchQuery(ACME, "meeting zeppelin notes", None)) == ["0"]


async def test_the_matrix_answers_as_the_table_does_after_many_changes(store: SqliteShardStore) -> None:
    random = np.random.default_rng(3)
    shards = [make(f"{n:03d}") for n in range(60)]
    await write(store, *shards)
    for turn in range(12):
        some = random.choice(60, 15, replace=False)
        chunks = [chunk_of(shards[n], f"{turn} {n}") for n in some]
        if turn % 3 == 2:
            await store.delete_chunks(ACME, [chunk.id for chunk in chunks])
        else:
            await store.put_chunks(ACME, chunks)
            vectors = random.standard_normal((len(chunks), 4), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            await store.put_vectors(ACME, [(chunk.id, chunk.hash) for chunk in chunks], vectors, model=MODEL)
        wanted = unit(*random.standard_normal(4))
        likeness = {}
        for shard in shards:
            for stored in await store.chunks(ACME, shard.id):
                if stored.vector is not None:
                    likeness[shard.name] = float(np.frombuffer(stored.vector, np.float32) @ wanted)
        expected = sorted((name for name in likeness if likeness[name] > 0), key=lambda name: -likeness[name])
        assert await found(store, SearchQuery(ACME, "", wanted, limit=100)) == expected


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.text(max_size=40), st.text(max_size=20))
async def test_no_query_text_raises(tmp_path_factory: pytest.TempPathFactory, text: str, body: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz" / "store.db"
    store = SqliteShardStore(path)
    clean = body.encode("utf-8", "ignore").decode()
    await write_with_text(store, make("A"), clean or "text")
    await store.search(SearchQuery(ACME, text, None))
    await store.close()


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"store\.db") as raised:
        SqliteShardStore(path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(DataFileError, match="another kind"):
        SqliteShardStore(path)


async def test_a_store_that_is_away_is_unavailable(
    store: SqliteShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.sqlite.BUSY_ATTEMPTS", 1)
    monkeypatch.setattr("messaging.sqlite.BUSY_TIMEOUT_MS", 1)
    locked = SqliteShardStore(tmp_path / "store.db")
    await write(locked, make("A"))
    connection = apsw.Connection(str(tmp_path / "store.db"))
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError) as raised:
        await write(locked, make("B"))
    assert raised.value.__cause__ is not None
    connection.execute("ROLLBACK")
    await write(locked, make("B"))
    connection.close()
    await locked.close()


async def test_a_source_with_many_records_is_walked_in_pages(
    store: SqliteShardStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.sqlite_shard_reads.FEW_EXTERNALS", 3)
    await write(
        store,
        *(make(f"A{n}", updated_at=f"2026-01-01T00:00:{n:02d}.000Z") for n in range(8)),
        *(make(f"C{n}", kind="c_contact", object_type="Contact") for n in range(8)),
        make("also", kind="c_note", updated_at="2026-01-02T00:00:00.000Z"),
    )
    query = ShardQuery(ACME, system="crm", object_type="Account")
    first = await store.query(query, limit=5)
    second = await store.query(query, limit=5, cursor=first.cursor)
    names = [shard.name for shard in first.items + second.items]
    assert names == [*(f"A{n}" for n in range(8)), "also"]
    typed = await store.query(
        ShardQuery(ACME, system="crm", object_type="Account", shard_type_ids=("c_note", "c_contact"))
    )
    assert [shard.name for shard in typed.items] == ["also"]
