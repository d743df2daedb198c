"""Running the simulator: the ASGI app, a server of it inside this process, and one in a process of its own."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from local.gdrive.auth import Credentials
from local.gdrive.control import ControlRoute
from local.gdrive.drive import Drive
from local.gdrive.rest import RestApi
from local.simulator_control import controlled
from local.simulator_process import ServedSimulator, SpawnedSimulator

PUBLIC_KEY_VARIABLE = "SHARDLINE_SIMULATOR_GDRIVE_PUBLIC_KEY"
CLIENT_EMAIL_VARIABLE = "SHARDLINE_SIMULATOR_GDRIVE_CLIENT_EMAIL"


class DriveSimulator(ServedSimulator):
    """The simulator inside this process, served by a thread, for tests and programs that hold its parts in hand.

    ``drive`` changes the data, ``api`` the manners (``api.faults``, ``api.login``, ``api.channels``, ``api.calls``…).
    Use it as a context. *public_key* stands in for the credentials' own where only the public half is known.
    """

    def __init__(self, drive: Drive, credentials: Credentials | None = None, public_key: str | None = None) -> None:
        self.drive = drive
        self.credentials = credentials or Credentials(admin=drive.admin, users=drive.users)
        self.api = RestApi(drive, self.credentials, public_key)
        super().__init__(controlled(self.api.__call__, ControlRoute(self.api)))

    def start(self, port: int = 0) -> Self:
        """Serve from a thread and send notifications from another; returns when calls are taken.

        Raises:
            SimulatorError: the port is in use, or the server does not start.
        """
        super().start(port)
        self.api.channels.start()
        return self

    def serve_until_input_ends(self, listener: socket.socket) -> None:
        """Serve from this thread, say the address on standard output, and end when standard input closes."""
        self.api.channels.start()
        super().serve_until_input_ends(listener)

    def stop(self) -> None:
        """Stop sending and serving."""
        self.api.channels.stop()
        super().stop()


class DriveProcess(SpawnedSimulator):
    """The simulator in a process of its own, as the local host and the benchmarks run it. Use it as a context.

    *arguments* are those of ``python -m local.gdrive``, without the port. Only the public half of the service account's
    key goes over, by environment. Once started, ``credentials`` has the company's administrator and users.
    """

    def __init__(self, arguments: Sequence[str | Path], credentials: Credentials | None = None, port: int = 0) -> None:
        self.credentials = credentials or Credentials(admin="")
        environment = {
            PUBLIC_KEY_VARIABLE: self.credentials.public_key,
            CLIENT_EMAIL_VARIABLE: self.credentials.client_email,
        }
        super().__init__("local.gdrive", arguments, environment, port)

    def start(self) -> Self:
        """Start it; returns when it takes calls.

        Raises:
            SimulatorError: it ended instead; the message is what it said.
        """
        super().start()
        company = self.control("")
        self.credentials = replace(self.credentials, admin=company["admin"], users=tuple(company["users"]))
        return self


def simulator_from_environment(drive: Drive, environment: Mapping[str, str]) -> DriveSimulator:
    """A simulator that lets in whom the environment names; without a key there, nobody."""
    email = environment.get(CLIENT_EMAIL_VARIABLE)
    credentials = Credentials(admin=drive.admin, users=drive.users)
    if email is not None:
        credentials = replace(credentials, client_email=email)
    return DriveSimulator(drive, credentials, environment.get(PUBLIC_KEY_VARIABLE))
