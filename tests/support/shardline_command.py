"""The command line as its users call it: a process of its own, its exit code, and what it printed."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
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


def shardline(*arguments: str | Path, timeout: float = 90, environment: Mapping[str, str] | None = None) -> Answer:
    """Call ``shardline`` and wait for its end."""
    ended = subprocess.run(
        command_line(*arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=command_environment(**(environment or {})),
    )
    return Answer(ended.returncode, ended.stdout, ended.stderr)
