"""What a Drive holds: files, folders, shortcuts, their bytes, and shared drives."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ingestion.gdrive.drive_resources import Permission, checksums
from ingestion.gdrive.folder_tree import TreeFile
from ingestion.gdrive.mime_types import FOLDER, NATIVE, SHORTCUT


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file, in memory or in a folder tree, and what they are."""

    mime_type: str
    size: int
    sums: Mapping[str, str]
    data: bytes | None = None
    source: TreeFile | None = None

    def read(self) -> bytes:
        """All of them."""
        if self.data is not None:
            return self.data
        if self.source is None:
            return b""
        with self.source.open() as file:
            return file.read()


def content_of(data: bytes, mime_type: str) -> Content:
    """*data* as the content of a file."""
    size, sums = checksums(io.BytesIO(data))
    return Content(mime_type, size, sums, data=data)


@dataclass(slots=True)
class Item:
    """A file, folder or shortcut. *own* are the permissions given to it alone, by permission id.

    *sequence* is the place of its newest entry in the change logs, *changed* the time of that entry.
    """

    file_id: str
    name: str
    mime_type: str
    created: datetime
    modified: datetime
    parent: str | None
    owner: str | None
    """None in a shared drive."""
    drive_id: str | None = None
    content: Content | None = None
    own: dict[str, Permission] = field(default_factory=dict)
    shared_at: dict[str, datetime] = field(default_factory=dict)
    """When each of its permissions was given."""
    description: str | None = None
    target: str | None = None
    """The id that a shortcut leads to."""
    target_mime_type: str = ""
    trashed: bool = False
    """Put into the bin itself, not by a folder above it."""
    trashed_at: datetime | None = None
    version: int = 1
    sequence: int = 0
    changed: datetime | None = None
    editor: str | None = None
    abusive: bool = False
    """Flagged as malware."""
    copy_locked: bool = False
    """Readers may not download, print or copy it."""

    @property
    def is_root(self) -> bool:
        """Whether it is the top of a My Drive or of a shared drive."""
        return self.parent is None

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER

    @property
    def is_shortcut(self) -> bool:
        return self.mime_type == SHORTCUT

    @property
    def is_native(self) -> bool:
        """Of Google's own types: without bytes of its own."""
        return self.mime_type.startswith(NATIVE)


@dataclass(slots=True)
class DriveRecord:
    """A shared drive. *members* are permissions by id; *hidden_for* the users who have hidden it from view."""

    drive_id: str
    name: str
    created: datetime
    members: dict[str, Permission] = field(default_factory=dict)
    hidden_for: set[str] = field(default_factory=set)
