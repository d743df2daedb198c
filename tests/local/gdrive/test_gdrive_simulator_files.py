"""Files through Google's client: queries, masks, bytes, exports, permissions, shared drives, batches, faults."""

import io
import zipfile
from typing import Any

import pytest
import requests
from drive_client import access_token
from googleapiclient.errors import HttpError
from googleapiclient.http import BatchHttpRequest, MediaIoBaseDownload
from hypothesis import given, settings
from hypothesis import strategies as st

from local.gdrive.drive import Drive
from local.gdrive.errors import DriveApiError
from local.gdrive.masks import parse_mask, schemas, select
from local.gdrive.search import parse_query
from local.gdrive.server import DriveSimulator

ANN, BOB = "ann@acme.example", "bob@acme.example"
FOLDER = "application/vnd.google-apps.folder"
ALL: dict[str, Any] = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}


def refused(request: Any) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        request.execute()
    return caught.value.status_code, caught.value.error_details[0]["reason"]


def names(service: Any, q: str = "", **options: Any) -> list[str]:
    answer = service.files().list(q=q, pageSize=100, **options).execute()
    return sorted(file["name"] for file in answer["files"])


def test_queries_find_what_they_say(ann: Any, ids: Any) -> None:
    for q, found in {
        "": ["Deals", "Figures", "Plan", "note.txt"],
        f"'{ids.deals}' in parents": ["Figures", "Plan", "note.txt"],
        "'root' in parents": ["Deals"],
        f"mimeType = '{FOLDER}'": ["Deals"],
        f'mimeType != "{FOLDER}" and trashed = false': ["Figures", "Plan", "note.txt"],
        "name contains 'no'": ["note.txt"],
        "name contains 'ote'": [],
        "name = 'plan' or (name = 'Figures' and not trashed = true)": ["Figures", "Plan"],
        "not name contains 'note' and mimeType contains 'google-apps'": ["Deals", "Figures", "Plan"],
        "modifiedTime > '2020-01-01T00:00:00'": ["Deals", "Figures", "Plan", "note.txt"],
        "modifiedTime < '2020-01-01T00:00:00Z'": [],
        "'me' in owners and fullText contains 'hello'": ["note.txt"],
        "sharedWithMe": [],
        "trashed = true": [],
    }.items():
        assert names(ann, q) == found, q


@pytest.mark.parametrize(
    "q",
    [
        *("id = 'x'", "name", "name = plan", "name like 'x'", "'x' in", "(name = 'x'", "name = 'x' and", ";"),
        *("trashed = 'true'", "modifiedTime > 'soon'", "name = 'x' name = 'y'", "'x' in children"),
    ],
)
def test_what_is_no_query_is_refused(q: str) -> None:
    with pytest.raises(DriveApiError) as caught:
        parse_query(q)
    assert (caught.value.status, caught.value.location) == (400, ("q", "parameter"))


def test_a_refused_query_names_its_parameter(ann: Any, ids: Any) -> None:
    with pytest.raises(HttpError) as caught:
        names(ann, "id = 'x'")
    assert (caught.value.status_code, caught.value.error_details[0]["location"]) == (400, "q")


def test_quotes_and_backslashes_are_escaped(ann: Any, drive: Drive, ids: Any) -> None:
    drive.create_file("it's \\ here", owner=ANN)
    assert names(ann, r"name = 'it\'s \\ here'") == ["it's \\ here"]


def test_trashed_files_are_listed_unless_left_out(ann: Any, drive: Drive, ids: Any) -> None:
    drive.trash(ids.deals)
    assert "note.txt" in names(ann)
    assert names(ann, "trashed = false") == []


def test_a_page_token_is_good_for_its_own_query(ann: Any, service: Any, drive: Drive, ids: Any) -> None:
    first = ann.files().list(pageSize=3, orderBy="folder,name", fields="nextPageToken,files(name)").execute()
    assert [file["name"] for file in first["files"]] == ["Deals", "Figures", "note.txt"]
    token = first["nextPageToken"]
    assert refused(ann.files().list(pageSize=3, pageToken=token)) == (400, "invalid")
    assert refused(service(BOB).files().list(pageSize=3, orderBy="folder,name", pageToken=token)) == (400, "invalid")
    rest = ann.files().list(pageSize=3, orderBy="folder,name", pageToken=token).execute()
    assert [file["name"] for file in rest["files"]] == ["Plan"]
    assert "nextPageToken" not in rest
    assert refused(ann.files().list(pageSize=1001)) == (400, "invalidParameter")
    assert refused(ann.files().list(orderBy="colour")) == (400, "invalid")


