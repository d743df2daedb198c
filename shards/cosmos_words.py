"""Words of names and of queries, one way for both: without case and accents, split where no letter or digit is."""

import re
from unicodedata import combining, normalize

MAX_QUERY_CHARACTERS = 1_000
MAX_QUERY_WORDS = 16
MAX_NAME_WORDS = 64

_WORD = re.compile(r"[^\W_]+")


def folded_words(text: str) -> list[str]:
    """The distinct words of *text*, in their order."""
    folded = "".join(character for character in normalize("NFKD", text.casefold()) if not combining(character))
    return list(dict.fromkeys(_WORD.findall(folded)))


def written_words(text: str) -> list[str]:
    """The distinct words of *text* as they are written, but for case: what the service's own analyzer takes."""
    return list(dict.fromkeys(_WORD.findall(normalize("NFC", text).lower())))
