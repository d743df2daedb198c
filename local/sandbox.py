"""The sandbox: the vendor simulators playing a company, and the connections that read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connections.connection import Schedule
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.secrets import environment_variable
from local.company import DEFAULT_OBJECTS
from local.salesforce.auth import Credentials
from local.salesforce.server import SimulatorProcess

SAMPLE_COMPANY = Path(__file__).parent / "sample_company"
"""The company that is played when none is named."""

CONNECTION_ID = "salesforce-sandbox"
SECRET_NAME = "salesforce-sandbox"  # noqa: S105 - the name of a secret, not one
SANDBOX_DOMAIN = "sandbox.my"
CONSUMER_KEY = "3MVG9.shardline.sandbox"
"""The public half of the app's credentials: always the same, so that a second run changes no connection."""
POLL_SECONDS = 5
"""How soon a change in the simulator is asked for; loopback calls cost nothing."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A company being played: its tenant, what leads the app to it, and the connection to register."""

    tenant_id: str
    simulator: str
    secrets: dict[str, str]
    connection: SalesforceConnection


@contextmanager
def play(directory: Path, *, port: int = 0) -> Iterator[Sandbox]:
    """Play the company of *directory* until the context ends.

    Raises:
        SimulatorError: the directory can't be read as a company, or the simulator does not start.
        SecretError: the tenant's id can't be part of a variable's name.
    """
    credentials = Credentials(consumer_key=CONSUMER_KEY)
    with SimulatorProcess(["--company", directory.absolute()], credentials, port) as simulator:
        org = simulator.control("")
        tenant_id: str = org["tenantId"]
        others = sorted(name for name in org["objects"] if name not in (*DEFAULT_OBJECTS, "Organization"))
        yield Sandbox(
            tenant_id=tenant_id,
            simulator=simulator.base_url,
            secrets={environment_variable(tenant_id, SECRET_NAME): simulator.credentials.consumer_secret},
            connection=SalesforceConnection(
                connection_id=CONNECTION_ID,
                tenant_id=tenant_id,
                system="salesforce",
                name="Salesforce sandbox",
                auth=SalesforceAuth(
                    flow="client-credentials",
                    domain=SANDBOX_DOMAIN,
                    consumer_key=simulator.credentials.consumer_key,
                    consumer_secret=f"secret:{tenant_id}/{SECRET_NAME}",
                ),
                objects=tuple(PolledObject(name=name) for name in (*DEFAULT_OBJECTS, *others)),
                schedule=Schedule(poll_seconds=POLL_SECONDS),
            ),
        )
