"""Running the simulator: the ASGI app, a server of it inside this process, and one in a process of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from local.salesforce.adapter import SimulatorAdapter
from local.salesforce.auth import Credentials
from local.salesforce.control import ControlRoute, SetEpoch
from local.salesforce.org import Org
from local.salesforce.rest import RestApi
from local.simulator_control import controlled
from local.simulator_process import ServedSimulator, SpawnedSimulator

_CREDENTIAL_VARIABLES: Mapping[str, str] = {
    "consumer_key": "SHARDLINE_SIMULATOR_SALESFORCE_CONSUMER_KEY",
    "consumer_secret": "SHARDLINE_SIMULATOR_SALESFORCE_CONSUMER_SECRET",
    "username": "SHARDLINE_SIMULATOR_SALESFORCE_USERNAME",
    "password": "SHARDLINE_SIMULATOR_SALESFORCE_PASSWORD",
    "security_token": "SHARDLINE_SIMULATOR_SALESFORCE_SECURITY_TOKEN",
    "public_key": "SHARDLINE_SIMULATOR_SALESFORCE_PUBLIC_KEY",
}


def credentials_from_environment(environment: Mapping[str, str]) -> Credentials:
    """What the environment says of the credentials; the rest is made up anew."""
    given = {name: environment[variable] for name, variable in _CREDENTIAL_VARIABLES.items() if variable in environment}
    return Credentials(**given)  # type: ignore[arg-type]  # every one of these fields is a text


class SalesforceSimulator(ServedSimulator):
    """The simulator inside this process, served by a thread, for tests and programs that hold its parts in hand.

    ``org`` changes the data, ``api`` the manners (``api.faults``, ``api.login``, ``api.calls``…). Use it as a context.
    """

    def __init__(self, org: Org, credentials: Credentials | None = None, set_epoch: SetEpoch | None = None) -> None:
        self.org = org
        self.credentials = credentials or Credentials()
        self.api = RestApi(org, self.credentials)
        super().__init__(controlled(self.api.__call__, ControlRoute(self.api, set_epoch)))

    def session(self) -> requests.Session:
        """A session for simple-salesforce that reaches this simulator alone."""
        return simulator_session(self.base_url)


class SimulatorProcess(SpawnedSimulator):
    """The simulator in a process of its own, as the local host and the benchmarks run it. Use it as a context.

    *arguments* are those of ``python -m local.salesforce``, without the port. The credentials go over by environment.
    """

    def __init__(self, arguments: Sequence[str | Path], credentials: Credentials | None = None, port: int = 0) -> None:
        self.credentials = credentials or Credentials()
        given = {variable: getattr(self.credentials, name) for name, variable in _CREDENTIAL_VARIABLES.items()}
        environment = {variable: value for variable, value in given.items() if value is not None}
        super().__init__("local.salesforce", arguments, environment, port)

    def session(self) -> requests.Session:
        """A session for simple-salesforce that reaches this simulator alone."""
        return simulator_session(self.base_url)


def simulator_session(base_url: str) -> requests.Session:
    """A session whose calls to Salesforce hosts reach the simulator at *base_url*, and which reaches nothing else."""
    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount("https://", SimulatorAdapter(base_url))
    return session
