"""The links that a shard's own fields tell. A link may be written before its target exists."""

from decimal import Decimal

from shards.identity import InvalidExternalIdError, link_id, shard_id
from shards.model import ExternalRelationship, InternalRelationship, Shard
from shards.types import LinkTarget, shard_type

STRUCTURED_FIELD = "structured-field"
"""The method of links that come from a field which holds the target's id."""
STRUCTURED_FIELD_CONFIDENCE = Decimal("0.9")


def with_structured_links(shard: Shard, now: str) -> list[InternalRelationship]:
    """The shard's links as its fields tell them now, beside those that are not of this method's making.

    A deleted shard has no fields left; it keeps the links that its deletion left it.
    """
    if shard.status == "deleted":
        return shard.internal_relationships
    told = _structured_links(shard, now)
    kept: list[InternalRelationship] = []
    for link in shard.internal_relationships:
        if link.belongs_to_people or link.method != STRUCTURED_FIELD or link.relationship_type == "merged_into":
            kept.append(link)
            told.pop(link.id, None)
        elif link.id in told:
            kept.append(link)
            del told[link.id]
    return kept + list(told.values())


def _structured_links(shard: Shard, now: str) -> dict[str, InternalRelationship]:
    links: dict[str, InternalRelationship] = {}
    kind = shard_type(shard.shard_type_id)
    for source in shard.external_relationships:
        for told in kind.link_targets(source.system, shard.structured_data):
            target = _target_id(shard, source, told)
            if target is None or target == shard.id:
                continue
            made = link_id(shard.id, told.relationship_type, target)
            links[made] = InternalRelationship(
                id=made,
                target_shard_id=target,
                target_shard_type_id=told.target_shard_type_id,
                relationship_type=told.relationship_type,
                status="active",
                confidence=STRUCTURED_FIELD_CONFIDENCE,
                source="messaging" if source.system_type == "messaging" else "crm",
                method=STRUCTURED_FIELD,
                evidence={"field": told.source_field},
                created_at=now,
                created_by="system",
            )
    return links


def _target_id(shard: Shard, source: ExternalRelationship, told: LinkTarget) -> str | None:
    """The target's shard id; None when the field holds no id of its system (the field itself stays as it came)."""
    if told.shard_id is not None:
        return told.shard_id
    if told.object_type is None or told.external_id is None:
        return None
    try:
        instance = told.instance or source.instance
        return shard_id(shard.tenant_id, source.system, instance, told.object_type, told.external_id)
    except InvalidExternalIdError:
        return None
