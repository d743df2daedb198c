"""What kind of file a content is: by its own first bytes, and only where those don't tell by what it is said to be."""

from pathlib import PurePath
from typing import BinaryIO, Literal
from zipfile import BadZipFile, ZipFile

from ingestion.content.content_error import ContentError

Kind = Literal["text", "markdown", "html", "xml", "rtf", "pdf", "docx", "xlsx", "pptx"]

_OFFICE: dict[str, Kind] = {
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-word.document.macroenabled.12": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.ms-excel.sheet.macroenabled.12": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12": "pptx",
    "application/pdf": "pdf",
}
"""Media types whose files have a form that can be told from their bytes."""

_TEXT: dict[str, Kind] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/xml": "xml",
    "application/xml": "xml",
    "application/rtf": "rtf",
    "text/rtf": "rtf",
    "application/json": "text",
    "application/x-ndjson": "text",
    "application/yaml": "text",
    "application/x-yaml": "text",
    "application/javascript": "text",
    "application/sql": "text",
    "application/x-sh": "text",
}
_ENDINGS: dict[str, Kind] = {
    ".txt": "text", ".csv": "text", ".tsv": "text", ".log": "text", ".json": "text", ".jsonl": "text", ".yaml": "text",
    ".yml": "text", ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".xml": "xml",
    ".rtf": "rtf", ".docx": "docx", ".docm": "docx", ".xlsx": "xlsx", ".xlsm": "xlsx", ".pptx": "pptx", ".pptm": "pptx",
    ".pdf": "pdf",
}  # fmt: skip
"""By the name's ending, where the media type says nothing."""

_NOTHING_SAID = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-unknown"})
_ARCHIVE, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_MAIN_PARTS: dict[str, Kind] = {"word/": "docx", "xl/": "xlsx", "ppt/": "pptx"}
_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"OggS": "sound or video",
    b"ID3": "sound",
}
_HEAD = 1024


def is_read(mime_type: str) -> bool:
    """Whether *mime_type* is one whose files are read, whatever they are called."""
    return mime_type.partition(";")[0].strip().lower() in (_OFFICE.keys() | _TEXT.keys())


def kind_of(file: BinaryIO, mime_type: str, name: str) -> Kind:
    """The kind of *file*, which stands at its beginning afterwards.

    Raises:
        ContentError: ``unsupported-type``, ``encrypted``, or ``damaged``: it is not what it is said to be.
    """
    head = file.read(_HEAD)
    try:
        if b"%PDF-" in head:
            return "pdf"
        if head.startswith(_ARCHIVE):
            return _kind_of_archive(file)
        if head.startswith(_OLE):
            if _ENCRYPTED_OFFICE in head + file.read(1024 * 1024):
                raise ContentError("encrypted", "the document opens with a password alone")
            raise ContentError("unsupported-type", "an Office document of before 2007, or another of its form")
        if head.startswith(b"{\\rtf"):
            return "rtf"
        for start, what in _OTHERS.items():
            if head.startswith(start):
                raise ContentError("unsupported-type", f"the content is {what}")
        return _kind_said(head, mime_type.partition(";")[0].strip().lower(), name)
    finally:
        file.seek(0)


def _kind_said(head: bytes, mime_type: str, name: str) -> Kind:
    kind = _OFFICE.get(mime_type) or _TEXT.get(mime_type)
    if kind is None and mime_type.endswith("+xml"):
        kind = "xml"
    if kind is None and (mime_type in _NOTHING_SAID or mime_type.startswith("text/")):
        kind = _ENDINGS.get(PurePath(name).suffix.lower()) or ("text" if mime_type.startswith("text/") else None)
    if kind is None:
        raise ContentError("unsupported-type", f"no text is read of {mime_type or 'a file without a media type'}")
    if kind in _OFFICE.values():
        what = "it is empty" if not head else "its content is not of that form"
        raise ContentError("damaged", f"it is said to be a {kind} file, but {what}")
    if kind == "rtf" and head:
        raise ContentError("damaged", "it is said to be an rtf file, but its content is not of that form")
    return kind


def _kind_of_archive(file: BinaryIO) -> Kind:
    try:
        with ZipFile(file) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ContentError("damaged", f"the archive can't be opened: {error}") from None
    if "[Content_Types].xml" in names:
        for start, kind in _MAIN_PARTS.items():
            if any(name.startswith(start) for name in names):
                return kind
    raise ContentError("unsupported-type", "an archive, or an Office document of another form")