def test_shared_drives_show_to_those_who_ask_for_them(ann: Any, service: Any, drive: Drive, ids: Any) -> None:
    assert "minutes.md" not in names(ann)
    assert "minutes.md" in names(ann, **ALL)
    assert names(ann, corpora="drive", driveId=ids.team, **ALL) == ["minutes.md"]
    assert refused(ann.files().list(includeItemsFromAllDrives=True)) == (403, "supportsTeamDrivesRequired")
    assert refused(ann.files().get(fileId=ids.minutes)) == (404, "notFound")
    file = ann.files().get(fileId=ids.minutes, fields="*", supportsAllDrives=True).execute()
    assert file["driveId"] == ids.team
    assert file["parents"] == [ids.team]
    assert file.keys().isdisjoint({"permissions", "owners", "ownedByMe", "shared"})
    drives = ann.drives().list(pageSize=10).execute()["drives"]
    assert drives == [{"kind": "drive#drive", "id": ids.team, "name": "Team"}]
    assert service(BOB).drives().list().execute()["drives"] == []
    assert refused(service(BOB).drives().get(driveId=ids.team)) == (404, "notFound")
    admin = service(drive.admin)
    assert admin.drives().get(driveId=ids.team, useDomainAdminAccess=True).execute()["name"] == "Team"
    assert refused(ann.drives().list(useDomainAdminAccess=True))[0] == 403
    drive.manners.incomplete_search = True
    assert ann.files().list(corpora="allDrives", **ALL).execute()["incompleteSearch"] is True


def test_inherited_permissions_say_where_they_come_from(ann: Any, drive: Drive, ids: Any) -> None:
    drive.share(ids.minutes, {"type": "user", "role": "reader", "emailAddress": BOB})
    fields = "nextPageToken,permissions(emailAddress,role,permissionDetails)"
    found, token = [], None
    while True:
        page = ann.permissions().list(
            fileId=ids.minutes, supportsAllDrives=True, pageSize=1, pageToken=token, fields=fields
        ).execute()  # fmt: skip
        found += page["permissions"]
        token = page.get("nextPageToken")
        if token is None:
            break
    by_address = {permission["emailAddress"]: permission["permissionDetails"] for permission in found}
    assert by_address[BOB] == [{"permissionType": "file", "role": "reader", "inherited": False}]
    assert by_address[ANN] == [
        {"permissionType": "member", "role": "organizer", "inherited": True, "inheritedFrom": ids.team}
    ]


def test_who_may_not_share_sees_no_permissions(service: Any, drive: Drive, ids: Any) -> None:
    drive.share(ids.note, {"type": "user", "role": "reader", "emailAddress": BOB})
    file = service(BOB).files().get(fileId=ids.note, fields="permissions,permissionIds,parents,ownedByMe").execute()
    assert file.keys() == {"permissionIds", "ownedByMe"}  # the folder is not shared, so there are no parents either
    assert refused(service(BOB).permissions().list(fileId=ids.note)) == (403, "insufficientFilePermissions")
    assert names(service(BOB), "sharedWithMe = true") == ["note.txt"]


def test_the_service_account_itself_sees_what_is_shared_with_it(service: Any, drive: Drive, ids: Any) -> None:
    itself = service(None)
    assert names(itself) == []
    address = itself.about().get(fields="user(emailAddress)").execute()["user"]["emailAddress"]
    drive.share(ids.deals, {"type": "user", "role": "reader", "emailAddress": address})
    assert names(itself) == ["Deals", "Figures", "Plan", "note.txt"]
    assert itself.files().get(fileId="root").execute()["name"] == "My Drive"


def test_what_was_shared_until_a_day_ends_by_itself(service: Any, drive: Drive, ids: Any) -> None:
    until = {"type": "user", "role": "reader", "emailAddress": BOB, "expirationTime": "2999-01-01T00:00:00Z"}
    drive.share(ids.note, until)
    assert names(service(BOB)) == ["note.txt"]
    drive.share(ids.note, {**until, "expirationTime": "2020-01-01T00:00:00Z"})
    assert names(service(BOB)) == []


def test_a_link_opens_a_file_and_lists_it_nowhere(service: Any, drive: Drive, ids: Any) -> None:
    drive.share(ids.note, {"type": "anyone", "role": "reader"})
    assert service(BOB).files().get(fileId=ids.note).execute()["name"] == "note.txt"
    assert names(service(BOB)) == []


