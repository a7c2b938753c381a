"""Approximate search by FAISS (Douze et al., "The Faiss library", 2024), for archives beyond a million vectors.

An inverted file: k-means divides the vectors into some sqrt(N) lists, and a query is compared with those of the lists
that are nearest to it, 8 bits a number. Needs the extra ``faiss``.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

import numpy as np

from ..faults import optional
from ..files import key_of
from .store import Store

FEW = 10_000
"""Vectors that are not divided into lists."""
PER_LIST = 50
"""Vectors for each list that k-means sees."""
LISTS_READ = 32
"""Lists that are compared with a query."""


def faiss_module() -> Any:
    """FAISS.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    return optional("faiss", "faiss", "FAISS")


def build(store: Store, seed: int = 0) -> None:
    """Make FAISS's index of all vectors of an archive, unless it is there, or the archive has no rows.

    Args:
        store: of the archive.
        seed: of the vectors that k-means sees.

    Raises:
        ModuleNotFoundError: if FAISS is not installed.
        ValueError: if a part of the archive is damaged.
    """
    faiss = faiss_module()
    count = len(store)
    if not count or store.manifest.faiss:
        return
    lists = round(count**0.5) if count > FEW else 0
    kind = f"IVF{lists},SQ8" if lists else "SQ8"
    index = faiss.index_factory(len(store.manifest.center), kind, faiss.METRIC_INNER_PRODUCT)
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: PER_LIST * max(lists, FEW // PER_LIST)]] = True
    index.train(np.concatenate([_floats(r, s)[chosen[f : f + len(r)]] for f, r, s in store.blocks()]))
    for _, rows, scales in store.blocks():
        index.add(_floats(rows, scales))
    name = f"vectors-{key_of(*(part.key for part in store.manifest.parts))}.faiss"
    part = store.folder / f".{name}.{secrets.token_hex(4)}"
    try:
        faiss.write_index(index, str(part))
        os.replace(part, store.folder / name)
    finally:
        part.unlink(missing_ok=True)
    store.set_faiss(name)


def nearest(store: Store, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose vectors have the largest inner products with each query, most of them.

    Args:
        store: of an archive with an index of FAISS's.
        queries: float32 (Q, E).
        count: how many to find for each.

    Returns:
        numbers of rows, int64 (Q, K), and products, float32 (Q, K), the largest first; K is smaller than ``count``
        where there are fewer rows, or where the lists that were read for one of the queries hold fewer.

    Raises:
        ModuleNotFoundError: if FAISS is not installed.
        ValueError: if its file is damaged.
    """
    faiss, path = faiss_module(), store.folder / store.manifest.faiss[0]
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: index the streams again, with --faiss ({_first(error)})") from None
    if hasattr(index, "nprobe"):
        index.nprobe = LISTS_READ
    scores, numbers = index.search(np.ascontiguousarray(queries), min(count, len(store)))
    there = int((numbers >= 0).all(0).sum())  # -1 where the lists that were read hold fewer
    return numbers[:, :there], scores[:, :there]


def _floats(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return rows.astype(np.float32) * scales[:, None]


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
