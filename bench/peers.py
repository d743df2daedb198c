"""Other tools on the same rows, each in an environment of its own under ``bench/work/peers``.

``python -m bench.peers install [NAME …]`` makes the environments. Without one, a peer's row says that it is not there.
Each peer is a program in ``bench/peer_programs`` that its own interpreter runs; it prints one JSON object at its end.
"""

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = {
    "dlt": ("dlt[duckdb]", "pyarrow"),
    "airbyte": ("airbyte-cdk",),
    "singer": ("singer-sdk[msgspec]",),
    "bolt": ("slack-bolt", "aiohttp", "starlette", "uvicorn"),
}
"""What each environment gets. The newest versions: a peer is measured as a newcomer would find it."""

PROGRAMS: Final = Path(__file__).with_name("peer_programs")
FOLDER: Final = Path(__file__).parent / "work" / "peers"


class PeerError(Exception):
    """A peer's program failed; the message is the end of what it said."""


def python_of(name: str) -> Path | None:
    """The interpreter of the peer's environment, None when it is not installed."""
    python = FOLDER / name / "bin" / "python"
    return python if python.exists() else None


def run_program(name: str, program: str, *arguments: str | Path, timeout: float = 600) -> dict[str, Any]:
    """What *program* of peer *name* prints at its end.

    Raises:
        PeerError: it failed, or the peer is not installed.
    """
    python = python_of(name)
    if python is None:
        raise PeerError(f"not installed: python -m bench.peers install {name}")
    done = subprocess.run(
        [python, PROGRAMS / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise PeerError(f"{program} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def install(names: list[str]) -> None:
    """Make the environments of *names*, all of them when none is named.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    for name in names or list(PACKAGES):
        folder = FOLDER / name
        sys.stderr.write(f"installing {', '.join(PACKAGES[name])} into {folder}\n")
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES[name]], check=True)


def main() -> None:
    """Install peers."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=main.__doc__)
    parser.add_argument("command", choices=["install"])
    parser.add_argument("names", nargs="*", choices=[[], *PACKAGES], metavar="NAME", help=", ".join(PACKAGES))
    install(parser.parse_args().names)


if __name__ == "__main__":
    main()
