"""The text of a file as it is collected: clean, in parts, up to a limit."""

import re
from dataclasses import dataclass

from shards.types import TextPart

MOST_PARTS = 50_000
LONGEST_HEADING = 300

_CONTROLS = {number: None for number in range(32) if chr(number) not in "\t\n\v\f\r"} | {
    0x0B: "\n",
    0x0C: "\n",
    0x7F: None,
    0xFEFF: None,
}
_SURROGATES = re.compile("[\ud800-\udfff]")
_EMPTY_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a file. *characters* counts what is kept; *truncated*: there is more that is not."""

    parts: list[TextPart]
    truncated: bool
    characters: int


class EnoughError(Exception):
    """No more text is kept: whoever reads may stop."""


class KeptText:
    """Collects up to *limit* characters, headings included."""

    def __init__(self, limit: int) -> None:
        self.parts: list[TextPart] = []
        self.truncated = False
        self._limit = limit
        self._left = limit

    @property
    def left(self) -> int:
        """How many characters are still kept."""
        return self._left

    def add(self, text: str, *, heading: str | None = None, page: int | None = None) -> None:
        """Keep *text* as a part of its own; nothing but space is none.

        Raises:
            EnoughError: there is no room for all of it; what fits is kept.
        """
        said = clean(text[: self._left + 1])
        if not said:
            return
        title = " ".join(clean(heading).split())[:LONGEST_HEADING] if heading else ""
        room = max(self._left - len(title), 0)
        whole = len(said) <= room and len(text) <= self._left + 1 and len(self.parts) < MOST_PARTS
        said = said[:room]
        if said and len(self.parts) < MOST_PARTS:
            self.parts.append(TextPart(title or None, said, page))
            self._left -= len(title) + len(said)
        if not whole:
            self.truncated = True
            raise EnoughError

    def done(self) -> Extracted:
        """What was kept."""
        return Extracted(self.parts, self.truncated, self._limit - self._left)


def clean(text: str) -> str:
    """*text* as every store takes it: no control characters, one kind of line end, no space at the ends of lines."""
    text = _SURROGATES.sub("\ufffd", text.translate(_CONTROLS)).replace("\r\n", "\n").replace("\r", "\n")
    return _EMPTY_LINES.sub("\n\n", "\n".join([line.rstrip() for line in text.split("\n")])).strip()
