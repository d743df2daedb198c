"""The sample company's Drive is sound: paths, ids, times, people, files that open, and what only a few may read."""

import csv
import json
import re
import unicodedata
import zipfile
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import local
from ingestion.gdrive.folder_tree import FolderTree, TreeFile, read_folder_tree
from ingestion.gdrive.mime_types import FOLDER

COMPANY = Path(local.__file__).parent / "sample_company"
DRIVE = COMPANY / "gdrive"
DOMAIN = "larkmoor.example"
BEGIN, END = "2024-01-01", "2026-11-21"
DAMAGED = "Archive/2025/Scan of bar receipt.pdf"
# Confidential matters of the company, and who of Larkmoor alone may read them.
RESTRICTED = {
    "Restricted/Brackwater renewal/": {"ingrid", "saoirse", "tom"},
    "Restricted/Great Lakes auction/": {"ingrid", "priya", "saoirse"},
    "Restricted/Sierra Bay/": {"ingrid", "marcus", "saoirse"},
    "Restricted/Castlegate before September/": {"ingrid", "saoirse", "tom"},
    "Restricted/Van der Plas and Oostwal/": {"ingrid", "tom"},
    "Ingrid private/": {"ingrid"},
    "Board/": {"ingrid"},
    "HR/": {"ingrid"},
}


@cache
def tree() -> FolderTree:
    return read_folder_tree(DRIVE, domain=DOMAIN)


@cache
def settings() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DRIVE / "gdrive.json").read_text("utf-8"))
    return read


def addresses(table: str) -> set[str]:
    with (COMPANY / "salesforce" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return {row["Email"] for row in csv.DictReader(file)}


def leaves() -> list[TreeFile]:
    return [file for file in tree().files if file.resource["mimeType"] != FOLDER]


def readers(file: TreeFile) -> set[str]:
    """Addresses of those who may read *file*, groups resolved; a domain or anyone by that word."""
    found: set[str] = set()
    for permission in file.permissions:
        address = permission.get("emailAddress")
        found |= set(tree().groups.get(address, [address])) if address else {permission["type"]}
    return found


def test_every_path_is_told_and_every_told_path_exists() -> None:
    on_disk = {str(path.relative_to(DRIVE)) for path in DRIVE.rglob("*")} - {"gdrive.json"}
    shared = {drive["path"] for drive in settings()["sharedDrives"]}
    assert on_disk == set(settings()["files"]) | shared
    assert {entry["shortcutTarget"] for entry in settings()["files"].values() if "shortcutTarget" in entry} <= on_disk


def test_there_are_documents_of_many_kinds() -> None:
    kinds = Counter(str(file.resource["mimeType"]).rpartition(".")[2] for file in leaves())
    assert 110 <= len(leaves()) <= 130
    assert {"document", "spreadsheet", "presentation", "application/pdf", "sheet", "text/plain", "image/png"} <= set(
        kinds
    )
    assert 25 <= sum(file.resource.get("driveId") is not None for file in leaves()) <= 35
    assert sum(path.stat().st_size for path in DRIVE.rglob("*") if path.is_file()) < 1_800_000


def test_ids_are_of_drive_and_given_once() -> None:
    ids = [entry["id"] for entry in settings()["files"].values()]
    assert not [given for given in ids if re.fullmatch(r"[A-Za-z0-9_-]{33}|[A-Za-z0-9_-]{44}", given) is None]
    assert len(set(ids)) == len(ids)
    assert [
        drive["id"] for drive in settings()["sharedDrives"] if re.fullmatch(r"0A[\w-]{14}PVA", drive["id"]) is None
    ] == []


def test_owners_and_readers_are_people_of_the_company() -> None:
    staff, customers = addresses("User"), addresses("Contact")
    slack = json.loads((COMPANY / "slack" / "users.json").read_text("utf-8"))
    colleagues = staff | {str(user["profile"].get("email")) for user in slack}
    assert {entry["owner"] for entry in settings()["files"].values()} <= staff
    assert {member for members in settings()["groups"].values() for member in members} <= colleagues
    everyone = set().union(*(readers(file) for file in tree().files))
    assert everyone - colleagues - customers == {"anyone", "domain"}


def test_times_are_in_the_story_and_in_order() -> None:
    for path, entry in settings()["files"].items():
        created, modified = (datetime.fromisoformat(entry[name]) for name in ("createdTime", "modifiedTime"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["modifiedTime"]), path
        assert (
            datetime.fromisoformat(f"{BEGIN}T00:00Z") < created <= modified < datetime.fromisoformat(f"{END}T00:00Z")
        ), path


@pytest.mark.parametrize("folder", RESTRICTED)
def test_what_is_confidential_is_read_by_few(folder: str) -> None:
    inside = [file for file in leaves() if file.path.startswith(folder)]
    assert inside
    for file in inside:
        assert {address.partition(".")[0] for address in readers(file)} == RESTRICTED[folder], file.path


def test_the_floor_of_the_auction_stands_in_restricted_files_only() -> None:
    where = [file.path for file in leaves() if file.location and b"598,000" in file.location.read_bytes()]
    assert where
    assert [path for path in where if not path.startswith(("Restricted/", "Ingrid private/", "Board/"))] == []


def test_office_files_and_pdfs_open() -> None:
    for path in (path for path in DRIVE.rglob("*") if path.suffix in {".docx", ".xlsx", ".pptx"}):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert "[Content_Types].xml" in archive.namelist(), path
        assert path.stat().st_size < 40_000, path
    pdfs = {str(path.relative_to(DRIVE)): path.read_bytes() for path in DRIVE.rglob("*.pdf")}
    assert all(data.startswith(b"%PDF") for data in pdfs.values())
    assert [path for path, data in pdfs.items() if b"%%EOF" not in data] == [DAMAGED]
    assert [path for path, data in pdfs.items() if b"/Encrypt" in data] == ["HR/Salary bands 2026.pdf"]


def test_it_has_what_makes_a_drive_hard() -> None:
    names = [(file.resource["parents"][0], file.resource["name"]) for file in leaves()]
    assert [name for (_, name), count in Counter(names).items() if count > 1] == ["Forecast.csv"]
    assert any("/" in name for _, name in names)
    assert any(name != unicodedata.normalize("NFC", name) for _, name in names)
    assert any(file.location and not file.location.stat().st_size for file in leaves())
    assert [file.path for file in leaves() if file.resource["trashed"]] == [
        "Archive/To be deleted/Brackwater price idea.md"
    ]
    targets = {
        file.resource["shortcutDetails"]["targetMimeType"] for file in leaves() if "shortcutDetails" in file.resource
    }
    assert len(targets) == 2
    assert FOLDER in targets


def test_links_of_the_sample_slack_lead_to_files() -> None:
    text = "".join(path.read_text("utf-8") for path in (COMPANY / "slack").rglob("2*.json"))
    linked = set(re.findall(r"google\.com/(?:document|spreadsheets|presentation|file)/d/([\w-]+)", text))
    assert linked
    assert linked <= {file.file_id for file in leaves()}
