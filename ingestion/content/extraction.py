"""The text of one file, read in this process: only :mod:`ingestion.content.child` does that with files of others."""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ingestion.content.archive_check import check_archive
from ingestion.content.content_error import ContentError
from ingestion.content.kept_text import EnoughError, Extracted, KeptText
from ingestion.content.kinds import Kind, kind_of
from ingestion.content.limits import Limits


def extract(content: bytes | Path, mime_type: str, name: str, limits: Limits) -> Extracted:
    """The text of a file, which is *content* or lies there.

    Args:
        mime_type: what the source says it is; the content's own first bytes count for more.
        name: its name, whose ending tells where the media type says nothing.
        limits: those of sizes and characters hold; those of time and memory are the process's.

    Raises:
        ContentError: the reason is any but ``timeout``.
    """
    size = content.stat().st_size if isinstance(content, Path) else len(content)
    if size > limits.input_size:
        raise ContentError(
            "too-large", f"the file has {size:,} bytes, more than the {limits.input_size:,} that are read"
        )
    kept = KeptText(limits.characters)
    with content.open("rb") if isinstance(content, Path) else BytesIO(content) as file:
        try:
            _read(kind_of(file, mime_type, name), file, kept, limits)
        except EnoughError:
            pass
        except ContentError:
            raise
        except MemoryError:
            raise _memory(limits) from None
        except RecursionError:
            raise ContentError("bomb", "its parts lie too deep in one another") from None
        except Exception as error:  # noqa: BLE001 - libraries meet damage with errors of every kind
            raise _explained(error, limits) from None
    return kept.done()


def _memory(limits: Limits) -> ContentError:
    return ContentError("memory", f"more than {limits.memory:,} bytes of memory are needed to read it")


def _explained(error: Exception, limits: Limits) -> ContentError:
    """What a library's own error says of the file. Libraries are not imported to know their errors by type."""
    kind, said = type(error).__name__, " ".join(str(error).split())[:160]
    if kind == "LimitReachedError" or "XML_PARSE_HUGE" in said:
        return ContentError("bomb", said)
    if kind == "XMLSyntaxError" and ("unknown error" in said or "allocation failed" in said):
        # What libxml2 says when it gets no memory.
        return _memory(limits)
    return ContentError("damaged", f"it can't be read: {kind}: {said}")


def _read(kind: Kind, file: BinaryIO, kept: KeptText, limits: Limits) -> None:
    """Read the file with the reader of its kind, whose library is loaded by the first file that needs it."""
    if kind in ("docx", "xlsx", "pptx"):
        check_archive(file, limits)
    match kind:
        case "text":
            from ingestion.content.plain import read_text

            read_text(file.read(), kept)
        case "markdown":
            from ingestion.content.plain import read_markdown

            read_markdown(file.read(), kept)
        case "html":
            from ingestion.content.markup import read_html

            read_html(file.read(), kept)
        case "xml":
            from ingestion.content.markup import read_xml

            read_xml(file.read(), kept, limits.nesting)
        case "rtf":
            from ingestion.content.rich_text import read_rtf

            read_rtf(file.read(), kept)
        case "pdf":
            from ingestion.content.pdf import read_pdf

            read_pdf(file, kept)
        case "docx":
            from ingestion.content.word import read_word

            read_word(file, kept)
        case "xlsx":
            from ingestion.content.spreadsheet import read_spreadsheet

            read_spreadsheet(file, kept)
        case "pptx":
            from ingestion.content.presentation import read_presentation

            read_presentation(file, kept)
