"""Word by word, a text has the tokens that the tokenizer gives the whole of it."""

from functools import cache
from pathlib import Path

import pytest
import wordllama
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from processors.models import word_tokens
from processors.models.word_tokens import LONGEST_REMEMBERED, WordTokens

TOKENIZER_FILE = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"

PROSE = """Renewal at risk: Müller GmbH asked for 12% off.
  Two spaces, a\ttab, “quotes” and 東京 — e-mail: ann.o'neil+crm@example.co.uk

https://example.com/a/b?c=d&e=f 😀 """


@cache
def whole() -> Tokenizer:
    return Tokenizer.from_file(str(TOKENIZER_FILE))


@cache
def by_words() -> WordTokens:
    return WordTokens(Tokenizer.from_file(str(TOKENIZER_FILE)))


def whole_ids(text: str) -> list[int]:
    ids: list[int] = whole().encode(text, add_special_tokens=False).ids
    return ids


pieces = st.sampled_from(
    ["a", "in", " the", " ", "  ", "\n", "\r\n", "\t", "▁", "é", "漢", "😀", "100", ".", "Acme", "x" * 60]
)
texts = st.one_of(st.text(max_size=60), st.lists(pieces, max_size=30).map("".join)).filter(lambda text: "<" not in text)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=4))
def test_the_tokens_are_those_of_the_whole_text(given_texts: list[str]) -> None:
    assert [ids.tolist() for ids in by_words().ids(given_texts)] == [whole_ids(text) for text in given_texts]


def test_prose_has_the_same_tokens_each_time() -> None:
    first, again = by_words().ids([PROSE, PROSE])
    assert first.tolist() == again.tolist() == whole_ids(PROSE)


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_tokens, "WORDS_REMEMBERED", 3)
    words = WordTokens(Tokenizer.from_file(str(TOKENIZER_FILE)))
    for text in ("one two three", "four five", "z" * (LONGEST_REMEMBERED + 1), "one two"):
        [ids] = words.ids([text])
        assert ids.tolist() == whole_ids(text)
    assert set(words._known) == {"▁one", "▁two"}
