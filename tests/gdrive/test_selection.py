"""Other folders, or other users, are wanted than before: what follows, in steps that go on where they were cut off."""

from typing import Any

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DriveRig, given

from api.status import pipeline_status
from connections.gdrive_connection import GoogleAuth
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.first_load import FirstLoadPorts, note_asked
from ingestion.gdrive import selection
from ingestion.gdrive.places import Places
from ingestion.gdrive.read_requests import ReadNotes, read_requests
from messaging.queues import INGESTION_EVENTS_BULK, SOURCE_WORK
from messaging.times import to_text


async def choose(rig: DriveRig, **changes: Any) -> None:
    """Change what the connection wants, as ``shardline connect`` does."""
    rig.made = msgspec.structs.replace(await rig.connection(), **changes)
    await rig.services.connections.save(rig.made)


async def under_way(rig: DriveRig) -> str | None:
    """What status says of the connection."""
    [row] = [row for row in (await pipeline_status(rig.services))["connections"] if row["connectionId"] == "drive"]
    told = row["underWay"]
    assert told is None or isinstance(told, str)
    return told


async def read_again(rig: DriveRig, file_id: str) -> None:
    """Have the connection read a file."""
    now = to_text(rig.now)
    [asked] = read_requests(rig.made, [(file_id, "")], ReadNotes(), due_at=now, because="the test")
    await rig.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])
    await rig.settle()


async def finish(rig: DriveRig) -> None:
    """Let polls come until nothing is left to be done."""
    for _ in range(8):
        await rig.catch_up()
        if await under_way(rig) is None:
            return
    raise AssertionError(await under_way(rig))


async def test_other_folders_are_wanted_and_what_is_stored_follows(rig: DriveRig) -> None:
    first, second, third = (rig.drive.create_folder(name) for name in ("First", "Second", "Third"))
    inner = rig.drive.create_folder("Inner", parent=first)
    dropped = rig.drive.create_file("dropped.txt", "Dropped.", parent=inner)
    kept = rig.drive.create_file("kept.txt", "Kept.", parent=second)
    added = rig.drive.create_file("added.txt", "Added.", parent=third)
    never = rig.drive.create_file("never.txt", "Never.")
    rig.made = msgspec.structs.replace(rig.made, folders=(first, second))
    await rig.begin()
    revision = (await rig.live(kept)).revision
    rig.forget_calls()
    await choose(rig, folders=(third, second))
    rig.wait(61)
    await rig.tick()
    await rig.work(most=1)
    assert "other folders or users are wanted" in str(await under_way(rig))
    await finish(rig)
    assert await rig.paths() == ["/Second", "/Second/kept.txt", "/Third", "/Third/added.txt"]
    assert [await rig.is_gone(one) for one in (first, inner, dropped)] == [True, True, True]
    assert (await rig.live(kept)).revision == revision
    assert rig.contents_fetched() == 1, "that of the file added"
    assert not rig.calls(f"/files/{never}"), "what is in no folder wanted is not asked for"
    assert not rig.calls(f"/files/{dropped}")
    assert "Added." in await rig.text(added)
    rig.forget_calls()
    await rig.catch_up()
    assert len(rig.calls()) == 1, "the log alone"
    await choose(rig, folders=(second, third))
    await rig.catch_up()
    assert await under_way(rig) is None, "the same in another order"


async def test_what_is_left_out_goes_and_comes_back(rig: DriveRig) -> None:
    secret = rig.drive.create_folder("Secret")
    note = rig.drive.create_file("note.txt", "Words.", parent=secret)
    drive_id = rig.drive.create_drive("Deals")
    deal = rig.drive.create_file("deal.txt", "Deal.", parent=drive_id)
    await rig.begin()
    await choose(rig, left_out=(secret, drive_id))
    await finish(rig)
    assert await rig.paths() == []
    rig.drive.rename(deal, "better.txt")
    await choose(rig, left_out=())
    await finish(rig)
    assert await rig.paths() == ["/Deals", "/Deals/better.txt", "/Secret", "/Secret/note.txt"]
    assert "Words." in await rig.text(note)
    rig.drive.rename(deal, "best.txt")
    await rig.catch_up()
    assert await rig.path(deal) == "/Deals/best.txt"


