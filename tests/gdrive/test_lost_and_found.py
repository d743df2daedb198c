"""Lost tokens, sweeps, scopes, drives that come and go: what keeps the shards as Drive is, whatever was missed."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DriveRig, given, names

from connections.gdrive_connection import GoogleAuth
from ingestion.gdrive import file_reader
from ingestion.gdrive.client import DriveClient
from ingestion.work import handle_source_work
from messaging.bus import BusUnavailableError
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK


def wanted(rig: DriveRig, **changes: Any) -> None:
    rig.made = msgspec.structs.replace(rig.made, **changes)


@pytest.mark.parametrize("fault", [None, "gone-page-token"])
async def test_a_lost_token_leads_to_a_listing_and_loses_nothing(rig: DriveRig, fault: str | None) -> None:
    kept = rig.drive.create_file("kept.txt", "Kept.")
    gone = rig.drive.create_file("gone.txt", "Gone.")
    renamed = rig.drive.create_file("old.txt", "Renamed.")
    await rig.begin()
    rig.forget_calls()
    rig.drive.delete(gone)
    rig.drive.rename(renamed, "new.txt")
    fresh = rig.drive.create_file("fresh.txt", "Fresh.")
    if fault is None:
        rig.drive.lose_change_tokens()
    else:
        rig.simulator.api.faults.add(fault)
    await rig.catch_up()
    assert await rig.paths() == ["/fresh.txt", "/kept.txt", "/new.txt"]
    assert await rig.is_gone(gone)
    assert (await rig.live(kept)).revision == 1
    assert rig.contents_fetched() == 1
    assert "relisting" not in (await rig.states())[f"changes of {ADMIN}"]["metadata"]
    rig.drive.rename(fresh, "later.txt")
    await rig.catch_up()
    assert await rig.path(fresh) == "/later.txt"


async def test_a_listing_goes_on_where_time_ran_out_and_changes_during_it_are_not_lost(
    rig: DriveRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = [rig.drive.create_file(f"{number}.txt", "Text.") for number in range(6)]
    wanted(rig, page_size=2)
    await rig.begin()
    rig.drive.delete(notes[0])
    rig.drive.lose_change_tokens()
    list_page = DriveClient.files

    async def slow(self: DriveClient, *args: Any, **options: Any) -> Any:
        rig.wait(20)
        return await list_page(self, *args, **options)

    monkeypatch.setattr(DriveClient, "files", slow)
    rig.wait(61)
    await rig.tick()
    await rig.work(most=1)
    state = (await rig.states())[f"changes of {ADMIN}"]["metadata"]
    assert state["relisting"]["listed"] in (2, 4), "old token and listing stand beside each other"
    assert state["token"] != state["relisting"]["startToken"]
    rig.drive.rename(notes[5], "during.txt")
    rig.simulator.api.listing.lose_tokens()
    await rig.settle()
    await rig.catch_up()
    assert await rig.path(notes[5]) == "/during.txt"
    assert await rig.is_gone(notes[0])


async def test_a_sweep_finds_what_no_log_told(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    kept = rig.drive.create_file("kept.txt", "Kept.", parent=folder)
    gone = rig.drive.create_file("gone.txt", "Gone.")
    await rig.begin()
    del rig.drive.items[gone]
    rig.drive.items[kept].version += 1
    rig.drive.items[kept].name = "found.txt"
    await rig.catch_up()
    assert await rig.paths() == ["/Here", "/Here/kept.txt", "/gone.txt"]
    await rig.sweep()
    assert await rig.paths() == ["/Here", "/Here/found.txt"]


async def test_a_sweep_finds_that_a_file_of_a_drive_of_others_is_gone(rig: DriveRig) -> None:
    deals = rig.drive.create_drive("Deals", [given("user", ADMIN, "organizer")])
    note = rig.drive.create_file("note.txt", "Text.", parent=deals)
    rig.drive.share(note, given("user", ANN))
    wanted(rig, auth=GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN,)))
    await rig.begin()
    await rig.live(note)
    del rig.drive.items[note]
    await rig.sweep()
    assert await rig.is_gone(note)


async def test_a_sweep_finds_another_role_that_a_folder_hands_down(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    note = rig.drive.create_file("note.txt", "Text.", parent=folder)
    rig.drive.share(folder, given("user", ANN))
    await rig.begin()
    rig.drive.share(folder, given("user", ANN, "writer"))
    await rig.catch_up()
    await rig.sweep()
    roles = {one["emailAddress"]: one["role"] for one in (await rig.live(note)).structured_data["permissions"]}
    assert roles == {ADMIN: "owner", ANN: "writer"}


async def test_the_top_of_a_shared_drive_is_read_that_is_wanted_later(rig: DriveRig) -> None:
    deals, folder = rig.drive.create_drive("Deals"), rig.drive.create_folder("Here")
    wanted(rig, folders=(folder,))
    await rig.begin()
    assert await rig.paths() == ["/Here"]
    await rig.services.connections.save(msgspec.structs.replace(await rig.connection(), folders=(folder, deals)))
    for _ in range(3):
        await rig.catch_up()
    assert await rig.paths() == ["/Deals", "/Here"]


async def test_a_new_file_that_the_first_user_lost_again_is_read_as_the_next_whose_log_told_the_same(
    rig: DriveRig,
) -> None:
    folder = rig.drive.create_folder("Here", owner=BOB)
    wanted(rig, auth=GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN, BOB)))
    await rig.begin()
    linked = rig.drive.share(folder, given("domain", "acme.example", allowFileDiscovery=False))
    note = rig.drive.create_file("note.txt", "Text.", parent=folder, owner=ADMIN)
    await rig.poll()
    rig.drive.unshare(folder, linked)
    await rig.settle()
    await rig.catch_up()
    assert await rig.path(note) == "/Here/note.txt"


async def test_whoever_may_tell_the_readers_of_a_file_in_a_shared_drive_is_asked(rig: DriveRig) -> None:
    deals = rig.drive.create_drive("Deals", [given("user", BOB)])
    note = rig.drive.create_file("note.txt", "Text.", parent=deals)
    rig.drive.share(note, given("user", ANN, "writer"))
    wanted(rig, auth=GoogleAuth(service_account=rig.made.auth.service_account, subjects=(BOB, ANN)))
    await rig.begin()
    assert await rig.readers(note) == [f"user:{ANN}", f"user:{BOB}"]


async def test_a_file_of_a_shared_drive_stands_where_its_members_see_it(rig: DriveRig) -> None:
    deals = rig.drive.create_drive("Deals")
    wanted(rig, auth=GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN, ADMIN)))
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.", parent=deals)
    await rig.catch_up()
    rig.drive.share(note, given("user", ANN))
    await rig.catch_up()
    assert await rig.path(note) == "/Deals/note.txt"


async def test_only_the_folders_wanted_are_read_and_moves_across_their_border_follow(rig: DriveRig) -> None:
    inside = rig.drive.create_folder("Inside")
    secret = rig.drive.create_folder("Secret", parent=inside)
    outside = rig.drive.create_folder("Outside")
    moved = rig.drive.create_folder("Moved", parent=outside)
    note = rig.drive.create_file("note.txt", "Text.", parent=moved)
    kept = rig.drive.create_file("kept.txt", "Kept.", parent=inside)
    rig.drive.create_file("hidden.txt", "Hidden.", parent=secret)
    wanted(rig, folders=(inside,), left_out=(secret,))
    await rig.begin()
    assert await rig.paths() == ["/Inside", "/Inside/kept.txt"]
    rig.drive.move(moved, inside)
    await rig.catch_up()
    assert await rig.path(note) == "/Inside/Moved/note.txt"
    rig.drive.move(kept, secret)
    rig.drive.move(moved, outside)
    await rig.catch_up()
    assert await rig.paths() == ["/Inside"]
    assert await rig.is_gone(note)
    assert await rig.is_gone(kept)


async def test_a_file_that_moves_into_a_shared_drive_stays_the_same_file(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    note = rig.drive.create_file("note.txt", "Text.")
    await rig.begin()
    rig.drive.move(note, drive_id)
    await rig.catch_up()
    assert await rig.path(note) == "/Deals/note.txt"
    assert rig.contents_fetched() == 1
    rig.drive.delete_drive(drive_id)
    await rig.catch_up()
    assert await rig.paths() == []


async def test_a_user_who_is_added_later_has_their_drive_listed(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Text.", owner=ANN)
    await rig.begin()
    assert await rig.paths() == []
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ADMIN, ANN))
    await rig.services.connections.save(msgspec.structs.replace(await rig.connection(), auth=auth))
    await rig.catch_up()
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt"


async def test_nothing_is_listed_before_the_token_of_each_log_is_taken(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals", [given("user", ADMIN, "organizer")])
    deal = rig.drive.create_file("deal.txt", "Deal.", parent=drive_id)
    await rig.services.connections.save(rig.made)
    await rig.ask("history")
    await rig.settle()
    await rig.catch_up()
    await rig.settle()
    assert await rig.path(deal) == "/Deals/deal.txt"
    paths = names(rig.calls())
    first_list = next(place for place, path in enumerate(paths) if path.endswith("/files"))
    assert sum(path.endswith("/startPageToken") for path in paths[:first_list]) == 2


async def test_a_file_that_goes_before_it_is_stored_does_not_stay(rig: DriveRig) -> None:
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.")
    await rig.poll()
    await rig.work()
    rig.drive.delete(note)
    await rig.poll()
    await rig.work()
    await rig.settle()
    assert not await rig.is_gone(note), "what was read of it was on its way"
    rig.wait(400)
    await rig.settle()
    assert await rig.is_gone(note)


async def test_a_broken_bus_moves_no_token(rig: DriveRig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.")
    send = rig.services.bus.send

    async def broken(queue: str, messages: Any, *, delay: timedelta | None = None) -> None:
        if queue == SOURCE_WORK and messages:
            raise BusUnavailableError("away")
        await send(queue, messages, delay=delay)

    rig.wait(61)
    await rig.tick()
    with monkeypatch.context() as broke:
        broke.setattr(rig.services.bus, "send", broken)
        [received] = await rig.receive(SOURCE_WORK, max_messages=1)
        work = SourceWork.from_bytes(received.body)
        with pytest.raises(BusUnavailableError):
            await handle_source_work(work, rig.services.ingestion)
        await rig.bus.abandon([received])
    await rig.settle()
    assert await rig.path(note) == "/note.txt"


async def test_one_file_that_fails_is_tried_by_itself_and_holds_up_no_other(
    rig: DriveRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.begin()
    notes = [rig.drive.create_file(f"{number}.txt", "Text.") for number in range(4)]
    rig.simulator.api.faults.add("backend-error", path=notes[1], times=4)
    await rig.poll()
    await rig.work()
    await rig.drain()
    assert [await rig.file(note) is not None for note in notes] == [True, False, True, True]
    await rig.settle()
    assert await rig.path(notes[1]) == "/1.txt"


async def test_permissions_are_asked_of_few(rig: DriveRig) -> None:
    assert file_reader.ASKED_FOR_PERMISSIONS <= 10
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN, BOB))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    note = rig.drive.create_file("note.txt", "Text.", owner=ADMIN)
    rig.drive.share(note, given("user", ANN))
    rig.drive.share(note, given("user", BOB, "writer"))
    await rig.begin()
    assert await rig.readers(note) == [f"user:{ADMIN}", f"user:{ANN}", f"user:{BOB}"]


async def test_what_comes_into_a_new_drive_while_it_is_first_read_is_not_lost(rig: DriveRig) -> None:
    await rig.begin()
    drive_id = rig.drive.create_drive("Deals")
    early = rig.drive.create_file("early.txt", "Text.", parent=drive_id)
    await rig.catch_up()
    late = rig.drive.create_file("late.txt", "Text.", parent=drive_id)
    await rig.catch_up()
    assert [await rig.path(early), await rig.path(late)] == ["/Deals/early.txt", "/Deals/late.txt"]


async def test_a_drive_whose_tokens_were_taken_once_loses_nothing_when_it_comes_again(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    note = rig.drive.create_file("note.txt", "Text.", parent=drive_id)
    await rig.begin()
    rig.drive.remove_member(drive_id, ADMIN)
    await rig.catch_up()
    assert await rig.is_gone(note)
    rig.drive.add_member(drive_id, given("user", ADMIN, "organizer"))
    await rig.catch_up()
    await rig.catch_up()
    assert await rig.path(note) == "/Deals/note.txt"


async def test_a_token_of_a_shared_drive_that_is_not_found_is_taken_anew(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.", parent=drive_id)
    rig.simulator.api.faults.add("unknown-page-token", skip=1)
    await rig.catch_up()
    assert await rig.path(note) == "/Deals/note.txt"
    rig.forget_calls()
    await rig.catch_up()
    assert not rig.calls("/files"), "it is listed once"
    assert (await rig.states())[f"changes of {drive_id}"]["lastSyncStatus"] == "success"


async def test_what_is_in_a_folder_of_a_shared_drive_is_listed_in_that_drive(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    folder = rig.drive.create_folder("Folder", parent=drive_id)
    await rig.begin()
    rig.forget_calls()
    rig.drive.rename(folder, "Other")
    await rig.catch_up()
    listings = [call.params for call in rig.calls("/files") if "in parents" in call.params.get("q", "")]
    assert [(params["corpora"], params["driveId"]) for params in listings] == [("drive", drive_id)]
