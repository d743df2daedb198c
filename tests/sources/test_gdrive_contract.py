"""Google Drive does what every source must."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from drive_source_rig import DriveSourceRig
from source_contract import SourceContract


class TestDrive(SourceContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[DriveSourceRig]:
        async with DriveSourceRig(tmp_path / "data") as made:
            yield made
