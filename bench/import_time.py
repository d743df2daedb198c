"""``python -m bench.import_time``: what a cold start spends on importing the app, beside the interpreter alone."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).parents[1]
WORKER_PYTHON: Final = ROOT / ".cache" / "functions-worker" / "bin" / "python"
"""The environment made of requirements.txt, on the Python that Azure runs."""
AIM_SECONDS: Final = 1.5
ROUNDS: Final = 9

STARTS: Final[Sequence[tuple[str, str, tuple[str, ...]]]] = (
    ("the interpreter alone", "pass", ()),
    ("azure.functions", "import azure.functions", ()),
    ("function_app", "import function_app", ()),
    ("function_app, nothing compiled yet", "import function_app", ("-X", "pycache_prefix=/nonexistent", "-B")),
    (
        "function_app and the Azure SDKs, at first use",
        "import function_app, composition; composition.build(composition.load_settings())",
        (),
    ),
)
"""What is started: its name, the statement, and options of the interpreter."""

AZURE: Final = {
    "SHARDLINE_HOME": "azure",
    "ServiceBusConnection__fullyQualifiedNamespace": "bench.servicebus.windows.net",
    "CosmosConnection__accountEndpoint": "https://bench.documents.azure.com:443/",
    "AzureWebJobsStorage__accountName": "bench",
    "SHARDLINE_KEY_VAULT_URL": "https://bench.vault.azure.net",
    "SHARDLINE_TOKEN_ISSUER": "https://login.bench.example",
    "SHARDLINE_TOKEN_KEYS_URL": "https://login.bench.example/keys",
}
"""A home on Azure that nothing is asked of: building its services opens no connection."""


def report(console: Console) -> None:
    """Measure each start, one after the other in every round so that all meet the same noise, and print the medians."""
    python = WORKER_PYTHON if WORKER_PYTHON.exists() else Path(sys.executable)
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in STARTS}
    for _ in range(ROUNDS):
        for name, statement, options in STARTS:
            seconds[name].append(_start(python, statement, options))
    version = subprocess.run([str(python), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    table = Table(title=f"A cold start, {version}, whole processes, median of {ROUNDS}")
    for heading in ("process", "seconds", "times the interpreter", f"aim ≤ {AIM_SECONDS} s"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    bare = statistics.median(seconds[STARTS[0][0]])
    for name, _, _ in STARTS:
        middle = statistics.median(seconds[name])
        verdict = ("reached" if middle <= AIM_SECONDS else "missed") if name.startswith("function_app") else ""
        table.add_row(name, f"{middle:.2f}", f"{middle / bare:.1f}", verdict)
    console.print(table)


def _start(python: Path, statement: str, options: Sequence[str]) -> float:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **AZURE}
    started = time.perf_counter()
    subprocess.run([str(python), *options, "-c", statement], cwd=ROOT, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    report(Console(width=110))
