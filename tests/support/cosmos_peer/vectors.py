"""Distances between vectors, as a container's embedding policy or a query's options say."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cosmos_peer.json_values import UNDEFINED


def as_vector(value: Any) -> npt.NDArray[np.float64] | None:
    """The value as a vector of float32; None when it is no array of numbers."""
    if type(value) is not list or not value:
        return None
    try:
        vector = np.asarray(value)
    except ValueError:
        return None
    if vector.ndim != 1 or vector.dtype.kind not in "if":
        return None
    return vector.astype(np.float32).astype(np.float64)


def ascending(distance: str) -> bool:
    """Whether smaller is nearer: so it is for a distance, not for a likeness."""
    return distance == "euclidean"


def vector_score(left: Any, b: npt.NDArray[np.float64] | None, distance: str) -> Any:
    """Cosine, dot product or Euclidean distance; undefined where a side is no vector or they differ in length."""
    a = as_vector(left)
    if a is None or b is None or len(a) != len(b):
        return UNDEFINED
    if distance == "euclidean":
        return float(np.linalg.norm(a - b))
    product = float(a @ b)
    if distance == "dotproduct":
        return product
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return product / lengths if lengths else UNDEFINED
