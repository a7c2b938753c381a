"""Who looks at the image: each observer turns (photograph, reconstruction) into a distortion."""

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
