"""Random lives of Google Drive."""

import random
from itertools import count
from pathlib import Path

import pytest
from drive_life import DriveLife
from random_life import live, lives


@pytest.fixture(autouse=True)
def numbered_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A life goes the same way each time."""
    numbers = count(1)
    monkeypatch.setattr("local.gdrive.drive.new_file_id", lambda **_: f"1{next(numbers):032d}")


@pytest.mark.parametrize("number", lives())
async def test_what_is_stored_is_what_drive_holds(number: int, tmp_path: Path) -> None:
    random.seed(number)
    life = DriveLife(tmp_path / "data", number)
    try:
        await life.begin()
        await live(life, number)
    finally:
        await life.close()
