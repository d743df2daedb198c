"""Documents as people's programs write them, and archives as nobody's does."""

import struct
from collections.abc import Mapping
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

import docx
import openpyxl
import pptx

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
PDF = "application/pdf"
SHEET_NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def word_file() -> bytes:
    """Two headings, a paragraph, a table."""
    document = docx.Document()
    document.add_paragraph("Before all.")
    document.add_heading("Terms", 1)
    document.add_paragraph("The price is 120,000 USD.")
    table = document.add_table(2, 2)
    for place, text in zip(((0, 0), (0, 1), (1, 0), (1, 1)), ("Part", "Price", "Licence", "90,000"), strict=True):
        table.cell(*place).text = text
    document.add_heading("Signatures", 2)
    document.add_paragraph("Ann")
    return _saved(document)


def workbook_file() -> bytes:
    """Two sheets; the first has a cell in the farthest corner."""
    book = openpyxl.Workbook()
    first = book.worksheets[0]
    first.title = "Deals"
    for row in (["Name", "Amount", "Won"], ["Acme", 1200.5, True], ["Globex", 90000, False]):
        first.append(row)
    first["XFD1048576"] = "far away"
    book.create_sheet("Notes").append(["Call\nthem"])
    return _saved(book)


def presentation_file() -> bytes:
    """Two slides, the first with notes."""
    shown = pptx.Presentation()
    for title, text in (("Plan", "Sell more\nSpend less"), ("Thanks", "Questions?")):
        slide = shown.slides.add_slide(shown.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
    shown.slides[0].notes_slide.notes_text_frame.text = "Say it slowly."
    return _saved(shown)


def pdf_file(*pages: str, objects: Mapping[int, str] | None = None) -> bytes:
    """A page for each text; *objects* take the place of those of their number."""
    count = len(pages)
    made = {
        1: "<</Type/Catalog/Pages 2 0 R>>",
        2: f"<</Type/Pages/Count {count}/Kids[{' '.join(f'{4 + 2 * page} 0 R' for page in range(count))}]>>",
        3: "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    }
    for page, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        made[4 + 2 * page] = (
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>"
            f"/Contents {5 + 2 * page} 0 R>>"
        )
        made[5 + 2 * page] = f"<</Length {len(drawn)}>>\nstream\n{drawn}\nendstream"
    made |= objects or {}
    body = b"%PDF-1.7\n"
    offsets = {}
    for number, text in sorted(made.items()):
        offsets[number] = len(body)
        body += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    start = len(body)
    body += f"xref\n0 {max(made) + 1}\n0000000000 65535 f \n".encode()
    for number in range(1, max(made) + 1):
        body += f"{offsets.get(number, 0):010} 00000 {'n' if number in offsets else 'f'} \n".encode()
    return body + f"trailer\n<</Size {max(made) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF".encode()


def with_members(archive: bytes, members: Mapping[str, bytes | str]) -> bytes:
    """*archive* with these members in place of its own of the same names, or beside them."""
    out = BytesIO()
    with ZipFile(BytesIO(archive)) as old, ZipFile(out, "w", ZIP_DEFLATED, compresslevel=6) as new:
        for name in old.namelist():
            if name not in members:
                new.writestr(name, old.read(name))
        for name, content in members.items():
            new.writestr(name, content)
    return out.getvalue()


def with_declared_size(archive: bytes, name: str, size: int) -> bytes:
    """*archive* whose directory says that the member *name* unpacks to *size* bytes."""
    changed = bytearray(archive)
    at = archive.rindex(name.encode())
    entry = archive.rindex(b"PK\x01\x02", 0, at)
    struct.pack_into("<I", changed, entry + 24, size)
    return bytes(changed)


def _saved(document: object) -> bytes:
    out = BytesIO()
    document.save(out)  # type: ignore[attr-defined]  # all three libraries call it so
    return out.getvalue()
