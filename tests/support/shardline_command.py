"""The command line as its users call it: a process of its own, its exit code, and what it printed."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command left: *code*, and its texts."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        """The last line of the output, which is a JSON object."""
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def lines(self) -> list[Any]:
        """The output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def command_environment(**more: str) -> dict[str, str]:
    """This environment without what would lead a command to another Shardline."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHARDLINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200", **more}


def command_line(*arguments: str | Path) -> list[str]:
    """The words of a ``shardline`` call."""
    return [sys.executable, "-m", "cli.main", *map(str, arguments)]


class _Forks:
    """The process of ``command_forks.py`` that this one asks, a call at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("command_forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # A library's threads would not be there after a fork.
            env=command_environment(OPENBLAS_NUM_THREADS="1"),
        )
        atexit.register(self.end)

    def run(self, words: list[str], environment: Mapping[str, str], timeout: float) -> Answer:
        """Call the command line; a child that is not done in time is killed.

        Raises:
            TimeoutError: it was not.
        """
        with self._turn, tempfile.TemporaryDirectory() as folder:
            out, error = Path(folder, "out"), Path(folder, "error")
            out.touch()
            error.touch()
            call = {
                "words": words,
                "environment": dict(environment),
                "folder": str(Path.cwd()),
                "out": str(out),
                "error": str(error),
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
            child = self._answer()
            late = threading.Timer(timeout, os.kill, (child, signal.SIGKILL))
            late.start()
            try:
                code = self._answer()
            finally:
                late.cancel()
            if code == -signal.SIGKILL:
                raise TimeoutError(f"shardline {' '.join(words)}: killed after {timeout} s: {error.read_text()}")
            return Answer(code, out.read_text(), error.read_text())

    def _answer(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks for commands has ended"
        return int(line)

    def end(self) -> None:
        """Let it end: it has nobody left who asks."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


_forks = cache(_Forks)


def shardline(*arguments: str | Path, timeout: float = 90, environment: Mapping[str, str] | None = None) -> Answer:
    """Call ``shardline`` and wait for its end."""
    return _forks().run([str(word) for word in arguments], command_environment(**(environment or {})), timeout)
