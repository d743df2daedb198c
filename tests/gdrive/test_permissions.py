"""Who may read what is in Drive: captured, inherited, followed, and closed until it is known."""

import logging
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DriveRig, given

from connections.gdrive_connection import GoogleAuth
from ingestion.gdrive.permissions import principals_of
from messaging.queues import INGESTION_EVENTS, SOURCE_WORK
from messaging.times import to_text, utc_now

GROUP = "sales@acme.example"


def limited(address: str, details: list[dict[str, Any]], role: str = "reader") -> dict[str, Any]:
    """A permission on a folder with limited access."""
    more = {"inheritedPermissionsDisabled": True, "permissionDetails": details}
    return {"type": "user", "emailAddress": address, "role": role, **more}


def test_only_who_is_named_or_may_discover_it_counts() -> None:
    now = utc_now()
    permissions: list[dict[str, Any]] = [
        {"type": "user", "emailAddress": "Ann@Acme.example", "role": "owner"},
        {"type": "group", "emailAddress": GROUP, "role": "reader"},
        {"type": "domain", "domain": "acme.example", "allowFileDiscovery": True},
        {"type": "domain", "domain": "other.example"},
        {"type": "anyone", "role": "reader", "allowFileDiscovery": False},
        {"type": "user", "emailAddress": "gone@acme.example", "deleted": True},
        {"type": "user", "emailAddress": "late@acme.example", "expirationTime": to_text(now)},
        {"type": "user", "emailAddress": "odd@acme.example", "expirationTime": "some day"},
        {"type": "user", "emailAddress": "soon@acme.example", "expirationTime": to_text(now + timedelta(days=1))},
        {"type": "user", "emailAddress": "seen@acme.example", "view": "metadata"},
        {"type": "user"},
        limited("above@acme.example", [{"inherited": True}]),
        limited("both@acme.example", [{"inherited": True}, {"inherited": False}]),
        limited("chief@acme.example", [{"inherited": True}], role="organizer"),
    ]
    assert principals_of(permissions, now) == [
        "domain:acme.example",
        f"group:{GROUP}",
        "user:ann@acme.example",
        "user:both@acme.example",
        "user:chief@acme.example",
        "user:soon@acme.example",
    ]
    assert principals_of([{"type": "anyone", "allowFileDiscovery": True}], now) == ["anyone"]


async def test_a_folder_that_is_shared_opens_all_below_it_without_embedding_anything(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Deals")
    inner = rig.drive.create_folder("Inner", parent=folder)
    note = rig.drive.create_file("note.txt", "Text to embed once.", parent=inner)
    rig.drive.set_group(GROUP, [ANN])
    await rig.begin()
    await rig.drain()
    embedded = rig.handled("embed")
    [before] = await rig.file_chunks(note)
    rig.drive.share(folder, given("group", GROUP))
    await rig.catch_up()
    await rig.drain()
    assert await rig.readers(note) == [f"group:{GROUP}", f"user:{ADMIN}"]
    assert await rig.readers(inner) == [f"group:{GROUP}", f"user:{ADMIN}"]
    [after] = await rig.file_chunks(note)
    assert (after.vector, after.hash) == (before.vector, before.hash)
    assert after.acl_scope != before.acl_scope
    assert rig.handled("embed") == embedded
    assert rig.contents_fetched() == 1


async def test_what_is_below_a_folder_that_somebody_lost_is_closed_before_it_is_read_again(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Deals")
    inner = rig.drive.create_folder("Inner", parent=folder)
    note = rig.drive.create_file("note.txt", "Text.", parent=inner)
    rig.drive.share(folder, given("user", ANN))
    await rig.begin()
    stored = await rig.live(note)
    rig.drive.unshare(folder, ANN)
    await rig.poll()
    assert await rig.work(most=1) == 1, "the folder alone is read"
    await rig.drain()
    for closed in (inner, note):
        assert await rig.readers(closed) == []
    closed_note = await rig.live(note)
    assert closed_note.structured_data == stored.structured_data
    assert closed_note.unstructured_data == stored.unstructured_data
    assert (await rig.bus.depths())[SOURCE_WORK].active == 1, "the reading that opens it"
    await rig.settle()
    for opened in (folder, inner, note):
        assert await rig.readers(opened) == [f"user:{ADMIN}"]
    assert rig.contents_fetched() == 1


async def test_what_was_closed_and_opened_again_is_open_whichever_comes_first(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    note = rig.drive.create_file("note.txt", "Text.", parent=folder)
    for item in (folder, note):
        rig.drive.share(item, given("user", ANN))
    await rig.begin()
    readers = await rig.readers(note)
    rig.drive.unshare(folder, ANN)
    rig.wait(61)
    await rig.tick()
    await rig.work()
    told = await rig.receive(INGESTION_EVENTS)
    assert len(told) == 3, "the note closed, the folder, the note as it is read again"
    for message in reversed(told):
        await rig.call(INGESTION_EVENTS, [message])
        await rig.bus.complete([message])
    assert await rig.readers(note) == readers


async def test_a_share_that_is_taken_back_before_it_is_stored_leaves_nothing_open(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Deals")
    note = rig.drive.create_file("note.txt", "Text.", parent=folder)
    await rig.begin()
    rig.drive.share(folder, given("user", ANN))
    await rig.poll()
    await rig.work()
    rig.drive.unshare(folder, ANN)
    await rig.poll()
    await rig.work()
    # Only now does the chain see any of it.
    await rig.settle()
    assert await rig.readers(note) == [f"user:{ADMIN}"]


async def test_a_file_whose_readers_nobody_may_tell_stays_closed(rig: DriveRig) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN,))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    note = rig.drive.create_file("note.txt", "Text.", owner=BOB)
    rig.drive.share(note, given("user", ANN))
    await rig.begin()
    assert await rig.readers(note) == []
    rig.drive.share(note, given("user", ANN, "writer"))
    await rig.catch_up()
    assert await rig.readers(note) == [f"user:{ANN}", f"user:{BOB}"]


async def test_files_that_stay_closed_are_told_of_in_one_line_whoever_reads_them(
    rig: DriveRig, caplog: pytest.LogCaptureFixture
) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN,))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    files = [rig.drive.create_file(f"{number}.txt", "Text.", owner=BOB) for number in range(50)]
    for file_id in files:
        rig.drive.share(file_id, given("user", ANN))
    with caplog.at_level(logging.WARNING):
        await rig.begin()
        rig.wait(600)
        await rig.catch_up()
        await rig.sweep()
        rig.wait(600)
        await rig.catch_up()
    told = [line for line in caplog.messages if "stay closed" in line]
    # A page of the load; its other page, by the next poll; the sweep's, by the one after it.
    assert [line.partition(";")[0].rpartition(" ")[2] for line in told] == ["25", "25", "50"]
    assert all("nobody may say who reads it" in line for line in told)
    assert any(file_id in told[0] for file_id in files)


