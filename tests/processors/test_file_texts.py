"""The text of files: from the blob store into chunks, deleted with what named it, never embedded twice."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from chain_rig import TENANT, Rig
from counting_model import CountingModel, notes
from file_events import ANN, CUSTOMER, file, id_of, is_there, kept

from messaging.queues import EMBEDDING_JOBS, ENRICHMENT_JOBS, INGESTION_EVENTS, SHARD_EMISSION
from operations.replay import ReplaySelection, replay, select
from processors.preparation import TEXTS_AT_ONCE
from shards.file_text import put_text, text_document
from shards.model import Chunk, Shard
from shards.store import StoreUnavailableError
from shards.types import TextPart

BOB = "user:bob@acme.example"


@pytest.fixture
def model() -> CountingModel:
    return CountingModel()


@pytest.fixture
async def rig(tmp_path: Path, model: CountingModel, chain_functions: None) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "data", model=model)
    try:
        yield made
    finally:
        await made.close()


async def shard(rig: Rig, file_id: str = "F1") -> Shard:
    found = await rig.store.get(TENANT, id_of(file_id))
    assert found is not None
    return found


async def chunks(rig: Rig, file_id: str = "F1") -> list[Chunk]:
    return await rig.store.chunks(TENANT, id_of(file_id))


async def test_the_text_is_chunked_with_its_pages_and_embedded(rig: Rig, model: CountingModel) -> None:
    ref = await kept(rig, 1, "The price is fixed.", notes(2), "Signed by both.")
    await rig.run(file(1, ref))
    made = await chunks(rig)
    assert (await shard(rig)).unstructured_data is not None
    assert made[0].text == "Term sheet.pdf\nPath: /Deals/Term sheet.pdf\nThe price is fixed."
    assert [chunk.place.get("page") for chunk in made] == [1, 2, 2, 3]
    assert [chunk.place.get("heading") for chunk in made[1:]] == ["Part 2", "Part 2", "Part 3"]
    assert all(chunk.vector for chunk in made)
    assert model.texts == [chunk.text for chunk in made]
    assert await rig.parked() == []


async def test_sharing_a_file_anew_rewrites_scopes_and_embeds_nothing(rig: Rig, model: CountingModel) -> None:
    ref = await kept(rig, 1, notes(5))
    await rig.run(file(1, ref))
    before = await chunks(rig)
    model.texts.clear()
    await rig.run(file(2, ref, acl=[ANN, BOB]))
    after = await chunks(rig)
    assert model.texts == []
    assert {chunk.acl_scope for chunk in after} == {(await shard(rig)).acl.scope} != {before[0].acl_scope}
    assert [(chunk.text, chunk.vector) for chunk in after] == [(chunk.text, chunk.vector) for chunk in before]
    assert (await shard(rig)).revision == 2
    assert await is_there(rig, ref)


async def test_a_newer_version_of_the_same_content_writes_no_revision(rig: Rig, model: CountingModel) -> None:
    ref = await kept(rig, 1, notes(3))
    await rig.run(file(1, ref))
    model.texts.clear()
    await rig.run(file(9, ref))
    stored = await shard(rig)
    assert (stored.revision, stored.external_relationships[0].source_version) == (1, "9")
    assert model.texts == []


async def test_only_the_chunks_that_changed_are_embedded_and_the_old_text_goes(rig: Rig, model: CountingModel) -> None:
    old = await kept(rig, 1, notes(5))
    await rig.run(file(1, old))
    model.texts.clear()
    new = await kept(rig, 2, notes(5, other=3))
    await rig.run(file(2, new))
    assert len(model.texts) == 1
    assert "says six thing" in model.texts[0]
    assert (await is_there(rig, old), await is_there(rig, new)) == (False, True)


async def test_the_same_text_read_again_embeds_nothing(rig: Rig, model: CountingModel) -> None:
    old = await kept(rig, 1, notes(3))
    await rig.run(file(1, old))
    model.texts.clear()
    new = await kept(rig, 2, notes(3))
    assert new != old
    await rig.run(file(2, new))
    assert model.texts == []
    assert (await is_there(rig, old), await is_there(rig, new)) == (False, True)


@pytest.mark.parametrize("how", [{"event_type": "delete"}, {"trashed": True}])
async def test_a_deleted_file_leaves_neither_text_nor_chunks(rig: Rig, how: dict[str, Any]) -> None:
    ref = await kept(rig, 1, notes(3))
    await rig.run(file(1, ref))
    await rig.run(file(2, ref, **how))
    stored = await shard(rig)
    assert (stored.status, stored.unstructured_data, stored.structured_data) == ("deleted", None, {})
    assert await chunks(rig) == []
    assert not await is_there(rig, ref)


async def test_a_removed_folder_stays_a_folder(rig: Rig) -> None:
    await rig.run(file(1, mimeType="application/vnd.google-apps.folder", name="Deals"))
    assert (await shard(rig)).shard_type_id == "c_folder"
    gone = file(2, event_type="delete").model_copy(update={"payload": {"id": "F1"}})
    await rig.run(gone)
    assert ((await shard(rig)).shard_type_id, (await shard(rig)).status) == ("c_folder", "deleted")
    assert await rig.parked() == []


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
async def test_in_any_order_the_newest_text_alone_is_left(rig: Rig, order: tuple[int, ...]) -> None:
    refs = {version: await kept(rig, version, f"Text {version}.") for version in order}
    for version in order:
        await rig.run(file(version, refs[version]))
    assert [await is_there(rig, refs[version]) for version in (1, 2, 3)] == [False, False, True]
    [chunk] = await chunks(rig)
    assert chunk.text.endswith("Text 3.")
    assert await rig.parked() == []


async def test_many_versions_in_one_batch_leave_the_newest_text_alone(rig: Rig) -> None:
    refs = {version: await kept(rig, version, f"Text {version}.") for version in (1, 2, 3)}
    await rig.send(file(2, refs[2]), file(3, refs[3]), file(1, refs[1]))
    await rig.drain()
    assert [await is_there(rig, refs[version]) for version in (1, 2, 3)] == [False, False, True]


async def test_a_text_that_went_meanwhile_is_prepared_as_the_shard_stands_now(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.send(file(1, await kept(rig, 1, "Old words.")))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION)
    real = rig.services.blobs.get
    overtaken = False

    async def overtaken_before_the_text_is_read(tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            await rig.send(file(2, await kept(rig, 2, "New words.")))
            await rig.drain(INGESTION_EVENTS)
        return await real(tenant_id, reference, limit=limit)

    monkeypatch.setattr(rig.services.blobs, "get", overtaken_before_the_text_is_read)
    await rig.step(ENRICHMENT_JOBS)
    assert overtaken
    [chunk] = await chunks(rig)
    assert chunk.text.endswith("New words.")
    await rig.drain()
    assert [bool(chunk.vector) for chunk in await chunks(rig)] == [True]
    assert await rig.parked() == []


async def test_a_missing_text_parks_its_message_alone_until_it_is_back(rig: Rig) -> None:
    document = text_document(CUSTOMER, "F1", "1", [TextPart(None, "Lost words.", 1)])
    ref = await rig.services.blobs.put(TENANT, document)
    await rig.services.blobs.delete(TENANT, [ref])
    other = await kept(rig, 1, "Other words.", file_id="F2")
    await rig.send(file(1, ref), file(1, other, file_id="F2"))
    await rig.drain()
    [parked] = await rig.parked()
    assert (parked.reason, parked.queue) == ("content-missing", ENRICHMENT_JOBS)
    assert ref in parked.detail
    assert "replay" in parked.detail
    assert len(await chunks(rig, "F2")) == 1
    assert (await rig.store.progress(TENANT, [id_of()]))[id_of()].prepared == 0, "it is not done"

    await rig.services.blobs.put(TENANT, document)
    async for page in select(rig.services.replay, ReplaySelection(reason="content-missing")):
        await replay(rig.services.replay, page)
    await rig.drain()
    [chunk] = await chunks(rig)
    assert chunk.text.endswith("Lost words.")
    assert chunk.vector


@pytest.mark.parametrize(
    "content", [b"[]", b'{"parts": []}', text_document(CUSTOMER, "F2", "1", [TextPart(None, "x")])]
)
async def test_what_is_no_text_of_the_file_is_neither_chunked_nor_deleted(rig: Rig, content: bytes) -> None:
    ref = await rig.services.blobs.put(TENANT, content)
    await rig.run(file(1, ref))
    [parked] = await rig.parked()
    assert parked.reason == "content-invalid"
    assert await chunks(rig) == []
    await rig.run(file(2, event_type="delete"))
    assert await is_there(rig, ref)


async def test_another_tenants_text_is_out_of_reach(rig: Rig) -> None:
    theirs = await put_text(rig.services.blobs, "other", "F1", "1", [TextPart(None, "Theirs")], instance=CUSTOMER)
    await rig.run(file(1, theirs))
    [parked] = await rig.parked()
    assert parked.reason == "content-missing"
    assert "Theirs" not in parked.detail + parked.body
    await rig.run(file(2, event_type="delete"))
    assert await rig.services.blobs.get("other", theirs)


async def test_a_text_that_cant_be_deleted_holds_nothing_up_and_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ref = await kept(rig, 1, "Old words.")
    await rig.run(file(1, ref))

    async def away(*_: object, **__: object) -> int:
        raise StoreUnavailableError("no answer")

    monkeypatch.setattr(rig.services.blobs, "delete", away)
    await rig.run(file(2, event_type="delete"))
    assert (await shard(rig)).status == "deleted"
    assert await chunks(rig) == []
    assert ref in caplog.text


async def test_a_file_without_a_version_is_parked(rig: Rig) -> None:
    whole = file(1)
    await rig.run(whole.model_copy(update={"source_version": None, "payload": {"id": "F1", "name": "x"}}))
    [parked] = await rig.parked()
    assert parked.reason == "invalid-record"
    assert "`version`" in parked.detail


async def test_many_files_are_prepared_with_a_few_texts_in_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2 * TEXTS_AT_ONCE + 3
    for number in range(count):
        ref = await kept(rig, 1, f"Text {number}.", file_id=f"F{number}")
        await rig.send(file(1, ref, file_id=f"F{number}"))
    await rig.drain(INGESTION_EVENTS, SHARD_EMISSION)
    sizes: list[int] = []
    real = rig.store.put_chunks

    async def counted(tenant_id: str, written: list[Chunk]) -> None:
        sizes.append(len(written))
        await real(tenant_id, written)

    monkeypatch.setattr(rig.store, "put_chunks", counted)
    await rig.step(ENRICHMENT_JOBS)
    assert sizes == [TEXTS_AT_ONCE, TEXTS_AT_ONCE, 3]
    assert (await rig.depth(EMBEDDING_JOBS)).active == count
