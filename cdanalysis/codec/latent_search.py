"""Search for the detail layer's symbols: what the analysis makes of a photograph at one look, improved step by step.

An analysis network does well on average; latents fitted to the one photograph do better (Yang, Bamler, Mandt,
"Improving inference for neural image compression", NeurIPS 2020). The stream is an ordinary one; decoding does not
change.

Rounding, which has no gradient, is relaxed to its expectation: a latent that lies f above a symbol stands for the next
one with a chance of p = f^2 (3 - 2 f), else for this one. So bits are those of either, by their chances; the decoder
sees the mean (soft rounding: Agustsson, Theis, "Universally quantized neural compression", NeurIPS 2020); and the
squared error is that of the mean and a variance's: p (1 - p), times what a step of the channel does to the pixels. At
whole symbols all are exact. Samples, as the first paper draws them, need several times as many steps.

Beside the squared error MS-SSIM counts, as it does in training: without it textures are the first to go.

Where pictures will be decoded at a realism, the search is for what the decoder makes there, and it counts what the
model's own classifier sees in it: a machine as the observer (Weber, Renggli, Grabner, Zhang, "Observer dependent lossy
image compression", 2020), here of a single photograph, by an encoder, for decoders that know nothing of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..observers.pixel import MSSSIM, SCALES, WINDOW, Texture
from ..observers.semantic import UnitFeatureDistance
from ..teachers.classifier import Classifier
from .detail import DetailLayer
from .fusion import FusionDecoder
from .gains import log_interpolate, quality_plane
from .tiles import STRIDE, Place, tiles, to_unit

LAMBDAS = 0.00032, 0.08
"""What squared error, times 255^2, counts at quality 0 and at quality 1 against bits a pixel. More than in training: by
what it counts there, the search saves bits that a lower quality saves at less cost."""
STRUCTURE = 0.015
"""What 1 - MS-SSIM counts beside the mean squared error of numbers in [0, 1], as in training."""
FEATURES, TEXTURE, PIXELS = 0.003, 0.001, 0.1
"""At realism 1: what the distance between features of unit length counts beside that mean squared error; what local
power spectra count, without which features leave faint patterns on smooth surfaces; and what is left of the weight of
squared error and MS-SSIM. Any more for features buys bits, any less for pixels hardly more."""
LEAST_SIDE = 32
"""Pixels; of smaller regions the classifier is not asked."""
LEARNING_RATE, LAST_SHARE = 0.1, 0.1
"""In steps of the latents, at first; and what is left of it in the end."""
BETAS = 0.5, 0.95
SHARE = 1 / 3
"""Of the cells, each way, that a tile answers for elsewhere: all that the decoder makes is kept for gradients."""


class LatentSearch:
    """The search for the latents of photographs, at any quality. Under autocast the decoder is in its precision.

    Args:
        detail, synthesis: what codes and decodes them.
        images: (N, 3, H, W), uint8 or in [0, 1].
        steps: how often all latents move.
        realism: in [0, 1], at which pictures will be decoded; above 0, the decoder has a branch for it.
        classifier: counts above a realism of 0.
    """

    def __init__(
        self,
        detail: DetailLayer,
        synthesis: FusionDecoder,
        images: Tensor,
        steps: int,
        realism: float = 0.0,
        classifier: Classifier | None = None,
    ):
        self.detail, self.synthesis, self.images, self.steps = detail, synthesis, images, steps
        self.realism = realism
        self.observers = _observers(classifier) if realism and classifier is not None else None
        kind = images.device.type
        self.precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def improved(self, y: Tensor, hyper: Tensor, level: int | Tensor, condition: Tensor | None) -> Tensor:
        """Better latents; one photograph, and one tile of it, at a time.

        Args:
            y: latents to start from, in steps, (N, C, h, w).
            hyper: the hyper-latent in whole steps, which stays as it is.
            level: quality 0..120, or int32 (N, 1, h, w).
            condition: y_hat of the spatial layer in steps, on the same grid, where the codec is fused.

        Returns:
            latents in steps, not rounded, (N, C, h, w).
        """
        quality = quality_plane(level, y).expand(len(y), 1, *y.shape[-2:])
        base = self.detail.entropy_base(hyper.float(), quality, condition, y)
        with torch.inference_mode(False), torch.enable_grad():
            better = y.clone()
            for number, image in enumerate(self.images):
                for tile in tiles((y.shape[-2], y.shape[-1]), self.synthesis.reach(self.realism), SHARE):
                    seen, core = ((slice(number, number + 1), slice(None), *part) for part in (tile.seen, tile.core))
                    region = _Region(
                        _pixels(image, tile.seen),
                        better[seen].clone(),
                        base[seen].clone(),
                        quality[seen].clone(),
                        None if condition is None else condition[seen].clone(),
                        (tile.seen[0].start, tile.seen[1].start),
                        self.realism,
                        self.observers,
                    )
                    better[core] = self._descended(region, tile.inner)
        return better

    def _descended(self, region: _Region, inner: Place) -> Tensor:
        """The latents of a place in a region, after all steps."""
        place = (..., *inner)
        free = region.y[place].clone().requires_grad_()
        curvature = self._curvature(region)
        optimizer = torch.optim.Adam([free], LEARNING_RATE, BETAS)
        rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_SHARE, self.steps)
        for _ in range(self.steps):
            y = region.y.clone()
            y[place] = free
            y_hat, bits, variance = self.detail.context.expected(y, region.base)
            loss = (bits + curvature * variance).sum() + region.distortion(self._decoded(y_hat, region))
            (free.grad,) = torch.autograd.grad(loss, free)
            optimizer.step()
            rate.step()
        return free.detach()

    def _curvature(self, region: _Region) -> Tensor:
        """What variance of each latent costs in squared error, (1, C, h, w): as much all over a channel.

        From one probe of random signs (Hutchinson's estimator of a diagonal).
        """
        y = region.y.clone().requires_grad_()
        x_hat = self._decoded(y, region)
        signs = 2 * torch.randint(2, x_hat.shape, generator=torch.Generator().manual_seed(0)).to(x_hat) - 1
        (slopes,) = torch.autograd.grad(x_hat, y, signs)
        return region.weight * slopes.square().mean((2, 3), keepdim=True) / x_hat.shape[1]

    def _decoded(self, y: Tensor, region: _Region) -> Tensor:
        """The photograph's pixels, without those that pad it."""
        latents = self.detail.dequantize(y, region.quality)
        realism = torch.full_like(latents[:, :1, :1, :1], self.realism) if self.realism else None
        with torch.autocast(y.device.type, self.precision, enabled=self.precision is not None):
            x_hat = self.synthesis(latents, region.quality, region.condition, realism, region.corner)
        return x_hat[..., : region.pixels.shape[-2], : region.pixels.shape[-1]].float()


class _Region:
    """What is seen of a photograph while a place of it is improved.

    Args:
        pixels: (1, 3, H, W) in [0, 1]; no more than the photograph has.
        y: latents in steps, (1, C, h, w).
        base: what their entropy model is told.
        quality: of the detail layer, (1, 1, h, w).
        condition: the spatial layer on the same grid, where the codec is fused.
        corner: row and column of its first cell in the photograph.
        realism: at which it is decoded.
        observers: of features and of texture; None for pixels alone.

    Attributes:
        weight: what the squared error of a pixel costs at realism 0, in bits: (1, 1, h, w).
    """

    def __init__(
        self,
        pixels: Tensor,
        y: Tensor,
        base: Tensor,
        quality: Tensor,
        condition: Tensor | None,
        corner: tuple[int, int] = (0, 0),
        realism: float = 0.0,
        observers: tuple[UnitFeatureDistance, Texture] | None = None,
    ):
        self.pixels, self.y, self.base, self.quality, self.condition = pixels, y, base, quality, condition
        self.corner = corner
        self.weight = 255**2 * log_interpolate(LAMBDAS, quality)
        cells = self.weight.repeat_interleave(STRIDE, 2).repeat_interleave(STRIDE, 3)
        self._weights = cells[..., : pixels.shape[-2], : pixels.shape[-1]]
        self._realism = realism
        self._structure = _structure(min(pixels.shape[-2:]) // 2)
        self._half = pixels if self._structure is None else F.avg_pool2d(pixels, 2)
        self._observers = None if min(pixels.shape[-2:]) < LEAST_SIDE else observers
        self._wanted = [] if self._observers is None else self._observers[0].wanted(pixels)

    def distortion(self, x_hat: Tensor) -> Tensor:
        """What all pixels of a reconstruction cost, in bits."""
        weights, total = self._weights, self._weights.sum()
        cost = (weights * (x_hat - self.pixels).square().mean(1, keepdim=True)).sum()
        if self._structure is not None:
            cost = cost + STRUCTURE * total * self._structure(self._half, F.avg_pool2d(x_hat, 2), weights).sum()
        if self._observers is None:
            return cost
        features, texture = self._observers
        seen = FEATURES * features.distance(self._wanted, x_hat, weights)
        seen = seen + TEXTURE * texture(self.pixels, x_hat, weights)
        return (1 - self._realism * (1 - PIXELS)) * cost + self._realism * total * seen.sum()


def _observers(classifier: Classifier) -> tuple[UnitFeatureDistance, Texture]:
    """Observers of what a classifier sees at each of its strides, and of textures."""
    mean, std = ((value / 255).flatten().tolist() for value in (classifier.mean, classifier.deviation))
    with torch.inference_mode(False):  # what was made in it would let no gradients through
        features, texture = UnitFeatureDistance(classifier.net, classifier.stages, mean, std), Texture()
        return features.to(classifier.mean.device), texture.to(classifier.mean.device)


def _structure(side: int) -> MSSSIM | None:
    """1 - MS-SSIM over as many scales as half a photograph, of so many pixels a side, has; None where it has none.

    Without the finest scale, which counts least and costs three quarters of the time.
    """
    scales = SCALES[1:][: (side // WINDOW).bit_length()]
    return MSSSIM(tuple(scale / sum(scales) for scale in scales)) if scales else None


def _pixels(image: Tensor, seen: Place) -> Tensor:
    """The pixels (1, 3, H, W) of a place in a photograph (3, H', W'), in [0, 1]."""
    rows, columns = (slice(STRIDE * s.start, STRIDE * s.stop) for s in seen)
    return to_unit(image[None, :, rows, columns].clone())
