"""Random lives of a Slack workspace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
from chain_rig import current
from random_life import live, lives
from slack_life import SlackLife
from slack_source_rig import SlackSourceRig
from source_rig import OTHER_TENANT, TENANT


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
async def test_what_is_stored_is_what_slack_holds(number: int, tmp_path: Path) -> None:
    rig = SlackSourceRig(tmp_path / "data")
    try:
        life = SlackLife(
            rig,
            joins=number % 2 == 0,
            loses=(0.0, 0.3, 0.7)[number % 3],
            restricted=number % 5 == 1,
            tenants=(TENANT, OTHER_TENANT) if number % 7 == 0 else (TENANT,),
        )
        await life.begin()
        await live(life, number)
    finally:
        await rig.close()
