"""A small workspace served by the simulator, connected, and its chain."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from slack_receiver import SlackReceiver
from slack_rig import TEAM, SlackRig

from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace


@pytest.fixture
def simulator() -> Iterator[SlackSimulator]:
    workspace = Workspace(TEAM, domain="acme", email_domain="acme.example")
    workspace.put_user({"id": "U0ANN", "name": "ann", "real_name": "Ann Lee"})
    workspace.put_user({"id": "U0BOB", "name": "bob", "real_name": "Bob Ray"})
    with SlackSimulator(workspace) as running:
        running.api.limits.scale = None
        running.sender.answer_seconds = 60
        yield running


@pytest.fixture
def receiver(simulator: SlackSimulator) -> Iterator[SlackReceiver]:
    with SlackReceiver() as running:
        simulator.sender.subscribe(running.url)
        simulator.sender.concurrency = 1
        yield running


@pytest.fixture
async def rig(tmp_path: Path, simulator: SlackSimulator, receiver: SlackReceiver) -> AsyncIterator[SlackRig]:
    made = SlackRig(tmp_path, simulator, receiver)
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
def deal(rig: SlackRig) -> str:
    """The id of a public channel that the bot is in."""
    workspace = rig.workspace
    return workspace.create_channel("deal-hollis", user="U0ANN", members=[workspace.bot_user_id, "U0BOB"]).id


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None, without_waiting: None) -> None:
    """The functions work on the rig's services; retries come at once."""
