"""The local home: a data folder, the settings that lead to it, and the app running on it."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from api.tokens import local_key
from local.host.process_lock import LockHeldError, take_lock
from settings import HOME_FILE, make_data_folder

FUNCTION_KEY_FILE = "function.key"
"""The file of a data folder that holds the key of the operators' routes."""

SECRETS_FOLDER = "secrets"
"""The folder of a data folder that people put the connections' secrets into."""

LOCK_FILE = "home.lock"
"""The file of a data folder that whoever runs the app on it has locked."""

DEFAULT_SCHEDULES = {
    "SHARDLINE_POLL_SCHEDULE": "*/5 * * * * *",
    "SHARDLINE_RECONCILE_SCHEDULE": "0 * * * * *",
}
"""Locally the timers tick often: a change shows within seconds, and a tick without due work costs next to nothing."""

SWEEP_CONFIRM = "SHARDLINE_SWEEP_CONFIRM_SECONDS"
SANDBOX_SWEEP_CONFIRM_SECONDS = "5"
"""A simulator lists no record late, so that whoever tries a hard delete need not wait for the second listing."""


class HomeInUseError(Exception):
    """Another app runs on the data folder; the message is one line that says what to do."""


@contextmanager
def held_home(data: Path) -> Iterator[None]:
    """Make the data folder where it is missing, and keep every other app off it until the context ends.

    Raises:
        HomeInUseError: another Shardline runs on the folder.
        OSError: the folder can't be made or written.
    """
    make_data_folder(data)
    try:
        lock = take_lock(data / LOCK_FILE)
    except LockHeldError as error:
        raise HomeInUseError(f"another Shardline (process {error.owner}) runs on {data}; stop it first") from None
    with lock:
        yield


def prepare_home(data: Path, *, simulators: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Make the data folder and its settings file; the environment that the app's processes run in.

    The file lets other commands find this home by its folder. It holds no secret: those of connections have a folder
    that its owner alone may look into; the function key, which the environment holds, is kept in a file of its own.
    *simulators* are addresses by system.
    """
    data = data.absolute()
    make_data_folder(data)
    (data / SECRETS_FOLDER).mkdir(mode=0o700, exist_ok=True)
    environment = {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": str(data), **DEFAULT_SCHEDULES}
    for name in DEFAULT_SCHEDULES:
        if name in os.environ:
            environment[name] = os.environ[name]
    for system, address in simulators.items():
        environment[f"SHARDLINE_{system.upper()}_SIMULATOR"] = address
    if simulators:
        environment[SWEEP_CONFIRM] = os.environ.get(SWEEP_CONFIRM, SANDBOX_SWEEP_CONFIRM_SECONDS)
    lines = [f"{name}={_quoted(value)}" for name, value in environment.items()]
    temporary = data / f".{HOME_FILE}.{secrets.token_hex(4)}"
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(data / HOME_FILE)
    return environment | {"SHARDLINE_FUNCTION_KEY": local_key(data / FUNCTION_KEY_FILE).hex()}


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
