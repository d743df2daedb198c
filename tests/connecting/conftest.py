"""A source of each kind, not connected yet, and the command line beside it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
from chain_rig import current
from commands_of_rig import CommandsOfRig
from drive_source_rig import DriveSourceRig
from salesforce_source_rig import SalesforceSourceRig
from slack_source_rig import SlackSourceRig
from source_rig import SourceRig

RIGS: dict[str, type[SalesforceSourceRig | SlackSourceRig | DriveSourceRig]] = {
    "salesforce": SalesforceSourceRig,
    "slack": SlackSourceRig,
    "gdrive": DriveSourceRig,
}


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SourceRig]:
    """Each of the sources; a test that is of one alone names it by ``indirect``."""
    made = RIGS[request.param](tmp_path / "data")
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def shardline(rig: SourceRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandsOfRig:
    """Calls a command."""
    return CommandsOfRig(rig, tmp_path / "data", monkeypatch)


@pytest.fixture(autouse=True)
def source_functions(chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the functions of the way in to the services of the rig that calls them, too."""
    monkeypatch.setattr("ingestion.blueprint.services", current.get)


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=2):
        yield
