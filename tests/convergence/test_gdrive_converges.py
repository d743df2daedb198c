"""Random lives of Google Drive."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import stamina
from chain_rig import current
from drive_life import DriveLife
from random_life import live, lives


@pytest.fixture(autouse=True)
def source_functions(chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the functions of the way in to the services of the rig that calls them, too."""
    monkeypatch.setattr("ingestion.blueprint.services", current.get)


@pytest.fixture(autouse=True)
def lots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries come at once, and a life goes the same way each time."""
    numbers = count(1)
    monkeypatch.setattr("local.gdrive.drive.new_file_id", lambda **_: f"1{next(numbers):032d}")
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.mark.parametrize("number", lives())
async def test_what_is_stored_is_what_drive_holds(number: int, tmp_path: Path) -> None:
    random.seed(number)
    life = DriveLife(tmp_path / "data", number)
    try:
        await life.begin()
        await live(life, number)
    finally:
        await life.close()
