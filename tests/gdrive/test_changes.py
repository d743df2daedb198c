"""Changes in Drive, as they come out in the shards."""

from drive_rig import ADMIN, ANN, DOCUMENT, DriveRig, given


async def test_what_there_is_is_loaded_folders_first_with_paths_readers_and_text(rig: DriveRig) -> None:
    sales = rig.drive.create_folder("Sales")
    deals = rig.drive.create_folder("Deals", parent=sales)
    plan = rig.drive.create_file("plan.txt", "Renew Northwind before May.", parent=deals)
    sheet = rig.drive.create_file("Terms", "Net thirty.", parent=sales, mime_type=DOCUMENT)
    rig.drive.share(sales, given("user", ANN))
    await rig.begin()
    assert await rig.paths() == ["/Sales", "/Sales/Deals", "/Sales/Deals/plan.txt", "/Sales/Terms"]
    assert await rig.readers(plan) == [f"user:{ADMIN}", f"user:{ANN}"]
    assert "Renew Northwind before May." in await rig.text(plan)
    assert "Net thirty." in await rig.text(sheet)
    stored = await rig.live(plan)
    assert stored.structured_data["parentFolderExternalId"] == deals
    assert stored.external_relationships[0].instance == rig.drive.customer_id
    assert not await rig.parked()


async def test_a_new_a_renamed_and_a_trashed_file_follow(rig: DriveRig) -> None:
    await rig.begin()
    note = rig.drive.create_file("note.txt", "First.")
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt"
    rig.drive.rename(note, "memo.txt")
    await rig.catch_up()
    assert await rig.path(note) == "/memo.txt"
    rig.drive.trash(note)
    await rig.catch_up()
    assert await rig.is_gone(note)
    rig.drive.untrash(note)
    await rig.catch_up()
    assert await rig.path(note) == "/memo.txt"
    assert "First." in await rig.text(note)


async def test_unchanged_content_is_never_fetched_again(rig: DriveRig) -> None:
    folder = rig.drive.create_folder("Here")
    there = rig.drive.create_folder("There")
    note = rig.drive.create_file("note.txt", "The one text.", parent=folder)
    document = rig.drive.create_file("Paper", "Native words.", parent=folder, mime_type=DOCUMENT)
    await rig.begin()
    text = (await rig.live(note)).unstructured_data
    assert rig.contents_fetched() == 2
    rig.forget_calls()
    rig.drive.rename(note, "memo.txt")
    rig.drive.move(document, there)
    rig.drive.share(folder, given("user", ANN))
    await rig.catch_up()
    rig.drive.rename(folder, "Moved")
    await rig.catch_up()
    await rig.sweep()
    assert rig.contents_fetched() == 0
    assert (await rig.live(note)).unstructured_data == text
    assert await rig.path(note) == "/Moved/memo.txt"
    assert await rig.path(document) == "/There/Paper"
    rig.wait(5)
    rig.drive.upload(document, "Other words.")
    await rig.catch_up()
    assert rig.contents_fetched() == 1
    assert "Other words." in await rig.text(document)


async def test_a_renamed_folder_gives_all_below_it_their_new_path(rig: DriveRig) -> None:
    top = rig.drive.create_folder("Old")
    inner = rig.drive.create_folder("Inner", parent=top)
    note = rig.drive.create_file("note.txt", "Text.", parent=inner)
    await rig.begin()
    rig.drive.rename(top, "New")
    await rig.catch_up()
    assert await rig.paths() == ["/New", "/New/Inner", "/New/Inner/note.txt"]
    other = rig.drive.create_folder("Elsewhere")
    rig.drive.move(inner, other)
    await rig.catch_up()
    assert await rig.path(note) == "/Elsewhere/Inner/note.txt"


async def test_a_trashed_folder_takes_all_below_it_and_brings_it_back(rig: DriveRig) -> None:
    top = rig.drive.create_folder("Top")
    inner = rig.drive.create_folder("Inner", parent=top)
    note = rig.drive.create_file("note.txt", "Text.", parent=inner)
    await rig.begin()
    rig.drive.trash(top)
    await rig.catch_up()
    assert await rig.paths() == []
    assert await rig.is_gone(note)
    rig.drive.untrash(top)
    await rig.catch_up()
    assert await rig.paths() == ["/Top", "/Top/Inner", "/Top/Inner/note.txt"]


async def test_a_file_that_is_deleted_for_good_goes(rig: DriveRig) -> None:
    note = rig.drive.create_file("note.txt", "Text.")
    await rig.begin()
    rig.drive.delete(note)
    await rig.catch_up()
    assert await rig.is_gone(note)
    assert await rig.text(note) == ""


async def test_a_file_in_a_new_folder_is_fetched_once_though_log_and_folder_tell_of_it(rig: DriveRig) -> None:
    await rig.begin()
    folder = rig.drive.create_folder("New")
    note = rig.drive.create_file("note.txt", "The one text.", parent=folder)
    await rig.catch_up()
    assert "The one text." in await rig.text(note)
    assert rig.contents_fetched() == 1
