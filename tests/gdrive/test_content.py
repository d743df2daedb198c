"""The text of files: how each kind is fetched, what stops it, and that what fails says so."""

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DOCUMENT, SHEET, SLIDES, DriveRig, given

from connections.gdrive_connection import GoogleAuth
from ingestion.content.extractor import ContentExtractor
from ingestion.gdrive.content import RECENT_SECONDS, RecentContents
from ingestion.gdrive.events import Content
from operations.text_sweep import SAFE_AGE

FORM = "application/vnd.google-apps.form"


async def status(rig: DriveRig, file_id: str) -> tuple[str, str | None]:
    data = (await rig.live(file_id)).structured_data
    return data["contentStatus"], data.get("contentProblem")


async def test_each_kind_is_read_as_what_it_is(rig: DriveRig) -> None:
    vars(rig.services)["extractor"] = ContentExtractor()
    table = rig.drive.create_file("Prices", "item,price\npump,12\n", mime_type=SHEET, content_type="text/csv")
    slides = rig.drive.create_file("Deck", "A slide about pumps.", mime_type=SLIDES)
    form = rig.drive.create_file("Form", "Ask.", mime_type=FORM)
    picture = rig.drive.create_file("photo.png", b"\x89PNG\r\n")
    page = rig.drive.create_file("page.html", "<p>Words of a page.</p>")
    odd = rig.drive.create_file("odd.dat", b"\x00\x01", mime_type="application/octet-stream")
    damaged = rig.drive.create_file("damaged.pdf", b"%PDF-1.4 and nothing more")
    values = rig.drive.create_file("values.yaml", "pump: installed", mime_type="application/x-yaml")
    await rig.begin()
    assert await status(rig, table) == ("extracted", None)
    assert "pump: installed" in await rig.text(values)
    assert "pump" in await rig.text(table)
    assert "A slide about pumps." in await rig.text(slides)
    assert "Words of a page." in await rig.text(page)
    for nothing in (form, picture, odd):
        assert (await status(rig, nothing))[0] == "none"
    found, problem = await status(rig, damaged)
    assert found == "failed"
    assert problem is not None and problem.startswith("damaged")
    assert not [call for call in rig.calls(picture) if call.params.get("alt") == "media"]


async def test_a_file_beyond_the_limit_is_kept_without_its_text_and_not_downloaded(rig: DriveRig) -> None:
    rig.made = msgspec.structs.replace(rig.made, content_bytes=100)
    big = rig.drive.create_file("big.txt", "x" * 101)
    paper = rig.drive.create_file("Paper", "y" * 101, mime_type=DOCUMENT)
    small = rig.drive.create_file("small.txt", "z" * 100)
    await rig.begin()
    assert (await status(rig, big))[0] == "none"
    found, problem = await status(rig, paper)
    assert found == "none"
    assert problem is not None and problem.startswith("too-large")
    assert (await status(rig, small))[0] == "extracted"
    assert not [call for call in rig.calls(big) if call.params.get("alt") == "media"]


async def test_an_answer_larger_than_its_length_says_is_cut_off_while_it_is_read(rig: DriveRig) -> None:
    from ingestion.gdrive.client import DriveClients
    from ingestion.gdrive.errors import ContentTooLargeError

    big = rig.drive.create_file("big.txt", "x" * 5000)
    await rig.begin()
    clients = DriveClients(rig.services.source_ports, simulator=rig.simulator.base_url)
    client = clients.of(await rig.connection(), ADMIN)
    with pytest.raises(ContentTooLargeError):
        await client.media(big, limit=4999)
    assert len(await client.media(big, limit=5000)) == 5000
    clients.close()


async def test_what_drive_does_not_give_says_so_and_is_tried_again_when_the_file_changes(rig: DriveRig) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN, ADMIN))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    virus = rig.drive.create_file("virus.txt", "Text.", owner=ANN)
    rig.drive.flag(virus, abusive=True)
    await rig.begin()
    found, problem = await status(rig, virus)
    assert found == "failed"
    assert problem is not None and "cannotDownloadAbusiveFile" in problem
    rig.drive.flag(virus, abusive=False)
    await rig.catch_up()
    assert await status(rig, virus) == ("extracted", None)


async def test_a_spreadsheet_beyond_the_export_limit_comes_by_its_link(rig: DriveRig) -> None:
    rig.drive.manners.export_limit = 100
    table = rig.drive.create_file(
        "Prices", "item,price\n" + "pump,12\n" * 200, mime_type=SHEET, content_type="text/csv"
    )
    await rig.begin()
    assert await status(rig, table) == ("extracted", None)
    assert "pump" in await rig.text(table)
    assert [call.path for call in rig.calls("/export") if call.path.startswith("/spreadsheets")]


async def test_a_changed_text_takes_the_place_of_the_old_one(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Old words.")
    await rig.begin()
    old = (await rig.live(note)).unstructured_data
    rig.wait(5)
    rig.drive.upload(note, "New words.")
    await rig.catch_up()
    assert (await rig.live(note)).unstructured_data != old
    text = await rig.text(note)
    assert "New words." in text
    assert "Old words." not in text
    rig.drive.share(note, given("user", ANN))
    await rig.catch_up()
    assert "New words." in await rig.text(note)


async def test_a_first_load_reads_each_file_once_whoever_sees_it(rig: DriveRig) -> None:
    """The load is asked for together with the first poll, as connecting does, and waits for its tokens."""
    auth = msgspec.structs.replace(rig.made.auth, subjects=(ANN, BOB))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    files = [rig.drive.create_file(f"{number}.txt", "Some words.", owner=ANN) for number in range(6)]
    for file_id in files:
        rig.drive.share(file_id, given("user", BOB))
    await rig.services.connections.save(rig.made)
    await rig.ask("history")
    await rig.work(most=1)
    await rig.catch_up()
    await rig.catch_up()
    assert [(await rig.live(file_id)).revision for file_id in files] == [1] * 6
    assert rig.contents_fetched() == 6
    assert not [call for call in rig.calls(files[0]) if call.path.endswith(files[0]) and "alt" not in call.params]


def test_what_a_process_read_long_ago_is_named_no_more_without_being_put_anew(rig: DriveRig) -> None:
    """The sweep of texts takes what is old and named by nothing: an event that is still to come must not name it."""
    now = 100.0
    recent = RecentContents(monotonic=lambda: now)
    read = Content("extracted", "md5Checksum:1", "payloads/acme/1")
    recent.keep(rig.made, {"id": "F1"}, read)
    now += RECENT_SECONDS - 1
    assert recent.of(rig.made, {"id": "F1"}) == read
    now += 1
    assert recent.of(rig.made, {"id": "F1"}) is None
    assert SAFE_AGE.total_seconds() > 2 * RECENT_SECONDS
