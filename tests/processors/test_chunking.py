"""Chunks hold the whole text: nothing is lost but white space at the cuts, and no piece outgrows its bound."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.chunking import TARGET_CHARACTERS, pieces
from shards.types import TextPart

text_characters = st.characters(codec="utf-8")
WORDS = ["The deal is on.", "Größe", "数据库管理系统。", "ok", "\n\n", "\n", " ", "👩\u200d👧", "!", "x" * 37]
WORDS += ["\u00a0", "\u2028", "\x1f"]
prose = st.lists(
    st.sampled_from(WORDS),
    max_size=120,
).map(" ".join)
texts = st.one_of(st.text(text_characters, max_size=400), prose, st.text("ab ", max_size=300))
parts = st.lists(st.builds(TextPart, st.one_of(st.none(), st.just("Description")), texts), max_size=6)


def without_space(text: str) -> str:
    return "".join(text.split())


@given(title=st.text(text_characters, max_size=40), parts=parts, target=st.integers(2, 200))
@example(title="", parts=[TextPart(None, "a" * 1000)], target=10)
@example(title="T", parts=[TextPart(None, " " * 1000 + "a" + "\n" * 500 + "b")], target=10)
@settings(max_examples=300, deadline=None)
def test_pieces_hold_every_character_and_keep_their_bound(title: str, parts: list[TextPart], target: int) -> None:
    made = pieces(title, parts, target=target)
    prefix = f"{title}\n" if title else ""
    said = without_space("".join(part.text for part in parts))
    if said:
        assert all(piece.text.startswith(prefix) for piece in made)
        assert without_space("".join(piece.text.removeprefix(prefix) for piece in made)) == said
        assert all(len(piece.text) - len(prefix) <= target for piece in made)
        assert all(piece.text.removeprefix(prefix).strip() for piece in made)
    else:
        assert [piece.text for piece in made] == ([title] if title else [])
    assert pieces(title, parts, target=target) == made


@given(
    text=st.text(text_characters, min_size=1, max_size=300), other=st.text(text_characters, min_size=1, max_size=300)
)
@settings(deadline=None)
def test_a_hash_stands_for_its_text(text: str, other: str) -> None:
    [one, two] = [[piece.hash for piece in pieces("T", [TextPart(None, said)])] for said in (text, other)]
    texts = [[piece.text for piece in pieces("T", [TextPart(None, said)])] for said in (text, other)]
    assert (one == two) == (texts[0] == texts[1])


def test_a_long_text_is_cut_where_its_author_paused() -> None:
    paragraph = "A sentence of some words that says a thing. " * 16
    made = pieces("Title", [TextPart(None, f"{paragraph}\n\n{paragraph}\n\n{paragraph}")])
    assert len(made) == 3
    assert all(piece.text == f"Title\n{paragraph.strip()}" for piece in made)


def test_a_paragraph_too_long_is_cut_at_a_sentence() -> None:
    made = pieces("", [TextPart(None, "One more sentence of the report stands here. " * 100)])
    assert len(made) > 1
    assert all(piece.text.endswith("here.") and piece.text.startswith("One") for piece in made)


def test_a_text_without_punctuation_is_cut_between_words() -> None:
    words = [f"word{number}" for number in range(1000)]
    made = pieces("", [TextPart(None, " ".join(words))])
    assert [word for piece in made for word in piece.text.split(" ")] == words


def test_a_text_without_any_space_is_cut_hard() -> None:
    made = pieces("", [TextPart(None, "0123456789" * 500)])
    assert [len(piece.text) for piece in made] == [TARGET_CHARACTERS] * 4 + [200]


def test_short_parts_share_a_piece_and_long_ones_stand_under_their_heading() -> None:
    made = pieces(
        "Deal", [TextPart(None, "Stage: open"), TextPart("Next", "Call them."), TextPart("Description", "Long. " * 400)]
    )
    assert made[0].text == "Deal\nStage: open\nCall them."
    assert made[0].heading is None
    assert len(made) > 2
    assert {piece.heading for piece in made[1:]} == {"Description"}


def test_the_cut_takes_time_in_proportion_to_the_text() -> None:
    """A megabyte without a boundary costs as many looks as it has pieces."""
    made = pieces("", [TextPart(None, "x" * 1_000_000)])
    assert sum(len(piece.text) for piece in made) == 1_000_000
    assert not re.search(r"\s", made[0].text)
