"""Random lives of a Salesforce org."""

from pathlib import Path

import pytest
from random_life import live, lives
from salesforce_life import SalesforceLife


@pytest.mark.parametrize("number", lives())
async def test_what_is_stored_is_what_the_org_holds(number: int, tmp_path: Path) -> None:
    life = SalesforceLife(tmp_path / "data", number)
    try:
        await life.begin()
        await live(life, number)
    finally:
        await life.close()
