"""The look at an Office document before a library opens it: how much is in it, and that its XML declares nothing."""

from typing import IO, BinaryIO
from xml.parsers import expat
from zipfile import ZipFile

from ingestion.content.content_error import ContentError
from ingestion.content.limits import Limits

ALWAYS_FINE = 10 * 1024**2
"""Unpacked bytes below which no ratio is asked for: an empty document packs well."""
_PIECE = 64 * 1024


class _RootReachedError(Exception):
    """The document element began: nothing can be declared any more."""


def check_archive(file: BinaryIO, limits: Limits) -> None:
    """Refuse what unpacks to too much, is encrypted, or declares a document type, from which entities come.

    A member is never read beyond its declared size, so what is declared may be believed.

    Raises:
        ContentError: ``bomb`` or ``encrypted``.
    """
    packed = file.seek(0, 2)
    file.seek(0)
    with ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > limits.zip_entries:
            raise ContentError("bomb", f"{len(members):,} members in one archive")
        if any(member.flag_bits & 1 for member in members):
            raise ContentError("encrypted", "members of the archive are encrypted")
        unpacked = sum(member.file_size for member in members)
        if unpacked > limits.unzipped_size:
            raise ContentError("bomb", f"unpacked it has {unpacked:,} bytes")
        if unpacked > ALWAYS_FINE and unpacked > packed * limits.unzip_ratio:
            raise ContentError("bomb", f"unpacked it has {unpacked // packed} times its size")
        for member in members:
            if member.filename.endswith((".xml", ".rels", ".vml")):
                with archive.open(member) as opened:
                    _check_prolog(member.filename, opened)
    file.seek(0)


def _check_prolog(name: str, opened: IO[bytes]) -> None:
    parser = expat.ParserCreate()

    def declared(*_: object) -> None:
        raise ContentError("bomb", f"{name[:80]} declares a document type, which no Office document does")

    def root(*_: object) -> None:
        raise _RootReachedError

    parser.StartDoctypeDeclHandler = declared
    parser.StartElementHandler = root
    try:
        while piece := opened.read(_PIECE):
            parser.Parse(piece, False)
    except _RootReachedError:
        return
    except expat.ExpatError as error:
        raise ContentError("damaged", f"{name[:80]} is no XML: {error}") from None
