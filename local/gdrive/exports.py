"""What Google makes of its native types: which formats there are, and the bytes of a file in one of them.

The formats are those that about.get told in 2026. A file of a native type is kept as text, Markdown, HTML, CSV or an
Office file; its own format comes out byte for byte, the others are made from its text. Formats that can't be made here
are refused as an unknown format is.
"""

import html
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from typing import Final
from urllib.parse import quote
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from ingestion.gdrive.mime_types import NATIVE
from local.gdrive.errors import DriveApiError
from local.gdrive.items import Content, Item

_OFFICE = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
DOCX: Final = _OFFICE + "wordprocessingml.document"
XLSX: Final = _OFFICE + "spreadsheetml.sheet"
PPTX: Final = _OFFICE + "presentationml.presentation"

EXPORT_FORMATS: Final[Mapping[str, Mapping[str, str]]] = {
    NATIVE + "document": {
        "application/rtf": "rtf",
        _ODF + "text": "odt",
        "text/html": "html",
        "application/pdf": "pdf",
        "text/x-markdown": "md",
        "text/markdown": "md",
        "application/epub+zip": "epub",
        "application/zip": "zip",
        DOCX: "docx",
        "text/plain": "txt",
    },
    NATIVE + "spreadsheet": {
        "application/x-vnd.oasis.opendocument.spreadsheet": "ods",
        "text/tab-separated-values": "tsv",
        "application/pdf": "pdf",
        XLSX: "xlsx",
        "text/csv": "csv",
        "application/zip": "zip",
        _ODF + "spreadsheet": "ods",
    },
    NATIVE + "presentation": {
        _ODF + "presentation": "odp",
        "application/pdf": "pdf",
        PPTX: "pptx",
        "text/plain": "txt",
    },
    NATIVE + "drawing": {
        "image/svg+xml": "svg",
        "image/png": "png",
        "application/pdf": "pdf",
        "image/jpeg": "jpeg",
    },
    NATIVE + "script": {NATIVE + "script+json": "json"},
    NATIVE + "form": {"application/zip": "zip"},
    NATIVE + "jam": {"application/pdf": "pdf"},
    NATIVE + "site": {"text/plain": "txt"},
    NATIVE + "mail-layout": {"text/plain": "txt"},
    NATIVE + "vid": {"video/mp4": "mp4"},
}
"""The MIME types that each native type is exported to, with the word that names each in an export link."""

_LINKS: Final = {
    NATIVE + "document": "https://docs.google.com/feeds/download/documents/export/Export",
    NATIVE + "spreadsheet": "https://docs.google.com/spreadsheets/export",
    NATIVE + "presentation": "https://docs.google.com/feeds/download/presentations/Export",
}
EXPORT_PATHS: Final = frozenset(link.removeprefix("https://docs.google.com") for link in _LINKS.values())
"""The paths of export links."""

_LETTERS_OF_A_COLUMN = 26
_PDF_LINES = 60
_PDF_MARK = re.compile(r"[()\\]")


def export_links(item: Item) -> dict[str, str]:
    """The addresses that give the whole of a native file, whatever its size, by format."""
    link = _LINKS.get(item.mime_type)
    if link is None:
        return {}
    formats = EXPORT_FORMATS[item.mime_type]
    return {kind: f"{link}?id={quote(item.file_id)}&exportFormat={word}" for kind, word in formats.items()}


def export(item: Item, mime_type: str) -> bytes:
    """The bytes of a native file as *mime_type*.

    Raises:
        DriveApiError: the file is not native, or there is no such format of it.
    """
    formats = EXPORT_FORMATS.get(item.mime_type)
    if formats is None or item.content is None:
        raise DriveApiError(403, "fileNotExportable", "Export only supports Docs Editors files.")
    if mime_type not in formats:
        raise _unsupported()
    content = item.content
    if content.mime_type == mime_type or {content.mime_type, mime_type} == {"text/markdown", "text/x-markdown"}:
        return content.read()
    make = _MAKERS.get(mime_type)
    if make is None:
        raise _unsupported()
    return make(_text(content))


def mime_type_of_format(item: Item, word: str) -> str:
    """The MIME type that an export link's format names.

    Raises:
        DriveApiError: there is no such format of this file.
    """
    for kind, named in EXPORT_FORMATS.get(item.mime_type, {}).items():
        if named == word:
            return kind
    raise _unsupported()


def _unsupported() -> DriveApiError:
    message = "The requested conversion is not supported."
    return DriveApiError(400, "badRequest", message, location=("convertTo", "parameter"))


def _text(content: Content) -> str:
    """The text of a file's bytes; the cells of a table are separated by commas."""
    data = content.read()
    if content.mime_type in {DOCX, PPTX, XLSX}:
        return _office_text(data, content.mime_type)
    text = data.decode("utf-8", "replace")
    if content.mime_type == "text/html":
        reader = _HtmlText()
        reader.feed(text)
        return "".join(reader.parts).strip()
    if content.mime_type == "text/tab-separated-values":
        return text.replace("\t", ",")
    return text


def _office_text(data: bytes, mime_type: str) -> str:
    lines: list[str] = []
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        if mime_type == XLSX:
            return _first_sheet(package)
        names = sorted(name for name in package.namelist() if re.fullmatch(r"ppt/slides/slide\d+\.xml", name))
        for name in names if mime_type == PPTX else ["word/document.xml"]:
            paragraphs = (each for each in fromstring(package.read(name)).iter() if each.tag.endswith("}p"))
            lines.extend(map(_runs, paragraphs))
    return "\n".join(lines)


