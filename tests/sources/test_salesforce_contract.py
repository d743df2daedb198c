"""Salesforce does what every source must."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from salesforce_source_rig import SalesforceSourceRig
from source_contract import SourceContract


class TestSalesforce(SourceContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[SalesforceSourceRig]:
        async with SalesforceSourceRig(tmp_path / "data") as made:
            yield made
