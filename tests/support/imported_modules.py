"""Which modules a source file imports, late imports included."""

import ast
from collections.abc import Iterator
from pathlib import Path


def imported_modules(file: Path) -> Iterator[str]:
    """Their full names; none that is imported relatively."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
