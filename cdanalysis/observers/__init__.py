"""Observers: differentiable distortions, each a function of (image, reconstruction).

- `base`: `Observer`, the base class; `weighted_mean`
- `pixel`: `SquaredError`, `MSSSIM`, `LowPass`, `Checkerboard`, `Texture`
- `perceptual`: `LPIPS`, `LPIPSComp`
- `semantic`: `FeatureDistance` and `UnitFeatureDistance`, in a recognition network, and `WassersteinDistortion`, of
  local statistics there
- `adversarial`: `PatchDiscriminator`; `Adversary`, its losses
"""

from .adversarial import Adversary, PatchDiscriminator
from .base import Observer, weighted_mean
from .perceptual import LPIPS, LPIPSComp
from .pixel import MSSSIM, Checkerboard, LowPass, SquaredError, Texture
from .semantic import FeatureDistance, UnitFeatureDistance, WassersteinDistortion

__all__ = [
    "LPIPS",
    "MSSSIM",
    "Adversary",
    "Checkerboard",
    "FeatureDistance",
    "LPIPSComp",
    "LowPass",
    "Observer",
    "PatchDiscriminator",
    "SquaredError",
    "Texture",
    "UnitFeatureDistance",
    "WassersteinDistortion",
    "weighted_mean",
]
