"""One record, one shard: ids are computed, and no two records share one."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shards.identity import (
    InvalidExternalIdError,
    canonical_external_id,
    chunk_id,
    link_id,
    salesforce_id,
    shard_id,
)

ids15 = st.text(string.ascii_letters + string.digits, min_size=15, max_size=15)
parts = st.tuples(st.text(), st.text(), st.text(), st.text(), st.text(min_size=1))


def suffix_by_the_vendors_rule(text: str) -> str:
    """A character a block of five: the bits of its capitals, the last character's highest, in A-Z0-5."""
    suffix = ""
    for block in (text[0:5], text[5:10], text[10:15]):
        bits = "".join("1" if character in string.ascii_uppercase else "0" for character in reversed(block))
        suffix += (string.ascii_uppercase + "012345")[int(bits, 2)]
    return suffix


@pytest.mark.parametrize(
    ("text", "suffix"), [("001dM00003jU9Gy", "QAK"), ("0016g000007WEfs", "AAG"), ("00DD0000000muCU", "MAY")]
)
def test_known_salesforce_ids(text: str, suffix: str) -> None:
    assert salesforce_id(text) == text + suffix
    assert salesforce_id(text + suffix) == text + suffix


@given(ids15)
def test_salesforce_ids_follow_the_vendors_rule(text: str) -> None:
    assert salesforce_id(text) == text + suffix_by_the_vendors_rule(text)
    assert salesforce_id(salesforce_id(text)) == salesforce_id(text)


@given(ids15)
def test_a_salesforce_id_that_lost_its_case_is_refused(text: str) -> None:
    whole = salesforce_id(text)
    assume(whole.lower()[:15] != whole[:15])
    with pytest.raises(InvalidExternalIdError, match="ask for"):
        salesforce_id(whole.lower())


@pytest.mark.parametrize(
    "text", ["", "001", "001dM00003jU9Gy!", "001dM00003jU9GyQA", "001dM00003jU9GyQAK\n", "ÄÖÜ" * 5]
)
def test_what_is_no_salesforce_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidExternalIdError):
        salesforce_id(text)


def test_both_forms_of_a_salesforce_id_are_one_shard() -> None:
    short = shard_id("acme", "salesforce", "00DD0000000muCU", "Account", "001dM00003jU9Gy")
    assert short == shard_id("acme", "salesforce", "00DD0000000muCUMAY", "Account", "001dM00003jU9GyQAK")
    assert shard_id("acme", "slack", "T1", "Account", "001dM00003jU9Gy") != shard_id(
        "acme", "slack", "T1", "Account", "001dM00003jU9GyQAK"
    )


def test_an_empty_external_id_is_refused() -> None:
    with pytest.raises(InvalidExternalIdError):
        canonical_external_id("slack", "")


@given(parts, parts)
def test_different_records_have_different_ids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assume("salesforce" not in (one[1], other[1]))
    assert (shard_id(*one) == shard_id(*other)) == (one == other)


@given(st.lists(st.text(min_size=1, max_size=4), min_size=5, max_size=5), st.integers(1, 4))
def test_moving_a_character_from_part_to_part_is_another_record(names: list[str], cut: int) -> None:
    moved = [*names]
    moved[cut - 1], moved[cut] = moved[cut - 1] + moved[cut][0], moved[cut][1:] or "-"
    assume("salesforce" not in (names[1], moved[1]))
    assert shard_id(*names) != shard_id(*moved)


def test_ids_stay_what_they_are() -> None:
    # Stored everywhere: another value here would make every record a new shard.
    assert shard_id("acme", "slack", "T1", "channel", "C1") == "sh_134486a865678ca82e61ac1e8bfba96e725402f6"
    assert link_id("sh_a", "child_of", "sh_b") == "ln_d15e4e3549d78dc62d0c1861ec1a6939"
    assert chunk_id("sh_a", 7) == "sh_a.00007"
