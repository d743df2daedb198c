"""A small workspace served by the simulator, the vendor's client, and a request URL that takes its events."""

from collections.abc import Iterator

import pytest
from slack_receiver import SlackReceiver
from slack_sdk import WebClient

from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace

TEAM = "T0TEST0001"


@pytest.fixture
def workspace() -> Workspace:
    """Ann and Bob, and the bot; no channels."""
    made = Workspace(TEAM)
    made.put_user({"id": "U0ANN", "name": "ann"})
    made.put_user({"id": "U0BOB", "name": "bob"})
    return made


@pytest.fixture
def simulator(workspace: Workspace) -> Iterator[SlackSimulator]:
    with SlackSimulator(workspace) as running:
        running.sender.answer_seconds = 60
        yield running


@pytest.fixture
def client(simulator: SlackSimulator) -> WebClient:
    return simulator.client()


@pytest.fixture
def deal(workspace: Workspace) -> str:
    """The id of a public channel that the bot is in."""
    return workspace.create_channel("deal-hollis", user="U0ANN", members=[workspace.bot_user_id, "U0BOB"]).id


@pytest.fixture
def receiver() -> Iterator[SlackReceiver]:
    with SlackReceiver() as running:
        yield running


@pytest.fixture
def subscribed(simulator: SlackSimulator, receiver: SlackReceiver) -> SlackReceiver:
    """The receiver, as the app's request URL; retries don't wait."""
    simulator.sender.retry_scale = 0
    simulator.sender.subscribe(receiver.url)
    return receiver