def test_masks_are_applied_to_the_letter(ann: Any, ids: Any) -> None:
    get = ann.files().get
    assert get(fileId=ids.note).execute() == {
        "kind": "drive#file",
        "id": ids.note,
        "name": "note.txt",
        "mimeType": "text/plain",
    }
    assert get(fileId=ids.note, fields="size,owners/emailAddress,capabilities(canShare)").execute() == {
        "size": "11",
        "owners": [{"emailAddress": ANN}],
        "capabilities": {"canShare": True},
    }
    everything = get(fileId=ids.note, fields="*").execute()
    assert everything.keys() <= schemas()["File"]["properties"].keys()
    assert "size" not in get(fileId=ids.deals, fields="*").execute()
    for mask in ("etag", "name,etag", "owners(etag)", "owners/etag", "name/etag", "name(", "(name)", "name,,id", ","):
        assert refused(get(fileId=ids.note, fields=mask)) == (400, "invalidParameter")
    with pytest.raises(HttpError, match="Invalid field selection etag"):
        get(fileId=ids.note, fields="id,etag").execute()
    assert refused(ann.about().get()) == (400, "required")


FILE = {"id": "1", "owners": [{"emailAddress": "a", "me": True}], "capabilities": {"canShare": True}, "size": "3"}
PATHS = st.sampled_from(["id", "size", "owners", "owners/me", "owners(emailAddress,me)", "capabilities/canShare", "*"])


@settings(max_examples=40, deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=5))
def test_a_mask_of_more_keeps_no_less(paths: list[str]) -> None:
    whole = select(FILE, parse_mask(",".join(paths), "File"))
    for path in paths:
        part = select(FILE, parse_mask(path, "File"))
        assert select(whole, parse_mask(path, "File")) == part


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab'\"\\()=<> contiSM", max_size=30))
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        parse_query(text)
    except DriveApiError as error:
        assert error.status == 400


def download(request: Any, chunk: int) -> bytes:
    held = io.BytesIO()
    loader, done = MediaIoBaseDownload(held, request, chunksize=chunk), False
    while not done:
        _, done = loader.next_chunk()
    return held.getvalue()


def test_bytes_come_in_ranges(ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any) -> None:
    assert download(ann.files().get_media(fileId=ids.note), 4) == b"hello world"
    empty = drive.create_file("empty.bin", b"", owner=ANN)
    assert download(ann.files().get_media(fileId=empty), 4) == b""
    token = access_token(simulator.base_url, simulator.credentials.service_account_info, ANN)
    address = f"{simulator.base_url}/drive/v3/files/{ids.note}?alt=media"
    for asked, status, body, place in (
        ("bytes=2-4", 206, b"llo", "bytes 2-4/11"),
        ("bytes=-5", 206, b"world", "bytes 6-10/11"),
        ("bytes=6-", 206, b"world", "bytes 6-10/11"),
        ("bytes=0-99", 206, b"hello world", "bytes 0-10/11"),
        ("bytes=11-", 416, None, "bytes */11"),
        ("bytes=0-1,3-4", 200, b"hello world", None),
    ):
        answer = requests.get(address, headers={"Authorization": f"Bearer {token}", "Range": asked}, timeout=10)
        assert (answer.status_code, answer.headers.get("Content-Range")) == (status, place)
        assert body is None or answer.content == body


def test_what_can_not_be_downloaded_says_why(ann: Any, service: Any, drive: Drive, ids: Any) -> None:
    for file_id in (ids.deals, ids.plan):
        assert refused(ann.files().get_media(fileId=file_id)) == (403, "fileNotDownloadable")
    drive.flag(ids.note, abusive=True)
    assert refused(ann.files().get_media(fileId=ids.note)) == (403, "cannotDownloadAbusiveFile")
    assert ann.files().get_media(fileId=ids.note, acknowledgeAbuse=True).execute() == b"hello world"
    drive.flag(ids.note, abusive=False, copy_locked=True)
    drive.share(ids.note, {"type": "user", "role": "reader", "emailAddress": BOB})
    assert refused(service(BOB).files().get_media(fileId=ids.note)) == (403, "cannotDownloadFile")


def test_native_files_are_exported(ann: Any, ids: Any) -> None:
    def export(file_id: str, kind: str) -> bytes:
        made: bytes = ann.files().export(fileId=file_id, mimeType=kind).execute()
        return made

    assert export(ids.plan, "text/markdown") == b"# The plan\n"
    assert export(ids.plan, "text/plain") == b"# The plan\n"
    assert b"<p># The plan</p>" in export(ids.plan, "text/html")
    assert export(ids.plan, "application/pdf").startswith(b"%PDF-")
    assert export(ids.table, "text/csv") == b"a,b\n1,2\n"
    assert export(ids.table, "text/tab-separated-values") == b"a\tb\n1\t2\n"
    office = "application/vnd.openxmlformats-officedocument."
    with zipfile.ZipFile(io.BytesIO(export(ids.plan, office + "wordprocessingml.document"))) as package:
        assert b"The plan" in package.read("word/document.xml")
    with zipfile.ZipFile(io.BytesIO(export(ids.table, office + "spreadsheetml.sheet"))) as package:
        assert b"<t>2</t>" in package.read("xl/worksheets/sheet1.xml")
    formats = ann.about().get(fields="exportFormats").execute()["exportFormats"]
    assert "text/markdown" in formats["application/vnd.google-apps.document"]


