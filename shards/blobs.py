"""The port to large content: bytes kept under the hash of what they are, in their tenant's own part of a space.

Of the two spaces one keeps until somebody deletes (the text of files), the other lets go of what is old (the payloads
of messages).
"""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, Protocol

Space = Literal["payloads", "messages"]
"""The first part of a reference: how long the content lives."""
KEPT: Final = "payloads"
"""Content that lives until it is deleted: what shards refer to."""
PASSING: Final = "messages"
"""Content that messages refer to: :meth:`BlobStore.delete_older` deletes it, and on Azure the account's own rule."""

_REFERENCE = re.compile(r"(?:payloads|messages)/(?P<tenant>.+)/(?P<digest>[0-9a-f]{64})\Z")
_OTHER = re.compile(r"[^a-z0-9-]")
_BYTES = re.compile(r"(?:=[0-9a-f]{2})+")

LONGEST_SPACE = 128
"""Characters of a tenant's space in a reference; a file name may have 255 and a blob's name 1,024."""


class BlobMissingError(Exception):
    """There is no such content, it is damaged, or the reference is none of the tenant's; the message says which."""


class BlobTooLargeError(Exception):
    """The content has more bytes than the caller takes; the message says which content, and how many that are."""

    def __init__(self, reference: str, where: str, limit: int) -> None:
        super().__init__(f"the content {reference} in {where} has more than {limit:,} bytes, the most that is read")


def blob_reference(tenant_id: str, content: bytes, space: Space = KEPT) -> str:
    """``<space>/<tenant>/<sha256>``: the one name of *content* in the part of *space* that is *tenant_id*'s.

    No two tenants share a part, and none is a folder above another.

    Raises:
        ValueError: the tenant's id is empty.
    """
    return f"{space}/{tenant_space(tenant_id)}/{content_hash(content)}"


def content_hash(content: bytes) -> str:
    """The last part of a reference: the content's SHA-256, hexadecimal."""
    return sha256(content).hexdigest()


def tenant_space(tenant_id: str) -> str:
    """The part of a reference that names the tenant, in characters that every home's names allow.

    A lower-case letter, digit or dash of the id is itself; any other is a ``=`` and two hexadecimal digits for each of
    its UTF-8 bytes: some file systems take two cases for one. What is longer than :data:`LONGEST_SPACE` is cut, and
    ends with ``==`` and the id's hash.

    Raises:
        ValueError: the id is empty.
    """
    if not tenant_id:
        raise ValueError("a tenant's id is empty: it names no space")
    space = _OTHER.sub(
        lambda match: "".join(f"={byte:02x}" for byte in match[0].encode(errors="surrogatepass")), tenant_id
    )
    if len(space) <= LONGEST_SPACE:
        return space
    ending = "==" + content_hash(tenant_id.encode(errors="surrogatepass"))
    return space[: LONGEST_SPACE - len(ending)] + ending


def tenant_of_space(space: str) -> str | None:
    """The id of the tenant that has *space*, as far as its name tells: None for one that was cut, or is no space."""
    try:
        tenant_id = _BYTES.sub(
            lambda match: bytes.fromhex(match[0].replace("=", "")).decode(errors="surrogatepass"), space
        )
    except UnicodeDecodeError:
        return None
    return tenant_id if tenant_id and tenant_space(tenant_id) == space else None


def space_of(reference: str) -> str | None:
    """The tenant's space that *reference* names something in; None when it is malformed."""
    match = _REFERENCE.match(reference)
    return match["tenant"] if match else None


def checked_reference(tenant_id: str, reference: str) -> str:
    """*reference*, when it names something in the space of *tenant_id*.

    Raises:
        BlobMissingError: it is malformed, or another tenant's.
    """
    match = _REFERENCE.match(reference)
    if match is None:
        raise BlobMissingError(
            f"{reference[:200]!r} is no reference of the form {KEPT}/<tenant>/<sha256> or {PASSING}/…"
        )
    if match["tenant"] != tenant_space(tenant_id):
        raise BlobMissingError(f"{reference[:200]} is outside the space of tenant {tenant_id}")
    return reference


class BlobStore(Protocol):
    """All calls raise :class:`~shards.store.StoreUnavailableError` when the store is away."""

    async def put(self, tenant_id: str, content: bytes, *, space: Space = KEPT) -> str:
        """Keep *content* and return its reference; content that is there already is kept once and counts as new."""

    async def get(self, tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        """The content under *reference*, checked against its hash. Beyond *limit* bytes nothing is read, None: all is.

        Raises:
            BlobMissingError: there is none, it is damaged, or the reference is malformed or another tenant's.
            BlobTooLargeError: it has more bytes than *limit*.
        """

    async def delete(self, tenant_id: str, references: Sequence[str], *, put_before: datetime | None = None) -> int:
        """Delete content for good; how many there were.

        With *put_before* only what was last put before then: content put again meanwhile stays.

        Raises:
            BlobMissingError: a reference is malformed or another tenant's; nothing is deleted.
        """

    async def delete_older(self, before: datetime) -> int:
        """Delete what all tenants have in :data:`PASSING` and was last put before then; how many there were.

        Content put again meanwhile stays.
        """

    def kept(self, beginning: str, before: datetime) -> AsyncIterator[list[str]]:
        """What all tenants have in :data:`KEPT`, as far as its hash begins with *beginning* (hexadecimal digits) and it
        was last put before then: the references, in pages."""

    async def close(self) -> None:
        """Give back connections."""
