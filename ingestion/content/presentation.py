"""PowerPoint presentations."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from pptx import Presentation

from ingestion.content.kept_text import KeptText

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def read_presentation(file: BinaryIO, kept: KeptText) -> None:
    """A presentation: a part a slide under its title, tables and groups included, with the speaker's notes."""
    for number, slide in enumerate(Presentation(file).slides, 1):
        title = slide.shapes.title
        lines = list(_paragraphs(slide.element))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            lines += _paragraphs(slide.notes_slide.notes_text_frame._txBody)
        kept.add("\n".join(lines), heading=title.text_frame.text if title is not None else None, page=number)


def _paragraphs(element: Any) -> Iterator[str]:
    for paragraph in element.iter(f"{_A}p"):
        words = "".join(
            "\n" if part.tag == f"{_A}br" else part.text or "" for part in paragraph.iter(f"{_A}t", f"{_A}br")
        )
        if words.strip():
            yield words
