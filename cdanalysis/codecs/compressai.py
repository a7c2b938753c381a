"""CompressAI's models as codecs, with a file format that contains all that decoding needs.

Begaint and others, "CompressAI: a PyTorch library and evaluation platform for end-to-end compression research" (2020).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..data.images import data_path, to_tensor
from ..files import read_tensors
from ..stream.errors import StreamError
from .base import Codec

MODELS = ("bmshj2018-hyperprior", "mbt2018-mean")
RANDOM = "random"
STRIDE = 64  # both halve the photograph's sides six times
_HEAD = struct.Struct("<BHHHHI")  # level, height, width, the hyper-latents' height and width, bytes of the first string


class CompressAI(Codec):
    """One of CompressAI's models, in float32, at its levels 1 to 8 (its ``quality``).

    A file is a header of 13 bytes, then the strings of latents and hyper-latents. Images are padded on the right and at
    the bottom, by repeating their last pixels, to multiples of 64.

    Args:
        name: one of ``MODELS``.
        weights: folder of state dicts ``NAME-LEVEL.pth``, absolute or below ``CDANALYSIS_DATA``; empty for CompressAI's
            own, trained for the mean squared error, which it downloads; ``RANDOM`` for untrained weights, to measure
            speed only.

    Raises:
        ValueError: for another name.
    """

    max_level = 8

    def __init__(self, name: str, weights: str = ""):
        if name not in MODELS:
            raise ValueError(f"unknown model {name!r}; supported are {', '.join(MODELS)}")
        self.name, self.weights = name, weights

    def available(self) -> bool:
        """Whether CompressAI is installed."""
        return importlib.util.find_spec("compressai") is not None

    def version(self) -> str:
        """Of CompressAI."""
        return importlib.metadata.version("compressai")

    def facts(self) -> dict[str, object]:
        """Version, color format and settings, for reports."""
        settings = {"weights": self.weights or "CompressAI's own", "padding": STRIDE}
        return {"version": self.version(), "colour": "RGB 4:4:4", "settings": settings}

    def encode(self, image: Image.Image, level: int) -> bytes:
        """Encode an image.

        Args:
            image: RGB.
            level: 1 to 8; 0 counts as 1.

        Returns:
            the bytes of the file.

        Raises:
            FileNotFoundError: if there are no weights for the level.
            ValueError: if the weights are of another network.
        """
        level = max(1, level)
        x = to_tensor(image)[None]
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        with torch.inference_mode():
            coded = _model(self.name, level, self.weights).compress(padded)
        first, second = (strings[0] for strings in coded["strings"])
        return _HEAD.pack(level, height, width, *coded["shape"], len(first)) + first + second

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a file.

        Args:
            data: bytes of the file.

        Returns:
            the image, uint8 (H, W, 3).

        Raises:
            StreamError: if the bytes are not such a file.
        """
        try:
            level, height, width, *shape, length = _HEAD.unpack_from(data)
        except struct.error:
            raise StreamError(f"the file is too short to be of {self.name}") from None
        expected = [math.ceil(side / STRIDE) for side in (height, width)]
        if not 1 <= level <= self.max_level or shape != expected or len(data) < _HEAD.size + length:
            raise StreamError(f"the file is damaged, or not of {self.name}")
        strings = [[data[_HEAD.size :][:length]], [data[_HEAD.size + length :]]]
        with torch.inference_mode():
            x_hat = _model(self.name, level, self.weights).decompress(strings, tuple(shape))["x_hat"]
        image = x_hat[0, :, :height, :width].clamp(0, 1).permute(1, 2, 0)
        return (image * 255).round().byte().numpy()


def hyperprior(weights: str = "") -> CompressAI:
    """The model of Balle and others, "Variational image compression with a scale hyperprior" (ICLR 2018).

    Args:
        weights: as of `CompressAI`.
    """
    return CompressAI("bmshj2018-hyperprior", weights)


def mean_scale(weights: str = "") -> CompressAI:
    """The mean-scale hyperprior, without autoregression, of Minnen, Balle, Toderici, "Joint autoregressive and
    hierarchical priors for learned image compression" (NeurIPS 2018).

    Args:
        weights: as of `CompressAI`.
    """
    return CompressAI("mbt2018-mean", weights)


@functools.lru_cache(maxsize=8)
def _model(name: str, level: int, weights: str) -> Any:
    """The network, ready to encode. CompressAI is imported here because that takes seconds."""
    from compressai.zoo import image_models

    if not weights:
        net = image_models[name](level, metric="mse", pretrained=True)
    else:
        torch.manual_seed(0)
        net = image_models[name](level, pretrained=False)
    if weights not in ("", RANDOM):
        path = data_path(str(Path(weights) / f"{name}-{level}.pth"))
        try:
            net.load_state_dict(read_tensors(path))
        except (RuntimeError, TypeError, AttributeError):
            raise ValueError(f"{path} does not hold the weights of {name} at level {level}") from None
    net.eval().update()
    return net