def test_exports_end_at_the_limit_and_links_do_not(ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any) -> None:
    export = ann.files().export
    assert refused(export(fileId=ids.note, mimeType="text/plain")) == (403, "fileNotExportable")
    assert refused(export(fileId=ids.plan, mimeType="text/csv")) == (400, "badRequest")
    assert refused(export(fileId=ids.plan, mimeType="")) == (400, "required")
    drive.upload(ids.plan, "x" * (10 * 1024 * 1024 + 1))
    assert refused(export(fileId=ids.plan, mimeType="text/markdown")) == (403, "exportSizeLimitExceeded")
    links = ann.files().get(fileId=ids.plan, fields="exportLinks").execute()["exportLinks"]
    address = links["text/markdown"]
    assert address.startswith("https://docs.google.com/feeds/download/documents/")
    token = access_token(simulator.base_url, simulator.credentials.service_account_info, ANN)
    there = address.replace("https://docs.google.com", simulator.base_url)
    answer = requests.get(there, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert len(answer.content) == 10 * 1024 * 1024 + 1


def test_shortcuts_lead_to_files_that_may_be_out_of_reach(service: Any, drive: Drive, ids: Any) -> None:
    shortcut = drive.create_shortcut(ids.note, owner=BOB)
    file = service(BOB).files().get(fileId=shortcut, fields="mimeType,size,shortcutDetails").execute()
    assert file == {
        "mimeType": "application/vnd.google-apps.shortcut",
        "shortcutDetails": {"targetId": ids.note, "targetMimeType": "text/plain"},
    }
    assert refused(service(BOB).files().get(fileId=ids.note)) == (404, "notFound")
    assert refused(service(BOB).files().export(fileId=shortcut, mimeType="text/plain"))[0] == 403


def test_the_parts_of_a_batch_fail_one_by_one(ann: Any, simulator: DriveSimulator, ids: Any) -> None:
    answers: dict[str, Any] = {}

    def keep(name: str, answer: Any, error: Any) -> None:
        answers[name] = error.error_details[0]["reason"] if error else answer["name"]

    def batch() -> Any:
        return BatchHttpRequest(callback=keep, batch_uri=simulator.base_url + "/batch/drive/v3")

    several = batch()
    for file_id in (ids.note, "1missing", ids.plan):
        several.add(ann.files().get(fileId=file_id), request_id=file_id)
    simulator.api.faults.add("user-rate-limit", path=ids.plan)
    several.execute()
    assert answers == {ids.note: "note.txt", "1missing": "notFound", ids.plan: "userRateLimitExceeded"}
    many = batch()
    for number in range(101):
        many.add(ann.files().get(fileId=ids.note), request_id=str(number))
    with pytest.raises(HttpError, match="at most 100"):
        many.execute()


def test_faults_are_those_of_the_vendor(ann: Any, simulator: DriveSimulator, ids: Any) -> None:
    for kind, status, reason in (
        ("user-rate-limit", 403, "userRateLimitExceeded"),
        ("insufficient-permissions", 403, "insufficientFilePermissions"),
        ("daily-limit", 403, "dailyLimitExceeded"),
        ("too-many-requests", 429, "rateLimitExceeded"),
        ("backend-error", 500, "backendError"),
        ("bad-gateway-html", 502, None),
        ("forbidden-html", 403, None),
    ):
        simulator.api.faults.add(kind)
        with pytest.raises(HttpError) as caught:
            ann.files().get(fileId=ids.note).execute()
        assert caught.value.status_code == status, kind
        if reason is None:
            assert b"<html" in caught.value.content.lower()
        else:
            assert caught.value.error_details[0]["reason"] == reason
        assert ann.files().get(fileId=ids.note).execute()["name"] == "note.txt"


def test_nothing_is_written_by_the_api(ann: Any, ids: Any) -> None:
    assert refused(ann.files().delete(fileId=ids.note)) == (403, "insufficientPermissions")
    assert ann.files().get(fileId=ids.note).execute()["name"] == "note.txt"
