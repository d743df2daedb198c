"""Distances between vectors, as a container's embedding policy or a query's options say."""

from typing import Any

import numpy as np

from cosmos_peer.json_values import UNDEFINED


def is_vector(value: Any) -> bool:
    """Whether the value is an array of numbers."""
    return type(value) is list and bool(value) and all(type(number) in (int, float) for number in value)


def ascending(distance: str) -> bool:
    """Whether smaller is nearer: so it is for a distance, not for a likeness."""
    return distance == "euclidean"


def vector_score(left: Any, right: Any, distance: str) -> Any:
    """Cosine, dot product or Euclidean distance; undefined where a side is no vector or they differ in length."""
    if not is_vector(left) or not is_vector(right) or len(left) != len(right):
        return UNDEFINED
    a = np.asarray(left, dtype=np.float32).astype(np.float64)
    b = np.asarray(right, dtype=np.float32).astype(np.float64)
    if distance == "euclidean":
        return float(np.linalg.norm(a - b))
    product = float(a @ b)
    if distance == "dotproduct":
        return product
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return product / lengths if lengths else UNDEFINED
