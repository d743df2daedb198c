"""Runs a command with the values of a ``local.settings.json``, as the Functions Core Tools run the app with them.

python -m local.emulators.with_settings local.settings.json shardline status
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path


class SettingsFileError(Exception):
    """The file can't be used; the message names it and says why."""


def values_of(file: Path) -> dict[str, str]:
    """The values in *file*.

    Raises:
        SettingsFileError: it is missing, or not what the Core Tools write.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsFileError(f"{file} is missing: copy local.settings.example.json") from None
    except ValueError as error:
        raise SettingsFileError(f"{file} is no JSON: {error}") from None
    if isinstance(content, dict) and content.get("IsEncrypted"):
        raise SettingsFileError(f"{file} is encrypted: run `func settings decrypt`")
    values = content.get("Values") if isinstance(content, dict) else None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise SettingsFileError(f'{file} has no "Values" whose values are all texts')
    return values


def environment_with(values: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """*environment*, and below it *values*: what a shell sets goes before the file, as in the Core Tools."""
    return {**values, **environment}


def main() -> None:
    """Become the command, with the file's values."""
    if len(sys.argv) < 3:
        sys.exit("name the file and the command: python -m local.emulators.with_settings FILE COMMAND …")
    file, *command = sys.argv[1:]
    try:
        values = values_of(Path(file))
    except SettingsFileError as error:
        sys.exit(str(error))
    os.execvpe(command[0], command, environment_with(values, os.environ))  # noqa: S606 - the command is the caller's


if __name__ == "__main__":
    main()
