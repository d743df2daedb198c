"""The lists of packages agree with each other, with the page that says why, and with what the code imports."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ONE_MACHINE_ONLY = {"croniter", "rich", "starlette", "typer", "uvicorn"}
"""What only the command line and the local host use."""
PACKAGE_OF_MODULE = {
    "azure.core": "azure-core",
    "azure.cosmos": "azure-cosmos",
    "azure.functions": "azure-functions",
    "azure.identity": "azure-identity",
    "azure.keyvault.secrets": "azure-keyvault-secrets",
    "azure.monitor.opentelemetry.exporter": "azure-monitor-opentelemetry-exporter",
    "azure.servicebus": "azure-servicebus",
    "azure.storage.blob": "azure-storage-blob",
    "docx": "python-docx",
    "google": "google-auth",
    "googleapiclient": "google-api-python-client",
    "jwt": "pyjwt",
    "opentelemetry": "opentelemetry-api",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "pptx": "python-pptx",
}
"""Where a module's name is not its package's; the longest name that fits tells."""
IMPORTED_BY_OTHERS = {"aiohttp", "cryptography"}
"""The Azure SDKs' asynchronous transports ask for the one, PyJWT for the other when it signs with RS256."""
PRODUCT = ("api", "cli", "connections", "ingestion", "local", "messaging", "operations", "processors", "shards")


def _name(requirement: str) -> str:
    return re.split(r"[<>=!\[;]", requirement)[0].strip().lower().replace("_", "-")


def _declared() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["azure"]]
    return {_name(requirement): requirement for requirement in requirements}


def _package(module: str) -> str:
    fitting = [name for name in PACKAGE_OF_MODULE if f"{module}.".startswith(f"{name}.")]
    return PACKAGE_OF_MODULE[max(fitting, key=len)] if fitting else module.split(".", maxsplit=1)[0].replace("_", "-")


def _imported() -> set[str]:
    own = {*PRODUCT, "azure_composition", "composition", "function_app", "problem_document", "settings"}
    files = [file for folder in PRODUCT for file in (ROOT / folder).rglob("*.py")]
    modules: set[str] = set()
    for file in [*files, *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules.add(node.module)
    known = own | set(sys.stdlib_module_names)
    return {_package(module) for module in modules if module.split(".")[0] not in known}


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
