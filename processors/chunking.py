"""Text in pieces that are searched as one: cut at paragraphs, then lines, sentences, words; nothing is lost."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from shards.types import TextPart

TARGET_CHARACTERS = 1200
"""About 300 tokens: long enough to carry a thought, short enough that a mean of its tokens still means something."""

_BOUNDARIES = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?。！？…])\s+"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk's text, its hash, and where it begins: the heading it stands under, and the page of a file."""

    text: str
    hash: str
    heading: str | None
    page: int | None = None

    @property
    def place(self) -> dict[str, str | int]:
        """Where it begins, as a chunk keeps it."""
        place: dict[str, str | int] = {"heading": self.heading} if self.heading else {}
        if self.page is not None:
            place["page"] = self.page
        return place


def pieces(title: str, parts: Sequence[TextPart], *, target: int = TARGET_CHARACTERS) -> list[Piece]:
    """The chunks of a document: short parts share one, long ones are cut; each begins with the *title*.

    Joined in order and without the titles they hold every character of the parts but white space at the cuts.
    """
    made: list[Piece] = []
    lines: list[str] = []
    length = 0
    heading: str | None = None
    page: int | None = None

    def finish() -> None:
        nonlocal lines, length, page
        if lines:
            made.append(_piece(title, "\n".join(lines), heading, page))
        lines, length, page = [], 0, None

    for part in parts:
        text = part.text.strip()
        if not text:
            continue
        if length and length + len(text) > target:
            finish()
        if not lines:
            heading = part.heading
        if len(text) <= target:
            lines.append(text)
            length += len(text) + 1
            # The facts of a file, which are on no page, often share the first page's chunk.
            page = part.page if page is None else page
            continue
        finish()
        heading = part.heading
        made.extend(_piece(title, cut, heading, part.page) for cut in _cut(text, target))
    finish()
    if not made and title:
        made.append(_piece("", title, None))
    return made


def _piece(title: str, text: str, heading: str | None, page: int | None = None) -> Piece:
    full = f"{title}\n{text}" if title else text
    return Piece(full, blake2b(full.encode(), digest_size=16).hexdigest(), heading, page)


def _cut(text: str, target: int) -> Iterator[str]:
    start = 0
    while len(text) - start > target:
        end = _boundary(text, start, start + target)
        piece = text[start:end].strip()
        if piece:
            yield piece
        start = end
    rest = text[start:].strip()
    if rest:
        yield rest


def _boundary(text: str, start: int, limit: int) -> int:
    """Where to cut: after the last boundary of the strongest kind in the second half of the piece, else hard."""
    half = start + (limit - start) // 2
    for boundary in _BOUNDARIES:
        ends = [match.end() for match in boundary.finditer(text, half, limit)]
        if ends:
            return ends[-1]
    return limit
