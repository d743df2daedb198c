"""The simulator in a process of its own: the samples end to end, the control route, and how it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from simple_salesforce.api import Salesforce

from local.salesforce.server import SimulatorProcess
from local.simulator_process import SimulatorError
from messaging.process_identity import is_dead, process_identity

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "tests" / "samples" / "salesforce" / "data"


def log_in(simulator: SimulatorProcess) -> Salesforce:
    credentials = simulator.credentials
    return Salesforce(
        consumer_key=credentials.consumer_key,
        consumer_secret=credentials.consumer_secret,
        domain="acme.my",
        session=simulator.session(),
    )


def company_of(directory: Path, *files: str) -> Path:
    (directory / "salesforce").mkdir()
    for file in files:
        shutil.copy(SAMPLES / file, directory / "salesforce")
    return directory


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        (["npsp_1k_Account.csv", "npsp_1k_Opportunity.csv"], {"Account": (1223, 1223), "Opportunity": (1517, 1517)}),
        (["dataloader_accountData.csv"], {"Account": (423, 423)}),
        (["npsp_trailhead_Account.csv"], {"Account": (115, 115)}),
        (["fivetran_sf_opportunity_data.csv"], {"Opportunity": (0, 10)}),
        (["onyx_test_account.csv"], {"Account": (1, 1), "User": (0, 0)}),
    ],
)
def test_samples_are_served(tmp_path: Path, files: list[str], counts: dict[str, tuple[int, int]]) -> None:
    with SimulatorProcess(["--company", company_of(tmp_path, *files)]) as simulator:
        salesforce = log_in(simulator)
        for name, (live, stored) in counts.items():
            describe: Any = getattr(salesforce, name).describe()
            fields = ", ".join(field["name"] for field in describe["fields"])
            soql = f"SELECT {fields} FROM {name} ORDER BY SystemModstamp, Id LIMIT 2000"
            assert len(salesforce.query_all(soql)["records"]) == live
            assert len(salesforce.query_all(soql, include_deleted=True)["records"]) == stored


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    directory = company_of(tmp_path_factory.mktemp("company"), "onyx_test_account.csv")
    with SimulatorProcess(["--company", directory]) as running:
        yield running


def test_everything_is_changed_by_the_control_route(simulator: SimulatorProcess) -> None:
    control = simulator.control
    salesforce = log_in(simulator)
    control("/clock", {"freeze": "2026-05-06T12:00:00Z"})
    made = control(
        "/records",
        [
            {"operation": "create", "object": "Account", "fields": {"Name": "A"}},
            {"operation": "create", "object": "Account", "fields": {"Name": "B"}, "stamp": "2026-05-06T11:00:00Z"},
            {"operation": "create", "object": "Account", "fields": {"Name": "late"}, "commitIn": 60},
        ],
    )["ids"]

    def names(*, include_deleted: bool = False) -> list[str]:
        soql = "SELECT Name FROM Account WHERE CreatedDate > 2026-01-01T00:00:00Z ORDER BY Name"
        return [record["Name"] for record in salesforce.query(soql, include_deleted=include_deleted)["records"]]

    assert names() == ["A", "B"]
    control("/clock", {"advance": 60})
    assert names() == ["A", "B", "late"]
    control("/records", {"operation": "update", "object": "Account", "id": made[0], "fields": {"Name": "A2"}})
    control("/records", {"operation": "delete", "object": "Account", "id": made[1]})
    assert names() == ["A2", "late"]
    assert names(include_deleted=True) == ["A2", "B", "late"]
    control("/records", {"operation": "undelete", "object": "Account", "id": made[1]})
    control("/records", {"operation": "merge", "object": "Account", "id": made[0], "losers": [made[1]]})
    control("/records", {"operation": "hardDelete", "object": "Account", "id": made[2]})
    assert names() == ["A2"]
    control("/clock", {"run": True})

    control("/calls", method="DELETE")
    log_in(simulator).query("SELECT Id FROM User")
    assert control("/calls")["queries"] == {"User": 1}
    assert control("/calls")["paths"]["GET /services/data/v59.0/query/"] == 1
    state = control("")
    assert state["objects"]["Account"] == 2
    assert state["tenantId"] == "sandbox"

    control("/faults", {"kind": "unavailable-html", "times": 1})
    with pytest.raises(Exception, match="maintenance"):
        salesforce.query("SELECT Id FROM User")
    control("/faults", method="DELETE")
    control("/sessions/expire", {})
    control("/cursors/expire", {})
    control("/visibility", {"object": "Account", "hide": ["Name"]})
    with pytest.raises(Exception, match="No such column 'Name'"):
        salesforce.query("SELECT Name FROM Account")
    control("/visibility", {"object": "Account", "hide": False})
    assert control("/settings", {"dailyLimit": 5000, "pageCap": 2000})["dailyLimit"] == 5000
    assert control("")["logins"] >= 3


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/records", {"operation": "explode", "object": "Account"}, "no operation explode"),
        ("/records", {"operation": "create", "object": "Nothing"}, "no object Nothing"),
        ("/records", {"operation": "update"}, "'object' is missing"),
        ("/clock", {"freeze": "soon"}, "no date-time"),
        ("/clock", {}, "freeze, advance or run"),
        ("/faults", {"kind": "meteor"}, "no fault 'meteor'"),
        ("/settings", {"colour": 1}, "no setting colour"),
        ("/epoch", {"epoch": 1}, "nothing that is served here has epochs"),
        ("/nowhere", {}, "there is no POST /_control/nowhere"),
    ],
)
def test_the_control_route_says_what_is_wrong(
    simulator: SimulatorProcess, path: str, body: dict[str, object], said: str
) -> None:
    with pytest.raises(SimulatorError) as caught:
        simulator.control(path, body)
    assert said in str(caught.value)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_the_control_route_refuses_other_hosts(simulator: SimulatorProcess, host: str) -> None:
    answer = requests.get(simulator.base_url + "/_control", headers={"Host": host}, timeout=10)
    assert answer.status_code in {400, 403}
    assert "objects" not in answer.text


def test_it_listens_on_loopback_alone(simulator: SimulatorProcess) -> None:
    port = int(simulator.base_url.rsplit(":", 1)[1])
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # would be taken if the simulator listened on every address


def test_the_hostile_cursor_is_served(tmp_path: Path) -> None:
    with SimulatorProcess(["--hostile"]) as simulator:
        salesforce = log_in(simulator)
        page = salesforce.query("SELECT Id FROM Contact ORDER BY SystemModstamp, Id", include_deleted=True)
        assert (page["totalSize"], len(page["records"])) == (1000, 100)
        simulator.control("/epoch", {"epoch": 3})
        page = salesforce.query("SELECT Id FROM Contact ORDER BY SystemModstamp, Id", include_deleted=True)
        assert page["totalSize"] == 1460


def test_made_up_contacts_are_served() -> None:
    with SimulatorProcess(["--contacts", "3000"]) as simulator:
        assert len(log_in(simulator).query_all("SELECT Id, Score__c FROM Contact")["records"]) == 3000


def test_it_ends_when_its_input_closes() -> None:
    simulator = SimulatorProcess(["--contacts", "1"]).start()
    process = simulator._process
    assert process is not None
    simulator.stop()
    assert process.returncode == 0


def test_ctrl_c_on_the_terminal_of_its_parent_does_not_reach_it() -> None:
    with SimulatorProcess(["--contacts", "1"]) as simulator:
        assert simulator.process_id is not None
        assert os.getpgid(simulator.process_id) != os.getpgrp()


def test_ctrl_c_ends_it_with_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local.salesforce", "--contacts", "1"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert requests.get(address + "/_control", timeout=10).status_code == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "shardline: interrupted\n")


def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    code = (
        "import time\n"
        "from local.salesforce.server import SimulatorProcess\n"
        "simulator = SimulatorProcess(['--contacts', '1']).start()\n"
        "print(simulator.process_id, simulator.base_url, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    number, address = parent.stdout.readline().split()
    child = process_identity(int(number))
    assert requests.get(address + "/_control", timeout=60).status_code == 200
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while not is_dead(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert is_dead(child)


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--company", "nowhere"], "nowhere: no such directory; give the path of a company directory", 1),
        (["--contacts", "1", "--port", "{used}"], "can't be had", 1),
        ([], "one of the arguments --company --contacts --hostile is required", 2),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line(arguments: list[str], said: str, code: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "local.salesforce", *(part.replace("{used}", port) for part in arguments)],
            cwd=ROOT,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == code
    assert said in ended.stderr.strip().splitlines()[-1]
    assert ended.stdout == ""


def test_a_company_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "salesforce").mkdir()
    (tmp_path / "salesforce" / "Account.csv").write_text("Id,Name\n1,a,b\n")
    with pytest.raises(SimulatorError) as caught:
        SimulatorProcess(["--company", tmp_path]).start()
    assert str(caught.value).startswith("salesforce/Account.csv, line 2: 3 cells under a header of 2;")
