"""The page on operating lists the reasons for which messages are parked: those of the code, and no other."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("ingestion", "processors", "operations")
ROW = re.compile(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", re.MULTILINE)
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
RAISED = frozenset({"Park", "PermanentError", "MappingError", "parked_message", "_UnreadableTextError"})
"""What is called with a reason: its first argument, or the one named so."""


def texts_of(module: ast.Module) -> dict[str, str]:
    """The module's constants that are texts, by name."""
    return {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def reasons_in(module: ast.Module, constants: Mapping[str, str]) -> Iterator[str]:
    """The reasons that the module gives; one that it passes on is no text of its own."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in RAISED:
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"] or node.args[:1]
        for value in given:
            word = constants.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
            if isinstance(word, str) and WORD.fullmatch(word):
                yield word


def test_the_page_lists_every_reason_and_no_other() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    modules = [ast.parse(file.read_text()) for file in files]
    imported = {name: text for module in modules for name, text in texts_of(module).items()}
    given = {reason for module in modules for reason in reasons_in(module, {**imported, **texts_of(module)})}
    page = (ROOT / "docs" / "operate.md").read_text()
    section = page.partition("## Why messages are parked")[2].partition("\n## ")[0]
    listed = [word for row in ROW.findall(section) for word in re.findall(r"[a-z-]+", row)]
    assert len(given) > 20
    assert sorted(listed) == sorted(given)