async def test_each_step_goes_on_where_time_ran_out(rig: DriveRig, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = rig.drive.create_folder("Inside")
    notes = [rig.drive.create_file(f"{number}.txt", "Text.") for number in range(6)]
    await rig.begin()
    monkeypatch.setattr(selection, "STORE_PAGE", 2)
    judge, judged = Places.of, list[str]()

    async def slowly(places: Places, file: Any, client: Any) -> Any:
        rig.wait(11)
        judged.append(str(file["id"]))
        return await judge(places, file, client)

    with monkeypatch.context() as patch:
        patch.setattr(Places, "of", slowly)
        await choose(rig, folders=(inside,))
        rig.wait(61)
        await rig.tick()
        await rig.work(most=2)
        state = (await rig.states())["what is wanted"]["metadata"]
        assert state["stage"] == "remove" and state["cursor"] and 0 < state["removed"] < 6
        assert f"({state['removed']} taken away so far)" in str(await under_way(rig))
        await rig.work(most=1)
        assert sorted(judged[:7]) == sorted([inside, *notes]), "each was judged once"
    await finish(rig)
    assert await rig.paths() == ["/Inside"]


async def test_what_was_on_its_way_when_the_choice_changed_goes_too(rig: DriveRig) -> None:
    inside = rig.drive.create_folder("Inside")
    await rig.begin()
    late = rig.drive.create_file("late.txt", "Text.")
    await rig.poll()
    await rig.work()
    await choose(rig, folders=(inside,))
    rig.wait(61)
    await rig.tick()
    await rig.work()
    assert await rig.file(late) is None, "it is still on its way"
    await finish(rig)
    assert await rig.is_gone(late)


async def test_a_choice_that_is_taken_back_before_the_chain_has_followed_loses_nothing(rig: DriveRig) -> None:
    inside = rig.drive.create_folder("Inside")
    note = rig.drive.create_file("note.txt", "Words.")
    await rig.begin()
    for folders in ((inside,), ()):
        await choose(rig, folders=folders)
        rig.wait(61)
        await rig.tick()
        await rig.work()
    assert (await rig.bus.depths())[INGESTION_EVENTS_BULK].active == 1, "that the file is not wanted"
    assert "digested what waits" in str(await under_way(rig))
    await finish(rig)
    assert "Words." in await rig.text(note)


async def test_the_first_load_goes_before_what_is_newly_wanted_is_looked_for(rig: DriveRig) -> None:
    one, other = rig.drive.create_folder("One"), rig.drive.create_folder("Other")
    notes = [rig.drive.create_file("note.txt", "Words.", parent=folder) for folder in (one, other)]
    rig.made = msgspec.structs.replace(rig.made, folders=(one,))
    await rig.services.connections.save(rig.made)
    await rig.catch_up()
    await note_asked(rig.made, FirstLoadPorts(rig.bus, rig.services.states, rig.clock))
    await choose(rig, folders=(other,))
    await rig.catch_up()
    assert "after the first load" in str(await under_way(rig))
    await rig.ask("history")
    await rig.settle()
    rig.wait(300)
    await finish(rig)
    assert await rig.paths() == ["/Other", "/Other/note.txt"]
    assert await rig.file(notes[0]) is None


async def test_files_of_a_user_who_is_read_no_more_go_and_come_back_with_the_user(rig: DriveRig) -> None:
    def users(*subjects: str) -> GoogleAuth:
        return GoogleAuth(service_account=rig.made.auth.service_account, subjects=subjects)

    rig.made = msgspec.structs.replace(rig.made, auth=users(ADMIN, ANN))
    anns = rig.drive.create_file("anns.txt", "Hers.", owner=ANN)
    shared = rig.drive.create_file("shared.txt", "Shared.", owner=ANN)
    rig.drive.share(shared, given("user", ADMIN))
    await rig.begin()
    await choose(rig, auth=users(ADMIN))
    await finish(rig)
    assert await rig.is_gone(anns)
    assert not await rig.is_gone(shared)
    await choose(rig, auth=users(ADMIN, ANN))
    await finish(rig)
    assert "Hers." in await rig.text(anns)


async def test_shared_drives_go_and_come_back_at_once(rig: DriveRig) -> None:
    drive_id = rig.drive.create_drive("Deals")
    deal = rig.drive.create_file("deal.txt", "Deal.", parent=drive_id)
    await rig.begin()
    await choose(rig, shared_drives=False)
    await rig.catch_up()
    assert await rig.is_gone(deal)
    await choose(rig, shared_drives=True)
    await rig.catch_up()
    assert await rig.path(deal) == "/Deals/deal.txt"


async def test_two_connections_of_one_domain_take_nothing_away_from_each_other(rig: DriveRig) -> None:
    one, other = rig.drive.create_folder("One"), rig.drive.create_folder("Other")
    both = rig.drive.create_folder("Both")
    moved = rig.drive.create_file("moved.txt", "Moved.", parent=one)
    shared = rig.drive.create_file("shared.txt", "Shared.", parent=both)
    second = msgspec.structs.replace(rig.made, connection_id="second", folders=(other, both))
    rig.made = msgspec.structs.replace(rig.made, folders=(one, both))
    await rig.services.connections.save(second)
    await rig.begin()
    await ask_for_history([second], rig.services.ingestion)
    await rig.settle()
    rig.wait(1300)
    rig.drive.move(moved, other)
    await rig.catch_up()
    await rig.catch_up()
    await read_again(rig, moved)
    assert await rig.path(moved) == "/Other/moved.txt", "the one that does not want it leaves it alone"
    await rig.services.connections.set_status(second, "paused")
    rig.drive.rename(shared, "ours.txt")
    await rig.catch_up()
    await rig.services.connections.set_status(second, "active")
    await choose(rig, folders=(one,))
    await finish(rig)
    assert await rig.path(shared) == "/Both/ours.txt", "the one that still wants it brings it back"


async def test_what_one_connection_took_away_another_brings_back_though_the_choice_changed_again(rig: DriveRig) -> None:
    one, both, third = (rig.drive.create_folder(name) for name in ("One", "Both", "Third"))
    shared = rig.drive.create_file("shared.txt", "Shared.", parent=both)
    second = msgspec.structs.replace(rig.made, connection_id="second", folders=(both,))
    await rig.services.connections.save(second)
    await ask_for_history([second], rig.services.ingestion)
    await rig.settle()
    await rig.services.connections.set_status(second, "paused")
    rig.made = msgspec.structs.replace(rig.made, folders=(one, both))
    await rig.begin()
    rig.wait(1300)
    rig.drive.rename(shared, "ours.txt")
    await rig.catch_up()
    await rig.services.connections.set_status(second, "active")
    for folders in ((one,), (one, third)):
        await choose(rig, folders=folders)
        await rig.catch_up()
        assert await rig.is_gone(shared)
    await finish(rig)
    assert await rig.path(shared) == "/Both/ours.txt"


async def test_what_one_connection_may_not_tell_the_readers_of_another_that_may_keeps_open(rig: DriveRig) -> None:
    files = [rig.drive.create_file(name, name, owner=ADMIN) for name in ("early.txt", "late.txt")]
    hidden = rig.drive.create_file("hidden.txt", "Hidden.", owner=BOB)
    for file_id in (*files, hidden):
        rig.drive.share(file_id, given("user", ANN))
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN,))
    second = msgspec.structs.replace(rig.made, connection_id="second", auth=auth)
    await rig.begin()
    await rig.services.connections.save(second)
    await rig.catch_up()
    await ask_for_history([second], rig.services.ingestion)
    await rig.settle()
    readers = [f"user:{ADMIN}", f"user:{ANN}"]
    assert [await rig.readers(file_id) for file_id in files] == [readers, readers], "after a load that may not tell"
    assert await rig.readers(hidden) == [], "which nobody may tell of"
    rig.wait(1300)
    rig.drive.rename(files[0], "renamed.txt")
    rig.drive.unshare(files[1], ANN)
    new = rig.drive.create_file("new.txt", "New.", owner=ADMIN)
    rig.drive.share(new, given("user", ANN))
    for _ in range(3):
        await rig.catch_up()
    assert await rig.path(files[0]) == "/renamed.txt"
    assert [await rig.readers(file_id) for file_id in (*files, new)] == [readers, [f"user:{ADMIN}"], readers]
    await ask_for_sweep([second], rig.services.ingestion)
    for _ in range(5):
        await rig.settle()
        rig.wait(301)
    assert [await rig.readers(file_id) for file_id in (files[0], new)] == [readers, readers], "after its sweep"
    left = (await rig.bus.depths())[SOURCE_WORK]
    assert left.active + left.scheduled == 0, "nobody goes on asking"


