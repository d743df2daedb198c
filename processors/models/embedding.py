"""The port to an embedding model, and the static model that comes with the default install."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from processors.models.word_tokens import WordTokens
from shards.store import Vectors

TEXTS_AT_ONCE = 256
"""Texts that are split into tokens together."""
TOKENS_AT_ONCE = 512
"""Tokens whose vectors are added up together: 512 KiB of them."""


class EmbeddingModel(Protocol):
    """Turns texts into unit vectors; *name* and *dimensions* stand on every chunk it embeds."""

    @property
    def name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of unit length for each text (n × dimensions, float32); zeros for a text without a known token."""


class StaticEmbeddingModel:
    """WordLlama ``l2_supercat`` at 256 dimensions: the mean of the tokens' vectors. Weights and tokenizer come in the
    package's wheel, so it loads without a network. Loading waits for the first text."""

    name = "wordllama-l2-supercat-256"
    dimensions = 256

    def __init__(self) -> None:
        self._loaded: tuple[WordTokens, npt.NDArray[np.float32]] | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of unit length for each text."""
        return await asyncio.to_thread(self.embed_now, texts)

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """As :meth:`embed`, in the calling thread."""
        words, weights = self._loaded or self._load()
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        rows = np.empty((TOKENS_AT_ONCE, self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            for number, tokens in enumerate(words.ids(texts[start : start + TEXTS_AT_ONCE]), start):
                for first in range(0, len(tokens), TOKENS_AT_ONCE):
                    some = tokens[first : first + TOKENS_AT_ONCE]
                    # A text at a time: its rows stay within the cache, which makes this ten times as fast as reduceat
                    # over all. "clip" spares a check of each index; all are the tokenizer's own.
                    weights.take(some, axis=0, out=rows[: len(some)], mode="clip")
                    vectors[number] += np.add.reduce(rows[: len(some)], axis=0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def _load(self) -> tuple[WordTokens, npt.NDArray[np.float32]]:
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        import wordllama  # noqa: PLC0415 - costs 0.3 s and 60 MB, which only a process that embeds should pay

        # The package configures the root logger when imported; the application's logging is its own affair.
        root.handlers[:] = handlers
        root.setLevel(level)
        model = wordllama.WordLlama.load(
            dim=self.dimensions, cache_dir=Path(wordllama.__file__).parent, disable_download=True
        )
        model.tokenizer.no_padding()
        self._loaded = (WordTokens(model.tokenizer), model.embedding)
        return self._loaded
