"""A folder tree on disk as files of a Drive."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ingestion.gdrive.drive_resources import customer_id
from ingestion.gdrive.folder_tree import FolderTreeError, TreeFile, read_folder_tree

ANN = {"type": "user", "role": "reader", "emailAddress": "Ann@acme.example"}


def tree(folder: Path, files: dict[str, str], settings: dict[str, Any] | None = None) -> dict[str, TreeFile]:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    if settings is not None:
        (folder / "gdrive.json").write_text(json.dumps(settings))
    return {file.path: file for file in read_folder_tree(folder, domain="acme.example").files}


def test_files_and_folders_are_files_of_a_drive(tmp_path: Path) -> None:
    found = tree(tmp_path, {"Deals/plan.md": "# Plan", "Deals/.hidden": "x", "Thumbs.db": "x"})
    assert list(found) == ["Deals", "Deals/plan.md"]
    folder, plan = found["Deals"].resource, found["Deals/plan.md"].resource
    assert folder["mimeType"] == "application/vnd.google-apps.folder"
    assert folder.keys().isdisjoint({"size", "md5Checksum"})
    assert plan["parents"] == [folder["id"]]
    assert (plan["mimeType"], plan["size"], plan["name"]) == ("text/markdown", "6", "plan.md")
    assert plan["owners"][0]["emailAddress"] == "admin@acme.example"
    with found["Deals/plan.md"].open() as file:
        assert file.read() == b"# Plan"
    with pytest.raises(FolderTreeError, match="has no bytes"):
        found["Deals"].open()


def test_two_reads_agree_wherever_the_tree_lies(tmp_path: Path) -> None:
    files = {"Deals/plan.md": "# Plan", "note.txt": "x"}
    one = tree(tmp_path / "one", files)
    os.utime(tmp_path / "one" / "note.txt", (0, 0))
    other = tree(tmp_path / "two" / "deeper", files)
    assert {path: file.resource for path, file in one.items()} == {path: file.resource for path, file in other.items()}
    changed = tree(tmp_path / "one", {"note.txt": "y"})
    before, after = one["note.txt"].resource, changed["note.txt"].resource
    assert (before["id"], before["createdTime"]) == (after["id"], after["createdTime"])
    assert (before["modifiedTime"], before["md5Checksum"]) != (after["modifiedTime"], after["md5Checksum"])
    assert customer_id("acme.example") == customer_id("ACME.example") != customer_id("b.example")


def test_the_settings_say_what_a_disk_can_not(tmp_path: Path) -> None:
    found = tree(
        tmp_path,
        {"Deals/Plan.md": "# Plan", "Deals/Fün.csv": "a,b"},
        {
            "files": {
                "Deals": {"owner": "bob@acme.example", "permissions": [ANN], "trashed": True},
                "Deals/Plan.md": {
                    "id": "1abcDEF-plan_0001",
                    "mimeType": "application/vnd.google-apps.document",
                    "createdTime": "2026-03-12T08:29:10+01:00",
                    "description": "the plan",
                },
                "Deals/Fu\u0308n.csv": {"name": "Fun / figures", "permissions": [{**ANN, "role": "writer"}]},
                "Deals/to the plan": {"shortcutTarget": "Deals/Plan.md"},
            },
            "groups": {"Sales@acme.example": ["Ann@acme.example"]},
        },
    )
    plan = found["Deals/Plan.md"].resource
    assert (plan["id"], plan["name"], plan["description"]) == ("1abcDEF-plan_0001", "Plan", "the plan")
    assert plan["createdTime"] == plan["modifiedTime"] == "2026-03-12T07:29:10.000Z"
    assert "md5Checksum" not in plan
    assert found["Deals/Plan.md"].content_type == "text/markdown"
    assert (plan["trashed"], plan["explicitlyTrashed"]) == (True, False)
    assert {(p["emailAddress"], p["role"]) for p in plan["permissions"]} == {
        ("bob@acme.example", "owner"),
        ("ann@acme.example", "reader"),
    }
    figures = found["Deals/Fün.csv"].resource
    assert figures["name"] == "Fun / figures"
    assert {p["role"] for p in figures["permissions"]} == {"owner", "writer"}
    shortcut = found["Deals/to the plan"].resource
    assert shortcut["shortcutDetails"] == {"targetId": plan["id"], "targetMimeType": plan["mimeType"]}
    assert shortcut["parents"] == [found["Deals"].file_id]
    assert read_folder_tree(tmp_path, domain="acme.example").groups == {"sales@acme.example": ("ann@acme.example",)}


def test_a_shared_drive_is_a_folder_whose_members_see_all(tmp_path: Path) -> None:
    found = tree(
        tmp_path,
        {"Team/Minutes/may.txt": "x"},
        {
            "sharedDrives": [{"name": "The team", "path": "Team", "permissions": [{**ANN, "role": "organizer"}]}],
            "files": {"Team/Minutes": {"permissions": [{"type": "domain", "role": "reader"}]}},
        },
    )
    assert list(found) == ["Team/Minutes", "Team/Minutes/may.txt"]
    (drive,) = read_folder_tree(tmp_path, domain="acme.example").shared_drives
    assert drive.drive_id.startswith("0A")
    may = found["Team/Minutes/may.txt"]
    assert may.resource["driveId"] == drive.drive_id
    assert found["Team/Minutes"].resource["parents"] == [drive.drive_id]
    assert may.resource.keys().isdisjoint({"owners", "permissions", "shared"})
    details = {permission["type"]: permission["permissionDetails"][0] for permission in may.permissions}
    assert details["user"]["permissionType"] == "member"
    assert details["user"]["inheritedFrom"] == drive.drive_id
    assert details["domain"]["inheritedFrom"] == found["Team/Minutes"].file_id
    assert may.own_permissions == ()


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    inside = tmp_path / "tree"
    inside.mkdir()
    (inside / "link.txt").symlink_to(secret)
    (inside / "folder").symlink_to(tmp_path, target_is_directory=True)
    (inside / "gdrive.json").symlink_to(secret)
    assert tree(inside, {"note.txt": "x"}).keys() == {"note.txt"}
    os.mkfifo(inside / "pipe")
    found = tree(inside, {})
    (inside / "note.txt").unlink()
    (inside / "note.txt").symlink_to(secret)
    with pytest.raises(FolderTreeError, match=r"note\.txt"):
        found["note.txt"].open()
    linked = tmp_path / "linked"
    linked.symlink_to(inside, target_is_directory=True)
    with pytest.raises(FolderTreeError, match="no such folder"):
        read_folder_tree(linked, domain="acme.example")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{", "gdrive.json: Expecting"),
        ("[]", "not a JSON object"),
        ('{"files": []}', '"files" is no JSON object'),
        ('{"files": {"a.txt": 1}}', "not a JSON object"),
        ('{"files": {"a.txt": {"colour": 1}}}', "'colour' says nothing here"),
        ('{"files": {"b.txt": {}}}', "'b.txt': there is no such file"),
        ('{"files": {"no/s": {"shortcutTarget": "a.txt"}}}', "its folder does not exist"),
        ('{"files": {"s": {"shortcutTarget": "b.txt"}}}', "shortcutTarget 'b.txt' does not exist"),
        ('{"files": {"a.txt": {"id": "x y"}}}', "is no Drive id"),
        ('{"files": {"a.txt": {"id": "1234567890"}, "c.txt": {"id": "1234567890"}}}', "is that of 'a.txt', too"),
        ('{"files": {"a.txt": {"createdTime": "soon"}}}', "createdTime 'soon' is no time"),
        ('{"files": {"a.txt": {"modifiedTime": "2026-13-01T00:00:00Z"}}}', "is no time"),
        ('{"files": {"a.txt": {"trashed": "yes"}}}', "write true or false"),
        ('{"files": {"a.txt": {"name": 1}}}', "name 1; write a text"),
        ('{"files": {"a.txt": {"permissions": [{"type": "cat"}]}}}', "permission type 'cat'"),
        ('{"files": {"a.txt": {"permissions": [{"type": "user", "role": "reader"}]}}}', "write its e-mail address"),
        (
            '{"files": {"a.txt": {"permissions": [{"type": "anyone", "role": "reader", "expirationTime": 1}]}}}',
            "expirationTime 1",
        ),
        ('{"files": {"a.txt": {"mimeType": "application/vnd.google-apps.folder"}}}', "a file on disk can't be"),
        ('{"sharedDrives": [{"name": "x"}]}', "write the folder of the drive"),
        ('{"sharedDrives": [{"path": "x"}]}', "there is no folder 'x'"),
        ('{"groups": {"g@acme.example": "a"}}', "no list of addresses"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "gdrive.json").write_text(settings)
    with pytest.raises(FolderTreeError) as caught:
        tree(tmp_path, {"a.txt": "a", "c.txt": "c"})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
