"""The delta loop through Google's client: what each change makes of whose log, pages, tokens, lag."""

from datetime import timedelta
from typing import Any

import pytest
from googleapiclient.errors import HttpError
from hypothesis import given, settings
from hypothesis import strategies as st

from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator

ANN, BOB, CAT = "ann@acme.example", "bob@acme.example", "cat@acme.example"
FIELDS = (
    "nextPageToken,newStartPageToken,changes(changeType,time,removed,fileId,driveId,drive(id,name,hidden),"
    "file(id,name,trashed,parents,version,modifiedTime,md5Checksum,permissions(emailAddress,role)))"
)


class Reader:
    """One log, read on from where it was left."""

    def __init__(self, service: Any, drive_id: str | None = None, **options: Any) -> None:
        self.service = service
        self.options = {"supportsAllDrives": True, "includeItemsFromAllDrives": True, "pageSize": 100, **options}
        if drive_id is not None:
            self.options["driveId"] = drive_id
        given = {"driveId": drive_id, "supportsAllDrives": True} if drive_id is not None else {}
        self.token = service.changes().getStartPageToken(**given).execute()["startPageToken"]
        self.pages = 0

    def read(self) -> list[Any]:
        found = []
        while True:
            page = self.service.changes().list(pageToken=self.token, fields=FIELDS, **self.options).execute()
            assert ("nextPageToken" in page) != ("newStartPageToken" in page)
            self.pages += 1
            found += page["changes"]
            self.token = page.get("nextPageToken") or page["newStartPageToken"]
            if "newStartPageToken" in page:
                return found


def told(changes: list[Any]) -> list[tuple[str, bool]]:
    return [(change.get("fileId", change.get("driveId")), change["removed"]) for change in changes]


def test_a_quiet_poll_gives_the_same_token_back(ann: Any, ids: Any) -> None:
    reader = Reader(ann)
    before = reader.token
    assert reader.read() == []
    assert reader.token == before


def test_edits_collapse_and_the_newest_is_last(ann: Any, drive: Drive, ids: Any) -> None:
    reader = Reader(ann)
    drive.rename(ids.note, "one")
    drive.upload(ids.table, "c\n")
    drive.rename(ids.note, "two")
    changes = reader.read()
    assert told(changes) == [(ids.table, False), (ids.note, False)]
    assert changes[1]["file"]["name"] == "two"


def test_only_new_bytes_move_the_modified_time_and_every_change_the_version(ann: Any, drive: Drive, ids: Any) -> None:
    def facts() -> tuple[int, str, str]:
        file = ann.files().get(fileId=ids.note, fields="version,modifiedTime,md5Checksum").execute()
        return int(file["version"]), file["modifiedTime"], file["md5Checksum"]

    other = drive.create_folder("Other", owner=ANN)
    seen = [facts()]
    for change in (
        lambda: drive.rename(ids.note, "new.txt"),
        lambda: drive.move(ids.note, other),
        lambda: drive.share(ids.note, {"type": "user", "role": "reader", "emailAddress": BOB}),
        lambda: drive.trash(ids.note),
    ):
        drive.clock.advance(timedelta(minutes=1))
        change()
        seen.append(facts())
    assert len({(modified, md5) for _, modified, md5 in seen}) == 1
    assert [version for version, _, _ in seen] == sorted({version for version, _, _ in seen})
    drive.clock.advance(timedelta(minutes=1))
    drive.upload(ids.note, "other bytes")
    assert facts()[1] > seen[-1][1]
    assert facts()[2] != seen[-1][2]


def test_trash_is_no_removal_and_a_folder_goes_alone(ann: Any, drive: Drive, ids: Any) -> None:
    reader = Reader(ann)
    drive.trash(ids.deals)
    changes = reader.read()
    assert told(changes) == [(ids.deals, False)]
    assert changes[0]["file"]["trashed"] is True
    child = ann.files().get(fileId=ids.note, fields="trashed,explicitlyTrashed").execute()
    assert child == {"trashed": True, "explicitlyTrashed": False}
    drive.untrash(ids.deals)
    drive.delete(ids.note)
    changes = reader.read()
    assert told(changes) == [(ids.deals, False), (ids.note, True)]
    assert "file" not in changes[1]


def test_what_is_in_a_folder_goes_with_it_where_that_is_switched_on(ann: Any, drive: Drive, ids: Any) -> None:
    drive.manners.child_entries = True
    reader = Reader(ann)
    drive.trash(ids.deals)
    assert {file_id for file_id, _ in told(reader.read())} == {ids.deals, ids.note, ids.plan, ids.table}


