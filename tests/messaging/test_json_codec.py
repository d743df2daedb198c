"""The one JSON codec keeps every digit, and writes equal values as equal bytes."""

import gc
import json
import weakref
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging import codec

numbers = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) < 40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=10) | numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_what_is_written_is_read_back_to_the_digit(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value
    assert json.loads(codec.encode(value), parse_float=Decimal, parse_int=Decimal) == value


@given(st.decimals(min_value=10**29, max_value=10**30 - 1, places=0), st.integers(1, 29))
def test_a_decimal_of_thirty_digits_survives(digits: Decimal, places: int) -> None:
    number = Decimal((0, digits.as_tuple().digits, -places))
    assert codec.decode(codec.encode({"amount": number})) == {"amount": number}


@given(st.dictionaries(st.text(max_size=6), values, max_size=5))
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert codec.canonical(value) == codec.canonical(backwards)
    assert codec.decode(codec.canonical(value)) == value


@given(numbers)
def test_a_plain_number_is_equal_and_has_one_form(number: Decimal) -> None:
    plain = codec.plain_number(number)
    assert plain == number
    assert isinstance(plain, int) == (number == number.to_integral_value())
    assert codec.encode(plain) == codec.encode(
        codec.plain_number(plain if isinstance(plain, Decimal) else Decimal(plain))
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), Decimal("-Infinity")])
def test_what_json_can_not_carry_is_refused(number: float | Decimal) -> None:
    with pytest.raises(ValueError, match="JSON number"):
        codec.plain_number(number)


class Circle:
    """What only the collector removes."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_nested_too_deep_disturbs_no_finalizer_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    disturbed: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", disturbed.append)
    ended: list[int] = []
    thresholds = gc.get_threshold()
    # One of these many counts has the collector run where the stack is all but used up.
    counts = range(900, 1010)
    try:
        for count in counts:
            gc.disable()
            weakref.finalize(Circle(), lambda: ended.extend(sorted([1])))
            gc.enable()
            gc.set_threshold(count, 1, 1)
            with pytest.raises(codec.DecodeError, match="RecursionError"):
                codec.decode("[" * 5_000)
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    gc.collect()
    assert disturbed == []
    assert len(ended) == len(counts)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb'"cut \ud83d"', "cut \ufffd"),
        (rb'"\ud83d and on"', "\ufffd and on"),
        (rb'"\udE80\uD83D\ude80 \ud83d\ud83d\ude80"', "\ufffd\U0001f680 \ufffd\U0001f680"),
        (rb'"\ud83d\\ud83d\ude80"', "\ufffd\\ud83d\ufffd"),
        (rb'["\\ud83d", "\\\ud83d", "\u00e9\n"]', [r"\ud83d", "\\\ufffd", "\u00e9\n"]),
    ],
)
def test_half_a_character_keeps_no_text_from_being_read(written: bytes, read: object) -> None:
    assert codec.decode(written) == codec.decode(written.decode()) == read
    assert codec.decode(codec.encode(codec.decode(written))) == read


def test_what_is_no_json_stays_so_beside_half_a_character() -> None:
    for broken in (rb'{"a": "\ud83d"', rb'"\ud83"', b'"\xff\\ud83d"'):
        with pytest.raises(codec.DecodeError):
            codec.decode(broken)