def _runs(element: Element) -> str:
    return "".join(run.text or "" for run in element.iter() if run.tag.endswith("}t"))


def _first_sheet(package: zipfile.ZipFile) -> str:
    shared: list[str] = []
    if "xl/sharedStrings.xml" in package.namelist():
        shared.extend(map(_runs, fromstring(package.read("xl/sharedStrings.xml"))))
    rows = []
    for row in fromstring(package.read("xl/worksheets/sheet1.xml")).iter():
        if row.tag.endswith("}row"):
            cells = []
            for cell in row:
                value = "".join(part.text or "" for part in cell.iter() if part.tag.endswith(("}v", "}t")))
                cells.append(_quoted(shared[int(value)] if cell.get("t") == "s" else value))
            rows.append(",".join(cells))
    return "\n".join(rows)


def _quoted(cell: str) -> str:
    return f'"{cell.replace(chr(34), chr(34) * 2)}"' if re.search('[,"\n]', cell) else cell


class _HtmlText(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _page(text: str) -> str:
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in text.splitlines())
    return f'<html><head><meta content="text/html; charset=UTF-8" http-equiv="content-type"></head>{paragraphs}</html>'


def _zip(parts: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in parts.items():
            # The time is part of the bytes, and two exports of one text are equal.
            package.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), text)
    return packed.getvalue()


def _package(part: str, kind: str, body: str, more: Mapping[str, str] | None = None, types: str = "") -> bytes:
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    packages = "http://schemas.openxmlformats.org/package/2006"
    return _zip(
        {
            "[Content_Types].xml": f'{head}<Types xmlns="{packages}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/{part}" ContentType="{kind}"/>{types}</Types>',
            "_rels/.rels": f'{head}<Relationships xmlns="{packages}/relationships">'
            f'<Relationship Id="rId1" Type="{office}/officeDocument" Target="{part}"/></Relationships>',
            part: head + body,
            **{name: head + text for name, text in (more or {}).items()},
        }
    )


def _docx(text: str) -> bytes:
    paragraphs = "".join(
        f'<w:p><w:r><w:t xml:space="preserve">{html.escape(line)}</w:t></w:r></w:p>' for line in text.splitlines()
    )
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f'<w:document xmlns:w="{space}"><w:body>{paragraphs}</w:body></w:document>'
    return _package("word/document.xml", f"{DOCX}.main+xml", body)


def _xlsx(text: str) -> bytes:
    import csv  # noqa: PLC0415 - here alone

    rows = []
    for number, cells in enumerate(csv.reader(io.StringIO(text)), 1):
        made = "".join(
            f'<c r="{_column(place)}{number}" t="inlineStr"><is><t>{html.escape(cell)}</t></is></c>'
            for place, cell in enumerate(cells)
        )
        rows.append(f'<row r="{number}">{made}</row>')
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    sheet = f'<worksheet xmlns="{main}"><sheetData>{"".join(rows)}</sheetData></worksheet>'
    book = (
        f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets>'
        "</workbook>"
    )
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
    )
    kind = _OFFICE + "spreadsheetml"
    more = {"xl/worksheets/sheet1.xml": sheet, "xl/_rels/workbook.xml.rels": relations}
    types = f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
    return _package("xl/workbook.xml", f"{kind}.sheet.main+xml", book, more, types)


def _column(place: int) -> str:
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, _LETTERS_OF_A_COLUMN)
        letters = chr(ord("A") + rest) + letters
    return letters


def _pdf(text: str) -> bytes:
    """A PDF in a standard font; characters beyond Latin-1 become question marks."""
    lines = text.splitlines() or [""]
    pages = [lines[at : at + _PDF_LINES] for at in range(0, len(lines), _PDF_LINES)]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for number, page in enumerate(pages):
        shown = "".join("(" + _PDF_MARK.sub(r"\\\g<0>", line) + ") Tj T*\n" for line in page)
        stream = f"BT /F1 10 Tf 12 TL 50 780 Td\n{shown}ET".encode("latin-1", "replace")
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents {5 + 2 * number} 0 R"
            "/Resources<</Font<</F1 3 0 R>>>>>>".encode()
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    made = b"%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    tail = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return made + tail % (len(objects) + 1, table, len(objects) + 1, len(made))


def _rtf(text: str) -> bytes:
    escaped = re.sub(r"([\\{}])", r"\\\1", text)
    lines = "".join(
        character if ord(character) < 128 else f"\\u{(ord(character) + 32768) % 65536 - 32768}?"
        for character in escaped
    )
    return ("{\\rtf1\\ansi " + lines.replace("\n", "\\par\n") + "}").encode()


_MAKERS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "text/plain": str.encode,
    "text/markdown": str.encode,
    "text/x-markdown": str.encode,
    "text/csv": str.encode,
    "text/tab-separated-values": lambda text: text.replace(",", "\t").encode(),
    "text/html": lambda text: _page(text).encode(),
    "application/zip": lambda text: _zip({"document.html": _page(text)}),
    "application/rtf": _rtf,
    "application/pdf": _pdf,
    DOCX: _docx,
    XLSX: _xlsx,
}
