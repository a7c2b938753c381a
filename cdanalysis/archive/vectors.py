"""Embeddings as unit vectors of 8 bits a number, and the nearest of them.

What an embedding says is how it differs from the codec's center, the embedding that a stream of nothing but zeros would
hold; two are compared by the cosine of these differences. The center belongs to the model: vectors of different
archives of one model are alike, and none changes when others are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..model import Model

STEPS = 127
"""The largest number of a row."""
BLOCK = 512
"""Rows that are converted to floats at a time: few enough to stay in a core's cache."""


def center_of(model: Model) -> np.ndarray:
    """The embedding of a global layer whose symbols are all zero.

    Args:
        model: whose codec it is of.

    Returns:
        (E,) float32.
    """
    import torch

    layer = model.codec.global_layer
    with torch.inference_mode():
        zeros = torch.zeros(1, layer.channels, 1, 1, device=model.device, dtype=next(layer.parameters()).dtype)
        return layer.embedding(zeros)[0].float().cpu().numpy()


def directions(embeddings: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Unit vectors from the center to embeddings; zeros for one that is the center.

    Args:
        embeddings: (N, E).
        center: (E,).

    Returns:
        (N, E) float32.
    """
    apart = np.asarray(embeddings, np.float32) - center
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    return apart / np.where(lengths > 0, lengths, 1)


def quantized(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors as integers of 8 bits and a scale each, so that vector = integers x scale.

    Args:
        vectors: (N, E) float.

    Returns:
        int8 (N, E), and float32 (N,).

    >>> rows, scales = quantized(np.array([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0]]))
    >>> rows.tolist(), scales.tolist()[1]
    ([[64, -127, 32], [0, 0, 0]], 0.0)
    """
    scales = (np.abs(vectors).max(axis=1) / STEPS).astype(np.float32)
    rows = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8)
    return rows, scales


def products(rows: np.ndarray, scales: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Inner products of quantized vectors with queries, a block of rows at a time.

    Args:
        rows: int8 (N, E).
        scales: float32 (N,).
        queries: float32 (Q, E).

    Returns:
        float32 (N, Q).
    """
    found = np.empty((len(rows), len(queries)), np.float32)
    floats, turned = np.empty((min(BLOCK, len(rows)), rows.shape[1]), np.float32), np.ascontiguousarray(queries.T)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        np.copyto(floats[: len(block)], block, casting="unsafe")
        np.matmul(floats[: len(block)], turned, out=found[start : start + len(block)])
    found *= scales[:, None]
    return found


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest scores, the largest first; of equal ones the first.

    Args:
        scores: (N,).
        count: how many to find, at least 0.

    Returns:
        int64 (K,); K is ``count``, or N if that is smaller.

    >>> largest(np.array([0.1, 0.5, 0.3, 0.5]), 3).tolist()
    [1, 3, 2]
    """
    count = min(count, len(scores))
    if count == 0:
        return np.empty(0, np.int64)
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= least)
    return places[np.argsort(-scores[places], kind="stable")][:count]


def nearest(
    blocks: Callable[[], Iterator[tuple[int, np.ndarray, np.ndarray]]],
    queries: np.ndarray,
    count: int,
    chosen: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors that have the largest inner products with each query.

    Args:
        blocks: gives, for all vectors in order, (number of the first row, int8 (n, E), scales (n,)).
        queries: float32 (Q, E).
        count: how many to find for each.
        chosen: (N,) bool, the rows among which to look; by default all.

    Returns:
        numbers of rows, int64 (Q, K), and their products, float32 (Q, K), the largest first; K is ``count``, or the
        number of rows among which to look if there are fewer.
    """
    numbers, scores = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for first, rows, scales in blocks():
        places = np.arange(len(rows)) if chosen is None else np.flatnonzero(chosen[first : first + len(rows)])
        if not len(places):
            continue
        if len(places) < len(rows):
            rows, scales = rows[places], scales[places]
        found = products(rows, scales, queries).T
        best = np.stack([largest(row, count) for row in found])
        numbers = np.concatenate([numbers, first + places[best]], 1)
        scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], 1)
        order = np.stack([largest(row, count) for row in scores])
        numbers, scores = np.take_along_axis(numbers, order, 1), np.take_along_axis(scores, order, 1)
    return numbers, scores
