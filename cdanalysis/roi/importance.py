"""Regions of interest: importance maps, masks, boxes and saliency models become a map of quality offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.images import data_path
from ..photographs.formats import opened
from ..photographs.read import to_gray
from ..structures.latents import PAD
from .saliency import Saliency, SpectralResidual, U2NetP

Importance = np.ndarray | Tensor | Image.Image | str | Path | Sequence[Sequence[float]] | Callable
"""A map (H, W) in [0, 1]; a mask as image or image file; boxes (x, y, width, height) in pixels of the photograph;
"saliency", or U2-Net-P's .onnx file; or a callable from the photograph, uint8 (H, W, 3), to a map."""

DEPTH = 5
"""Quality offset where a map is 0, in steps of `structures.latents.QUALITY_OFFSET_STEP` quality levels."""


def importance_map(importance: Importance, image: Tensor) -> np.ndarray:
    """The importance of every pixel.

    Args:
        importance: of any kind that `Importance` lists.
        image: the photograph (3, H, W), float in [0, 1] or uint8.

    Returns:
        float64 (H, W) in [0, 1].

    Raises:
        ValueError: if it is of no such kind, differs in size from the photograph, has values outside [0, 1], or is 0
            everywhere.
        FileNotFoundError: if it names a file that does not exist.

    >>> importance_map([(2, 1, 2, 1)], torch.zeros(3, 2, 5)).tolist()
    [[0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0]]
    """
    size = (image.shape[-2], image.shape[-1])
    if isinstance(importance, (str, Path)):
        importance = _named(importance)
    if isinstance(importance, Image.Image):
        importance = np.asarray(to_gray(importance)) / 255.0
    elif callable(importance):
        pixels = (image * 255).round().to(torch.uint8) if image.is_floating_point() else image
        importance = importance(pixels.permute(1, 2, 0).cpu().numpy())
    if isinstance(importance, Tensor):
        importance = importance.detach().cpu().numpy()
    if isinstance(importance, (list, tuple)):
        importance = np.asarray(importance, dtype=np.float64)
    if not isinstance(importance, np.ndarray):
        raise ValueError(f"importance must be a map, mask, boxes or saliency model, got {type(importance).__name__}")
    if importance.ndim == 2 and importance.shape[1] == 4 and importance.shape != size:
        importance = _boxes_map(importance, size)
    return _checked(importance.astype(np.float64), size)


def importance_file(name: str | Path) -> Path | None:
    """The file that an importance names.

    Args:
        name: "saliency", or a path.

    Returns:
        the path, or None for "saliency", which needs no file.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if str(name) == "saliency":
        return None
    if not Path(name).is_file():
        raise FileNotFoundError(f"importance must be 'saliency', boxes or a file; there is no file {name}")
    return Path(name)


def _named(name: str | Path) -> Image.Image | Callable:
    """A saliency model by its name or file, or the mask in an image file."""
    path = importance_file(name)
    if path is None:
        return SpectralResidual()
    if path.suffix.lower() == ".onnx":
        return _network(path, path.stat().st_mtime_ns)
    try:
        with opened(path) as image:
            return to_gray(image)
    except (OSError, ValueError) as error:
        raise ValueError(f"the mask {path} cannot be read: {error}") from None


@lru_cache(maxsize=1)
def _network(path: Path, _changed: int) -> U2NetP:
    """U2-Net-P, which is loaded once for all photographs, until its file changes."""
    return U2NetP(path)


def saliency_model(name: str) -> Saliency:
    """A saliency model by name.

    Args:
        name: "saliency" for `SpectralResidual`, which has no weights; otherwise U2-Net-P's ONNX file, absolute or below
            ``CDANALYSIS_DATA``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `U2NetP`.
        ModuleNotFoundError: as `U2NetP` and `SpectralResidual`.
    """
    if name == "saliency":
        return SpectralResidual()
    try:
        return U2NetP(data_path(name))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"saliency is neither 'saliency' nor a network's file: {error}") from None


def _boxes_map(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """1 in every pixel that a box (x, y, width, height) touches, 0 elsewhere."""
    if not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
        raise ValueError("boxes must be (x, y, width, height) in pixels, with width and height above 0")
    marked = np.zeros(size)
    for x, y, width, height in boxes:
        rows = slice(max(0, int(np.floor(y))), max(0, int(np.ceil(y + height))))
        marked[rows, max(0, int(np.floor(x))) : max(0, int(np.ceil(x + width)))] = 1
    return marked


def _checked(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if values.shape != size:
        raise ValueError(f"an importance map must be (height, width) = {size}, as the photograph; got {values.shape}")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError("the values of an importance map must be in [0, 1]")
    if values.max() == 0:
        raise ValueError("an importance map must be above 0 somewhere, and this one, or its boxes, mark nothing")
    return values


def quality_offsets_of(importance: Importance, images: Sequence[Tensor]) -> Tensor:
    """The quality offsets of images: each cell of 32x32 pixels has the importance of its most important pixel.

    Args:
        importance: of any kind that `Importance` lists; one for all images.
        images: (3, H, W) of one size, float in [0, 1] or uint8.

    Returns:
        int32 (N, 1, H/32, W/32), sides rounded up: see `cdanalysis.structures.latents.Latents.quality_offsets`.
    """
    maps = np.stack([importance_map(importance, x) for x in images])
    height, width = maps.shape[1:]
    x = F.pad(torch.from_numpy(maps)[:, None], (0, -width % PAD, 0, -height % PAD))
    return (DEPTH * (1 - F.max_pool2d(x, PAD))).round().to(torch.int32)
