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

from ..data.images import data_path
from ..files import read_tensors
from ..photographs.read import to_tensor
from ..stream.errors import StreamError
from .base import Codec

MODELS = ("bmshj2018-hyperprior", "mbt2018-mean")
RANDOM = "random"
STRIDE = 64  # both halve the photograph's sides six times
LONGEST = 2**16 - 1
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
            ValueError: if the weights are of another network, or for a side above 65,535 pixels.
        """
        level = max(1, level)
        x = to_tensor(image)[None]
        height, width = x.shape[-2:]
        if max(height, width) > LONGEST:
            raise ValueError(f"sides end at {LONGEST:,} pixels, and the image has {width}x{height}")
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
    """A network that stays in memory; whoever changes it needs one of his own, see `open_network`."""
    return open_network(name, level, weights)


def _check_installed() -> None:
    if importlib.util.find_spec("compressai") is None:
        raise ModuleNotFoundError("compressai is not installed: pip install 'cdanalysis[baselines]'", name="compressai")


def open_network(name: str, level: int, weights: str = "") -> Any:
    """One of CompressAI's networks, ready to encode.

    CompressAI is imported here because that takes seconds.

    Args:
        name: of CompressAI's zoo; where ``weights`` is a file, of its registry of models, which has more.
        level: 1 to 8, CompressAI's ``quality``; where ``weights`` is a file, the file's shapes count.
        weights: a file with a state dict, as CompressAI publishes them or as its training script saves them; or as of
            `CompressAI`.

    Raises:
        ModuleNotFoundError: if CompressAI is not installed.
        FileNotFoundError: if there are no weights, or they cannot be downloaded.
        ValueError: if CompressAI has no such network or level, or the weights are of another one.
    """
    _check_installed()
    if weights not in ("", RANDOM):
        path = data_path(weights)
        return _of_file(name, path) if path.is_file() else _of_folder(name, level, path)
    if not weights:
        try:
            net = _made(name, level, pretrained=True, metric="mse")
        except OSError as error:  # what urllib raises are kinds of it
            raise FileNotFoundError(
                f"no weights for {name!r}: CompressAI could not download them ({error}); name a file of weights"
            ) from None
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = _made(name, level, pretrained=False)
    return _ready(net)


def _made(name: str, level: int, **settings: Any) -> Any:
    from compressai.zoo import image_models

    if name not in image_models:
        raise ValueError(f"CompressAI's zoo has no network {name!r}; it has {', '.join(sorted(image_models))}")
    try:
        return image_models[name](level, **settings)
    except (ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"CompressAI makes no {name!r} of quality {level}: {error}") from None


def _of_folder(name: str, level: int, folder: Path) -> Any:
    path = data_path(str(folder / f"{name}-{level}.pth"))
    net = _made(name, level, pretrained=False)
    try:
        net.load_state_dict(_state(path))
    except (RuntimeError, TypeError, AttributeError):
        raise ValueError(f"{path} does not hold the weights of {name} at level {level}") from None
    return _ready(net)


def _of_file(name: str, path: Path) -> Any:
    state = _state(path)
    try:
        return network_of(name, state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _state(path: Path) -> dict[str, Any]:
    """A state dict by CompressAI's present names; its training script saves one among other things."""
    from compressai.zoo.pretrained import load_pretrained

    found = read_tensors(path)
    if isinstance(found, dict):
        found = found.get("state_dict", found)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} holds no state dict, which names weights")
    return load_pretrained(found)


def network_of(name: str, state: dict[str, Any]) -> Any:
    """A network of CompressAI's registry, of the shape that its weights have, ready to encode.

    Args:
        name: in the registry.
        state: its weights by name.

    Raises:
        ModuleNotFoundError: if CompressAI is not installed.
        ValueError: if the registry has no such network, or the weights are of another one.
    """
    _check_installed()
    from compressai.models import CompressionModel  # noqa: F401  (models enter the registry as they are imported)
    from compressai.registry.torch import MODELS as known

    if name not in known:
        raise ValueError(f"CompressAI has no network {name!r}; it has {', '.join(sorted(known))}")
    if not hasattr(known[name], "from_state_dict"):
        raise ValueError(f"CompressAI's {name!r} cannot be made from weights alone")
    try:
        net = known[name].from_state_dict(dict(state))
    except (KeyError, RuntimeError):
        raise ValueError(f"the weights are not those of {name}") from None
    return _ready(net)


def _ready(net: Any) -> Any:
    net.eval().update()
    return net