def test_lost_access_is_a_removal_in_that_users_log_alone(service: Any, drive: Drive, ids: Any) -> None:
    drive.share(ids.deals, {"type": "user", "role": "reader", "emailAddress": BOB})
    ann, bob = Reader(service(ANN)), Reader(service(BOB))
    drive.unshare(ids.deals, BOB)
    assert told(bob.read()) == [(ids.deals, True)]
    changes = ann.read()
    assert told(changes) == [(ids.deals, False)]
    assert changes[0]["file"]["permissions"] == [{"emailAddress": ANN, "role": "owner"}]
    with pytest.raises(HttpError, match="File not found"):
        service(BOB).files().get(fileId=ids.note).execute()


def test_a_shared_folder_is_one_change_and_its_files_show_what_they_inherit(
    service: Any, drive: Drive, ids: Any
) -> None:
    ann, bob = Reader(service(ANN)), Reader(service(BOB))
    drive.share(ids.deals, {"type": "user", "role": "writer", "emailAddress": BOB})
    assert told(ann.read()) == told(bob.read()) == [(ids.deals, False)]
    note = service(BOB).files().get(fileId=ids.note, fields="permissions(emailAddress,role)").execute()
    assert {(each["emailAddress"], each["role"]) for each in note["permissions"]} == {(ANN, "owner"), (BOB, "writer")}


def test_group_members_see_what_their_group_sees(service: Any, drive: Drive, ids: Any) -> None:
    drive.set_group("sales@acme.example", [BOB])
    drive.set_group("all@acme.example", ["sales@acme.example"])
    drive.share(ids.note, {"type": "group", "role": "reader", "emailAddress": "all@acme.example"})
    bob, cat = Reader(service(BOB)), Reader(service(CAT))
    drive.set_group("sales@acme.example", [CAT])
    assert told(bob.read()) == [(ids.note, True)]
    assert told(cat.read()) == [(ids.note, False)]


def test_a_shared_drive_has_a_log_of_its_own(service: Any, drive: Drive, ids: Any) -> None:
    mine, team = Reader(service(ANN)), Reader(service(ANN), ids.team)
    drive.rename(ids.minutes, "Minutes 2")
    assert told(team.read()) == [(ids.minutes, False)]
    assert mine.read() == []
    drive.share(ids.minutes, {"type": "user", "role": "reader", "emailAddress": BOB})
    bob = Reader(service(BOB))
    drive.upload(ids.minutes, "later")
    assert told(bob.read()) == [(ids.minutes, False)]  # a file shared with somebody who is no member
    with pytest.raises(HttpError, match="Shared drive not found"):
        Reader(service(BOB), ids.team)
    drive.manners.drive_items_in_user_logs = True
    drive.upload(ids.minutes, "later still")
    assert told(mine.read()) == [(ids.minutes, False)]


def test_a_file_that_moves_into_a_shared_drive_leaves_one_log_for_the_other(
    service: Any, drive: Drive, ids: Any
) -> None:
    mine, team = Reader(service(ANN)), Reader(service(ANN), ids.team)
    corpora = Reader(service(ANN), includeCorpusRemovals=True)
    drive.move(ids.deals, ids.team)
    moved = {(name, True) for name in (ids.deals, ids.plan, ids.note, ids.table)}
    changes = mine.read()
    assert set(told(changes)) == moved
    assert not any("file" in change for change in changes)
    assert all("file" in change for change in corpora.read())
    assert {name for name, removed in told(team.read()) if not removed} == {name for name, _ in moved}
    drive.rename(ids.note, "in the team")
    assert mine.read() == []
    assert told(team.read()) == [(ids.note, False)]


def test_changes_of_shared_drives_themselves_carry_no_file(service: Any, drive: Drive, ids: Any) -> None:
    ann, bob = Reader(service(ANN)), Reader(service(BOB))
    drive.rename_drive(ids.team, "The team")
    (change,) = ann.read()
    assert (change["changeType"], change["driveId"], change["drive"]["name"]) == ("drive", ids.team, "The team")
    assert "fileId" not in change
    drive.add_member(ids.team, {"type": "user", "role": "reader", "emailAddress": BOB})
    assert told(bob.read()) == [(ids.team, False)]
    drive.hide_drive(ids.team, BOB)
    assert bob.read()[0]["drive"]["hidden"] is True
    drive.remove_member(ids.team, BOB)
    (gone,) = bob.read()
    assert gone["removed"]
    assert "drive" not in gone
    unaware = Reader(service(ANN), includeItemsFromAllDrives=False)
    drive.rename_drive(ids.team, "Team")
    assert unaware.read() == []
    drive.delete_drive(ids.team)
    assert (ids.team, True) in told(ann.read())


