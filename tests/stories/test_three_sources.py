"""What people change at a source is in the shards seconds later: one app, run as its user runs it, three sources.

The app and the three simulators are processes of their own, and everything goes the vendors' way: signed events, push
notifications, polls. Each story waits for the shard as long as the promise allows.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_app import RunningApp, running_app

PATIENCE = 100.0
"""A busy machine may take longer than the promise; a change that is never seen fails here."""

ANN, BO, EVE = "ann@tidewater.example", "bo@tidewater.example", "eve@tidewater.example"
CHANNEL, ROOT = "C0TIDE00001", "1770000000.000100"


def write_company(folder: Path) -> Path:
    """A company of a few records in each source."""
    texts = {
        "company.json": json.dumps(
            {"tenantId": "tidewater", "slack": {"teamId": "T0TIDE00001"}, "gdrive": {"domain": "tidewater.example"}}
        ),
        "salesforce/Account.csv": "Id,Name\nA1,Northwind Ferries\nA2,North Wind Ferries Ltd\nA3,Coastal Fuels\n",
        "salesforce/Opportunity.csv": (
            "Id,Name,AccountId,StageName,Amount,CloseDate\nO1,Ferry retrofit,A2,Negotiation,1200.50,2026-12-01\n"
        ),
        "slack/users.json": json.dumps(
            [
                {"id": "U0TIDE00001", "name": "ann", "real_name": "Ann Tide", "profile": {"email": ANN}},
                {"id": "U0TIDE00002", "name": "bo", "real_name": "Bo Water", "profile": {"email": BO}},
            ]
        ),
        "slack/channels.json": json.dumps(
            [{"id": CHANNEL, "name": "ferries", "created": 1769990000, "members": ["U0TIDE00001", "U0TIDE00002"]}]
        ),
        "slack/ferries/2026-02-02.json": json.dumps(
            [{"type": "message", "user": "U0TIDE00001", "text": "The retrofit starts in March", "ts": ROOT}]
        ),
        "gdrive/Plans/retrofit.md": "# Retrofit\n\nNew engines for both ferries.\n",
        "gdrive/Plans/fuel.md": "# Fuel\n\nThe bunkering contract ends in June.\n",
        "gdrive/Archive/old.md": "# Old\n\nNothing here.\n",
    }
    files: dict[str, Any] = {"Plans": {"owner": ANN, "permissions": [_reader(BO)]}, "Archive": {"owner": ANN}}
    files |= {path.removeprefix("gdrive/"): {"owner": ANN} for path in texts if path.endswith(".md")}
    texts["gdrive/gdrive.json"] = json.dumps({"files": files})
    for path, text in texts.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def _reader(address: str) -> dict[str, str]:
    return {"type": "user", "role": "reader", "emailAddress": address}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    folder = tmp_path_factory.mktemp("three-sources")
    with running_app(folder / "data", write_company(folder / "company"), tenant="tidewater") as running:
        yield running


class Shards:
    """The tenant's shards as the API's readers see them."""

    def __init__(self, app: RunningApp) -> None:
        self._app = app
        self._tokens: dict[str, str] = {}

    def one(self, external_id: str, reader: str = ANN, *, deleted: bool = False) -> dict[str, Any] | None:
        """The shard of a record as *reader* may see it."""
        if reader not in self._tokens:
            self._tokens[reader] = self._app.token(reader)
        asked = {"externalId": external_id} | ({"includeDeleted": "true"} if deleted else {})
        answer = self._app.get("shards", self._tokens[reader], **asked)
        assert answer.ok, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items[0] if items else None

    def becomes(self, seen: Callable[[], object]) -> float:
        """Wait until *seen* is true; after how many seconds that was."""
        began = time.monotonic()
        while not seen():
            assert time.monotonic() < began + PATIENCE, "the change never came"
            time.sleep(0.1)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def shards(app: RunningApp) -> Shards:
    return Shards(app)


def field(shard: dict[str, Any] | None, name: str) -> Any:
    """A field of a shard that is there."""
    return shard["structuredData"].get(name) if shard else None


def file_id(app: RunningApp, path: str) -> str:
    """The id of a file by the place it had at first."""
    files = app.control("Google Drive", "files")["files"]
    return next(str(one["id"]) for one in files if one["path"].endswith(path))


def shards_named(app: RunningApp, name: str) -> dict[str, Any]:
    """The shard of a name, as an operator exports it."""
    done = app.cli("export", "shards", "--tenant", app.tenant)
    assert done.code == 0, done.error
    exported = [json.loads(line) for line in done.out.splitlines()]
    return next(one for one in exported if one["structuredData"].get("name") == name)


def test_all_three_sources_are_there(app: RunningApp, shards: Shards) -> None:
    assert field(shards.one(CHANNEL), "name") == "ferries"
    assert field(shards.one(f"{CHANNEL}:{ROOT}"), "content") == "The retrofit starts in March"
    assert field(shards.one(file_id(app, "retrofit.md")), "path") == "/Plans/retrofit.md"
    connections = app.json("status")["connections"]
    assert {one["system"]: one["state"] for one in connections} == dict.fromkeys(
        ("salesforce", "slack", "gdrive"), "active"
    )


@pytest.mark.parametrize("system", ["salesforce", "slack", "gdrive"])
def test_commands_reach_the_simulators_as_the_app_does(app: RunningApp, system: str) -> None:
    tested = app.cli("connect", system, "--id", f"{system}-sandbox", "--tenant", app.tenant, "--check")
    assert tested.code == 0, tested.error
    loaded = app.cli("backfill", f"{system}-sandbox")
    assert loaded.code == 0, loaded.error


def test_a_renamed_channel(app: RunningApp, shards: Shards) -> None:
    app.control("Slack", "changes", {"operation": "renameChannel", "channel": CHANNEL, "name": "ferries-retrofit"})
    shards.becomes(lambda: field(shards.one(CHANNEL), "name") == "ferries-retrofit")


def test_an_edited_message(app: RunningApp, shards: Shards) -> None:
    changed = "The retrofit starts in April, says the yard"
    app.control("Slack", "changes", {"operation": "edit", "channel": CHANNEL, "ts": ROOT, "text": changed})
    shards.becomes(lambda: field(shards.one(f"{CHANNEL}:{ROOT}"), "content") == changed)
    assert field(shards.one(f"{CHANNEL}:{ROOT}"), "isEdited") is True


def test_a_new_message_is_found_by_what_it_says(app: RunningApp, shards: Shards) -> None:
    app.control(
        "Slack",
        "changes",
        {"operation": "post", "channel": CHANNEL, "user": "U0TIDE00002", "text": "Dry dock is booked at Skarvik"},
    )
    token = app.token(ANN)

    def found() -> bool:
        hits = app.search(token, {"query": "Skarvik dry dock"}).json()["hits"]
        return bool(hits) and "Skarvik" in hits[0]["text"]

    shards.becomes(found)


def test_a_moved_file_and_a_renamed_folder(app: RunningApp, shards: Shards) -> None:
    moved = file_id(app, "Plans/fuel.md")
    app.control("Google Drive", "files", {"operation": "move", "id": moved, "parent": file_id(app, "Archive")})
    shards.becomes(lambda: field(shards.one(moved), "path") == "/Archive/fuel.md")
    app.control("Google Drive", "files", {"operation": "rename", "id": file_id(app, "Archive"), "name": "Before 2026"})
    shards.becomes(lambda: field(shards.one(moved), "path") == "/Before 2026/fuel.md")


def test_a_trashed_file(app: RunningApp, shards: Shards) -> None:
    trashed = file_id(app, "old.md")
    assert shards.one(trashed) is not None
    app.control("Google Drive", "files", {"operation": "trash", "id": trashed})
    shards.becomes(lambda: shards.one(trashed) is None)


def test_a_folder_that_is_shared_anew(app: RunningApp, shards: Shards) -> None:
    plan, folder = file_id(app, "retrofit.md"), file_id(app, "Plans")
    assert shards.one(plan, BO) is not None
    assert shards.one(plan, EVE) is None
    app.control("Google Drive", "files", {"operation": "share", "id": folder, "permission": _reader(EVE)})
    shards.becomes(lambda: shards.one(plan, EVE) is not None)
    app.control("Google Drive", "files", {"operation": "unshare", "id": folder, "principal": BO})
    shards.becomes(lambda: shards.one(plan, BO) is None)
    # What is below is closed to all until it is read anew.
    shards.becomes(lambda: shards.one(plan, EVE) is not None)
    assert shards.one(plan, BO) is None


def test_a_closed_opportunity(app: RunningApp, shards: Shards) -> None:
    deal = shards_named(app, "Ferry retrofit")["external_relationships"][0]["externalId"]
    app.change(operation="update", object="Opportunity", id=deal, fields={"StageName": "Closed Won"})
    shards.becomes(lambda: field(shards.one(deal), "stage") == "closed_won")
    closed = shards.one(deal)
    assert (field(closed, "status"), field(closed, "isClosed"), field(closed, "isWon")) == ("won", True, True)


def test_two_merged_accounts(app: RunningApp, shards: Shards) -> None:
    winner, loser = (
        shards_named(app, name)["external_relationships"][0]["externalId"]
        for name in ("Northwind Ferries", "North Wind Ferries Ltd")
    )
    deal = shards_named(app, "Ferry retrofit")["external_relationships"][0]["externalId"]
    app.change(operation="merge", object="Account", id=winner, losers=[loser])
    shards.becomes(lambda: (shards.one(loser, deleted=True) or {}).get("redirectTo"))
    shards.becomes(lambda: field(shards.one(deal), "accountId") == winner)
