"""The port to large content: bytes kept under the hash of what they are, in their tenant's own space."""

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Protocol

_REFERENCE = re.compile(r"payloads/(?P<tenant>.+)/(?P<digest>[0-9a-f]{64})\Z")
_OTHER = re.compile(r"[^A-Za-z0-9-]")


class BlobMissingError(Exception):
    """There is no such content, or the reference is none of the tenant's; the message says which."""


def blob_reference(tenant_id: str, content: bytes) -> str:
    """``payloads/<tenant>/<sha256>``: the one name of *content* in the space of *tenant_id*.

    A character of the tenant's id that can't stand in every home's names is a ``=`` and the two hexadecimal digits of
    each of its UTF-8 bytes, so no two tenants share a space and none is a folder above another.
    """
    return f"payloads/{tenant_space(tenant_id)}/{sha256(content).hexdigest()}"


def tenant_space(tenant_id: str) -> str:
    """The part of a reference that names the tenant."""
    return _OTHER.sub(lambda match: "".join(f"={byte:02x}" for byte in match[0].encode()), tenant_id)


def checked_reference(tenant_id: str, reference: str) -> str:
    """*reference*, when it names something in the space of *tenant_id*.

    Raises:
        BlobMissingError: it is malformed, or another tenant's.
    """
    match = _REFERENCE.match(reference)
    if match is None:
        raise BlobMissingError(f"{reference[:200]!r} is no reference of the form payloads/<tenant>/<sha256>")
    if match["tenant"] != tenant_space(tenant_id):
        raise BlobMissingError(f"{reference[:200]} is outside the space of tenant {tenant_id}")
    return reference


class BlobStore(Protocol):
    """All calls raise :class:`~shards.store.StoreUnavailableError` when the store is away."""

    async def put(self, tenant_id: str, content: bytes) -> str:
        """Keep *content* and return its reference; content that is there already is kept once and counts as new."""

    async def get(self, tenant_id: str, reference: str) -> bytes:
        """The content under *reference*, checked against its hash.

        Raises:
            BlobMissingError: there is none, or the reference is malformed or another tenant's.
        """

    async def delete(self, tenant_id: str, references: Sequence[str]) -> int:
        """Delete content for good; how many there were."""

    async def delete_older(self, before: datetime) -> int:
        """Delete the content of all tenants that was last put before then; how many there were."""

    async def close(self) -> None:
        """Give back connections."""
