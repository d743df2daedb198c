"""A Drive of two users, and the chain behind it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
from chain_rig import current
from drive_rig import ADMIN, ANN, BOB, DriveRig

from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator


@pytest.fixture(autouse=True)
def source_functions(chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the functions of the way in to the services of the rig that calls them, too."""
    monkeypatch.setattr("ingestion.blueprint.services", current.get)


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.fixture
def simulator() -> Iterator[DriveSimulator]:
    drive = Drive("acme.example", admin=ADMIN)
    drive.add_user(ANN)
    drive.add_user(BOB)
    with DriveSimulator(drive) as served:
        yield served


@pytest.fixture
async def rig(simulator: DriveSimulator, tmp_path: Path) -> AsyncIterator[DriveRig]:
    made = DriveRig(simulator, tmp_path / "data")
    yield made
    made.source.close()
    await made.close()
