"""The adversarial observer: a discriminator that is trained to distinguish photographs from reconstructions."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .base import weighted_mean

LOSSES = ("hinge", "non_saturating")


class PatchDiscriminator(nn.Module):
    """A patch discriminator (Isola, Zhu, Zhou, Efros, CVPR 2017), conditioned on the semantic features.

    After Mentzer, Toderici, Tschannen, Agustsson, "High-fidelity generative image compression" (NeurIPS 2020): spectral
    normalization, and conditioning on the latents.

    Args:
        condition: channels of the semantic features, at stride 16.
        width: channels of the first layer; the next ones have 2 and 4 times as many.
    """

    def __init__(self, condition: int, width: int = 48):
        super().__init__()
        self.condition = spectral_norm(nn.Conv2d(condition, 12, 1))
        widths = (3 + 12, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, x: Tensor, semantic: Tensor) -> Tensor:
        """Realism scores of patches.

        Args:
            x: images (N, 3, H, W) in [0, 1].
            semantic: their features (N, C, H/16, W/16).

        Returns:
            logits (N, 1, H/8, W/8); higher is more realistic.
        """
        condition = F.interpolate(F.leaky_relu(self.condition(semantic), 0.2), size=x.shape[-2:], mode="nearest")
        return self.net(torch.cat([2 * x - 1, condition], 1))


class Adversary(nn.Module):
    """The generator's and the discriminator's adversarial losses.

    Args:
        discriminator: trained along with the codec, with its own learning rate.
        loss: "hinge" (Lim, Ye, "Geometric GAN", 2017) or "non_saturating" (Goodfellow and others, NeurIPS 2014).

    Raises:
        ValueError: for another loss.
    """

    def __init__(self, discriminator: PatchDiscriminator, loss: str = "hinge"):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        self.discriminator, self.loss = discriminator, loss

    def forward(self, reconstruction: Tensor, semantic: Tensor, weight: Tensor | None = None) -> Tensor:
        """The generator's loss, without gradients for the discriminator.

        Args:
            reconstruction: (N, 3, H, W) in [0, 1].
            semantic: features (N, C, H/16, W/16).
            weight: (N, 1, h, w), spatial weights, see `Observer`; None for equal weights.

        Returns:
            (N,).
        """
        moving = [p for p in self.discriminator.parameters() if p.requires_grad]
        for parameter in moving:
            parameter.requires_grad_(False)
        scores = self.discriminator(reconstruction, semantic.detach())
        for parameter in moving:
            parameter.requires_grad_(True)
        return weighted_mean(-scores if self.loss == "hinge" else F.softplus(-scores), weight)

    def loss_of_its_own(self, original: Tensor, reconstruction: Tensor, semantic: Tensor) -> Tensor:
        """The discriminator's loss, without gradients for the reconstructions.

        Args:
            original: (N, 3, H, W) in [0, 1].
            reconstruction: (N, 3, H, W).
            semantic: features (N, C, H/16, W/16).

        Returns:
            (N,).
        """
        real = self.discriminator(original, semantic.detach())
        fake = self.discriminator(reconstruction.detach(), semantic.detach())
        if self.loss == "hinge":
            return (F.relu(1 - real) + F.relu(1 + fake)).mean((1, 2, 3))
        return (F.softplus(-real) + F.softplus(fake)).mean((1, 2, 3))
