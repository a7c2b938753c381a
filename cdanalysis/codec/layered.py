"""The layered codec: two layers, their entropy models, and the fusion decoder."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..structures.latents import Latents, lowered
from .derived import Derived, checksum, fingerprint_of, forget_derived, ordinary_tensors
from .detail import HYPER_REDUCTION, DetailLayer
from .encoder import AnalyzedImages, Encoder
from .entropy import tables
from .entropy.models import Pass
from .fusion import FusionDecoder
from .gains import quality_plane, spread
from .semantic import Backbone, SemanticLayer, to_real
from .shape import CodecConfig
from .tiles import STRIDE, Place, grid_of, tiles


class Coded(NamedTuple):
    """What one differentiable pass through the codec gives."""

    x_hat: Tensor
    semantic: Tensor
    semantic_bits: Tensor
    detail_bits: Tensor


class CodedLatents(NamedTuple):
    """Latents, and the passes that code each of their layers."""

    latents: Latents
    passes: list[list[Pass]]


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
            config.semantic_channels, config.detail_channels, config.width, config.synthesis_depth, fused=config.fused
        )
        self.register_buffer("scale_tables", tables.gaussian_cdf_tables())
        self._encoder: Derived[Encoder] = Derived()
        self._fingerprint: Derived[str] = Derived()
        self._checksum: Tensor | None = None

    def forward(self, x: Tensor, qualities: tuple[Tensor, Tensor], noisy: bool = True, semantics: bool = True) -> Coded:
        """Differentiable coding of photographs x (N, 3, H, W) in [0, 1], sides multiples of 32.

        ``qualities`` holds the semantic and the detail quality in [0, 1], each (N, 1, 1, 1) or a
        map (N, 1, H/16, W/16). Bits come per photograph, (N,). Without ``semantics`` the semantic layer holds zeros.
        """
        if semantics:
            y_semantic, semantic_bits = self.semantic(self.backbone(x), qualities[0], noisy)
        else:
            y_semantic, quality = self.no_semantics(x)
            qualities, semantic_bits = (quality, qualities[1]), torch.zeros_like(y_semantic)
        semantic = self.semantic.dequantize(y_semantic, qualities[0])
        y_hat, y_bits, z_bits = self.detail(x, y_semantic, qualities, noisy)
        x_hat = self.synthesis(self.detail.dequantize(y_hat, qualities[1]), semantic, qualities)
        detail_bits = y_bits.flatten(1).sum(1) + z_bits.flatten(1).sum(1)
        return Coded(x_hat, semantic, semantic_bits.flatten(1).sum(1), detail_bits)

    def no_semantics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Semantic symbols (N, C, H/16, W/16) and quality (N, 1, 1, 1) that say nothing of images x (N, 3, H, W)."""
        grid = grid_of(x.shape[-2], x.shape[-1])
        return x.new_zeros(len(x), self.semantic.spec.channels, *grid), x.new_zeros(len(x), 1, 1, 1)

    def unfuse(self) -> None:
        """Let the fusion decoder see nothing of the semantic layer any more."""
        self.config, self.synthesis.fused = replace(self.config, fused=False), False

    def freeze_tables(self) -> None:
        """Turn what training learned of the hyper-latent's distribution into integer tables."""
        self.detail.prior.freeze_tables()

    @property
    def fingerprint(self) -> str:
        """Of the weights as they are: streams carry it, and no other weights read them."""
        return self._fingerprint.get(
            (*self.parameters(), *self.buffers()), lambda: fingerprint_of(self, asdict(self.config))
        )

    def settle(self) -> bool:
        """Before streams are written: what is kept of weights must be of the weights as they are.

        Returns:
            whether they had changed since the last time.

        Raises:
            ValueError: if they are not in single precision.
        """
        others = {p.dtype for p in self.parameters()} - {torch.float32}
        if others:
            raise ValueError(
                f"a codec encodes in torch.float32, and this one is in {others.pop()}: cast heads and neck alone "
                "(model.heads, model.neck), or use torch.autocast"
            )
        found = checksum(self)
        if self._checksum is not None and torch.equal(found, self._checksum):
            return False
        forget_derived(self)
        self._checksum = found
        return True

    def to_latents(
        self, x: Tensor, levels: tuple[int, int], layers: int = 2, quality_offsets: Tensor | None = None
    ) -> Latents:
        """Photographs x (N, 3, H, W) in [0, 1], of any size, to integer latents.

        The result does not depend on the machine's way of adding floats: see `Encoder`.

        Args:
            levels: quality 0..120 of each layer.
            layers: 1 for the semantic layer alone, 2 for both.
            quality_offsets: how far the detail layer's quality lies below its level, place by place: see `Latents`.
        """
        return self.encode_at(self.analyze(x, layers), (x.shape[-2], x.shape[-1]), levels, quality_offsets).latents

    def analyze(self, x: Tensor, layers: int = 2) -> AnalyzedImages:
        """The part of `to_latents` that is the same at every quality."""
        return self.encoder.analyze(x, layers)

    def encode_at(
        self,
        analyzed: AnalyzedImages,
        size: tuple[int, int],
        levels: tuple[int, int],
        quality_offsets: Tensor | None = None,
    ) -> CodedLatents:
        """Analyzed photographs of ``size`` (height, width) at two quality levels."""
        quality_offsets = None if analyzed.detail is None else quality_offsets
        local = levels if quality_offsets is None else (levels[0], lowered(levels[1], quality_offsets))
        semantic, detail, hyper = self.encoder.quantize(analyzed, local)
        if detail is None:
            return CodedLatents(Latents(size, levels, semantic.values), [semantic.passes])
        latents = Latents(size, levels, semantic.values, detail.values, hyper, quality_offsets)
        return CodedLatents(latents, [semantic.passes, detail.passes])

    @property
    def encoder(self) -> Encoder:
        """The encoder of the weights as they are, kept until they change."""
        return self._encoder.get(self.parameters(), self._new_encoder)

    def _new_encoder(self) -> Encoder:
        with ordinary_tensors():
            return Encoder(self)

    def to_images(self, latents: Latents) -> Tensor:
        """Decoded photographs, uint8 (N, 3, H, W); without a detail layer, a preview."""
        (height, width), like = latents.size, self.synthesis.stem.weight
        x = torch.empty((len(latents), 3, height, width), dtype=torch.uint8, device=like.device)
        for tile in tiles(latents.semantic.shape[-2:], self.synthesis.receptive_radius):
            part = self._synthesized(latents, tile.seen)
            (top, bottom), (left, right) = ((STRIDE * s.start, STRIDE * s.stop) for s in tile.core)
            first, second = (STRIDE * s.start for s in tile.inner)
            place = x[..., top:bottom, left:right]
            part = part[..., first : first + place.shape[-2], second : second + place.shape[-1]]
            place.copy_((part.clamp(0, 1) * 255).round())
        return x

    def _synthesized(self, latents: Latents, seen: Place) -> Tensor:
        """What the decoder makes of a place in latents, as floats."""
        like, (rows, columns) = self.synthesis.stem.weight, seen
        qualities = tuple(
            quality_plane(level if isinstance(level, int) else level[..., rows, columns], like)
            for level in latents.levels
        )
        semantic = to_real(latents.semantic[..., rows, columns], like.dtype)
        semantic = self.semantic.dequantize(semantic, qualities[0])
        if latents.detail is None:
            detail = semantic.new_zeros(len(latents), self.detail.spec.channels, *semantic.shape[-2:])
        else:
            detail = to_real(latents.detail[..., rows, columns], like.dtype)
            detail = self.detail.dequantize(detail, qualities[1])
        return self.synthesis(detail, semantic, qualities)

    def bit_maps(self, latents: Latents) -> dict[str, Tensor]:
        """Bits (N, h, w) of each layer in each cell, as the entropy models' floating-point face estimates them.

        Those of a hyper-latent are shared out among its cells; those of a quality map do not count.
        """
        device = latents.semantic.device
        qualities = tuple(quality_plane(level, torch.zeros((), device=device)) for level in latents.levels)
        y_semantic = to_real(latents.semantic)
        base = self.semantic.quality_base(spread(qualities[0], y_semantic))
        maps = {"semantic": self.semantic.context(y_semantic, base, noisy=False)[1].sum(1)}
        if latents.detail is not None:
            z = latents.hyper.float()
            side = torch.cat([y_semantic, *(spread(q, y_semantic) for q in qualities)], 1)
            y_bits = self.detail.context(to_real(latents.detail), self.detail.h_s(z, side), noisy=False)[1]
            maps["detail"] = y_bits.sum(1) + _shared(self.detail.prior.bits(z).sum(1), y_bits.shape[-2:])
        return maps


def _shared(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values (N, h'', w'') of coarse cells, each in equal parts to the cells of ``grid`` that lie in it."""
    rows, columns = (torch.arange(side, device=values.device) // HYPER_REDUCTION for side in grid)
    counts = rows.bincount()[:, None] * columns.bincount()
    return (values / counts)[:, rows][:, :, columns]
