"""The files of a Slack export, unpacked or as a .zip: read in place, within limits, never through a link.

Nothing is unpacked to disk. Only ``x.json`` and ``folder/x.json`` below the export's own folder exist for a reader.
"""

import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Self

MARK: Final = "channels.json"
"""The file that every export has at its top."""


class ExportError(Exception):
    """A Slack export that can't be read. The message is one line: file, place where there is one, and remedy."""


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """How much an export may be before it is refused unread.

    *expansion* is how many times its own size a .zip may unpack to; JSON of messages packs to about a tenth.
    """

    files: int = 500_000
    file_bytes: int = 128 << 20
    total_bytes: int = 16 << 30
    expansion: int = 100


DEFAULT_LIMITS: Final = ExportLimits()
_UNPACKED_WITHOUT_QUESTION: Final = 16 << 20
"""Bytes that any .zip may unpack to, however small it is."""


class ExportArchive(ABC):
    """An open export. *folders* are its folders with the .json files in each; the top is the folder ``""``."""

    def __init__(self, folders: dict[str, set[str]]) -> None:
        self.folders = folders

    @abstractmethod
    def read(self, folder: str, file: str) -> bytes:
        """The bytes of a file that is in :attr:`folders`.

        Raises:
            ExportError: it can't be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up the files that are held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_archive(path: Path, limits: ExportLimits = DEFAULT_LIMITS) -> ExportArchive:
    """The export at *path*: a .zip, a folder with ``channels.json``, or a folder that holds one such .zip or folder.

    Raises:
        ExportError: there is no export, several, or one beyond *limits*.
    """
    if path.is_symlink() or not path.exists():
        raise ExportError(f"{path}: {'a link' if path.is_symlink() else 'no such file or folder'}; name the export")
    if not path.is_dir():
        return _ZipArchive(path, limits)
    if _is_plain_file(path / MARK):
        return _FolderArchive(path, limits)
    try:
        inside = sorted(entry for entry in path.iterdir() if not entry.is_symlink() and not entry.name.startswith("."))
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; make the folder readable") from error
    found = [entry for entry in inside if _is_plain_file(entry) and entry.suffix.lower() == ".zip"]
    found += [entry for entry in inside if entry.is_dir() and _is_plain_file(entry / MARK)]
    if len(found) != 1:
        what = "several exports" if found else "no Slack export"
        raise ExportError(f"{path}: {what} in it; put one there, unpacked (with {MARK} at its top) or as .zip")
    return _FolderArchive(found[0], limits) if found[0].is_dir() else _ZipArchive(found[0], limits)


class _FolderArchive(ExportArchive):
    def __init__(self, root: Path, limits: ExportLimits) -> None:
        self._root = root
        self._limits = limits
        folders: dict[str, set[str]] = {"": set()}
        count = 0
        try:
            for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    folders[entry.name] = {
                        file.name
                        for file in os.scandir(entry.path)
                        if file.name.endswith(".json") and file.is_file(follow_symlinks=False)
                    }
                    count += len(folders[entry.name])
                elif entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                    folders[""].add(entry.name)
                if count > limits.files:
                    raise ExportError(f"{root}: more than {limits.files} files; split the export")
        except OSError as error:
            raise ExportError(f"{error.filename}: {error.strerror}; make the folder readable") from error
        super().__init__(folders)

    def read(self, folder: str, file: str) -> bytes:
        path = self._root / folder / file
        try:
            # A link that took the file's place since the listing is not followed either.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise ExportError(f"{path}: not a plain file")
                content = stream.read(self._limits.file_bytes + 1)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}; make the file readable") from error
        if len(content) > self._limits.file_bytes:
            raise ExportError(f"{path}: more than {self._limits.file_bytes} bytes; split the export")
        return content

    def close(self) -> None:
        return None


class _ZipArchive(ExportArchive):
    def __init__(self, path: Path, limits: ExportLimits) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ExportError(f"{path}: no .zip that can be read ({error}); fetch the export again") from error
        try:
            entries = self._checked(self._zip.infolist(), limits)
        except ExportError:
            self._zip.close()
            raise
        self._top = min((name.parent for name in entries if name.name == MARK), key=_depth, default=PurePosixPath("."))
        self._entries: dict[tuple[str, str], zipfile.ZipInfo] = {}
        folders: dict[str, set[str]] = {"": set()}
        for name, info in entries.items():
            if not name.is_relative_to(self._top) or name.suffix != ".json":
                continue
            parts = name.relative_to(self._top).parts
            if len(parts) <= 2:
                folder = parts[0] if len(parts) == 2 else ""
                folders.setdefault(folder, set()).add(parts[-1])
                self._entries[folder, parts[-1]] = info
        super().__init__(folders)

    def _checked(self, infos: list[zipfile.ZipInfo], limits: ExportLimits) -> dict[PurePosixPath, zipfile.ZipInfo]:
        """The plain files by name. The sizes that are told bind: the reader stops there.

        Raises:
            ExportError: a name leads out of the archive, or it is too much.
        """
        if len(infos) > limits.files:
            raise ExportError(f"{self._path}: more than {limits.files} files; split the export")
        total = sum(info.file_size for info in infos)
        packed = max(self._path.stat().st_size * limits.expansion, _UNPACKED_WITHOUT_QUESTION)
        if total > min(limits.total_bytes, packed):
            raise ExportError(f"{self._path}: unpacks to {total} bytes, more than is taken; unpack it yourself")
        entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
        for info in infos:
            name = PurePosixPath(info.filename)
            if name.is_absolute() or ".." in name.parts:
                raise ExportError(f"{self._path}: the name {info.filename!r} leads out of the archive; it is no export")
            mode = info.external_attr >> 16
            if info.is_dir() or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
                continue
            if info.file_size > limits.file_bytes:
                raise ExportError(f"{self._path}: {info.filename}: more than {limits.file_bytes} bytes")
            entries[name] = info
        return entries

    def read(self, folder: str, file: str) -> bytes:
        info = self._entries[folder, file]
        try:
            return self._zip.read(info)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            # RuntimeError, NotImplementedError included: encrypted, or packed in a way that is not known here
            raise ExportError(f"{self._path}: {info.filename}: {error}; fetch the export again") from error

    def close(self) -> None:
        self._zip.close()


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _depth(name: PurePosixPath) -> tuple[int, str]:
    return len(name.parts), str(name)
