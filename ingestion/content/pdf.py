"""PDF documents."""

from typing import BinaryIO

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from ingestion.content.content_error import ContentError
from ingestion.content.kept_text import KeptText


def read_pdf(file: BinaryIO, kept: KeptText) -> None:
    """A document: a part a page. A page that can't be read is left out, and the text counts as truncated.

    Raises:
        ContentError: ``encrypted``, or ``damaged``: no page can be read.
    """
    reader = PdfReader(file, strict=False)
    # Many documents are encrypted under an empty password, which keeps nobody from reading them.
    if reader.is_encrypted and not reader.decrypt(""):
        raise ContentError("encrypted", "the document opens with a password alone")
    failed: Exception | None = None
    count = 0
    for count, page in enumerate(reader.pages, 1):
        try:
            text = page.extract_text()
        except (
            PyPdfError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            failed = error
            continue
        kept.add(text, page=count)
    if failed is not None:
        if not kept.parts:
            raise ContentError("damaged", f"none of its {count:,} pages can be read: {type(failed).__name__}")
        kept.truncated = True
    elif not count:
        raise ContentError("damaged", "it has no pages")
