"""Random lives of a Salesforce org."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
from chain_rig import current
from random_life import live, lives
from salesforce_life import SalesforceLife


@pytest.fixture(autouse=True)
def source_functions(chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the functions of the way in to the services of the rig that calls them, too."""
    monkeypatch.setattr("ingestion.blueprint.services", current.get)


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.mark.parametrize("number", lives())
async def test_what_is_stored_is_what_the_org_holds(number: int, tmp_path: Path) -> None:
    life = SalesforceLife(tmp_path / "data", number)
    try:
        await life.begin()
        await live(life, number)
    finally:
        await life.close()
