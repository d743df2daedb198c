"""Why a file gave no text."""

from typing import Literal

Reason = Literal["too-large", "damaged", "encrypted", "timeout", "memory", "unsupported-type", "bomb"]


class ContentError(Exception):
    """A file whose text can't be had. *reason* is a stable word, *detail* says what was wrong in a line.

    The same file fails again: only another content, or other limits, change it.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail
