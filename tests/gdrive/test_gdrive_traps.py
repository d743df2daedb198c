"""The traps of Drive's API, one test each."""

import asyncio
import threading
import time
from collections import Counter
from typing import Any
from unicodedata import normalize

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DOCUMENT, SHEET, DriveRig, given, names

from connections.gdrive_connection import GoogleAuth
from ingestion.errors import BudgetExhaustedError, TransientError
from ingestion.gdrive import fields
from ingestion.gdrive.client import DriveClients
from ingestion.gdrive.errors import FileRefusedError, PolicyError, of_response
from ingestion.gdrive.google_library import GoogleLibrary
from ingestion.gdrive.read_requests import ReadNotes, read_requests
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text, utc_now

EVERYBODY = (ADMIN, ANN)


def with_users(rig: DriveRig, *users: str) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=users)
    rig.made = msgspec.structs.replace(rig.made, auth=auth)


async def test_01_every_mask_of_pages_names_the_tokens(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    await rig.begin()
    rig.drive.create_file("note.txt", "x", parent=drive_id)
    await rig.catch_up()
    assert {"nextPageToken", "newStartPageToken"} <= set(fields.CHANGES.split(","))
    for call in rig.calls("/changes"):
        if not call.path.endswith("startPageToken"):
            assert "nextPageToken,newStartPageToken" in call.params["fields"]
    listings = [call for call in rig.calls() if call.path.endswith(("/files", "/drives", "/permissions"))]
    assert {call.path.rpartition("/")[2] for call in listings} == {"files", "drives", "permissions"}
    assert all(call.params["fields"].startswith("nextPageToken") for call in listings)


async def test_02_a_token_is_saved_only_after_what_it_stands_behind_is_queued(
    rig: DriveRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.")
    before = (await rig.states())[f"changes of {ADMIN}"]["metadata"]["token"]
    save = rig.services.states.save

    async def cut_off(tenant_id: str, key: str, *rest: Any) -> Any:
        if "/log/" in key:
            raise asyncio.CancelledError
        return await save(tenant_id, key, *rest)

    monkeypatch.setattr(rig.services.states, "save", cut_off)
    rig.wait(61)
    await rig.tick()
    with pytest.raises(asyncio.CancelledError):
        await rig.work()
    monkeypatch.undo()
    monkeypatch.setattr("ingestion.blueprint.services", lambda: rig.services)
    monkeypatch.setattr("processors.blueprint.services", lambda: rig.services)
    assert (await rig.states())[f"changes of {ADMIN}"]["metadata"]["token"] == before
    assert (await rig.bus.depths())[SOURCE_WORK].active == 1, "the request to read the file, durably"
    rig.wait(600)
    await rig.settle()
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt"
    assert (await rig.states())[f"changes of {ADMIN}"]["metadata"]["token"] != before


async def test_03_what_is_removed_for_one_user_is_deleted_only_when_nobody_sees_it(rig: DriveRig) -> None:
    with_users(rig, ANN, ADMIN)
    note = rig.drive.create_file("note.txt", "Text.", owner=ADMIN)
    rig.drive.share(note, given("user", ANN))
    await rig.begin()
    rig.drive.unshare(note, ANN)
    await rig.source.take(await rig.connection(), _read(rig, note, subject=ANN))
    await rig.settle()
    assert await rig.readers(note) == [f"user:{ADMIN}"], "what Ann's log alone tells as removed"
    await rig.catch_up()
    assert await rig.readers(note) == [f"user:{ADMIN}"]
    rig.drive.trash(note)
    await rig.catch_up()
    assert await rig.is_gone(note), "trashed is not removed, and gone all the same"


async def test_04_each_shared_drive_has_a_log_of_its_own(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    other = rig.drive.create_drive("Plans")
    await rig.begin()
    tokens = {name: state["metadata"]["token"] for name, state in (await rig.states()).items() if "changes of" in name}
    assert tokens.keys() == {f"changes of {name}" for name in (ADMIN, drive_id, other)}
    note = rig.drive.create_file("note.txt", "Text.", parent=drive_id)
    rig.forget_calls()
    await rig.catch_up()
    assert await rig.path(note) == "/Deals/note.txt"
    asked = {call.params.get("driveId"): call.params["pageToken"] for call in rig.calls("/changes")}
    assert asked.keys() == {None, drive_id, other}
    assert asked[drive_id] == tokens[f"changes of {drive_id}"], "a log is read with its own token alone"


async def test_05_every_call_knows_of_shared_drives(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    await rig.begin()
    rig.drive.create_file("note.txt", "Text.", parent=drive_id)
    await rig.catch_up()
    for call in rig.calls("/drive/v3/"):
        if not call.path.endswith(("/about", "/drives", "/export")):
            assert call.params.get("supportsAllDrives") == "true", call
        if call.path.endswith(("/changes", "/files")):
            assert call.params.get("includeItemsFromAllDrives") == "true", call


async def test_06_size_is_a_text_and_missing_for_folders(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    note = rig.drive.create_file("note.txt", "Text.", parent=folder)
    await rig.begin()
    assert (await rig.live(note)).structured_data["size"] == 5
    assert "size" not in (await rig.live(folder)).structured_data


async def test_07_a_rename_a_move_and_a_share_show_though_modified_time_stays(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    note = rig.drive.create_file("note.txt", "Text.")
    await rig.begin()
    before = (await rig.live(note)).structured_data["lastModified"]
    rig.drive.rename(note, "memo.txt")
    rig.drive.move(note, folder)
    rig.drive.share(note, given("user", ANN))
    await rig.catch_up()
    after = await rig.live(note)
    assert after.structured_data["lastModified"] == before
    assert after.structured_data["path"] == "/Here/memo.txt"
    assert f"user:{ANN}" in after.acl.principals


async def test_08_repeated_entries_and_empty_pages_are_read_through(rig: DriveRig) -> None:
    notes = [rig.drive.create_file(f"{number}.txt", "Text.") for number in range(5)]
    await rig.begin()
    manners = rig.drive.manners
    manners.page_cap, manners.empty_pages, manners.repeated_entries = 2, 3, 1
    for note in notes:
        rig.drive.rename(note, f"new {note}")
        rig.drive.rename(note, f"newest {note}")
    await rig.catch_up()
    assert await rig.paths() == sorted(f"/newest {note}" for note in notes)
    revisions = {(await rig.live(note)).revision for note in notes}
    await rig.catch_up()
    assert {(await rig.live(note)).revision for note in notes} == revisions


async def test_09_not_found_may_mean_not_allowed(rig: DriveRig) -> None:
    with_users(rig, ADMIN, ANN)
    note = rig.drive.create_file("note.txt", "Text.", owner=ANN)
    await rig.begin()
    await rig.source.take(await rig.connection(), _read(rig, note, subject=ADMIN))
    await rig.settle()
    assert await rig.readers(note) == [f"user:{ANN}"]


async def test_10_a_403_is_told_apart_by_its_reason() -> None:
    def body(reason: str) -> bytes:
        return b'{"error":{"code":403,"message":"m","errors":[{"domain":"d","reason":"%s"}]}}' % reason.encode()

    kinds = {
        "userRateLimitExceeded": TransientError,
        "rateLimitExceeded": TransientError,
        "dailyLimitExceeded": BudgetExhaustedError,
        "insufficientFilePermissions": FileRefusedError,
        "exportSizeLimitExceeded": FileRefusedError,
        "domainPolicy": PolicyError,
        "accessNotConfigured": PolicyError,
    }
    for reason, kind in kinds.items():
        assert type(of_response(403, body(reason), {}, utc_now())) is kind, reason
    assert type(of_response(403, b"<html>unusual traffic</html>", {}, utc_now())) is TransientError


async def test_11_a_refused_call_is_repeated_here_since_the_library_does_not(rig: DriveRig) -> None:
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.")
    rig.simulator.api.faults.add("user-rate-limit", times=2)
    rig.forget_calls()
    await rig.catch_up()
    assert [call.status for call in rig.calls("/changes")][:3] == [403, 403, 200]
    assert await rig.path(note) == "/note.txt"


async def test_12_native_files_are_exported_whole_up_to_and_beyond_the_limit(rig: DriveRig) -> None:
    rig.drive.manners.export_limit = 2_000
    long = "Words of a long paper.\n" * 500
    paper = rig.drive.create_file("Paper", long, mime_type=DOCUMENT)
    table = rig.drive.create_file("Table", "a,b\n1,2\n", mime_type=SHEET, content_type="text/csv")
    await rig.begin()
    assert (await rig.live(paper)).structured_data["contentStatus"] == "extracted"
    assert "Words of a long paper." in await rig.text(paper)
    assert (await rig.live(table)).structured_data["contentStatus"] == "extracted"
    kinds = [call.params.get("mimeType") for call in rig.calls("/export") if call.path.startswith("/drive/v3/files/")]
    assert "text/csv" not in kinds, "it would be the first sheet alone"


async def test_13_shortcuts_are_links_and_lead_into_no_loop(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    note = rig.drive.create_file("note.txt", "Text.", parent=folder)
    to_folder = rig.drive.create_shortcut(folder, name="back", parent=folder)
    to_note = rig.drive.create_shortcut(note, name="again", parent=folder)
    await rig.begin()
    rig.drive.rename(folder, "There")
    await rig.catch_up()
    assert await rig.paths() == ["/There", "/There/again", "/There/back", "/There/note.txt"]
    assert (await rig.live(to_note)).structured_data["shortcutTargetExternalId"] == note
    assert (await rig.live(to_folder)).structured_data["shortcutTargetFolderExternalId"] == folder
    assert rig.contents_fetched() == 1


async def test_14_names_may_be_equal_hold_slashes_and_be_written_two_ways(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("R/D")
    one = rig.drive.create_file("plan.txt", "One.", parent=folder)
    two = rig.drive.create_file("plan.txt", "Two.", parent=folder)
    composed = rig.drive.create_file(normalize("NFC", "Café.txt"), "x", parent=folder)
    parted = rig.drive.create_file(normalize("NFD", "Café.txt"), "y", parent=folder)
    await rig.begin()
    assert await rig.path(one) == await rig.path(two) == "/R\u2215D/plan.txt"
    assert await rig.path(composed) == await rig.path(parted) == "/R\u2215D/Café.txt"
    assert "One." in await rig.text(one)
    assert "Two." in await rig.text(two)


async def test_15_an_entry_about_a_drive_names_no_file(rig: DriveRig) -> None:
    await rig.begin()
    drive_id = rig.drive.create_drive("Deals")
    note = rig.drive.create_file("note.txt", "Text.", parent=drive_id)
    await rig.catch_up()
    await rig.catch_up()
    assert await rig.path(note) == "/Deals/note.txt"
    rig.drive.rename_drive(drive_id, "Sales")
    await rig.catch_up()
    assert await rig.path(note) == "/Sales/note.txt"
    rig.drive.remove_member(drive_id, ADMIN)
    await rig.catch_up()
    assert await rig.is_gone(note)
    assert await rig.paths() == []
    assert not await rig.parked()


async def test_16_a_suspended_user_is_told_of_and_holds_up_nobody(rig: DriveRig) -> None:
    with_users(rig, BOB, ANN)
    of_bob = rig.drive.create_file("bob.txt", "Of Bob.", owner=BOB)
    await rig.begin()
    rig.drive.suspend(BOB)
    rig.drive.create_file("ann.txt", "Of Ann.", owner=ANN)
    await rig.catch_up()
    connection = await rig.connection()
    assert connection.status == "active"
    assert await rig.paths() == ["/ann.txt", "/bob.txt"], "nothing is deleted because nobody may be asked"
    told = (await rig.states())["Drive"]["errorMessage"]
    assert BOB in told
    assert "suspended" in told
    await rig.source.take(connection, _read(rig, of_bob, subject=ANN))
    await rig.settle()
    assert await rig.path(of_bob) == "/bob.txt"
    rig.drive.suspend(ANN)
    await rig.catch_up()
    assert (await rig.connection()).status == "failed"


async def test_17_a_file_that_is_shared_again_comes_back_under_its_id(rig: DriveRig) -> None:
    with_users(rig, ANN)
    note = rig.drive.create_file("note.txt", "Text.", owner=ADMIN)
    rig.drive.share(note, given("user", ANN, "writer"))
    await rig.begin()
    rig.drive.unshare(note, ANN)
    await rig.catch_up()
    assert await rig.is_gone(note)
    rig.drive.share(note, given("user", ANN, "writer"))
    await rig.catch_up()
    assert await rig.readers(note) == [f"user:{ADMIN}", f"user:{ANN}"]
    assert "Text." in await rig.text(note)


async def test_18_one_service_is_never_used_by_two_threads(rig: DriveRig, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = Counter[int](), Counter[int]()
    turn, entered, run = threading.Lock(), threading.Event(), GoogleLibrary.run

    def watched(library: GoogleLibrary, *arguments: Any, **named: Any) -> Any:
        with turn:
            inside[id(library)] += 1
            most[id(library)] = max(most[id(library)], inside[id(library)])
        entered.set()
        try:
            time.sleep(0.01)
            return run(library, *arguments, **named)
        finally:
            with turn:
                inside[id(library)] -= 1

    monkeypatch.setattr(GoogleLibrary, "run", watched)
    for number in range(8):
        rig.drive.create_file(f"{number}.txt", "Text.")
    await rig.begin()
    clients = DriveClients(rig.services.source_ports, simulator=rig.simulator.base_url)
    client = clients.of(await rig.connection(), ADMIN)
    other = clients.of(await rig.connection(), ANN)
    assert client is not other
    answers = await asyncio.gather(*(client.about() for _ in range(12)), *(other.about() for _ in range(12)))
    assert [answer["user"]["emailAddress"] for answer in answers] == [ADMIN] * 12 + [ANN] * 12
    assert names(rig.calls("/token")).count("/token") >= 2
    entered.clear()
    given_up = asyncio.create_task(client.about())
    await asyncio.to_thread(entered.wait, 10)
    given_up.cancel()
    assert (await client.about())["user"]["emailAddress"] == ADMIN
    assert set(most.values()) == {1}, "nor by one whose caller has given up"
    clients.close()


def _read(rig: DriveRig, file_id: str, *, subject: str) -> SourceWork:
    [work] = read_requests(
        rig.made, [(file_id, "1")], ReadNotes(subject=subject), due_at=to_text(rig.now), because=to_text(rig.now)
    )
    return work
