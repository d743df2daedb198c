"""Each command on a page can be called as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.command_line import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"\bshardline ((?:[^`\n#\\]|\\\n)+)")
IN_CODE = re.compile(r"(?:`|^|bin/)shardline ([a-z][\w-]*)", re.MULTILINE)
"""The first word of a call in backticks, in a block of code, or by its path; elsewhere it may name the product."""
ROOT_COMMAND: Any = typer.main.get_command(app)
OPTION = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*")


def _command(words: list[str]) -> tuple[Any, list[str]] | None:
    """The command that *words* begin with, and what is left of them; None where they are no call."""
    command = ROOT_COMMAND
    while words and words[0] in getattr(command, "commands", ()):
        command, words = command.commands[words[0]], words[1:]
    return None if hasattr(command, "commands") else (command, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_options_are_the_commands_own_and_its_arguments_are_there(page: Path) -> None:
    for call in CALL.findall(page.read_text()):
        found = _command(call.replace("\\\n", " ").split())
        if found is None:
            continue
        command, words = found
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert set(OPTION.findall(" ".join(words))) <= known, call
        if words and any(one.param_type_name == "argument" and one.required for one in command.params):
            assert not words[0].startswith("-"), f"{call}: it takes an argument"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_commands_are_there(page: Path) -> None:
    assert set(IN_CODE.findall(page.read_text())) <= set(ROOT_COMMAND.commands)


def test_calls_are_found() -> None:
    page = (ROOT / "docs" / "operate.md").read_text()
    assert sum(_command(call.split()) is not None for call in CALL.findall(page)) > 10
