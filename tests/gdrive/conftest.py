"""A Drive of two users, and the chain behind it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from drive_rig import ADMIN, ANN, BOB, DriveRig

from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None, without_waiting: None) -> None:
    """The functions work on the rig's services; retries come at once."""


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
