"""The memory of sent ids finds every id it was given, by its last entry."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging import sent_ids
from messaging.sent_ids import SentIds


def digest(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=20).digest()


@given(
    entries=st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=12), max_size=40),
    asked=st.lists(st.integers(0, 250), min_size=1, max_size=30),
    forgotten=st.integers(0, 40),
)
def test_finds_the_last_entry_of_each_id(entries: list[list[int]], asked: list[int], forgotten: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sent_ids, "RECENT_IDS", 7)
        patched.setattr(sent_ids, "LARGEST_RUN", 60)
        sent, model = SentIds(), {}
        for entry, numbers in enumerate(entries, 1):
            sent.add(entry, b"".join(map(digest, numbers)))
            model.update(dict.fromkeys(numbers, entry))
            if entry == forgotten:
                sent.forget_before(entry)
        found = sent.find([digest(number) for number in asked])
    assert sent.latest == len(entries)
    for index, number in enumerate(asked):
        expected = model.get(number)
        if expected is None:
            assert index not in found
        elif expected >= forgotten or forgotten > len(entries):
            assert found[index] == expected


def test_forgotten_entries_give_their_memory_back() -> None:
    sent = SentIds()
    for entry in range(1, 201):
        sent.add(entry, b"".join(digest(entry * 1_000 + number) for number in range(256)))
        sent.forget_before(max(entry - 20, 0))
    assert len(sent) < 25_000
