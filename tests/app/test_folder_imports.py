"""Imports between the folders of the app point one way."""

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from imported_modules import imported_modules

ROOT = Path(__file__).parents[2]


def imports_by_folder(root: Path) -> dict[str, set[str]]:
    """The other folders of the app that each of them imports, late and for types alone too."""
    folders = {path.name for path in root.iterdir() if (path / "__init__.py").exists()} - {"bench"}
    return {
        folder: {
            top
            for file in (root / folder).rglob("*.py")
            for module in imported_modules(file)
            if (top := module.partition(".")[0]) in folders and top != folder
        }
        for folder in folders
    }


def test_no_folder_imports_one_that_imports_it() -> None:
    order = list(TopologicalSorter(imports_by_folder(ROOT)).static_order())
    assert {"api", "cli", "connections", "ingestion", "local", "operations", "processors"} < set(order)


def test_what_all_stand_on_imports_nothing_of_them() -> None:
    imports = imports_by_folder(ROOT)
    assert imports["messaging"] == set()
    assert imports["shards"] == {"messaging"}


def test_a_circle_of_folders_would_be_seen(tmp_path: Path) -> None:
    imports = {
        "doors": "def late():\n    from halls.long import end\n",
        "halls": "import roofs\n",
        "roofs": "import doors\n",
    }
    for folder, text in imports.items():
        (tmp_path / folder / "inner").mkdir(parents=True)
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "inner" / "code.py").write_text(text)
    with pytest.raises(CycleError, match="cycle"):
        TopologicalSorter(imports_by_folder(tmp_path)).prepare()
