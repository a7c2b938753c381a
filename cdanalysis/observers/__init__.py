"""Observers: differentiable distortions, each a function of (image, reconstruction)."""

from .adversarial import Adversary, PatchDiscriminator
from .base import Observer
from .perceptual import LPIPS, LPIPSComp
from .pixel import MSSSIM, SquaredError
from .semantic import FeatureDistance

__all__ = [
    "LPIPS",
    "MSSSIM",
    "Adversary",
    "FeatureDistance",
    "LPIPSComp",
    "Observer",
    "PatchDiscriminator",
    "SquaredError",
]
