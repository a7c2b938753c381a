"""The layered codec: two layers, their entropy models, and the fusion decoder."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latents import QUALITY_LEVELS, Latents
from . import tables
from .detail import DetailLayer
from .fusion import FusionDecoder
from .semantic import Backbone, SemanticLayer, spread, to_real

PAD = 32
"""Photographs are padded, right and bottom, to a multiple of this."""


@dataclass
class CodecConfig:
    """Shape of a layered codec."""

    backbone: str = "tf_efficientnet_lite0"
    semantic_channels: int = 24
    semantic_hidden: int = 128
    detail_channels: int = 160
    hyper_channels: int = 64
    width: int = 128
    analysis_depth: int = 4
    synthesis_depth: int = 4


class Coded(NamedTuple):
    """What one differentiable pass through the codec gives."""

    x_hat: Tensor
    semantic: Tensor
    semantic_bits: Tensor
    detail_bits: Tensor


class LayeredCodec(nn.Module):
    """Photographs to latents and back (Zhang, Jia, Chang, Ma, arXiv 2304.06896, in light form)."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone)
        self.semantic = SemanticLayer(self.backbone.channels, config.semantic_channels, config.semantic_hidden)
        self.detail = DetailLayer(
            config.semantic_channels, config.detail_channels, config.hyper_channels, config.width, config.analysis_depth
        )
        self.synthesis = FusionDecoder(
            config.semantic_channels, config.detail_channels, config.width, config.synthesis_depth
        )
        self.register_buffer("scale_tables", tables.gaussian_tables())

    def forward(self, x: Tensor, qualities: tuple[Tensor, Tensor], noisy: bool = True) -> Coded:
        """Differentiable coding of photographs x (N, 3, H, W) in [0, 1], sides multiples of 32.

        ``qualities`` holds the semantic and the detail quality in [0, 1], each (N, 1, 1, 1) or a
        map (N, 1, H/16, W/16). Bits come per photograph, (N,).
        """
        y_semantic, semantic_bits = self.semantic(self.backbone(x), qualities[0], noisy)
        semantic = self.semantic.dequantize(y_semantic, qualities[0])
        y_hat, y_bits, z_bits = self.detail(x, y_semantic, qualities, noisy)
        x_hat = self.synthesis(self.detail.dequantize(y_hat, qualities[1]), semantic, qualities)
        detail_bits = y_bits.flatten(1).sum(1) + z_bits.flatten(1).sum(1)
        return Coded(x_hat, semantic, semantic_bits.flatten(1).sum(1), detail_bits)

    def freeze_tables(self) -> None:
        """Turn what training learned of the hyper-latent's distribution into integer tables."""
        self.detail.prior.freeze_tables()

    def to_latents(self, x: Tensor, levels: tuple[int, int], layers: int = 2) -> Latents:
        """Photographs x (N, 3, H, W) in [0, 1], of any size, to integer latents.

        The result does not depend on the machine's way of adding floats: where a value comes
        too near a rounding tie (`tie_margin`), that photograph is analysed again in double precision.

        Args:
            levels: quality 0..120 of each layer.
            layers: 1 for the semantic layer alone, 2 for both.
        """
        padded = pad(x)
        semantic, detail, hyper, margin = self._quantize(padded, levels, layers)
        close = (margin < 1).nonzero().flatten().tolist()
        if close:
            exact = self._double()._quantize(padded[close].double(), levels, layers)
            for tensor, better in zip((semantic, detail, hyper), exact[:3], strict=True):
                if tensor is not None:
                    tensor[close] = better
        size = (x.shape[-2], x.shape[-1])
        to_int = (None if t is None else t.to(torch.int32) for t in (semantic, detail, hyper))
        return Latents(size, levels, *to_int)

    def _quantize(
        self, x: Tensor, levels: tuple[int, int], layers: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """(semantic, detail, hyper, margin) of padded photographs, in the precision of x."""
        qualities = [quality_plane(level, x) for level in levels]
        semantic, margin = self.semantic.quantize(self.backbone(x), qualities[0], levels[0])
        if layers == 1:
            return semantic, None, None, margin
        detail, hyper, detail_margin = self.detail.quantize(x, semantic, qualities[1], levels)
        return semantic, detail, hyper, torch.minimum(margin, detail_margin)

    def _double(self) -> LayeredCodec:
        """This codec in double precision, made when first needed and kept outside the state dict."""
        if "_reference" not in self.__dict__:
            with torch.inference_mode(False):  # its weights must be ordinary tensors
                self.__dict__["_reference"] = copy.deepcopy(self).double()
        return self.__dict__["_reference"]

    def to_photographs(self, latents: Latents) -> Tensor:
        """Decoded photographs (N, 3, H, W) in [0, 1]; without a detail layer, a preview."""
        like = self.synthesis.stem.weight
        qualities = tuple(quality_plane(level, like) for level in latents.quality)
        semantic = self.semantic.dequantize(to_real(latents.semantic, like.dtype), qualities[0])
        if latents.detail is None:
            detail = semantic.new_zeros(len(latents), self.detail.spec.channels, *semantic.shape[-2:])
        else:
            detail = self.detail.dequantize(to_real(latents.detail, like.dtype), qualities[1])
        height, width = latents.size
        return self.synthesis(detail, semantic, qualities)[..., :height, :width].clamp(0, 1)

    def estimated_bits(self, latents: Latents) -> dict[str, Tensor]:
        """Bits (N,) of each layer as the entropy models' floating-point face estimates them, without container."""
        device = latents.semantic.device
        qualities = tuple(quality_plane(level, torch.zeros((), device=device)) for level in latents.quality)
        y_semantic = to_real(latents.semantic)
        base = self.semantic.quality_base(spread(qualities[0], y_semantic))
        bits = {"semantic": self.semantic.context(y_semantic, base, noisy=False)[1].flatten(1).sum(1)}
        if latents.detail is not None:
            z = latents.hyper.float()
            side = torch.cat([y_semantic, *(spread(q, y_semantic) for q in qualities)], 1)
            y_bits = self.detail.context(to_real(latents.detail), self.detail.h_s(z, side), noisy=False)[1]
            bits["detail"] = y_bits.flatten(1).sum(1) + self.detail.prior.bits(z).flatten(1).sum(1)
        return bits


def pad(x: Tensor) -> Tensor:
    """Repeat the right and bottom edge until both sides are multiples of ``PAD``."""
    padded = F.pad(x, (0, -x.shape[-1] % PAD, 0, -x.shape[-2] % PAD), mode="replicate")
    return padded.contiguous(memory_format=torch.channels_last)  # twice as fast on the CPU


def quality_plane(level: int, like: Tensor) -> Tensor:
    """A quality level as the (1, 1, 1, 1) tensor that gains take."""
    return torch.full((1, 1, 1, 1), level / QUALITY_LEVELS, dtype=like.dtype, device=like.device)
