"""What every store of parked messages does. A store's own test class inherits this and gives it a ``parked``."""

from typing import Any

import pytest
from pydantic import ValidationError
from shard_samples import ACME, GLOBEX

from messaging import codec
from messaging.contracts import UNKNOWN_TENANT, Contract
from messaging.times import to_text, utc_now
from shards.parked import ParkedMessage, ParkedMessages, parked_message
from shards.store import InvalidCursorError


def message(number: int, *, tenant: str = ACME, reason: str = "unknown-type", parked_at: str = "") -> ParkedMessage:
    return ParkedMessage(
        id=f"pk_{number}",
        tenant_id=tenant,
        queue="ingestion-events",
        reason=reason,
        detail="the type Foo__c is not known",
        body='{"name": "Ünïcode"}',
        message_id=f"m{number}",
        properties={"tenantId": tenant, "attempt": 2, "again": True},
        parked_at=parked_at,
    )


class ParkedMessagesContract:
    """The tests; each has an empty store."""

    async def test_a_message_comes_back_as_it_was_parked(self, parked: ParkedMessages) -> None:
        await parked.park([message(1)])
        stored = await parked.get_parked("pk_1")
        assert stored is not None
        assert stored == message(1, parked_at=stored.parked_at)
        assert "2026" < stored.parked_at <= to_text(utc_now())
        assert await parked.get_parked("pk_2") is None
        assert await parked.get_parked("pk_1", ACME) == stored
        assert await parked.get_parked("pk_1", GLOBEX) is None

    @pytest.mark.parametrize(
        "body",
        [
            b"\x00" * 2_000_000,
            b"\xff" * 2_000_000,
            b'{"tenantId": "acme", "text": "' + b'"' * 1_500_000 + b'"}',
            b'{"tenantId": "' + b"t" * 3_000 + b'"}',
            b'{"tenantId": "' + "東".encode() * 1_000 + b'"}',
        ],
        ids=["control characters", "no text", "quotes", "a long tenant", "a long tenant of many bytes"],
    )
    async def test_whatever_a_message_is_it_can_be_parked(self, parked: ParkedMessages, body: bytes) -> None:
        """What can't be parked has no end, and takes its whole batch along."""
        made = parked_message(
            queue="ingestion-events",
            body=body,
            message_id="m1",
            correlation_id=None,
            properties={},
            delivery_count=1,
            reason="invalid-message",
            detail="the body is no IngestionEvent: " + "x" * 3_000_000,
            parked_at="2026-01-01T00:00:00.000Z",
        )
        await parked.park([made])
        assert (await parked.parked(UNKNOWN_TENANT)).items == [made]
        assert made.body[:100] == body.decode(errors="replace")[:100]
        assert (f"{len(body):,} bytes" in made.detail) == (len(body) > 1_000_000)

    @pytest.mark.parametrize("named", ["unknown", "@Unknown", "unknown@acme.example"])
    async def test_no_tenant_sees_what_is_no_tenants(self, parked: ParkedMessages, named: str) -> None:
        parts: dict[str, Any] = {
            "queue": "ingestion-events",
            "correlation_id": None,
            "properties": {},
            "delivery_count": 1,
            "reason": "invalid-message",
            "detail": "the body is no IngestionEvent",
            "parked_at": "2026-01-01T00:00:00.000Z",
        }
        nobodys = [
            parked_message(body=body, message_id=f"m{number}", **parts)
            for number, body in enumerate((b"\x00", codec.encode({"tenantId": UNKNOWN_TENANT})))
        ]
        theirs = parked_message(body=codec.encode({"tenantId": named}), message_id="m9", **parts)
        await parked.park([*nobodys, theirs])
        assert (await parked.parked(named)).items == [theirs]
        assert {one.id for one in (await parked.parked(UNKNOWN_TENANT)).items} == {one.id for one in nobodys}
        assert await parked.get_parked(nobodys[0].id, named) is None
        with pytest.raises(ValidationError, match="is not @unknown"):
            Contract(tenant_id=UNKNOWN_TENANT)
        assert Contract(tenant_id=named)

    async def test_one_message_id_of_two_tenants_is_two_messages(self, parked: ParkedMessages) -> None:
        for tenant in (ACME, GLOBEX):
            made = parked_message(
                queue="ingestion-events",
                body=b"no JSON",
                message_id="m1",
                correlation_id=None,
                properties={"tenantId": tenant},
                delivery_count=1,
                reason="invalid-message",
                detail="the body is no JSON",
                parked_at="",
            )
            await parked.park([made])
        kept = (await parked.parked()).items
        assert sorted(message.tenant_id for message in kept) == [ACME, GLOBEX]
        assert len({message.id for message in kept}) == 2

    async def test_a_message_parked_again_replaces_itself(self, parked: ParkedMessages) -> None:
        await parked.park([message(1), message(2)])
        await parked.park([message(1, reason="poison")])
        assert await parked.parked_counts() == {"poison": 1, "unknown-type": 1}

    async def test_the_oldest_come_first_in_pages(self, parked: ParkedMessages) -> None:
        await parked.park([message(n, parked_at=f"2026-01-0{9 - n // 2}T00:00:00.000Z") for n in range(9)])
        seen: list[ParkedMessage] = []
        cursor = None
        while True:
            page = await parked.parked(limit=2, cursor=cursor)
            seen.extend(page.items)
            cursor = page.cursor
            if cursor is None:
                break
            await parked.remove_parked([page.items[0].id])
        assert [(item.parked_at, item.id) for item in seen] == sorted((item.parked_at, item.id) for item in seen)
        assert len(seen) == 9
        with pytest.raises(InvalidCursorError):
            await parked.parked(cursor="none")

    async def test_a_listing_is_narrowed(self, parked: ParkedMessages) -> None:
        await parked.park([message(1), message(2, tenant=GLOBEX), message(3, reason="poison")])
        assert [item.id for item in (await parked.parked(ACME)).items] == ["pk_1", "pk_3"]
        assert [item.id for item in (await parked.parked(ACME, reason="poison")).items] == ["pk_3"]
        assert (await parked.parked(queue="embedding-jobs")).items == []
        assert len((await parked.parked()).items) == 3
        assert await parked.parked_counts(GLOBEX) == {"unknown-type": 1}
        assert await parked.parked_counts("initech") == {}

    async def test_removed_messages_are_gone(self, parked: ParkedMessages) -> None:
        await parked.park([message(1), message(2)])
        assert await parked.remove_parked(["pk_1", "pk_9"]) == 1
        assert await parked.remove_parked(["pk_1"]) == 0
        assert [item.id for item in (await parked.parked()).items] == ["pk_2"]
