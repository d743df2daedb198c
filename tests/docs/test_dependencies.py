"""The lists of packages agree with each other, with the page that says why, and with what the code imports."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ONE_MACHINE_ONLY = {"croniter", "rich", "starlette", "typer", "uvicorn"}
"""What only the command line and the local host use."""
PACKAGE_OF_MODULE = {"azure": "azure-functions", "jwt": "pyjwt"}
IMPORTED_BY_OTHERS = {"cryptography"}
"""PyJWT asks for it when it signs with RS256."""
PRODUCT = ("api", "cli", "connections", "ingestion", "local", "messaging", "operations", "processors", "shards")


def _name(requirement: str) -> str:
    return re.split(r"[<>=!\[;]", requirement)[0].strip().lower().replace("_", "-")


def _declared() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {_name(requirement): requirement for requirement in project["dependencies"]}


def _imported() -> set[str]:
    own = {*PRODUCT, "composition", "function_app", "settings"}
    files = [file for folder in PRODUCT for file in (ROOT / folder).rglob("*.py")]
    modules: set[str] = set()
    for file in [*files, ROOT / "composition.py", ROOT / "function_app.py", ROOT / "settings.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules.add(node.module.split(".")[0])
    foreign = modules - own - set(sys.stdlib_module_names)
    return {PACKAGE_OF_MODULE.get(module, module.replace("_", "-")) for module in foreign}


def test_what_the_code_imports_is_what_is_declared() -> None:
    assert _imported() | IMPORTED_BY_OTHERS == set(_declared())


def test_azure_installs_the_same_without_what_only_one_machine_needs() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {_name(line): line for line in lines if line and not line.startswith("#")}
    assert required == {name: text for name, text in _declared().items() if name not in ONE_MACHINE_ONLY}


def test_each_package_has_its_reason_on_the_page() -> None:
    rows = re.findall(r"^\| ([\w, -]+) \| .+ \|$", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    told = {name.strip().lower() for row in rows for name in row.split(",")} - {"package"}
    assert told == set(_declared())
