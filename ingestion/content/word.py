"""Word documents."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from docx import Document
from docx.oxml.parser import parse_xml

from ingestion.content.kept_text import KeptText

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_PARAGRAPH, _TABLE, _ROW, _CELL = f"{_W}p", f"{_W}tbl", f"{_W}tr", f"{_W}tc"
_UNSEEN = frozenset({_FALLBACK, f"{_W}moveFrom", f"{_W}pPr", f"{_W}rPr"})
"""The second form of what stands there already; what was moved elsewhere; formats."""
_MARKS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_HEADING_STYLE = re.compile(r"(?:heading [1-9]|title|subtitle)\Z", re.IGNORECASE)
_NOTES = ("/footnotes", "/endnotes")


def read_word(file: BinaryIO, kept: KeptText) -> None:
    """A document: a part a heading, tables row by row, notes at the end. What tracked changes deleted is left out."""
    document = Document(file)
    names = {style.style_id: style.name or "" for style in document.styles}
    headings = {identifier for identifier, name in names.items() if _HEADING_STYLE.match(name)}
    heading: str | None = None
    lines: list[str] = []
    length = 0
    for style, text in _blocks(document.element.body):
        if style in headings and text.strip():
            kept.add("\n".join(lines), heading=heading)
            heading, lines, length = text, [], 0
        lines.append(text)
        length += len(text)
        if length > kept.left:
            break
    kept.add("\n".join(lines), heading=heading)
    for relation in document.part.rels.values():
        if not relation.is_external and relation.reltype.endswith(_NOTES):
            notes = parse_xml(relation.target_part.blob)
            kept.add("\n".join(text for _, text in _blocks(notes)))


def _blocks(element: Any) -> Iterator[tuple[str | None, str]]:
    """Paragraphs and table rows in their order, with the id of their style. The parser bounds how deep they lie."""
    for child in element.iterchildren():
        if child.tag == _PARAGRAPH:
            style = child.find(f"{_W}pPr/{_W}pStyle")
            yield (None if style is None else style.get(f"{_W}val")), "".join(_words(child))
        elif child.tag == _ROW:
            cells = [child_cell for child_cell in child.iterdescendants(_CELL) if _row_of(child_cell) is child]
            told = (" ".join(text for _, text in _blocks(cell)).strip() for cell in cells)
            yield None, " | ".join(filter(None, told))
        elif child.tag not in _UNSEEN:
            yield from _blocks(child)


def _row_of(cell: Any) -> Any:
    return next(cell.iterancestors(_ROW))


def _words(element: Any) -> Iterator[str]:
    for child in element.iterchildren():
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _MARKS:
            yield _MARKS[child.tag]
        elif child.tag not in _UNSEEN:
            yield from _words(child)
            if child.tag == _PARAGRAPH:
                yield "\n"