async def test_a_file_is_closed_that_the_only_connection_which_may_tell_can_not_read_now(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Text.", owner=BOB)
    rig.drive.share(note, given("user", ANN))
    rig.drive.share(note, given("group", "sales@acme.example"))
    auth = rig.made.auth.service_account
    second = msgspec.structs.replace(
        rig.made, connection_id="second", auth=GoogleAuth(service_account=auth, subjects=(ANN,))
    )
    rig.made = msgspec.structs.replace(rig.made, auth=GoogleAuth(service_account=auth, subjects=(ADMIN, BOB)))
    await rig.begin()
    await rig.services.connections.save(second)
    await rig.catch_up()
    rig.drive.suspend(BOB)
    rig.drive.unshare(note, "sales@acme.example")
    for _ in range(3):
        await rig.catch_up()
    assert await rig.readers(note) == []
    rig.drive.restore(BOB)
    for _ in range(3):
        await rig.catch_up()
    assert await rig.readers(note) == [f"user:{ANN}", f"user:{BOB}"]


async def test_what_one_connection_can_see_no_more_another_of_the_domain_keeps(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Words.", owner=BOB)
    rig.drive.share(note, given("user", ADMIN, "writer"))
    rig.drive.share(note, given("user", ANN, "writer"))
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN,))
    second = msgspec.structs.replace(rig.made, connection_id="second", auth=auth)
    await rig.services.connections.save(second)
    await rig.begin()
    await rig.services.connections.set_status(second, "paused")
    rig.drive.rename(note, "ours.txt")
    await rig.catch_up()
    await rig.services.connections.set_status(second, "active")
    await rig.catch_up()
    rig.drive.unshare(note, ADMIN)
    # Before the other one's log has been read.
    await read_again(rig, note)
    assert await rig.is_gone(note)
    rig.wait(61)
    await rig.settle()
    assert await rig.readers(note) == [f"user:{ANN}", f"user:{BOB}"]
    rig.drive.delete(note)
    await rig.catch_up()
    rig.wait(61)
    await rig.settle()
    assert await rig.is_gone(note), "for good, once nobody sees it"
