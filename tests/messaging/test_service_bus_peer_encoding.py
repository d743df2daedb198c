"""How the Service Bus peer reads and writes AMQP: its own codec, held against proton's and against any bytes."""

import math
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_bus_peer import require_proton
from service_bus_peer.amqp_values import (
    Array,
    Described,
    Int,
    MalformedError,
    Symbol,
    Timestamp,
    UnsignedInt,
    decode,
    encode,
    encode_map,
    end_of,
)
from service_bus_peer.encoded_message import EncodedMessage, cut_batch
from service_bus_peer.frames import BATCHED_FORMAT, IncomingFrames

SMALL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1).map(Int),
    st.integers(0, 2**32 - 1).map(UnsignedInt),
    st.integers(0, 2**53).map(Timestamp),
    st.floats(allow_nan=False),
    st.uuids(),
    st.text(max_size=300),
    st.binary(max_size=300),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(Symbol),
)
VALUES = st.recursive(
    SMALL,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert decode(encode(value)) == (value, len(encode(value)))


def test_arrays_and_described_values_are_read_as_written() -> None:
    assert decode(encode(Array([1, -2])))[0] == [1, -2]
    assert decode(encode(Array([Timestamp(5)])))[0] == [Timestamp(5)]
    assert decode(encode(Described(Symbol("x:y"), [1])))[0] == Described(Symbol("x:y"), [1])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        _, end = decode(data)
    except MalformedError:
        return
    assert end == end_of(data, 0) <= len(data)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for read in (EncodedMessage.cut, cut_batch):
        try:
            read(data)
        except MalformedError:
            continue


@given(VALUES, st.data())
def test_a_value_cut_short_is_malformed(value: Any, data: st.DataObject) -> None:
    encoded = encode(value)
    with pytest.raises(MalformedError):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_proton_writes_what_is_read_here_and_reads_what_is_written_here() -> None:
    require_proton()
    from proton import UNDESCRIBED, Data, byte, int32, symbol, timestamp, ubyte, uint, ulong
    from proton import Array as ProtonArray

    token = uuid4()
    written = {
        "null": None,
        "true": True,
        "long": -7,
        "huge": 2**62,
        "int": int32(-5),
        "small": ubyte(200),
        "signed": byte(-3),
        "uint": uint(70_000),
        "ulong": ulong(2**63),
        "time": timestamp(1_700_000_000_123),
        "double": math.pi,
        "uuid": token,
        "text": "äöü" * 100,
        "short": "x",
        "list": [1, "two", [3]],
        "map": {"a": {"b": 1}},
        "uuids": ProtonArray(UNDESCRIBED, Data.UUID, token, token),
        "numbers": ProtonArray(UNDESCRIBED, Data.LONG, 1, 2**40),
        "symbol": symbol("com.microsoft:x"),
    }
    data = Data()
    data.put_object(written)
    read = decode(bytes(data.encode()))[0]
    assert read == written | {"uuids": [token, token], "numbers": [1, 2**40]}

    ours = {
        "list": [1, None, True, "x" * 300, b"bytes"],
        "uuid": token,
        "symbol": Symbol("s"),
        "numbers": Array([1, 2]),
        "int": Int(-9),
        "time": Timestamp(77),
    }
    data = Data()
    data.decode(encode(ours))
    data.rewind()
    data.next()
    theirs = data.get_object()
    assert bytes(theirs["list"].pop()) == b"bytes"
    assert theirs["list"] == [1, None, True, "x" * 300]
    assert list(theirs["numbers"].elements) == [1, 2]
    assert (theirs["uuid"], theirs["symbol"], theirs["int"], theirs["time"]) == (token, "s", -9, 77)


def section(code: int, value: bytes) -> bytes:
    return b"\x00\x53" + bytes([code]) + value


def message(*, message_id: Any = "id-1", annotations: dict[Symbol, Any] | None = None, body: bytes = b"body") -> bytes:
    return (
        (b"" if annotations is None else section(0x72, encode(annotations)))
        + section(0x73, encode([message_id, None, None, "subject"]))
        + section(0x74, encode({"key": "value", "number": Int(3)}))
        + section(0x75, encode(body))
    )


def delivered(encoded: EncodedMessage, **given: Any) -> bytes:
    return encoded.delivered(
        **{"sequence_number": 7, "enqueued_at": 1000, "delivery_count": 2, "state": 0, **given},
    )


def test_what_the_sender_wrote_comes_through_byte_for_byte() -> None:
    data = message()
    encoded = EncodedMessage.cut(data)
    assert (encoded.message_id, encoded.size, encoded.body) == ("id-1", len(data), b"body")
    assert encoded.application_properties == {"key": "value", "number": 3}
    assert delivered(encoded).endswith(data)


def test_annotations_of_the_sender_are_kept_but_for_those_of_the_service() -> None:
    annotations = {
        Symbol("x-opt-partition-key"): "p",
        Symbol("x-opt-sequence-number"): 99,
        Symbol("x-opt-scheduled-enqueue-time"): Timestamp(5000),
    }
    encoded = EncodedMessage.cut(message(annotations=annotations))
    assert encoded.scheduled_for == 5000
    token = UUID(int=3)
    written = annotations_of(delivered(encoded, lock_token=token, locked_until=2000))
    assert written == {
        "x-opt-sequence-number": 7,
        "x-opt-enqueue-sequence-number": 0,
        "x-opt-enqueued-time": 1000,
        "x-opt-message-state": 0,
        "x-opt-locked-until": 2000,
        "x-opt-partition-key": "p",
        "x-opt-scheduled-enqueue-time": 5000,
    }


def annotations_of(data: bytes) -> dict[str, Any]:
    at = 0
    while at < len(data):
        code, value = decode(data, at + 1)
        content, at = decode(data, value)
        if code == 0x72:
            return dict(content)
    raise AssertionError("no message annotations")


def test_the_header_of_the_sender_is_kept_but_for_the_delivery_count() -> None:
    header = encode([True, UnsignedInt(9), UnsignedInt(60_000)])
    encoded = EncodedMessage.cut(section(0x70, header) + message())
    assert decode(delivered(encoded), 3)[0] == [True, 9, 60_000, None, 2]


def test_dead_lettering_adds_to_the_application_properties_and_leaves_the_rest() -> None:
    encoded = EncodedMessage.cut(message()).with_properties({"DeadLetterReason": "why"})
    assert encoded.application_properties == {"key": "value", "number": 3, "DeadLetterReason": "why"}
    assert (encoded.properties[0], encoded.properties[3], encoded.body) == ("id-1", "subject", b"body")
    bare = EncodedMessage.cut(section(0x75, encode(b"only a body")))
    assert bare.with_properties({"DeadLetterReason": "why"}).application_properties == {"DeadLetterReason": "why"}


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_a_batch_is_cut_into_its_messages(bodies: list[bytes]) -> None:
    batch = b"".join(section(0x75, encode(message(body=body, message_id=str(body)))) for body in bodies)
    assert [(each.body, each.message_id) for each in cut_batch(batch)] == [(body, str(body)) for body in bodies]


def frame(channel: int, code: int, fields: list[Any], payload: bytes = b"") -> bytes:
    body = b"\x00\x53" + bytes([code]) + encode(fields) + payload
    return (len(body) + 8).to_bytes(4, "big") + b"\x02\x00" + channel.to_bytes(2, "big") + body


@given(st.lists(st.integers(1, 40), min_size=1))
def test_formats_are_read_wherever_the_bytes_are_cut(sizes: list[int]) -> None:
    uint = UnsignedInt
    stream = b"".join(
        (
            b"AMQP\x03\x01\x00\x00AMQP\x00\x01\x00\x00",
            frame(0, 0x12, ["one", uint(0), False]),
            frame(1, 0x12, ["two", uint(0), False]),
            (8).to_bytes(4, "big") + b"\x02\x00\x00\x00",
            frame(0, 0x14, [uint(0), uint(0), b"\x01", uint(0), False, False], b"payload"),
            frame(1, 0x14, [uint(0), uint(0), b"\x01", uint(BATCHED_FORMAT), False, True], b"x" * 100),
            frame(0, 0x14, [uint(0), uint(1), b"\x02", uint(BATCHED_FORMAT)], b"y"),
            # The rest of a transfer may tell its id and format again, and tells nothing new.
            frame(1, 0x14, [uint(0), uint(0), b"\x01", uint(BATCHED_FORMAT), False, False], b"x"),
            frame(1, 0x14, [uint(0), uint(1), b"\x02", None], b"z"),
        )
    )
    frames, at, turn = IncomingFrames(), 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        frames.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [frames.format_of_next("one") for _ in range(2)] == [0, BATCHED_FORMAT]
    assert [frames.format_of_next("two") for _ in range(2)] == [BATCHED_FORMAT, 0]


def test_entries_of_a_map_are_counted_twice() -> None:
    assert decode(encode_map([encode("a") + encode(1), encode("b") + encode(None)]))[0] == {"a": 1, "b": None}
