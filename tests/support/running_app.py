"""A Shardline started as a user starts it, and how a test talks to it."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import requests
from part_of_sample import part_of_sample
from shardline_command import Answer, command_environment, command_line, shardline

from messaging import codec

START_SECONDS = 90.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class RunningApp:
    """A running app: its address, its simulator's, its data folder and tenant."""

    address: str
    simulator: str
    data: Path
    tenant: str = "larkmoor"
    simulators: dict[str, str] = field(default_factory=dict)
    """Addresses by name, such as ``Slack``."""

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
        return requests.get(f"{self.address}/{path}", params=parameters, headers=headers, timeout=60)

    def search(self, token: str | None, body: Any) -> requests.Response:
        """POST search; *body* is sent as JSON unless it is bytes already."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else codec.encode(body)
        return requests.post(f"{self.address}/search", data=data, headers=headers, timeout=60)

    def change(self, **record: Any) -> None:
        """Change a record of the simulated org."""
        self.control("Salesforce", "records", record)

    def control(self, simulator: str, path: str, body: Any = None) -> Any:
        """A call of a simulator's control route; without a body a GET. What it answers."""
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{self.simulators[simulator]}/_control/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()


@contextmanager
def running_app(data: Path, company: Path | None = None, *, tenant: str = "larkmoor") -> Iterator[RunningApp]:
    """``shardline up`` with a company ingested (by default what the sample has in Salesforce), stopped by Ctrl-C."""
    company = company or part_of_sample(data.parent / "company")
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
            simulators = {
                name.removesuffix(" simulator"): address
                for name, address in said.items()
                if name.endswith(" simulator")
            }
            yield RunningApp(said["Serving"], said.get("Salesforce simulator", ""), data, tenant, simulators)
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
