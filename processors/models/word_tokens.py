"""The Llama-2 tokenizer a word at a time: texts are made of few different words, so their tokens are remembered.

Of its vocabulary no token has a space behind another character or letters beside punctuation, and digits and line
breaks are tokens of their own. So the tokens of a text are those of its words, each with the spaces before it, and of
what stands between them, one behind the other.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS_REMEMBERED = 32_768
"""About 8 MB; when there are more, remembering starts anew."""
LONGEST_REMEMBERED = 48
"""Characters; what is longer (an encoded blob, a script without spaces) hardly comes twice."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What the vocabulary has in place of a space."""
_words = re.compile(rf"\n+|[0-9]|{_SPACE}*[^\W0-9_²]+|{_SPACE}*(?:[^\w\n{_SPACE}]|[_²])+|{_SPACE}+").findall
"""The underscore and ² are what the vocabulary joins to punctuation, though they count as parts of words elsewhere."""


class WordTokens:
    """Gives the token ids of texts. Takes *tokenizer* over: it must be Llama-2's and be used by nobody else."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        from tokenizers import normalizers  # noqa: PLC0415 - comes with the model, which is loaded at first use

        # The tokenizer's own normalizer puts a space before what it gets; here only a text's first word gets one.
        tokenizer.normalizer = normalizers.Sequence([])
        self._tokenizer = tokenizer
        self._known: dict[str, bytes] = {}

    def ids(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """The token ids of each text, without special tokens."""
        split = [_words(_SPACE + text.replace(" ", _SPACE)) if text else [] for text in texts]
        if len(self._known) > WORDS_REMEMBERED:
            self._known = {}
        known = self._known
        unknown = list(set().union(*split).difference(known))
        once: dict[str, bytes] = {}
        for word, encoding in zip(
            unknown, self._tokenizer.encode_batch_fast(unknown, add_special_tokens=False), strict=True
        ):
            kept = known if len(word) <= LONGEST_REMEMBERED else once
            kept[word] = np.array(encoding.ids, dtype=np.int32).tobytes()
        ids_of = (known | once if once else known).__getitem__
        return [np.frombuffer(b"".join(map(ids_of, words)), dtype=np.int32) for words in split]
