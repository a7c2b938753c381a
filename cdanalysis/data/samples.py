"""Photographs that come with what this library needs anyhow."""

from __future__ import annotations

from PIL import Image

CARRIED = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs that come with scikit-image."""


def sample_images() -> dict[str, Image.Image]:
    """The photographs that scikit-image carries, by name."""
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in CARRIED}
