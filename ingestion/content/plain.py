"""Plain text and Markdown."""

import codecs
import re

from ingestion.content.content_error import ContentError
from ingestion.content.kept_text import KeptText

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEADING = re.compile(r"#{1,6}[ \t]+(?P<title>[^\n]*)")
_FENCES = ("```", "~~~")
_MOST_NULS = 0.1


def decoded(content: bytes, declared: str | None = None) -> str:
    """The text in *content*: by its byte order mark, as *declared*, as UTF-8, else as Windows-1252, which takes all.

    Raises:
        ContentError: ``damaged``: it is no text.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    for encoding in filter(None, (declared, "utf-8")):
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        break
    else:
        text = content.decode("cp1252", errors="replace")
    if text.count("\x00") > len(text) * _MOST_NULS:
        raise ContentError("damaged", "it is said to be text, but its content is binary")
    return text


def read_text(content: bytes, kept: KeptText) -> None:
    """Plain text as one part."""
    kept.add(decoded(content))


def read_markdown(content: bytes, kept: KeptText) -> None:
    """Markdown, a part a heading."""
    heading: str | None = None
    lines: list[str] = []
    fence = ""
    for line in decoded(content).replace("\r\n", "\n").split("\n"):
        mark = line.lstrip()[:3]
        if mark in _FENCES and fence in ("", mark):
            fence = "" if fence else mark
        found = None if fence else _HEADING.match(line)
        if found:
            kept.add("\n".join(lines), heading=heading)
            heading, lines = found["title"].strip(" #\t"), []
        lines.append(line)
    kept.add("\n".join(lines), heading=heading)
