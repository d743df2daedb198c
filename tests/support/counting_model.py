"""A model that remembers what it was asked to embed, and texts of a known number of chunks."""

from collections.abc import Sequence

import numpy as np

from shards.store import Vectors

LONG = "Paragraph {number} of the notes says one thing and then it says another thing about it. "


def notes(count: int, *, other: int | None = None) -> str:
    """A text of *count* chunks; the one numbered *other* says something else, at the same length."""
    said = (LONG.format(number=number).replace("one", "six" if number == other else "one") for number in range(count))
    return "\n\n".join(paragraph * 13 for paragraph in said)


class CountingModel:
    """A model whose vector of a text is made of its length; it remembers the texts it was given."""

    name = "counting"
    dimensions = 8

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row, len(text) % self.dimensions] = 1
        return vectors
