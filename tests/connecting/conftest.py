"""A source of each kind, not connected yet, and the command line beside it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
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
    async with RIGS[request.param](tmp_path / "data") as made:
        yield made


@pytest.fixture
def shardline(rig: SourceRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandsOfRig:
    """Calls a command."""
    return CommandsOfRig(rig, tmp_path / "data", monkeypatch)


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None) -> Iterator[None]:
    """The functions work on the rig's services; a call that fails is made once more, at once."""
    with stamina.set_testing(True, attempts=2):
        yield
