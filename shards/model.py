"""The stored shard and the values it is made of, as they stand in the stores: JSON in camelCase.

The structs are what :func:`encode_shard` writes and :func:`decode_shard` reads; ``structuredData`` is kept as the JSON
object that its shard type describes (:mod:`shards.types`), with numbers as int or Decimal.
"""

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from messaging import codec

ShardStatus = Literal["active", "archived", "deleted"]
LinkStatus = Literal["active", "suggested", "rejected"]
LinkSource = Literal["crm", "llm", "messaging", "rule", "manual"]
SyncStatus = Literal["synced", "pending", "failed", "stale"]
SyncDirection = Literal["inbound", "outbound", "bidirectional"]
Writer = Literal["chain", "integration", "user"]

TENANT_PRINCIPAL = "tenant"
"""Every reader whose token is the tenant's own."""
ANYONE_PRINCIPAL = "anyone"
"""Everybody who may ask this tenant's search at all."""


def guest_principal(address: str) -> str:
    """What the acl of a user names one by who is a guest at its source. No reader goes by it, so it opens nothing: it
    lets be found that whoever has this address is not one of the tenant's own."""
    return f"guest:{address.lower()}"


class Acl(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Who may read: *principals* (``user:``, ``group:``, ``domain:``, ``tenant``, ``anyone``); none: nobody.

    *scope* names that set of principals; chunks carry the scope, so that re-sharing is one write. *inherited*: another
    shard says who is in the scope (a channel for its messages), and these principals are only who was when this one
    was read. They count for nothing: not for readers, and not for the fingerprint.
    """

    scope: str
    principals: tuple[str, ...]
    inherited: bool = False

    @classmethod
    def of(cls, *principals: str) -> "Acl":
        """The acl whose scope is its own set of principals."""
        ordered = tuple(sorted(set(principals)))
        return cls(scope="set_" + blake2b("\n".join(ordered).encode(), digest_size=12).hexdigest(), principals=ordered)


class UnstructuredData(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Free text of the shard, inline or by reference to a blob."""

    text: str | None = None
    content_ref: str | None = None


class ExternalRelationship(msgspec.Struct, rename="camel"):
    """The record at its source. ``(source_version, read_at)`` orders what is read of it."""

    system: str
    instance: str
    system_type: str
    object_type: str
    external_id: str
    external_url: str | None = None
    sync_status: SyncStatus = "synced"
    sync_direction: SyncDirection = "inbound"
    last_synced_at: str = ""
    source_version: str = ""
    read_at: str = ""
    connection_id: str | None = None
    sync_error: str | None = None


class InternalRelationship(msgspec.Struct, rename="camel"):
    """A link to another shard of the tenant, with where it comes from."""

    id: str
    target_shard_id: str
    target_shard_type_id: str
    relationship_type: str
    status: LinkStatus
    confidence: Decimal
    source: LinkSource
    method: str
    evidence: dict[str, Any]
    created_at: str
    created_by: str

    @property
    def belongs_to_people(self) -> bool:
        """Whether a person made or rejected it: nothing derived may touch it."""
        return self.source == "manual" or self.status == "rejected"


class Shard(msgspec.Struct, rename="camel", kw_only=True):
    """One canonical document of one tenant."""

    id: str
    tenant_id: str
    shard_type_id: str
    schema_version: int = 1
    revision: int = 1
    status: ShardStatus = "active"
    structured_data: dict[str, Any]
    unstructured_data: UnstructuredData | None = None
    external_relationships: list[ExternalRelationship] = msgspec.field(
        name="external_relationships", default_factory=list
    )
    internal_relationships: list[InternalRelationship] = msgspec.field(
        name="internal_relationships", default_factory=list
    )
    acl: Acl
    fingerprint: str = ""
    written_by: Writer = "chain"
    created_at: str
    updated_at: str
    last_activity_at: str | None = None
    deleted_at: str | None = None
    redirect_to: str | None = None
    etag: str = msgspec.field(name="_etag", default="")

    @property
    def name(self) -> str:
        """What people call it, empty when it has no name (a tombstone keeps none)."""
        name = self.structured_data.get("name")
        return name if isinstance(name, str) else ""

    @property
    def is_live(self) -> bool:
        """Neither deleted nor merged away."""
        return self.status != "deleted" and self.redirect_to is None


class Chunk(msgspec.Struct, rename="camel", kw_only=True):
    """A piece of a shard's text that is searched as one. *vector* is float32 little-endian, None until embedded."""

    id: str
    tenant_id: str
    shard_id: str
    shard_type_id: str
    ordinal: int
    text: str
    hash: str
    acl_scope: str
    model: str | None = None
    dimensions: int | None = None
    vector: bytes | None = None
    updated_at: str
    place: dict[str, Any] = msgspec.field(default_factory=dict)


_shard_decoder = codec.decoder(Shard)


def encode_shard(shard: Shard) -> bytes:
    """The shard as it is stored, with its etag."""
    return codec.encode(shard)


def decode_shard(data: bytes) -> Shard:
    """The stored shard in *data*.

    Raises:
        codec.ValidationError: *data* is no shard; the message names the field.
    """
    return _shard_decoder.decode(data)


def decode_shards(lines: bytes) -> list[Shard]:
    """The stored shards in *lines*, one a line.

    Raises:
        codec.ValidationError: a line is no shard; the message names the field.
    """
    return _shard_decoder.decode_lines(lines)


def shard_document(shard: Shard) -> dict[str, Any]:
    """The shard as users see it: the stored JSON object without what belongs to the store."""
    document: dict[str, Any] = codec.decode(codec.encode(shard))
    document.pop("_etag", None)
    if document.get("redirectTo") is None:
        document.pop("redirectTo", None)
    return document


def content_fingerprint(
    structured_data: Mapping[str, Any],
    unstructured_data: UnstructuredData | None,
    acl: Acl,
    status: ShardStatus,
    redirect_to: str | None = None,
) -> str:
    """The hash of what a revision counts: data, acl and status (with where a merged record went); 32 hex digits."""
    if acl.inherited:
        acl = Acl(acl.scope, (), inherited=True)
    content = codec.canonical((structured_data, unstructured_data, acl, status, redirect_to))
    return blake2b(content, digest_size=16).hexdigest()
