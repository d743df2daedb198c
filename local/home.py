"""The local home: a data folder, the settings that lead to it, and the app running on it."""

import os
import secrets
from pathlib import Path

from api.tokens import local_key
from settings import HOME_FILE

FUNCTION_KEY_FILE = "function.key"
"""The file of a data folder that holds the key of the operators' routes."""

DEFAULT_SCHEDULES = {
    "SHARDLINE_POLL_SCHEDULE": "*/5 * * * * *",
    "SHARDLINE_RECONCILE_SCHEDULE": "0 * * * * *",
}
"""Locally the timers tick often: a change shows within seconds, and a tick without due work costs next to nothing."""


def prepare_home(data: Path, *, simulator: str | None) -> dict[str, str]:
    """Make the data folder and its settings file; the environment that the app's processes run in.

    The file lets other commands find this home by its folder. It holds no secret; the function key, which the
    environment holds, is kept in a file of its own.
    """
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    environment = {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": str(data), **DEFAULT_SCHEDULES}
    for name in DEFAULT_SCHEDULES:
        if name in os.environ:
            environment[name] = os.environ[name]
    if simulator:
        environment["SHARDLINE_SALESFORCE_SIMULATOR"] = simulator
    lines = [f"{name}={_quoted(value)}" for name, value in environment.items()]
    temporary = data / f".{HOME_FILE}.{secrets.token_hex(4)}"
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(data / HOME_FILE)
    return environment | {"SHARDLINE_FUNCTION_KEY": local_key(data / FUNCTION_KEY_FILE).hex()}


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
