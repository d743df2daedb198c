"""The claim check, from any event to the same event, however large: exact, and decided by what the bus has to carry."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging import claim_check, codec
from messaging.bus import DeadLetter, Message, QueueDepth
from messaging.claim_check import LARGEST_INLINE, ClaimCheckBus, PayloadInvalidError, is_claim_check, redeem
from messaging.contracts import Contract, IngestionEvent, ShardEmission
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK, SHARD_EMISSION

GLOBE = "\N{EARTH GLOBE EUROPE-AFRICA}"


class Blobs:
    """Payloads in memory, which know nothing of their content; *away*: as when the store is."""

    def __init__(self, *, away: bool = False) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self._away = away

    async def put(self, tenant_id: str, content: bytes, *, space: Literal["messages"]) -> str:
        await asyncio.sleep(0)
        if self._away:
            raise ConnectionError("away")
        reference = f"{space}/{len(content)}/{hash(content)}"
        self.kept[tenant_id, reference] = content
        return reference

    async def get(self, tenant_id: str, reference: str, *, limit: int | None = None) -> bytes:
        await asyncio.sleep(0)
        content = self.kept[tenant_id, reference]
        if limit is not None and len(content) > limit:
            raise OverflowError(f"more than {limit}")
        return content


class Bus:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message, timedelta | None]] = []
        self.closed = False

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        self.sent += [(queue, message, delay) for message in messages]

    async def depths(self) -> dict[str, QueueDepth]:
        return {INGESTION_EVENTS: QueueDepth(1, 0, 0, 0, None)}

    async def dead_letters(self, queue: str, *, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        raise KeyError((queue, limit, after))

    async def remove_dead_letters(self, queue: str, sequence_numbers: Sequence[int]) -> int:
        return len(sequence_numbers)

    async def close(self) -> None:
        self.closed = True

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for _, message, _ in self.sent]


def event(payload: dict[str, Any], **fields: Any) -> IngestionEvent:
    return IngestionEvent(
        tenant_id="acme",
        source="salesforce",
        source_id="006000000000001AAA",
        event_type="update",
        observed_at="2026-11-22T19:40:00.123Z",
        payload=payload,
        **fields,
    )


async def through(bus: Bus, blobs: Blobs, *contracts: Contract, queue: str = INGESTION_EVENTS) -> None:
    await ClaimCheckBus(bus, blobs).send(queue, [contract.to_message(queue) for contract in contracts])


texts = st.text(max_size=200) | st.builds(lambda text, times: text * times, st.text(max_size=3), st.integers(0, 300))
numbers = st.decimals(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1)
payloads = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=10,
    ),
    max_size=5,
)


@given(payload=payloads, limit=st.integers(0, 2_000))
async def test_any_payload_comes_back_digit_by_digit(payload: dict[str, Any], limit: int) -> None:
    # The wire is what counts: a number is read back in the form that the codec gives it.
    original = IngestionEvent.from_bytes(event(payload, instance="00D", traceparent="t").to_bytes())
    bus, blobs = Bus(), Blobs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim_check, "LARGEST_INLINE", limit)
        await through(bus, blobs, original)
    [body] = bus.bodies
    arrived = IngestionEvent.from_bytes(body)
    assert is_claim_check(arrived) == (len(original.to_bytes()) > limit) == bool(blobs.kept)
    if not is_claim_check(arrived):
        assert body == original.to_bytes()
    redeemed = await redeem(arrived, blobs)
    assert redeemed.model_copy(update={"payload_ref": None}) == original
    assert codec.canonical(redeemed.record) == codec.canonical(original.record)


async def test_the_size_of_the_whole_body_decides() -> None:
    room = LARGEST_INLINE - len(event({"Name": ""}).to_bytes())
    bus, blobs = Bus(), Blobs()
    fitting = event({"Name": "x" * room})
    await through(bus, blobs, fitting, event({"Name": "x" * (room + 1)}))
    assert len(bus.bodies[0]) == LARGEST_INLINE
    assert [is_claim_check(IngestionEvent.from_bytes(body)) for body in bus.bodies] == [False, True]
    assert len(bus.bodies[1]) < 1_000


@pytest.mark.parametrize("text", [GLOBE * 75_000, 'ä\\"\n' * 60_000, "x" * 1_048_576])
async def test_large_texts_of_any_script_go_apart(text: str) -> None:
    bus, blobs = Bus(), Blobs()
    await through(bus, blobs, event({"Description": text, "Amount": Decimal("120000.10")}), queue=INGESTION_EVENTS_BULK)
    [(queue, message, _)] = bus.sent
    assert queue == INGESTION_EVENTS_BULK
    assert len(message.body) < 1_000
    redeemed = await redeem(IngestionEvent.from_bytes(message.body), blobs)
    assert redeemed.record == {"Description": text, "Amount": Decimal("120000.10")}
    [content] = blobs.kept.values()
    assert content == codec.canonical(redeemed.record)
    [(_, reference)] = blobs.kept
    assert reference.startswith("messages/"), "what a message names ends by itself"


async def test_the_message_stays_the_same_but_for_its_payload() -> None:
    large = event({"Name": "x" * LARGEST_INLINE}, correlation_id="c").to_message(INGESTION_EVENTS, generation=3)
    # A field that this version does not know may be of a producer that is newer.
    foreign = Message(codec.encode(codec.decode(large.body) | {"region": "EMEA"}), "m-1", "c", large.properties)
    bus, blobs = Bus(), Blobs()
    await ClaimCheckBus(bus, blobs).send(INGESTION_EVENTS, [large, foreign], delay=timedelta(seconds=5))
    for (queue, sent, delay), given_in in zip(bus.sent, [large, foreign], strict=True):
        assert (queue, delay) == (INGESTION_EVENTS, timedelta(seconds=5))
        assert (sent.message_id, sent.correlation_id) == (given_in.message_id, "c")
        assert sent.properties == large.properties
        before, after = codec.decode(given_in.body), codec.decode(sent.body)
        assert after.pop("payloadRef")
        before.pop("payload")
        assert after == before
    assert len(blobs.kept) == 1, "the same payload is kept once"


async def test_an_older_claim_check_gives_way_to_a_payload_that_is_there() -> None:
    bus, blobs = Bus(), Blobs()
    await through(bus, blobs, event({"Name": "x" * LARGEST_INLINE}, payload_ref="payloads/acme/older"))
    arrived = IngestionEvent.from_bytes(bus.bodies[0])
    assert [("acme", arrived.payload_ref)] == list(blobs.kept)
    both = event({"Name": "small"}, payload_ref="payloads/acme/older")
    assert await redeem(both, blobs) is both


LARGE = b"x" * (LARGEST_INLINE + 1)


@pytest.mark.parametrize(
    "body",
    [
        LARGE,
        codec.encode({"tenantId": "acme", "payload": [LARGE.decode()]}),
        codec.encode({"tenantId": "", "payload": {"Name": LARGE.decode()}}),
        codec.encode({"payload": {"Name": LARGE.decode()}}),
        codec.encode([LARGE.decode()]),
    ],
)
async def test_what_is_no_event_goes_as_it_is(body: bytes) -> None:
    bus, blobs = Bus(), Blobs()
    await ClaimCheckBus(bus, blobs).send(INGESTION_EVENTS, [Message(body, "m")])
    assert bus.bodies == [body]
    assert not blobs.kept


async def test_other_queues_messages_keep_what_they_have() -> None:
    emission = ShardEmission(
        tenant_id="acme",
        shard_id="sh_1",
        shard_type_id="c_account",
        revision=1,
        change_type="update",
        changed_fields=["f" * LARGEST_INLINE],
    )
    bus, blobs = Bus(), Blobs()
    await through(bus, blobs, emission, queue=SHARD_EMISSION)
    assert bus.bodies == [emission.to_bytes()]
    assert not blobs.kept
    assert await redeem(emission, blobs) is emission


async def test_nothing_is_sent_while_a_payload_can_not_be_kept() -> None:
    bus = Bus()
    with pytest.raises(ConnectionError):
        await through(bus, Blobs(away=True), event({"Name": "small"}), event({"Name": "x" * LARGEST_INLINE}))
    assert bus.sent == []


async def test_no_payload_goes_on_being_written_when_one_can_not_be_kept() -> None:
    class Failing(Blobs):
        """Refuses the first payload while the others are under way."""

        under_way = 0
        calls = 0

        async def put(self, tenant_id: str, content: bytes, *, space: Literal["messages"]) -> str:
            self.calls += 1
            if self.calls == 1:
                await asyncio.sleep(0.01)
                raise ConnectionError("away")
            self.under_way += 1
            try:
                await asyncio.sleep(60)
            finally:
                # An HTTP client needs a turn to give back its connection.
                await asyncio.sleep(0)
                self.under_way -= 1
            return await super().put(tenant_id, content, space=space)

    bus, blobs = Bus(), Failing()
    with pytest.raises(ConnectionError, match="away"):
        await through(bus, blobs, *(event({"Name": f"{n}" + "x" * LARGEST_INLINE}) for n in range(12)))
    assert (blobs.under_way, blobs.kept, bus.sent) == (0, {}, [])
    assert blobs.calls <= claim_check.AT_ONCE + 1


async def test_no_more_is_read_than_a_payload_may_have() -> None:
    blobs = Blobs()
    record = {"Name": "x" * (claim_check.LARGEST_PAYLOAD - len('{"Name":""}'))}
    for payload in (record, {"Name": record["Name"] + "x"}):
        reference = await blobs.put("acme", codec.canonical(payload), space="messages")
        checked = event({}).model_copy(update={"payload": None, "payload_ref": reference})
        if payload is record:
            assert (await redeem(checked, blobs)).record == record
        else:
            with pytest.raises(OverflowError):
                await redeem(checked, blobs)


@pytest.mark.parametrize(("content", "said"), [(b"[1]", "no object"), (b"{", "no JSON"), (b"\xff", "no JSON")])
async def test_content_that_is_no_payload_is_told(content: bytes, said: str) -> None:
    blobs = Blobs()
    reference = await blobs.put("acme", content, space="messages")
    with pytest.raises(PayloadInvalidError, match=said):
        await redeem(event({}).model_copy(update={"payload": None, "payload_ref": reference}), blobs)


async def test_the_rest_of_the_bus_is_the_bus_itself() -> None:
    inner = Bus()
    bus = ClaimCheckBus(inner, Blobs())
    assert await bus.depths() == await inner.depths()
    with pytest.raises(KeyError, match="7, 3"):
        await bus.dead_letters(INGESTION_EVENTS, limit=7, after=3)
    assert await bus.remove_dead_letters(INGESTION_EVENTS, [1, 2]) == 2
    await bus.close()
    assert inner.closed


def test_an_event_needs_a_payload_or_its_claim_check() -> None:
    six = codec.decode(event({}).to_bytes())
    six.pop("payload")
    with pytest.raises(ValueError, match="the payload is missing"):
        IngestionEvent.model_validate(six)
    checked = IngestionEvent.model_validate({**six, "payloadRef": "payloads/acme/x"})
    assert is_claim_check(checked)
    assert codec.decode(checked.to_bytes()) == {**six, "payloadRef": "payloads/acme/x"}
    with pytest.raises(ValueError, match="still in payloads/acme/x"):
        _ = checked.record
