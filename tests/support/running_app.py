"""A Shardline started as a user starts it, and how a test talks to it."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import requests
from part_of_sample import part_of_sample
from shardline_command import Answer, command_environment, command_line, shardline

from messaging import codec

START_SECONDS = 90.0
STOP_SECONDS = 40.0


@dataclass(frozen=True)
class RunningApp:
    """A running app: its address, its simulator's, its data folder and tenant."""

    address: str
    simulator: str
    data: Path
    tenant: str = "larkmoor"

    def cli(self, *arguments: str) -> Answer:
        """Run a command on the data folder."""
        return shardline(*arguments, "--data", self.data)

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints as JSON."""
        done = self.cli(*arguments, "--json")
        assert done.code == 0, done.error
        return codec.decode(done.out)

    def token(self, user: str, *options: str) -> str:
        """A reader's token."""
        done = self.cli("token", "--user", user, *options)
        assert done.code == 0, done.error
        return done.out.strip()

    def get(self, path: str, token: str | None = None, **parameters: str) -> requests.Response:
        """GET under /api."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.get(f"{self.address}/{path}", params=parameters, headers=headers, timeout=30)

    def search(self, token: str | None, body: Any) -> requests.Response:
        """POST search; *body* is sent as JSON unless it is bytes already."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else codec.encode(body)
        return requests.post(f"{self.address}/search", data=data, headers=headers, timeout=30)

    def change(self, **record: Any) -> None:
        """Change a record of the simulated org."""
        requests.post(f"{self.simulator}/_control/records", json=record, timeout=30).raise_for_status()


@contextmanager
def running_app(data: Path) -> Iterator[RunningApp]:
    """``shardline up`` with what the sample company has in Salesforce ingested; stopped as with Ctrl-C."""
    company = part_of_sample(data.parent / "company")
    log = data.parent / f"{data.name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command_line("up", "--data", data, "--port", "0", "--company", company),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=command_environment(),
        )
        try:
            said = _said(process, log)
            yield RunningApp(said["Serving"], said["Salesforce simulator"], data)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _said(process: "subprocess.Popen[str]", log: Path) -> dict[str, str]:
    """The addresses that the command prints once it serves."""
    assert process.stdout is not None
    lines: Queue[str] = Queue()
    threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
    said: dict[str, str] = {}
    everything = ""
    while "Stop with" not in said:
        try:
            line = lines.get(timeout=START_SECONDS)
        except Empty:
            raise AssertionError(f"shardline up did not serve:\n{everything}\n{log.read_text()}") from None
        everything += line
        pair = re.match(r"([A-Z][^:]*): +(\S+)", line)
        if pair:
            said[pair[1]] = pair[2]
    return said


def _forward(output: Iterable[str], lines: "Queue[str]") -> None:
    for line in output:
        lines.put(line)
