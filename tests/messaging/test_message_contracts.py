"""The contracts as they stand on the queues, and the ids they get there."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from messaging import codec
from messaging.contracts import (
    MAX_CHUNKS_PER_JOB,
    ChunkReference,
    Contract,
    EmbeddingJob,
    EnrichmentJob,
    IngestionEvent,
    ShardEmission,
    SourceWork,
)
from messaging.message_ids import message_id

SIX_FIELDS: dict[str, Any] = {
    "tenantId": "acme",
    "source": "salesforce",
    "sourceId": "006000000000001AAA",
    "eventType": "update",
    "observedAt": "2026-11-22T19:40:00.123Z",
    "payload": {"Id": "006000000000001AAA", "Amount": 120000.5},
}
names = st.text(min_size=1, max_size=12)
money = st.decimals(allow_nan=False, allow_infinity=False, places=10).filter(lambda number: abs(number) < 10**20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=10) | money,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def test_an_event_with_only_the_six_required_fields_is_valid() -> None:
    event = IngestionEvent.from_bytes(codec.encode(SIX_FIELDS))
    assert event.tenant_id == "acme"
    assert event.record["Amount"] == Decimal("120000.5")
    assert (event.schema_version, event.instance, event.event_id, event.correlation_id) == (1, None, None, None)


@pytest.mark.parametrize("missing", SIX_FIELDS)
def test_an_event_lacking_one_of_the_six_is_not(missing: str) -> None:
    rest = {name: value for name, value in SIX_FIELDS.items() if name != missing}
    with pytest.raises(ValidationError, match=missing):
        IngestionEvent.from_bytes(codec.encode(rest))


@pytest.mark.parametrize(
    "wrong", [{"eventType": "merge"}, {"tenantId": ""}, {"payload": []}, {"schemaVersion": 0}, {"source": None}]
)
def test_an_event_with_a_wrong_field_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IngestionEvent.from_bytes(codec.encode({**SIX_FIELDS, **wrong}))


def test_a_body_that_is_no_json_is_told_from_one_that_is_no_contract() -> None:
    with pytest.raises(codec.DecodeError):
        IngestionEvent.from_bytes(b'{"tenantId": ')


def test_the_wire_has_camel_case_and_leaves_out_what_is_not_known() -> None:
    event = IngestionEvent.from_bytes(codec.encode(SIX_FIELDS))
    assert codec.decode(event.to_bytes()) == {**SIX_FIELDS, "schemaVersion": 1, "payload": event.record}
    job = EmbeddingJob(
        tenant_id="acme",
        shard_id="sh_1",
        shard_type_id="c_message",
        revision=2,
        chunks=[ChunkReference(chunk_id="ch_1", hash="h")],
        traceparent="00-aa-bb-01",
        correlation_id="c",
    )
    assert codec.decode(job.to_bytes()) == {
        "tenantId": "acme",
        "shardId": "sh_1",
        "shardTypeId": "c_message",
        "revision": 2,
        "generation": 0,
        "chunks": [{"chunkId": "ch_1", "hash": "h"}],
        "reason": "changed",
        "schemaVersion": 1,
        "traceparent": "00-aa-bb-01",
        "correlationId": "c",
    }


shard_fields = {"tenant_id": names, "shard_id": names, "shard_type_id": names, "revision": st.integers(1, 10**9)}
contracts = st.one_of(
    st.builds(
        IngestionEvent,
        tenant_id=names,
        source=names,
        source_id=names,
        event_type=st.sampled_from(["create", "update", "delete"]),
        observed_at=names,
        payload=st.dictionaries(names, values, max_size=4),
        instance=st.none() | names,
        source_version=st.none() | names,
        traceparent=st.none() | names,
    ),
    st.builds(ShardEmission, **shard_fields, change_type=st.just("update"), changed_fields=st.lists(names, max_size=3)),
    st.builds(EnrichmentJob, **shard_fields, generation=st.integers(0, 9)),
    st.builds(
        EmbeddingJob,
        **shard_fields,
        chunks=st.lists(st.builds(ChunkReference, chunk_id=names, hash=names), max_size=3),
    ),
    st.builds(SourceWork, tenant_id=names, connection_id=names, work=st.just("poll"), due_at=names),
)


@given(contracts)
def test_every_contract_comes_back_as_it_was_sent(contract: Contract) -> None:
    again = type(contract).from_bytes(contract.to_bytes())
    assert again == contract
    assert again.to_bytes() == contract.to_bytes()


def test_an_amount_of_thirty_digits_passes_digit_by_digit() -> None:
    amount = Decimal("123456789012345678901234567.891")
    event = IngestionEvent.model_validate({**SIX_FIELDS, "payload": {"Amount": amount}})
    assert b"123456789012345678901234567.891" in event.to_bytes()
    assert IngestionEvent.from_bytes(event.to_bytes()).record["Amount"] == amount


@given(contracts, st.integers(0, 5))
def test_the_same_contract_has_the_same_id_until_the_generation_moves(contract: Contract, generation: int) -> None:
    again = type(contract).from_bytes(contract.to_bytes())
    message = contract.to_message("queue", generation=generation)
    assert again.to_message("queue", generation=generation).message_id == message.message_id
    assert contract.to_message("queue", generation=generation + 1).message_id != message.message_id
    assert contract.to_message("another", generation=generation).message_id != message.message_id
    assert message.properties["tenantId"] == contract.tenant_id
    assert message.properties.get("traceparent") == (contract.traceparent or None)
    assert message.correlation_id == contract.correlation_id


def test_ids_differ_by_what_the_message_is_about() -> None:
    event = IngestionEvent.model_validate(SIX_FIELDS)
    changes = [
        {"tenant_id": "other"},
        {"source_id": "006000000000002AAA"},
        {"instance": "00D"},
        {"object_type": "Case"},
        {"event_type": "delete"},
        {"source_version": "2"},
        {"event_id": "e"},
    ]
    ids = {event.model_copy(update=change).to_message("q").message_id for change in [{}, *changes]}
    assert len(ids) == len(changes) + 1
    one = EmbeddingJob(
        tenant_id="a", shard_id="s", shard_type_id="t", revision=1, chunks=[ChunkReference(chunk_id="1", hash="h")]
    )
    two = one.model_copy(update={"chunks": [ChunkReference(chunk_id="2", hash="h")]})
    assert one.to_message("q").message_id != two.to_message("q").message_id


@given(st.tuples(names, names, names, st.integers(0, 9)), st.tuples(names, names, names, st.integers(0, 9)))
def test_message_ids_are_forty_characters_and_differ_where_their_parts_do(
    one: tuple[str, str, str, int], two: tuple[str, str, str, int]
) -> None:
    assert len(message_id(*one)) == 40
    assert "\x1f" in "".join(map(str, (*one, *two))) or (message_id(*one) == message_id(*two)) == (one == two)


def test_an_embedding_job_names_no_more_chunks_than_it_may() -> None:
    chunk = {"chunkId": "c", "hash": "h"}
    shard = {"tenantId": "a", "shardId": "s", "shardTypeId": "t", "revision": 1}
    EmbeddingJob.model_validate({**shard, "chunks": [chunk] * MAX_CHUNKS_PER_JOB})
    with pytest.raises(ValidationError, match="chunks"):
        EmbeddingJob.model_validate({**shard, "chunks": [chunk] * (MAX_CHUNKS_PER_JOB + 1)})
