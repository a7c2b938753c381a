"""Two-alternative forced choice (2AFC): how well a metric agrees with human preferences, and how well any could."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..data.preferences import Preference
from ..photographs.read import open_image

Metric = Callable[[np.ndarray, np.ndarray], float]
"""(original, distorted), both uint8 (H, W, 3), to a distance; lower is more similar."""


def agreement(chosen_a: Sequence[float], shares: Sequence[float]) -> float:
    """The 2AFC score: mean fraction of people who agree with a metric.

    Zhang and others, "The unreasonable effectiveness of deep features as a perceptual metric" (CVPR 2018).

    Args:
        chosen_a: (N,) 1 where the metric prefers ``a``, 0 where ``b``, 0.5 where it sees no difference.
        shares: (N,) fractions of people who chose ``a``, in [0, 1].

    Returns:
        agreement in [0, 1].

    >>> round(agreement([1, 0, 0.5], [0.8, 0.4, 0.3]), 3)
    0.633
    """
    said, chose = np.asarray(chosen_a, np.float64), np.asarray(shares, np.float64)
    return float(np.mean(said * chose + (1 - said) * (1 - chose)))


def ceiling(shares: Sequence[float]) -> float:
    """The agreement of a metric that always chooses with the majority, which no metric can exceed.

    Args:
        shares: (N,) fractions of people who chose ``a``, in [0, 1].

    Returns:
        agreement in [0.5, 1].

    >>> ceiling([0.75, 0.5])
    0.625
    """
    return agreement((np.asarray(shares) >= 0.5).astype(np.float64).tolist(), shares)


def agreements(
    metrics: dict[str, Metric],
    preferences: Sequence[Preference],
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> list[dict[str, object]]:
    """Agreement of metrics with preferences.

    Args:
        metrics: by name.
        preferences: pairs of distorted files, each with its original.
        track: wraps an iterable to show progress.

    Returns:
        a row per metric and one for the ceiling, each with the agreement on every group of preferences.

    Raises:
        ValueError: if the files of a pair differ in size, or cannot be read.
    """
    said: dict[str, list[float]] = {name: [] for name in metrics}
    for preference in track(preferences):
        original, a, b = (np.asarray(open_image(path)) for path in (preference.original, preference.a, preference.b))
        if not original.shape == a.shape == b.shape:
            raise ValueError(
                f"{preference.a} and {preference.b} are not of the size of {preference.original}; resize them to it"
            )
        for name, metric in metrics.items():
            near, far = metric(original, a), metric(original, b)
            said[name].append(0.5 if near == far else float(near < far))
    groups = np.array([preference.group for preference in preferences])
    shares = np.array([preference.share for preference in preferences])
    kinds = {kind: groups == kind for kind in sorted(set(groups))}
    rows: list[dict[str, object]] = [
        {"metric": name, **{kind: agreement(np.array(values)[at], shares[at]) for kind, at in kinds.items()}}
        for name, values in said.items()
    ]
    return [*rows, {"metric": "ceiling", **{kind: ceiling(shares[at]) for kind, at in kinds.items()}}]
