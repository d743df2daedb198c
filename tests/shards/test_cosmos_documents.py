"""Items of Cosmos DB and what they are read back as, through JSON as the SDK writes and reads it."""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_samples import ACME, MODEL, chunk_of, id_of, link, make, unit

from messaging import codec
from shards.cosmos_documents import (
    checked_id,
    checked_tenant,
    chunk_item,
    decimals,
    is_legal_id,
    parked_item,
    progress_item,
    shard_item,
    stored_chunk,
    stored_parked,
    stored_progress,
    stored_shard,
    vector_fields,
)
from shards.model import Shard, shard_document
from shards.parked import ParkedMessage
from shards.store import Progress


def sent(item: dict[str, Any]) -> dict[str, Any]:
    """The item after the SDK wrote it, the service kept its numbers as doubles, and the SDK read it."""
    written = json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode()
    kept: dict[str, Any] = json.loads(written, parse_int=_kept)
    return {**kept, "_etag": '"1"', "_rid": "r", "_self": "s", "_attachments": "attachments/", "_ts": 1}


def _kept(digits: str) -> int:
    return int(float(digits))


def read_back(shard: Shard) -> Shard:
    return stored_shard(sent(shard_item(shard, nonce="n", tombstone_seconds=None)))


def money() -> st.SearchStrategy[Decimal]:
    """Decimals of up to 15 significant digits, of everyday and of extreme sizes."""
    return st.builds(
        lambda digits, exponent: Decimal(digits).scaleb(exponent),
        st.integers(-(10**15) + 1, 10**15 - 1),
        st.integers(-40, 40),
    )


def values() -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    leaves = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | money() | text
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
    )


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), values(), max_size=6))
def test_a_shard_comes_back_with_every_digit(data: dict[str, Any]) -> None:
    shard = make("A", links=[link("A", "B")])
    shard.structured_data = data | {"name": "A"}
    assert shard_document(read_back(shard)) == shard_document(shard)


@given(money())
def test_money_is_never_a_binary_float(amount: Decimal) -> None:
    shard = make("A")
    shard.structured_data = {"amount": amount}
    stored = read_back(shard).structured_data["amount"]
    assert type(stored) in (int, Decimal)
    assert stored == amount


def test_an_item_has_the_interfaces_names_and_nothing_of_an_etag() -> None:
    item = shard_item(make("A", links=[link("A", "B")]), nonce="n", tombstone_seconds=60)
    assert item.keys() == {
        *("id", "tenantId", "shardTypeId", "schemaVersion", "revision", "status", "structuredData"),
        *("unstructuredData", "external_relationships", "internal_relationships", "acl", "fingerprint", "writtenBy"),
        *("createdAt", "updatedAt", "lastActivityAt", "deletedAt", "derived"),
    }
    assert (item["id"], item["tenantId"]) == (id_of("A"), ACME)
    assert read_back(make("A")).etag == '"1"'


def test_a_tombstone_ends_and_a_redirect_does_not() -> None:
    def ttl(shard: Shard, seconds: int | None = 60) -> int | None:
        return shard_item(shard, nonce="n", tombstone_seconds=seconds).get("ttl")

    assert ttl(make("A")) is None
    assert ttl(make("A", status="deleted")) == 60
    assert ttl(make("A", status="deleted"), None) is None
    assert ttl(make("A", redirect_to=id_of("B"))) is None
    assert ttl(make("A", status="deleted", redirect_to=id_of("B"))) is None


def test_what_is_dead_is_linked_to_by_nothing_and_has_no_name() -> None:
    links = [link("A", "B"), link("A", "C", status="rejected"), link("A", "B", "mentions")]
    live = shard_item(make("A", title="Zürich — Café", links=links), nonce="n", tombstone_seconds=None)["derived"]
    assert (live["live"], live["targets"], live["links"]) == (True, [id_of("B")], 3)
    assert live["words"] == ["zurich", "cafe"]
    for dead in (make("A", status="deleted", links=links), make("A", redirect_to=id_of("B"), links=links)):
        derived = shard_item(dead, nonce="n", tombstone_seconds=None)["derived"]
        assert derived.keys() == {"live", "position", "links", "nonce"}
        assert not derived["live"]


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=8))
def test_a_vector_comes_back_bit_by_bit(numbers: list[float]) -> None:
    vector = np.array(numbers, dtype=np.float32)
    chunk = chunk_of(make("A"), "text")
    item = chunk_item(chunk) | vector_fields(vector, MODEL)
    stored = stored_chunk(sent(item))
    assert stored.vector == vector.tobytes()
    assert (stored.model, stored.dimensions) == (MODEL, len(numbers))


def test_a_vector_is_written_in_few_digits() -> None:
    vector = unit(*(math.sin(n) for n in range(1536)))
    assert len(json.dumps(decimals(vector), separators=(",", ":"))) < 14 * 1536
    assert max(len(str(number)) for number in decimals(vector)) <= 15


def test_a_chunk_without_a_vector_waits_for_one() -> None:
    chunk = chunk_of(make("A"), "Grüße\u2028", ordinal=3)
    item = chunk_item(chunk)
    assert item["waiting"]
    assert "vector" not in item
    assert stored_chunk(sent(item)) == chunk


@pytest.mark.parametrize(
    ("stages", "behind"),
    [
        ((3, 3, 3, 3), None),
        ((3, 3, 3, 2), ["embedded"]),
        ((3, 0, 2, 3), ["enriched", "prepared"]),
        ((0, 1, 1, 1), None),
    ],
)
def test_only_progress_that_lags_says_since_when(stages: tuple[int, int, int, int], behind: list[str] | None) -> None:
    progress = Progress(ACME, "sh_1", "c_account", *stages, "2026-01-01T00:00:00.000Z")
    item = progress_item(progress)
    assert item.get("behind") == behind
    assert ("behindSince" in item) == (behind is not None)
    assert stored_progress(sent(item)) == progress


def test_a_parked_message_comes_back() -> None:
    message = ParkedMessage(
        id="pk_1",
        tenant_id=ACME,
        queue="q",
        reason="poison",
        detail="…",
        body='{"a":"\\u0000"}',
        message_id="m",
        properties={"attempt": 2, "again": True, "tenantId": ACME},
        parked_at="2026-01-01T00:00:00.000Z",
    )
    assert stored_parked(sent(parked_item(message))) == message


LEGAL = ["sh_1", "ü", "a b", "'\"", "%2F", "&+=;:@$,!~*()[]{}<>|^`", "日本", "🦉", "a.b-c_d", "x" * 1023]
ILLEGAL = ["", "a/b", "a\\b", "a?b", "a#b", "a\tb", "a\nb", " a", "a ", "x" * 1024, "\ud800", "\x7f", "🦉" * 256]


def test_ids_that_items_can_have() -> None:
    assert [identifier for identifier in LEGAL if not is_legal_id(identifier)] == []
    assert [identifier for identifier in ILLEGAL if is_legal_id(identifier)] == []


@pytest.mark.parametrize(("check", "wrong"), [(checked_id, "a/b"), (checked_tenant, "")])
def test_what_can_be_no_key_is_refused(check: Callable[[str], str], wrong: str) -> None:
    assert check("right") == "right"
    with pytest.raises(ValueError, match=r"tenant|can be no item's id"):
        check(wrong)


def test_the_codec_writes_floats_as_the_decimals_they_were_read_from() -> None:
    assert codec.decode(codec.encode(json.loads("[0.1,1e22,120000.0,1e-7,-0.0]"))) == [
        Decimal(text) for text in ("0.1", "1e22", "120000.0", "1e-7", "-0.0")
    ]
