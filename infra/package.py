"""Makes the package that goes to Azure: every file of the app that ``.funcignore`` does not leave out.

    python infra/package.py app.zip

The Functions Core Tools and azd choose the same files. Git is asked which they are, since ``.funcignore`` has the form
of a ``.gitignore``; the packages of ``requirements.txt`` are installed on Azure, for the machine that runs them.
"""

import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold: the same files make the same package."""


def package_files(root: Path = ROOT) -> list[PurePosixPath]:
    """The files that go to Azure, below *root*, which is a working tree of git."""
    untracked = _listed(root, "--others", "--exclude-from=.funcignore")
    tracked = _listed(root, "--cached") - _listed(root, "--cached", "--ignored", "--exclude-from=.funcignore")
    return sorted(PurePosixPath(name) for name in untracked | tracked if (root / name).is_file())


def write_package(target: Path, root: Path = ROOT) -> int:
    """Write the zip; how many files it holds."""
    files = package_files(root)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for name in files:
            entry = zipfile.ZipInfo(str(name), _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            package.writestr(entry, (root / name).read_bytes())
    return len(files)


def _listed(root: Path, *options: str) -> set[str]:
    command = ["git", "ls-files", "-z", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    return {name for name in done.stdout.split("\0") if name}


def main() -> None:
    """Write the package to the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("name the file to write: python infra/package.py app.zip")
    count = write_package(Path(sys.argv[1]))
    sys.stdout.write(f"{sys.argv[1]}: {count} files\n")


if __name__ == "__main__":
    main()