def test_pages_are_short_empty_and_repeated_and_still_end(ann: Any, drive: Drive, ids: Any) -> None:
    reader = Reader(ann, pageSize=2)
    drive.manners.empty_pages, drive.manners.repeated_entries = 2, 1
    for file_id in (ids.deals, ids.plan, ids.note, ids.table):
        drive.describe(file_id, "changed")
    changes = reader.read()
    assert {file_id for file_id, _ in told(changes)} == {ids.deals, ids.plan, ids.note, ids.table}
    assert len(changes) > 4
    assert reader.pages > 6


def test_removals_can_be_hidden_and_my_drive_asked_for_alone(service: Any, drive: Drive, ids: Any) -> None:
    drive.share(ids.note, {"type": "user", "role": "reader", "emailAddress": BOB})
    without, own = Reader(service(BOB), includeRemoved=False), Reader(service(BOB), restrictToMyDrive=True)
    drive.rename(ids.note, "x")
    assert own.read() == []
    drive.unshare(ids.note, BOB)
    assert without.read() == []


def test_a_change_shows_when_its_lag_is_over(ann: Any, drive: Drive, ids: Any) -> None:
    reader = Reader(ann)
    drive.manners.lag = timedelta(minutes=1)
    drive.rename(ids.note, "late")
    drive.manners.lag = timedelta()
    drive.rename(ids.plan, "at once")
    assert told(reader.read()) == [(ids.plan, False)]
    assert ann.files().get(fileId=ids.note).execute()["name"] == "late"
    drive.clock.advance(timedelta(minutes=2))
    assert told(reader.read()) == [(ids.note, False)]


def test_a_token_of_no_log_is_refused(ann: Any, ids: Any) -> None:
    for token in ("", "soon", "-1", "1", "99999999999999999", "9" * 40, "١٢"):
        with pytest.raises(HttpError) as caught:
            ann.changes().list(pageToken=token).execute()
        (error,) = caught.value.error_details
        assert (caught.value.status_code, error["location"]) == (400, "pageToken")
        assert error["reason"] == ("invalid" if token else "required")


def test_tokens_can_be_lost_and_mean_nothing_elsewhere(
    ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any
) -> None:
    mine, team = Reader(ann), Reader(ann, ids.team)
    assert mine.token != team.token
    drive.lose_change_tokens()
    with pytest.raises(HttpError, match="Invalid Value"):
        mine.read()
    assert Reader(ann).read() == []
    simulator.api.faults.add("gone-page-token")
    with pytest.raises(HttpError) as caught:
        Reader(ann).read()
    assert caught.value.status_code == 410


def test_items_of_all_drives_are_for_callers_that_know_of_them(ann: Any, ids: Any) -> None:
    token = ann.changes().getStartPageToken().execute()["startPageToken"]
    with pytest.raises(HttpError) as caught:
        ann.changes().list(pageToken=token, includeItemsFromAllDrives=True).execute()
    assert caught.value.error_details[0]["reason"] == "supportsTeamDrivesRequired"
    with pytest.raises(HttpError) as caught:
        ann.changes().getStartPageToken(driveId=ids.team).execute()
    assert caught.value.status_code == 403


CHANGES = st.lists(
    st.tuples(st.sampled_from(["rename", "trash", "untrash", "delete", "upload", "share", "unshare", "create"]),
              st.integers(0, 9), st.booleans()),
    max_size=25,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(CHANGES, st.integers(1, 3))
def test_a_log_followed_from_its_token_ends_as_the_drive_is(changes: list[tuple[str, int, bool]], size: int) -> None:
    """Whatever happens between two polls, what the log says adds up to what bob can see."""
    drive = Drive("acme.example")
    bob = {"type": "user", "role": "reader", "emailAddress": BOB}
    drive.add_user(BOB)
    log = drive.log(BOB)
    at, seen, made = log.next_sequence, set[str](), list[str]()

    def poll() -> None:
        nonlocal at
        while found := log.since(at)[:size]:
            for entry in found:
                (seen.discard if entry.removed else seen.add)(entry.entry_id)
            at = found[-1].sequence + 1

    for operation, place, polls in changes:
        if operation == "create" or not made:
            made.append(drive.create_file("f", owner=ANN))
        name = made[place % len(made)]
        if operation == "share":
            drive.share(name, bob)
        elif operation == "unshare":
            if any(given.get("emailAddress") == BOB for given in drive.item(name).own.values()):
                drive.unshare(name, BOB)
        elif operation == "delete":
            drive.delete(name)
            made.remove(name)
        elif operation == "upload":
            drive.upload(name, "x")
        elif operation == "rename":
            drive.rename(name, "g")
        elif operation in {"trash", "untrash"}:
            drive.trash(name) if operation == "trash" else drive.untrash(name)
        if polls:
            poll()
    poll()
    assert seen == {item.file_id for item in drive.items.values() if not item.is_root and drive.role(BOB, item)}
