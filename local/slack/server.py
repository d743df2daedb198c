"""Running the simulator: the ASGI app and the sender of events, inside this process or in one of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from slack_sdk import WebClient

from local.simulator_control import controlled
from local.simulator_process import ServedSimulator, SpawnedSimulator
from local.slack.control import ControlRoute
from local.slack.credentials import Credentials
from local.slack.event_sender import EventSender
from local.slack.web_api import WebApi
from local.slack.workspace import Workspace

_CREDENTIAL_VARIABLES: Mapping[str, str] = {
    "bot_token": "SHARDLINE_SIMULATOR_SLACK_BOT_TOKEN",
    "signing_secret": "SHARDLINE_SIMULATOR_SLACK_SIGNING_SECRET",
    "app_token": "SHARDLINE_SIMULATOR_SLACK_APP_TOKEN",
    "verification_token": "SHARDLINE_SIMULATOR_SLACK_VERIFICATION_TOKEN",
}


def credentials_from_environment(environment: Mapping[str, str]) -> Credentials:
    """What the environment says of the credentials; the rest is made up anew."""
    given = {name: environment[variable] for name, variable in _CREDENTIAL_VARIABLES.items() if variable in environment}
    return Credentials(**given)  # type: ignore[arg-type]  # every one of these fields is a text


class SlackSimulator(ServedSimulator):
    """The simulator inside this process, served by a thread, for tests and programs that hold its parts in hand.

    ``workspace`` changes the data, ``api`` the manners (``api.faults``, ``api.limits``, ``api.cursors``, ``api.calls``)
    and ``sender`` how events go out. Use it as a context.
    """

    def __init__(self, workspace: Workspace, credentials: Credentials | None = None) -> None:
        self.workspace = workspace
        self.credentials = credentials or Credentials()
        self.api = WebApi(workspace, self.credentials)
        self.sender = EventSender(workspace, self.credentials, self.api.event_contexts)
        super().__init__(controlled(self.api.__call__, ControlRoute(self.api, self.sender)))

    def client(self) -> WebClient:
        """The vendor's client, with the app's token, that reaches this simulator alone."""
        return web_client(self.base_url, self.credentials)

    def stop(self) -> None:
        """Stop sending and serving."""
        self.sender.stop()
        super().stop()


class SlackSimulatorProcess(SpawnedSimulator):
    """The simulator in a process of its own, as the local host and the benchmarks run it. Use it as a context.

    *arguments* are those of ``python -m local.slack``, without the port. The credentials go over by environment.
    """

    def __init__(self, arguments: Sequence[str | Path], credentials: Credentials | None = None, port: int = 0) -> None:
        self.credentials = credentials or Credentials()
        environment = {variable: getattr(self.credentials, name) for name, variable in _CREDENTIAL_VARIABLES.items()}
        super().__init__("local.slack", arguments, environment, port)

    def client(self) -> WebClient:
        """The vendor's client, with the app's token, that reaches this simulator alone."""
        return web_client(self.base_url, self.credentials)


def web_client(base_url: str, credentials: Credentials) -> WebClient:
    """The vendor's client, its base address that of the simulator at *base_url*."""
    return WebClient(credentials.bot_token, base_url=f"{base_url}/api/")
