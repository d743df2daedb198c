"""The port to an embedding model, and the static model that comes with the default install."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from shards.store import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXTS_AT_ONCE = 64
"""Texts that are pooled together: their token vectors (about 100 × 256 floats a text) then stay within the cache."""


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
        self._loaded: tuple[Tokenizer, npt.NDArray[np.float32]] | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of unit length for each text."""
        return await asyncio.to_thread(self.embed_now, texts)

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """As :meth:`embed`, in the calling thread."""
        tokenizer, weights = self._loaded or self._load()
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            encodings = tokenizer.encode_batch_fast(
                list(texts[start : start + TEXTS_AT_ONCE]), add_special_tokens=False
            )
            tokens = [encoding.ids for encoding in encodings]
            filled = [row for row, ids in enumerate(tokens) if ids]
            if not filled:
                continue
            offsets = np.cumsum([0] + [len(tokens[row]) for row in filled[:-1]])
            flat = np.fromiter((token for row in filled for token in tokens[row]), dtype=np.int64)
            vectors[[start + row for row in filled]] = np.add.reduceat(weights[flat], offsets, axis=0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors

    def _load(self) -> tuple["Tokenizer", npt.NDArray[np.float32]]:
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
        self._loaded = (model.tokenizer, model.embedding)
        return self._loaded
