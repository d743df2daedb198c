"""Importing the app reaches for nothing: what opens files, sockets or processes is built when a function first runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

WATCH = """
import json, sys
seen = {"modules": [], "events": []}
def watch(event, arguments):
    if event.split(".")[0] in {"subprocess", "sqlite3", "shutil", "tempfile"} or event in {
        "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.exec", "os.posix_spawn", "urllib.Request",
        "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
    }:
        seen["events"].append(event)
    if event == "open":
        path, mode, flags = arguments
        if (mode and set(mode) & set("wax+")) or (flags or 0) & 3:
            seen["events"].append(f"open {path} to write")
        elif str(path).endswith((".env", ".db", ".npy", ".safetensors", ".csv")):
            seen["events"].append(f"open {path}")
sys.addaudithook(watch)
%s
seen["modules"] = sorted(sys.modules)
print(json.dumps(seen))
"""

HEAVY = (
    "aiohttp",
    "azure.core",
    "azure.cosmos",
    "azure.identity",
    "azure.keyvault",
    "azure.monitor",
    "azure.servicebus",
    "azure.storage",
    "docx",
    "openpyxl",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "pptx",
    "pypdf",
    "rich",
    "starlette",
    "striprtf",
    "typer",
    "wordllama",
)
"""Loaded by the first function that needs them, or by commands alone."""


def watched(statement: str) -> dict[str, Any]:
    """What a new interpreter does while it runs *statement*."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH % statement],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_importing_the_app_opens_nothing() -> None:
    assert watched("import function_app")["events"] == []


def test_importing_the_app_loads_no_heavy_library() -> None:
    modules = watched("import function_app")["modules"]
    assert "function_app" in modules
    assert [name for name in modules if name.startswith(tuple(HEAVY))] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import socket; socket.getaddrinfo('localhost', 80)",
        "open('/dev/shm/shardline-watched', 'w')",
        "import sqlite3; sqlite3.connect('')",
    ],
)
def test_the_watch_sees_what_it_is_for(statement: str) -> None:
    assert watched(statement)["events"] != []


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SHARDLINE_HOME is missing"),
        ({"SHARDLINE_HOME": "azure"}, "ServiceBusConnection is missing"),
    ],
)
def test_a_wrong_setting_stops_the_app_before_it_takes_a_message(environment: dict[str, str], named: str) -> None:
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import function_app"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert named in done.stderr.splitlines()[-1]
