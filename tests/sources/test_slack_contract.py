"""Slack does what every source must."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from slack_source_rig import SlackSourceRig
from source_contract import SourceContract


class TestSlack(SourceContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[SlackSourceRig]:
        async with SlackSourceRig(tmp_path / "data") as made:
            yield made
