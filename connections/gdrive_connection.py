"""A connection to the Drives of a Google domain."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from connections.connection import Connection, Reference, Schedule

FILE_ID_PATTERN = r"^[A-Za-z0-9_-]{10,}$"
ADDRESS_PATTERN = r"^[^@\s]+@[^@\s]+$"

FileId = Annotated[str, Meta(pattern=FILE_ID_PATTERN)]
Address = Annotated[str, Meta(pattern=ADDRESS_PATTERN)]


class GoogleAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """*service_account* refers to the account's JSON key. *subjects* are the users it acts for, by domain-wide
    delegation; none: itself, which sees what is shared with it alone."""

    service_account: Reference
    subjects: tuple[Address, ...] = ()


class DriveConnection(Connection, frozen=True, kw_only=True, rename="camel"):
    """One tenant's way to the Drives of one Google customer; *instance* is the customer id, never a drive's.

    Attributes:
        folders: folders (or shared drives) to read with all below them; none: everything the users may see.
        left_out: folders that are never read.
        shared_drives: whether the shared drives that the users are members of are read.
        page_size: changes and files a page; Google gives at most 1,000.
        calls_per_minute: the most calls a minute of a user.
        content_bytes: larger files are kept without their text.
        push_address: the https address of this app's ``webhooks/gdrive``; None: changes are polled for alone.
        channel_secret: what the tokens of push channels are made with; needed for *push_address*.
    """

    vendor: ClassVar[str] = "Google Drive"

    auth: GoogleAuth
    system: Literal["gdrive"] = "gdrive"
    folders: tuple[FileId, ...] = ()
    left_out: tuple[FileId, ...] = ()
    shared_drives: bool = True
    page_size: Annotated[int, Meta(ge=1, le=1000)] = 200
    calls_per_minute: Annotated[int, Meta(ge=1)] = 3000
    content_bytes: Annotated[int, Meta(ge=0)] = 50 * 1024 * 1024
    push_address: str | None = None
    channel_secret: Reference | None = None
    schedule: Schedule = Schedule(poll_seconds=60, sweep_hours=168)

    def __post_init__(self) -> None:
        if self.push_address is not None:
            if not self.push_address.startswith("https://"):
                raise ValueError("pushAddress must begin with https://: Google sends to no other")
            if self.channel_secret is None:
                raise ValueError("pushAddress needs channelSecret: the tokens of push channels are made with it")

    @property
    def selection(self) -> tuple[Any, ...]:
        return (self.folders, self.left_out, self.shared_drives, self.auth.subjects)

    @property
    def what_is_read(self) -> str:
        return ", ".join(self.folders) or "all files"
