"""The simulator in a process of its own, and a company directory that it serves."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from drive_client import drive_service

from connections.egress import vendor_session
from local.company import CompanyError
from local.gdrive.load import load_drive
from local.gdrive.server import DriveProcess
from local.simulator_process import SimulatorError

ROOT = Path(__file__).parents[3]
ANN = "ann@acme.example"


def company_of(directory: Path) -> Path:
    deals = directory / "gdrive" / "Deals"
    deals.mkdir(parents=True)
    (directory / "gdrive" / "Team").mkdir()
    (deals / "plan.md").write_text("# Plan")
    (directory / "gdrive" / "Team" / "minutes.txt").write_text("minutes")
    (directory / "company.json").write_text(json.dumps({"tenantId": "acme"}))
    reader = {"type": "user", "role": "reader", "emailAddress": ANN}
    settings = {
        "files": {"Deals": {"permissions": [reader]}},
        "sharedDrives": [{"name": "The team", "path": "Team", "permissions": [{**reader, "role": "organizer"}]}],
    }
    (directory / "gdrive" / "gdrive.json").write_text(json.dumps(settings))
    return directory


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriveProcess]:
    with DriveProcess(["--company", company_of(tmp_path_factory.mktemp("company"))]) as running:
        yield running


def service_of(simulator: DriveProcess) -> Any:
    return drive_service(simulator.base_url, simulator.credentials.service_account_info, ANN)


def test_a_company_directory_is_served(simulator: DriveProcess) -> None:
    assert simulator.credentials.admin == "admin@acme.example"
    assert simulator.credentials.users == ("admin@acme.example", ANN)
    state = simulator.control("")
    assert (state["tenantId"], state["domain"], state["files"]) == ("acme", "acme.example", 3)
    assert list(state["sharedDrives"].values()) == ["The team"]
    service = service_of(simulator)
    found = service.files().list(fields="files(name,sharedWithMeTime)", orderBy="name").execute()["files"]
    assert [file["name"] for file in found] == ["Deals", "plan.md"]


def test_the_vendors_own_addresses_lead_to_it(simulator: DriveProcess) -> None:
    session = vendor_session([".googleapis.com"], simulator=simulator.base_url)
    answer = session.get("https://www.googleapis.com/drive/v3/about?fields=user")
    assert answer.status_code == 403
    answer = session.post("https://oauth2.googleapis.com/token", data={"grant_type": "none"})
    assert answer.json()["error"] == "unsupported_grant_type"


def test_everything_is_changed_by_the_control_route(simulator: DriveProcess) -> None:
    control, service = simulator.control, service_of(simulator)
    token = service.changes().getStartPageToken().execute()["startPageToken"]
    made = control(
        "/files",
        [
            {"operation": "createFolder", "name": "New", "parent": "Deals"},
            {"operation": "create", "name": "a.txt", "content": "a", "parent": "Deals/New"},
            {"operation": "create", "name": "b.bin", "contentBase64": "AAE=", "parent": "The team"},
            {"operation": "createShortcut", "path": "Deals/plan.md", "owner": ANN},
            {"operation": "upload", "path": "Deals/plan.md", "content": "# New plan"},
            {"operation": "rename", "path": "Deals/plan.md", "name": "plan 2.md"},
            {"operation": "describe", "path": "Deals/plan 2.md", "description": "d"},
            {"operation": "share", "path": "Deals/plan 2.md", "permission": {"type": "domain", "role": "reader"}},
            {"operation": "unshare", "path": "Deals/plan 2.md", "principal": "acme.example"},
            {"operation": "flag", "path": "Deals/plan 2.md", "copyLocked": True},
            {"operation": "trash", "path": "Deals/New"},
            {"operation": "untrash", "path": "Deals/New"},
            {"operation": "move", "path": "Deals/New", "parent": "Deals"},
            {"operation": "delete", "path": "Deals/New/a.txt"},
        ],
    )["ids"]
    page = service.changes().list(pageToken=token).execute()
    changed = [(change["fileId"], change["removed"]) for change in page["changes"]]
    assert changed == [(made[3], False), (made[4], False), (made[0], False), (made[1], True)]
    listed = {file["path"]: file for file in control("/files")["files"]}
    assert listed.keys() == {"Deals", "Deals/plan 2.md", "Deals/New", "plan.md", "The team/minutes.txt",
                             "The team/b.bin"}  # fmt: skip
    (drive_id,) = control("/drives", {"operation": "create", "name": "Second"})["ids"]
    member = {"type": "user", "role": "reader", "emailAddress": ANN}
    control("/drives", {"operation": "addMember", "id": drive_id, "permission": member})
    control("/drives", {"operation": "rename", "id": drive_id, "name": "2nd"})
    control("/drives", {"operation": "hide", "id": drive_id, "user": ANN})
    assert service.drives().get(driveId=drive_id, fields="name,hidden").execute() == {"name": "2nd", "hidden": True}
    control("/drives", {"operation": "show", "id": drive_id, "user": ANN})
    control("/drives", {"operation": "removeMember", "id": drive_id, "principal": ANN})
    control("/drives", {"operation": "delete", "id": drive_id})
    control("/users", {"operation": "add", "user": "dan@acme.example"})
    control("/users", {"operation": "group", "group": "g@acme.example", "members": [ANN]})
    control("/clock", {"freeze": "2026-05-06T12:00:00Z"})
    assert control("/clock", {"advance": 60})["now"] == "2026-05-06T12:01:00+00:00"
    control("/clock", {"run": True})
    control("/clock", {"skew": 0})
    control("/settings", {"pageCap": 500, "emptyPages": 0, "lag": 0, "exportLimit": 10_485_760, "childEntries": False})
    control("/faults", {"kind": "backend-error", "times": 1})
    with pytest.raises(Exception, match="Backend Error"):
        service.about().get(fields="user").execute()
    control("/faults", method="DELETE")
    for what in ("access", "pages", "changes"):
        control("/tokens/expire", {"what": what})
    assert control("/push", {"deliverTo": "http://127.0.0.1:9", "retrySeconds": 0.1})["retrySeconds"] == 0.1
    assert control("/push") == {"channels": [], "deliveries": []}
    assert control("/calls")["users"][ANN] > 0
    control("/calls", method="DELETE")
    assert control("/calls")["total"] == 0
    assert control("/delegation", {"revoke": True}) == {"scopes": []}
    control("/users", {"operation": "suspend", "user": ANN})
    with pytest.raises(Exception, match="unauthorized_client"):
        service_of(simulator).about().get(fields="user").execute()
    control("/users", {"operation": "restore", "user": ANN})
    control("/delegation", {"scopes": ["https://www.googleapis.com/auth/drive.readonly"]})
    assert service_of(simulator).about().get(fields="user(me)").execute() == {"user": {"me": True}}


def test_the_control_route_says_what_is_wrong(simulator: DriveProcess) -> None:
    for path, body, said in (
        ("/files", {"operation": "explode", "path": "Deals"}, "no operation explode"),
        ("/files", {"operation": "trash", "path": "Nowhere"}, "there are 0 files at Nowhere"),
        ("/files", {"operation": "rename", "path": "Deals"}, "'name' is missing"),
        ("/files", {"operation": "share", "path": "Deals", "permission": {"type": "cat"}}, "permission type 'cat'"),
        ("/drives", {"operation": "rename", "id": "x", "name": "y"}, "no shared drive x"),
        ("/users", {"operation": "suspend", "user": "x@y.example"}, "no user x@y.example"),
        ("/clock", {}, "freeze, advance, run or skew"),
        ("/faults", {"kind": "meteor"}, "no fault 'meteor'"),
        ("/settings", {"colour": 1}, "no setting colour"),
        ("/settings", {"emptyPages": 16}, "0 to 15"),
        ("/push", {"deliverTo": "https://elsewhere.example"}, "this machine alone"),
        ("/nowhere", {}, "there is no POST /_control/nowhere"),
    ):
        with pytest.raises(SimulatorError) as caught:
            simulator.control(path, body)
        assert said in str(caught.value)
    answer = requests.get(simulator.base_url + "/_control", headers={"Host": "evil.example"}, timeout=10)
    assert answer.status_code == 403


def test_a_company_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    company_of(tmp_path)
    (tmp_path / "gdrive" / "gdrive.json").write_text('{"files": {"Gone.txt": {}}}')
    ended = subprocess.run(
        [sys.executable, "-m", "local.gdrive", "--company", tmp_path],
        cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = "gdrive/gdrive.json: files: 'Gone.txt': there is no such file; correct or drop the entry\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", said)


def test_what_company_json_says_of_the_domain(tmp_path: Path) -> None:
    assert load_drive(tmp_path).domain == "sandbox.example"
    given = {"gdrive": {"domain": "acme.example", "customerId": "C03az79cb", "admin": "root@acme.example"}}
    (tmp_path / "company.json").write_text(json.dumps(given))
    drive = load_drive(tmp_path)
    assert (drive.domain, drive.customer_id, drive.admin) == ("acme.example", "C03az79cb", "root@acme.example")
    (tmp_path / "company.json").write_text('{"gdrive": {"domain": "no domain"}}')
    with pytest.raises(CompanyError, match=r"gdrive\.domain 'no domain'"):
        load_drive(tmp_path)
    with pytest.raises(CompanyError, match="no such directory"):
        load_drive(tmp_path / "nowhere")
