"""The sandbox: the vendor simulators playing a company, and the connections that read it."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe

from connections.connection import Connection, Schedule
from connections.gdrive_connection import DriveConnection, GoogleAuth
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.secrets import environment_variable
from connections.slack_connection import SlackAuth, SlackConnection
from local.company import DEFAULT_OBJECTS, read_company_settings
from local.gdrive.server import DriveProcess
from local.salesforce.auth import Credentials
from local.salesforce.server import SimulatorProcess
from local.simulator_process import SimulatorError, SpawnedSimulator
from local.slack.server import SlackSimulatorProcess

SAMPLE_COMPANY = Path(__file__).parent / "sample_company"
"""The company that is played when none is named."""

SYSTEMS = ("salesforce", "slack", "gdrive")
"""The sources that a company directory may hold, each in a folder of its name."""

SANDBOX_DOMAIN = "sandbox.my"
CONSUMER_KEY = "3MVG9.shardline.sandbox"
"""The public half of the app's credentials: always the same, so that a second run changes no connection."""
POLL_SECONDS = 5
"""How soon a change in a simulator is asked for; loopback calls cost nothing."""
RECONCILE_SECONDS = 300
"""How soon Slack is asked for what its events missed."""
SALESFORCE_HOOK = "salesforce-sandbox-hook"
"""The name of the secret in the address that the Salesforce simulator pushes to."""
PUSH_HOST = "https://sandbox.shardline.example"
"""Where the Drive simulator believes to push to: Google takes https addresses alone."""


def connection_id(system: str) -> str:
    """The id of the sandbox's connection to *system*."""
    return f"{system}-sandbox"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A company being played: its tenant, the simulators by system, and the connections that lead the app to them."""

    tenant_id: str
    simulators: Mapping[str, SpawnedSimulator]
    secrets: Mapping[str, str]
    """By environment variable."""
    connections: tuple[Connection, ...]

    @property
    def addresses(self) -> dict[str, str]:
        """Where each simulator takes calls, by system."""
        return {system: simulator.base_url for system, simulator in self.simulators.items()}

    def push_to(self, port: int) -> None:
        """Have the simulators send what their vendors push to the app on this machine's *port*.

        Raises:
            SimulatorError: one refuses, or the app does not answer it as the vendor wants.
        """
        app = f"http://127.0.0.1:{port}"
        if slack := self.simulators.get("slack"):
            slack.control("/subscription", {"url": f"{app}/api/webhooks/slack"})
        if salesforce := self.simulators.get("salesforce"):
            secret = self.secrets[environment_variable(self.tenant_id, SALESFORCE_HOOK)]
            address = f"{app}/api/webhooks/salesforce/{connection_id('salesforce')}/{secret}"
            salesforce.control("/pushes", method="DELETE")
            salesforce.control("/pushes", {"url": address, "style": "changes"})
        if gdrive := self.simulators.get("gdrive"):
            gdrive.control("/push", {"deliverTo": app})


@contextmanager
def play(
    directory: Path, *, port: int = 0, pushes: bool = False, systems: Collection[str] = SYSTEMS
) -> Iterator[Sandbox]:
    """Play the company of *directory* until the context ends: those of *systems* that it has a folder of.

    With *pushes* the connections are such that the simulators can push to the app: see :meth:`Sandbox.push_to`. *port*
    is the Salesforce simulator's; the others take free ones.

    Raises:
        CompanyError, SimulatorError: the directory can't be read as a company, or a simulator does not start.
        SecretError: the tenant's id can't be part of a variable's name.
    """
    there = [system for system in systems if (directory / system).is_dir() and not (directory / system).is_symlink()]
    if systems == SYSTEMS and (directory / "slack.zip").is_file() and "slack" not in there:
        there.append("slack")
    if not there:
        # What is wrong with such a directory is the Salesforce simulator's to say.
        there = ["salesforce"]
    tenant_id = read_company_settings(directory)["tenantId"]
    with ExitStack() as stack:
        arguments: list[str | Path] = ["--company", directory.absolute()]
        simulators: dict[str, SpawnedSimulator] = {}
        secrets: dict[str, str] = {}
        connections: list[Connection] = []

        def keep(name: str, value: str) -> str:
            secrets[environment_variable(tenant_id, name)] = value
            return f"secret:{tenant_id}/{name}"

        if "salesforce" in there:
            salesforce = stack.enter_context(SimulatorProcess(arguments, Credentials(consumer_key=CONSUMER_KEY), port))
            simulators["salesforce"] = salesforce
            org = salesforce.control("")
            others = sorted(name for name in org["objects"] if name not in (*DEFAULT_OBJECTS, "Organization"))
            connections.append(
                SalesforceConnection(
                    connection_id=connection_id("salesforce"),
                    tenant_id=tenant_id,
                    name="Salesforce sandbox",
                    instance=org["orgId"],
                    auth=SalesforceAuth(
                        flow="client-credentials",
                        domain=SANDBOX_DOMAIN,
                        consumer_key=salesforce.credentials.consumer_key,
                        consumer_secret=keep("salesforce-sandbox", salesforce.credentials.consumer_secret),
                    ),
                    objects=tuple(PolledObject(name=name) for name in (*DEFAULT_OBJECTS, *others)),
                    webhook_secrets=(keep(SALESFORCE_HOOK, token_urlsafe(24)),),
                    schedule=Schedule(poll_seconds=POLL_SECONDS),
                )
            )
        if "slack" in there:
            slack = stack.enter_context(SlackSimulatorProcess(arguments))
            # Nobody waits for tiers here: what they do is for tests to show.
            slack.control("/settings", {"rateScale": None})
            simulators["slack"] = slack
            connections.append(
                SlackConnection(
                    connection_id=connection_id("slack"),
                    tenant_id=tenant_id,
                    name="Slack sandbox",
                    auth=SlackAuth(
                        bot_token=keep("slack-sandbox-bot", slack.credentials.bot_token),
                        signing_secret=keep("slack-sandbox-signing", slack.credentials.signing_secret),
                    ),
                    join_public=True,
                    events_per_second=200,
                    calls_per_minute=dict.fromkeys(UNHURRIED, 100_000),
                    schedule=Schedule(poll_seconds=RECONCILE_SECONDS),
                )
            )
        if "gdrive" in there:
            gdrive = stack.enter_context(DriveProcess(arguments))
            simulators["gdrive"] = gdrive
            domain = gdrive.control("")
            connections.append(
                DriveConnection(
                    connection_id=connection_id("gdrive"),
                    tenant_id=tenant_id,
                    name="Google Drive sandbox",
                    instance=domain["customerId"],
                    auth=GoogleAuth(
                        service_account=keep(
                            "gdrive-sandbox-account", json.dumps(gdrive.credentials.service_account_info)
                        ),
                        subjects=tuple(domain["users"]),
                    ),
                    calls_per_minute=100_000,
                    schedule=Schedule(poll_seconds=POLL_SECONDS),
                    push_address=f"{PUSH_HOST}/api/webhooks/gdrive" if pushes else None,
                    channel_secret=keep("gdrive-sandbox-channel", gdrive.credentials.client_id),
                )
            )
        yield Sandbox(tenant_id, simulators, secrets, tuple(connections))


UNHURRIED = (
    "conversations.list",
    "conversations.info",
    "conversations.history",
    "conversations.replies",
    "conversations.members",
    "conversations.join",
    "users.list",
    "users.info",
    "users.conversations",
)
"""The methods that the sandbox's connection to Slack does not wait with."""

__all__ = ["SAMPLE_COMPANY", "SYSTEMS", "Sandbox", "SimulatorError", "connection_id", "play"]
