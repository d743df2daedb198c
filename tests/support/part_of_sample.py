"""A part of the sample company as a company of its own, for tests that need some company and not all that it says."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from local.sandbox import SAMPLE_COMPANY

CHANNELS = ("brackwater-renewal", "deal-brackwater")
"""One of either list of channels, a public and a private one."""
FOLDERS = ("Legal", "Customer Projects/Müller sign-on")
"""One of a person's Drive, and one of a shared drive."""


def part_of_sample(folder: Path, systems: Collection[str] = ("salesforce",)) -> Path:
    """Write that part into the new *folder*: all of Salesforce, two channels of Slack, two folders of Drive."""
    folder.mkdir(parents=True)
    shutil.copy(SAMPLE_COMPANY / "company.json", folder)
    parts = {"salesforce": _salesforce, "slack": _slack, "gdrive": _gdrive}
    for system in systems:
        parts[system](SAMPLE_COMPANY / system, folder / system)
    return folder


def _salesforce(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def _slack(source: Path, target: Path) -> None:
    target.mkdir()
    shutil.copy(source / "users.json", target)
    for name in ("channels.json", "groups.json"):
        _write(target / name, [channel for channel in _read(source / name) if channel["name"] in CHANNELS])
    for channel in CHANNELS:
        shutil.copytree(source / channel, target / channel)


def _gdrive(source: Path, target: Path) -> None:
    for name in FOLDERS:
        shutil.copytree(source / name, target / name)
    drive = _read(source / "gdrive.json")
    drive["files"] = {path: told for path, told in drive["files"].items() if (target / path).exists()}
    _write(target / "gdrive.json", drive)


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
