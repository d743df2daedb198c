"""The text of a file in the blob store: one document for each reading of a record, which no other record shares.

The document is canonical JSON: ``{"externalId", "instance", "parts": [{"heading"?, "page"?, "text"}], "version"}``.
"""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from messaging import codec
from shards.blobs import BlobMissingError, BlobStore, BlobTooLargeError
from shards.types import TextPart

LARGEST_DOCUMENT = 16 * 1024 * 1024
"""The most bytes of a document that is read: two million characters with headings, whatever the script."""


class FileTextInvalidError(Exception):
    """A content that is no text of a file, or that of another record; the message says which."""


class _Part(msgspec.Struct, rename="camel", omit_defaults=True):
    text: str
    heading: str | None = None
    page: int | None = None


class _Document(msgspec.Struct, rename="camel", kw_only=True):
    instance: str
    external_id: str
    version: str
    parts: list[_Part]


_documents = codec.decoder(_Document)


def text_document(instance: str, external_id: str, version: str, parts: Iterable[TextPart]) -> bytes:
    """The document of one reading of a record's text; equal arguments give equal bytes."""
    kept = [_Part(part.text, part.heading, part.page) for part in parts]
    return codec.canonical(_Document(instance=instance, external_id=external_id, version=version, parts=kept))


def read_text_document(content: bytes, owners: Collection[tuple[str, str]]) -> list[TextPart]:
    """The parts of a document of one of *owners*, each an instance and an external id.

    Raises:
        FileTextInvalidError: it is no such document, or of another record.
    """
    try:
        document = _documents.decode(content)
    except codec.DecodeError as error:
        raise FileTextInvalidError(f"the content is no text of a file: {error}") from None
    if (document.instance, document.external_id) not in owners:
        raise FileTextInvalidError(f"the content is the text of another record, {document.external_id[:200]}")
    return [TextPart(part.heading, part.text, part.page) for part in document.parts]


async def text_owner(blobs: BlobStore, tenant_id: str, reference: str) -> tuple[str, str] | None:
    """Instance and external id of the record whose text is under *reference*; None when no text of a file is there.

    Raises:
        StoreUnavailableError: the store is away.
    """
    try:
        document = _documents.decode(await blobs.get(tenant_id, reference, limit=LARGEST_DOCUMENT))
    except (BlobMissingError, BlobTooLargeError, codec.DecodeError):
        return None
    return document.instance, document.external_id


async def put_text(
    blobs: BlobStore, tenant_id: str, external_id: str, version: str, parts: Iterable[TextPart], *, instance: str
) -> str:
    """Keep a record's text and return the ``contentRef`` of its shard.

    *version* is the record's own at this reading (Drive's ``version``), not that of its content: a text that comes back
    later under an older content must not share the blob that went with it. While the content is the same, the shard's
    own reference is used again and nothing is put.

    Raises:
        StoreUnavailableError: the store is away.
    """
    return await blobs.put(tenant_id, text_document(instance, external_id, version, parts))


async def has_text(blobs: BlobStore, tenant_id: str, reference: str) -> bool:
    """Whether there is anything under *reference*; its first byte alone is read.

    Raises:
        StoreUnavailableError: the store is away.
    """
    try:
        await blobs.get(tenant_id, reference, limit=0)
    except BlobTooLargeError:
        return True
    except BlobMissingError:
        return False
    return True


async def delete_text(
    blobs: BlobStore, tenant_id: str, external_id: str, references: Sequence[str], *, instance: str
) -> int:
    """Delete texts of a record that its shard does not name any more; how many there were.

    What a wrong reference names, be it gone or another record's, stays as it is.

    Raises:
        StoreUnavailableError: the store is away.
    """
    own = [
        reference
        for reference in references
        if await text_owner(blobs, tenant_id, reference) == (instance, external_id)
    ]
    return await blobs.delete(tenant_id, own) if own else 0
