"""What one file, one user or one bad moment must not hold up, hide or leave open."""

import logging
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DOCUMENT, SHEET, DriveRig, given

from connections.egress import _SimulatorAdapter
from connections.gdrive_connection import GoogleAuth
from ingestion.gdrive.client import DriveClients
from ingestion.gdrive.errors import FileRefusedError
from ingestion.gdrive.folder_memory import LARGEST_PART, _fitting
from ingestion.gdrive.memory import KnownFolder
from ingestion.gdrive.poll import Polling
from ingestion.gdrive.source import DriveSource
from local.simulator_faults import Fault
from messaging.contracts import SourceWork
from messaging.queues import INGESTION_EVENTS
from messaging.times import to_text


def with_users(rig: DriveRig, *users: str) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=users)
    rig.made = msgspec.structs.replace(rig.made, auth=auth)


async def content_status(rig: DriveRig, file_id: str) -> tuple[Any, Any]:
    data = (await rig.live(file_id)).structured_data
    return data.get("contentStatus"), data.get("contentVersion")


async def test_a_file_back_from_the_bin_before_its_deletion_is_stored_has_its_text(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Words.")
    await rig.begin()
    rig.drive.trash(note)
    await rig.poll()
    await rig.work()
    rig.drive.untrash(note)
    await rig.poll()
    await rig.work()
    await rig.drain(INGESTION_EVENTS, max_messages=1)
    assert "Words." not in await rig.text(note), "its text went with the deletion"
    rig.wait(400)
    await rig.settle()
    assert "Words." in await rig.text(note)


async def test_who_lost_a_file_whose_owner_can_not_be_asked_finds_it_no_more(rig: DriveRig) -> None:
    with_users(rig, ANN, BOB)
    note = rig.drive.create_file("note.txt", "Words.", owner=BOB)
    rig.drive.share(note, given("user", ANN))
    await rig.begin()
    assert await rig.readers(note) == [f"user:{ANN}", f"user:{BOB}"]
    rig.drive.unshare(note, ANN)
    rig.drive.suspend(BOB)
    await rig.catch_up()
    assert await rig.readers(note) == []
    rig.drive.restore(BOB)
    await rig.catch_up()
    await rig.catch_up()
    assert await rig.readers(note) == [f"user:{BOB}"]


async def test_what_a_suspended_user_made_before_it_was_read_comes_when_they_are_back(rig: DriveRig) -> None:
    with_users(rig, ANN, BOB)
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Words.", owner=BOB)
    await rig.poll()
    rig.drive.suspend(BOB)
    await rig.settle(timedelta(minutes=20))
    assert (await rig.connection()).status == "active"
    await rig.catch_up()
    rig.drive.restore(BOB)
    await rig.catch_up()
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt"


async def test_what_was_moved_while_its_owner_was_suspended_stands_in_its_folder_when_they_are_back(
    rig: DriveRig,
) -> None:
    with_users(rig, ANN, BOB)
    folder = rig.drive.create_folder("Bobs", owner=BOB)
    note = rig.drive.create_file("note.txt", "Words.", owner=BOB)
    rig.drive.share(note, given("user", ANN, "writer"))
    await rig.begin()
    rig.drive.suspend(BOB)
    rig.drive.move(note, folder)
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt", "who may edit it does not see the folder"
    rig.drive.restore(BOB)
    await rig.catch_up()
    assert await rig.path(note) == "/Bobs/note.txt"
    rig.forget_calls()
    await rig.sweep()
    assert not [call for call in rig.calls(note) if call.path.endswith(note)], "what is stored as it is stays"


async def test_a_user_who_is_suspended_is_told_of_once_each_time(
    rig: DriveRig, caplog: pytest.LogCaptureFixture
) -> None:
    with_users(rig, ANN, BOB)
    await rig.begin()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            rig.drive.suspend(BOB)
            for _ in range(3):
                await rig.catch_up()
            rig.drive.restore(BOB)
            await rig.catch_up()
    assert len([line for line in caplog.messages if BOB in line]) == 2


async def test_a_shared_drive_is_read_on_though_its_first_member_is_suspended(rig: DriveRig) -> None:
    with_users(rig, ANN, BOB)
    drive_id = rig.drive.create_drive("Deals", [given("user", who, "organizer") for who in (ANN, BOB)])
    early = rig.drive.create_file("early.txt", "Words.", parent=drive_id)
    await rig.services.connections.save(rig.made)
    await rig.catch_up()
    rig.drive.suspend(ANN)
    await rig.ask("history")
    await rig.settle()
    assert await rig.path(early) == "/Deals/early.txt"
    late = rig.drive.create_file("late.txt", "Words.", parent=drive_id)
    await rig.catch_up()
    assert await rig.path(late) == "/Deals/late.txt"


async def test_a_content_that_drive_never_gives_holds_up_neither_the_load_nor_who_may_read(rig: DriveRig) -> None:
    notes = [rig.drive.create_file(f"{number}.txt", "Words.") for number in range(3)]
    rig.simulator.api.faults.add("backend-error", path=notes[1], times=None)
    await rig.begin()
    assert [await content_status(rig, note) != ("failed", None) for note in notes] == [True, False, True]
    rig.simulator.api.faults.clear()
    await rig.sweep()
    assert (await content_status(rig, notes[1]))[0] == "extracted"


async def test_a_content_that_is_not_given_now_is_asked_for_again_and_closes_the_file_in_time(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Words.")
    rig.drive.share(note, given("user", ANN))
    await rig.begin()
    rig.wait(5)
    rig.drive.upload(note, "New words.")
    rig.drive.unshare(note, ANN)
    rig.simulator.api.faults.add("download-quota", path=note, skip=1)
    await rig.poll()
    await rig.work()
    await rig.drain()
    assert await rig.readers(note) == [f"user:{ADMIN}"]
    assert "Words." in await rig.text(note)
    rig.wait(3700)
    await rig.settle()
    assert "New words." in await rig.text(note)


async def test_a_content_that_drive_refuses_for_more_than_a_day_is_asked_for_again_after_it(rig: DriveRig) -> None:
    note = rig.drive.create_file("note", "Words.", mime_type=DOCUMENT, content_type="text/markdown")
    await rig.begin()
    rig.wait(5)
    rig.drive.upload(note, "New words.")
    rig.simulator.api.faults.add("download-quota", path=f"{note}/export", times=None)
    await rig.poll()
    for _ in range(26):
        await rig.work()
        rig.wait(3600)
    await rig.drain()
    assert "New words." not in await rig.text(note)
    rig.simulator.api.faults.clear()
    rig.wait(6 * 3600)
    await rig.work()
    await rig.drain()
    assert "New words." in await rig.text(note)


async def test_a_file_named_as_what_it_is_is_read_though_its_bytes_stay(rig: DriveRig) -> None:
    note = rig.drive.create_file("note", b"Words.", mime_type="application/octet-stream")
    await rig.begin()
    assert (await content_status(rig, note))[0] == "none"
    rig.drive.rename(note, "note.txt")
    await rig.catch_up()
    assert "Words." in await rig.text(note)


async def test_a_first_load_stops_when_nobody_can_be_asked_and_does_not_pass_for_finished(rig: DriveRig) -> None:
    with_users(rig, ANN, BOB)
    note = rig.drive.create_file("note.txt", "Words.", owner=BOB)
    await rig.services.connections.save(rig.made)
    await rig.catch_up()
    rig.simulator.api.login.revoke_delegation()
    rig.simulator.api.login.expire_tokens()
    await rig.ask("history")
    await rig.work()
    assert (await rig.connection()).status == "failed"
    assert (await rig.states())["first load"]["metadata"].get("finishedAt") is None
    assert await rig.file(note) is None


async def test_a_page_that_takes_long_is_parted(rig: DriveRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        rig.drive.create_file(f"{number}.txt", "Words.")
    await rig.services.connections.save(rig.made)
    await rig.catch_up()
    source, connection = rig.source, await rig.connection()
    monkeypatch.setattr("ingestion.gdrive.history.PAGE_FOR", timedelta(0))
    found, position, pages = [], None, 0
    while pages == 0 or position is not None:
        page = await source.history(connection, position)
        found += [event.source_id for event in page.events]
        position, pages = page.next_position, pages + 1
        assert pages < 20
    assert isinstance(source, DriveSource)
    assert len(found) == len(set(found)) == 4


def test_what_is_remembered_of_folders_fits_into_an_item() -> None:
    wide = tuple(f"user:{number}@acme.example" for number in range(600))
    folders = {f"f{number}": KnownFolder(read_at=f"{number:06}", path="/x", principals=wide) for number in range(200)}
    kept = _fitting(folders)
    assert "f199" in kept
    assert "f0" not in kept
    assert len(str(kept)) < 3 * LARGEST_PART


async def test_an_export_link_is_followed_to_where_downloads_are_without_the_login(rig: DriveRig) -> None:
    rig.drive.manners.export_limit = 100
    table = rig.drive.create_file(
        "Prices", "item,price\n" + "pump,12\n" * 200, mime_type=SHEET, content_type="text/csv"
    )
    away = "https://doc-0k-1s-sheets.googleusercontent.com/export/elsewhere"
    rig.simulator.api.faults.add(Fault(status=307, headers={"Location": away}, path="/spreadsheets/export"))
    rig.simulator.api.faults.add(Fault(status=200, body="pump,13", content_type="text/csv", path="/export/elsewhere"))
    seen: list[tuple[str, bool]] = []
    send = _SimulatorAdapter.send

    def noted(adapter: Any, request: Any, *args: Any, **options: Any) -> Any:
        seen.append((str(urlsplit(request.url).hostname), "Authorization" in request.headers))
        return send(adapter, request, *args, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_SimulatorAdapter, "send", noted)
        await rig.begin()
    assert seen.count(("docs.google.com", True)) == 1
    assert ("doc-0k-1s-sheets.googleusercontent.com", False) in seen
    assert (await rig.live(table)).structured_data["name"] == "Prices"


async def test_the_login_goes_to_no_link_elsewhere(rig: DriveRig) -> None:
    await rig.begin()
    clients = DriveClients(rig.services.source_ports, simulator=rig.simulator.base_url)
    client = clients.of(await rig.connection(), ADMIN)
    for link in ("https://x.bc.googleusercontent.com/x", "https://evil.example/x", "http://docs.google.com/x"):
        with pytest.raises(FileRefusedError):
            await client.linked(link, limit=10)
    clients.close()


async def test_a_file_in_a_folder_wanted_stays_though_another_user_does_not_see_the_folder(rig: DriveRig) -> None:
    with_users(rig, BOB, ANN)
    deals = rig.drive.create_folder("Deals", owner=ADMIN)
    note = rig.drive.create_file("note.txt", "Words.", parent=deals, owner=ADMIN)
    rig.drive.share(deals, given("user", ANN, "writer"))
    rig.drive.share(note, given("user", BOB, "writer"))
    rig.made = msgspec.structs.replace(rig.made, folders=(deals,))
    await rig.begin()
    assert (await rig.path(note)).endswith("note.txt")
    rig.drive.rename(note, "words.txt")
    await rig.catch_up()
    assert (await rig.path(note)).endswith("words.txt")


@pytest.mark.parametrize("read_by", ["a poll", "the first load"])
async def test_a_permission_that_expires_is_followed_though_no_log_tells_of_it(rig: DriveRig, read_by: str) -> None:
    if read_by == "a poll":
        await rig.begin()
    note = rig.drive.create_file("note.txt", "Words.")
    rig.drive.share(note, given("user", ANN, expirationTime=to_text(rig.now + timedelta(days=1))))
    await (rig.catch_up() if read_by == "a poll" else rig.begin())
    assert await rig.readers(note) == [f"user:{ADMIN}", f"user:{ANN}"]
    rig.wait(86_500)
    await rig.work()
    await rig.settle()
    assert await rig.readers(note) == [f"user:{ADMIN}"]


async def test_users_who_change_nothing_do_not_take_all_the_time_of_each_try(
    rig: DriveRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_users(rig, ADMIN, ANN, BOB)
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Words.", owner=BOB)
    rig.wait(60)
    read = Polling._read

    async def slowly(polling: Polling, *details: Any) -> bool:
        rig.wait(20)
        return await read(polling, *details)

    with monkeypatch.context() as patch:
        patch.setattr(Polling, "_read", slowly)
        due_at = to_text(rig.clock())
        poll = SourceWork(
            tenant_id=rig.made.tenant_id, connection_id=rig.made.connection_id, work="poll", due_at=due_at
        )
        tries = 0
        finished = False
        while not finished:
            report = await rig.source.run(await rig.connection(), poll, rig.clock() + timedelta(seconds=30))
            finished, tries = report.finished, tries + 1
            assert tries < 5
    assert tries > 1
    await rig.settle()
    assert "Words." in await rig.text(note)
