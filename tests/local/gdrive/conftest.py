"""A small Drive served by the simulator: ann's folder with three files, a shared drive, and Google's client for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from drive_client import drive_service

from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator

ANN, BOB, CAT = "ann@acme.example", "bob@acme.example", "cat@acme.example"
DOCUMENT = "application/vnd.google-apps.document"
SHEET = "application/vnd.google-apps.spreadsheet"

Service = Callable[..., Any]


@dataclass(frozen=True)
class Ids:
    """The ids of what there is."""

    deals: str
    plan: str
    note: str
    table: str
    team: str
    minutes: str


@pytest.fixture
def drive() -> Drive:
    made = Drive("acme.example")
    for user in (ANN, BOB, CAT):
        made.add_user(user)
    return made


@pytest.fixture
def ids(drive: Drive) -> Ids:
    deals = drive.create_folder("Deals", owner=ANN)
    team = drive.create_drive("Team", [{"type": "user", "role": "organizer", "emailAddress": ANN}])
    return Ids(
        deals=deals,
        plan=drive.create_file("Plan", "# The plan\n", parent=deals, mime_type=DOCUMENT, content_type="text/markdown"),
        note=drive.create_file("note.txt", "hello world", parent=deals),
        table=drive.create_file("Figures", "a,b\n1,2\n", parent=deals, mime_type=SHEET, content_type="text/csv"),
        team=team,
        minutes=drive.create_file("minutes.md", "minutes", parent=team),
    )


@pytest.fixture
def simulator(drive: Drive) -> Iterator[DriveSimulator]:
    with DriveSimulator(drive) as running:
        yield running


@pytest.fixture
def service(simulator: DriveSimulator) -> Service:
    """``service(user)``: Google's client of the Drive as that user."""
    made: dict[tuple[Any, ...], Any] = {}

    def of(user: str | None = ANN, *scopes: str) -> Any:
        if (user, scopes) not in made:
            info = simulator.credentials.service_account_info
            made[user, scopes] = drive_service(simulator.base_url, info, user, *([scopes] if scopes else []))
        return made[user, scopes]

    return of


@pytest.fixture
def ann(service: Service) -> Any:
    return service(ANN)