async def test_a_sweep_tells_how_many_calls_it_made(rig: DriveRig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.begin()
    rig.drive.manners.lag = timedelta(days=1)
    rig.drive.create_file("note.txt", "Text.", owner=ADMIN)
    with caplog.at_level(logging.INFO):
        await rig.sweep()
    assert "connection drive: sweep sent 1 events in 1 calls" in caplog.messages


async def test_a_file_that_two_users_see_is_read_as_its_owner_sees_it_whoever_tells_of_it(rig: DriveRig) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN, BOB))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    folder = rig.drive.create_folder("Bobs", owner=BOB)
    note = rig.drive.create_file("note.txt", "Text.", parent=folder)
    rig.drive.share(note, given("user", ANN))
    await rig.begin()
    shard = await rig.live(note)
    assert shard.structured_data["path"] == "/Bobs/note.txt"
    revision = shard.revision
    rig.drive.rename(note, "memo.txt")
    rig.forget_calls()
    await rig.catch_up()
    await rig.catch_up()
    shard = await rig.live(note)
    assert (shard.revision, shard.structured_data["path"]) == (revision + 1, "/Bobs/memo.txt")
    reads = [call for call in rig.calls(f"/files/{note}") if call.path.endswith(note)]
    assert len(reads) <= 2, "asked for once, though two logs tell of it"


async def test_members_of_a_shared_drive_read_what_is_in_it_as_long_as_they_are(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    rig.drive.add_member(drive_id, given("user", ANN))
    note = rig.drive.create_file("note.txt", "Text.", parent=drive_id)
    await rig.begin()
    assert await rig.readers(note) == [f"user:{ADMIN}", f"user:{ANN}"]
    rig.drive.remove_member(drive_id, ANN)
    await rig.catch_up()
    assert await rig.readers(note) == [f"user:{ADMIN}"]
    rig.drive.add_member(drive_id, given("user", BOB))
    await rig.catch_up()
    assert await rig.readers(note) == [f"user:{ADMIN}", f"user:{BOB}"]


@pytest.mark.parametrize("count", [45])
async def test_a_folder_of_many_files_is_followed_in_small_requests(rig: DriveRig, count: int) -> None:
    folder = rig.drive.create_folder("Many")
    notes = [
        rig.drive.create_file(f"{number}.bin", b"\x00", parent=folder, mime_type="image/png") for number in range(count)
    ]
    rig.drive.share(folder, given("user", ANN))
    await rig.begin()
    rig.drive.unshare(folder, ANN)
    await rig.poll()
    await rig.work(most=1)
    assert (await rig.bus.depths())[SOURCE_WORK].active == 3
    await rig.drain()
    assert all([await rig.readers(note) == [] for note in notes])
    await rig.settle()
    assert all([await rig.readers(note) == [f"user:{ADMIN}"] for note in notes])
