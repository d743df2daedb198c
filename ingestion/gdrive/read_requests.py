"""Requests to read files by id: how the source asks itself for work, in messages small enough to fail alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from connections.gdrive_connection import DriveConnection
from messaging.contracts import SourceWork
from messaging.times import to_text

FILE = "file"
FOLDERS_TO_CLOSE = "foldersToClose"
"""What :attr:`SourceWork.ids` goes by: files to read; folders below which everything is to be closed."""

BATCH = 20
"""Files a message."""
LOOKED_AGAIN = 3
"""What was told of a file before it went may still be on its way to the store, and would stay there for good: so it is
looked for again, a few times at most."""
AFTER_END = timedelta(seconds=5)
"""How long after a permission's end the file is read again."""


@dataclass(frozen=True, slots=True)
class ReadNotes:
    """Why and how files are to be read.

    Attributes:
        subject: the user who is asked first.
        below: a folder above them has changed, so what is in a folder among them is read too.
        after_gone: how often they were looked for since they were not found.
        closed: what is in a folder among them has been closed with a folder above.
        unread: how often their content was asked for since it could not be had.
        told: a log told of them as they were: if the first does not see one, another user may, whose log told the same.
        elsewhere: another connection of the domain has asked, and need not be asked in turn.
    """

    subject: str | None = None
    below: bool = False
    after_gone: int = 0
    closed: bool = False
    unread: int = 0
    told: bool = False
    elsewhere: bool = False

    def stored(self) -> dict[str, Any]:
        """As they stand in a message."""
        return {
            "subject": self.subject,
            "below": self.below,
            "afterGone": self.after_gone,
            "closed": self.closed,
            "unread": self.unread,
            "told": self.told,
            "elsewhere": self.elsewhere,
        }


def notes_of(work: SourceWork) -> ReadNotes:
    """The notes in a message; what can't be read there counts as not said."""
    said = work.push or {}
    subject, after_gone, unread = said.get("subject"), said.get("afterGone"), said.get("unread")
    return ReadNotes(
        subject=subject if isinstance(subject, str) else None,
        below=said.get("below") is True,
        after_gone=after_gone if isinstance(after_gone, int) else 0,
        closed=said.get("closed") is True,
        unread=unread if isinstance(unread, int) else 0,
        told=said.get("told") is True,
        elsewhere=said.get("elsewhere") is True,
    )


def read_requests(
    connection: DriveConnection, wanted: Iterable[tuple[str, str]], notes: ReadNotes, *, due_at: str, because: str
) -> list[SourceWork]:
    """Messages that ask to read files, each given with what tells this request from another for the same file.

    *because* is part of that: one file may have to be read again within minutes, for another reason.
    """
    pairs = list(wanted)
    batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    return [_request(connection, FILE, batch, notes, due_at=due_at, because=because) for batch in batches]


def close_request(connection: DriveConnection, folder_ids: Sequence[str], *, due_at: str, because: str) -> SourceWork:
    """A message that asks to close everything below folders."""
    pairs = [(folder_id, "") for folder_id in folder_ids]
    return _request(connection, FOLDERS_TO_CLOSE, pairs, ReadNotes(), due_at=due_at, because=because)


def again(work: SourceWork, ids: Sequence[str]) -> SourceWork:
    """A part of a request, which could not be done with the rest."""
    digest = _digest(work.event_id or work.due_at, *ids)
    return work.model_copy(update={"ids": {FILE: list(ids)}, "event_id": f"again.{digest}"})


def unread(work: SourceWork, file_id: str, notes: ReadNotes) -> SourceWork:
    """A request to read a file once more whose content could not be had."""
    later = replace(notes, unread=notes.unread + 1)
    digest = _digest(work.event_id or work.due_at, file_id)
    return work.model_copy(update={"ids": {FILE: [file_id]}, "push": later.stored(), "event_id": f"unread.{digest}"})


def at_end(connection: DriveConnection, file_id: str, end: datetime, *, subject: str | None) -> SourceWork:
    """A request to read a file again, due when a permission has expired at *end*: no log need tell of that."""
    due_at = to_text(end + AFTER_END)
    notes = ReadNotes(subject=subject)
    return _request(connection, FILE, [(file_id, to_text(end))], notes, due_at=due_at, because="end")


def after_gone(work: SourceWork, ids: Sequence[str], notes: ReadNotes, *, due_at: str) -> SourceWork:
    """A request to look once more for files that were not there."""
    later = replace(notes, after_gone=notes.after_gone + 1)
    digest = _digest(due_at, *ids)
    return work.model_copy(
        update={"ids": {FILE: list(ids)}, "push": later.stored(), "due_at": due_at, "event_id": f"gone.{digest}"}
    )


def _request(
    connection: DriveConnection,
    kind: str,
    pairs: Sequence[tuple[str, str]],
    notes: ReadNotes,
    *,
    due_at: str,
    because: str,
) -> SourceWork:
    return SourceWork(
        tenant_id=connection.tenant_id,
        connection_id=connection.connection_id,
        work="read",
        due_at=due_at,
        ids={kind: [file_id for file_id, _ in pairs]},
        push=notes.stored(),
        event_id=_digest(kind, because, *(part for pair in pairs for part in pair)),
    )


def _digest(*parts: str) -> str:
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()
