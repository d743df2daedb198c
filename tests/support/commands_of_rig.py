"""Commands called in this process, on the home and at the time of a source's rig."""

import asyncio
import contextlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from shardline_command import Answer
from source_rig import SourceRig

import cli.home
from cli.main import main
from composition import Services, build_local
from local.home import prepare_home
from settings import Settings


class Terminal(io.StringIO):
    """Somebody at a terminal, who types these lines."""

    def isatty(self) -> bool:
        return True


class CommandsOfRig:
    """``shardline …`` for the home of *rig*: with services of its own over the same files, as a process has them."""

    def __init__(self, rig: SourceRig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig = rig
        self.folder = folder
        self._patch = monkeypatch
        for name in [name for name in os.environ if name.startswith("SHARDLINE_")]:
            monkeypatch.delenv(name)
        simulator = {rig.system: getattr(rig.settings, f"{rig.system}_simulator")}
        prepare_home(folder, simulators={system: str(address) for system, address in simulator.items()})
        monkeypatch.setattr(cli.home, "build", self._build)

    def _build(self, settings: Settings) -> Services:
        return build_local(settings, clock=self.rig.clock)

    async def __call__(self, *words: str | Path, typed: str | None = None) -> Answer:
        """Call the command; with *typed* at a terminal where that is typed."""
        for name, value in self.rig.secrets.items():
            self._patch.setenv(name, value)
        return await asyncio.to_thread(self._call, [*map(str, words), "--data", str(self.folder)], typed)

    def _call(self, words: list[str], typed: str | None) -> Answer:
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO() if typed is None else Terminal(typed))
            code = main(words)
        return Answer(code, out.getvalue(), error.getvalue())

    async def status(self) -> dict[str, Any]:
        """The rows of the connections in ``shardline status --json``, by id."""
        answer = await self("status", "--json")
        assert answer.code == 0, answer.error
        return {row["connectionId"]: row for row in answer.json["connections"]}


def complaint(answer: Answer, code: int) -> str:
    """The one line with which the command ended."""
    assert answer.code == code, answer.error or answer.out
    lines = answer.error.strip().splitlines()
    assert lines, answer.out
    assert lines[-1].startswith("shardline: ")
    assert "Traceback" not in answer.error
    return lines[-1]
