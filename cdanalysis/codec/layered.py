"""The layered codec: three layers, their entropy models, the teachers that look for two of them, and the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import TEACHERS
from ..stream.container import check_working
from ..structures.features import Features, FeatureSpec
from ..structures.latents import SEMANTIC, STEPS, Latents, Levels, lowered
from ..teachers.backbone import Backbone
from ..teachers.classifier import Classifier
from ..teachers.nanodet import DetectorFeatures, NanoDetPlus
from .derived import Derived, checksum, fingerprint_of, forget_derived, tensors_of
from .detail import HYPER_REDUCTION, DetailLayer
from .entropy import tables
from .entropy.models import Pass, Quantized
from .fusion import FusionDecoder
from .gains import quality_plane
from .global_layer import GlobalLayer
from .integer.exact import full_precision
from .latent_search import LatentSearch
from .shape import CodecConfig
from .spatial_layer import SpatialLayer, analysis_channels, analysis_inputs
from .tiles import STRIDE, Place, grid_of, tiled, tiles
from .vector_search import SEARCH_ROUNDS, Classes, VectorSearch


class Coded(NamedTuple):
    """What one differentiable pass through the detail layer and the decoder gives: images, and bits per image (N,)."""

    x_hat: Tensor
    detail_bits: Tensor


class AnalyzedImages(NamedTuple):
    """What images are before a quality is chosen: their embedding (N, E), and y of the other layers, before its gain;
    None for layers not asked for; and the search for better latents of the detail layer, where that was asked for."""

    embedding: Tensor
    spatial: Tensor | None
    detail: Tensor | None
    search: LatentSearch | None = None


class CodedLatents(NamedTuple):
    """Latents, and the passes that code each of their layers."""

    latents: Latents
    passes: list[list[Pass]]


class Seen(NamedTuple):
    """What the teachers see in images: an embedding (N, E), and what the detector sees, where it looked."""

    embedding: Tensor
    detected: DetectorFeatures | None


class LayeredCodec(nn.Module):
    """Images to latents and back, in layers (Zhang, Jia, Chang, Ma, arXiv 2304.06896, in light form).

    Args:
        config: its shape; copied.

    Attributes:
        classifier, detector: the semantic layers' teachers, frozen.
        search_rounds: how long the encoder searches for the global layer's symbols; at 0 it rounds, in less time.

    Raises:
        ValueError: for a working size that is none, a network that cannot be a teacher, or channels that do not divide
            into an entropy model's passes.
    """

    scale_tables: Tensor

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.config = config = replace(config, global_groups=list(config.global_groups))
        for size in config.working_sizes[: len(SEMANTIC)]:
            check_working(size)
        self.classifier, self.detector = Classifier(config.classifier), _detector(config.detector)
        self.global_layer = GlobalLayer(
            self.classifier.embedding, config.global_groups, config.global_hidden, config.global_context
        )
        self.spatial = SpatialLayer(
            analysis_channels(self.detector), self.detector.PYRAMID[:3], self.global_layer.channels,
            config.spatial_channels, config.spatial_hidden, config.spatial_depth, config.spatial_context,
        )  # fmt: skip
        condition = config.spatial_channels if config.fused else 0
        self.detail = DetailLayer(
            condition, config.detail_channels, config.hyper_channels, config.width, config.analysis_depth,
            config.ends, config.detail_passes,
        )  # fmt: skip
        self.synthesis = FusionDecoder(
            condition, config.detail_channels, config.width, config.synthesis_depth,
            realism=config.realism, kernel=config.ends,
        )  # fmt: skip
        self.register_buffer("scale_tables", tables.gaussian_cdf_tables())
        self._fingerprint: Derived[str] = Derived()
        self.search_rounds = SEARCH_ROUNDS
        self._classes: Derived[Classes] = Derived()
        self._checksum: Tensor | None = None

    # -- learning ----------------------------------------------------------------------------

    def forward(self, x: Tensor, quality: Tensor, noisy: bool = True, spatial: Tensor | None = None) -> Coded:
        """Differentiable coding of the detail layer.

        Args:
            x: images (N, 3, H, W) in [0, 1], sides multiples of 32.
            quality: of the detail layer, in [0, 1]: (N, 1, 1, 1), or a map (N, 1, H/16, W/16).
            noisy: whether bits are those of y with uniform noise, as in training, or of y_hat itself.
            spatial: y_hat of the spatial layer in steps, where the codec is fused.

        Returns:
            images (N, 3, H, W), not clamped, and bits per image (N,), those of the hyper-latent included.
        """
        condition = self.condition(spatial, (x.shape[-2], x.shape[-1]))
        y_hat, y_bits, z_bits = self.detail(x, quality, condition, noisy)
        x_hat = self.synthesis(self.detail.dequantize(y_hat, quality), quality, condition)
        return Coded(x_hat, y_bits.flatten(1).sum(1) + z_bits.flatten(1).sum(1))

    def condition(self, spatial: Tensor | None, size: tuple[int, int]) -> Tensor | None:
        """A spatial layer on the detail layer's grid, which is told of it.

        Args:
            spatial: (N, C, h, w); not None where the codec is fused.
            size: of the images, (height, width) in pixels.

        Returns:
            (N, C, H/16, W/16) for images padded to H x W, see `resampled`; None in a codec that is not fused.
        """
        if not self.config.fused:
            return None
        assert spatial is not None, "in a fused codec the spatial layer comes before the detail layer"
        return resampled(spatial, size)

    @torch.no_grad()
    def set_fused(self, fused: bool) -> None:
        """Let the detail layer and the decoder see the spatial layer, of which they make nothing yet; or no longer.

        Args:
            fused: whether they see it.
        """
        if fused != self.config.fused:
            channels = self.spatial.spec.channels
            self.config = replace(self.config, fused=fused)
            for conv in (self.detail.h_s.side, self.synthesis.condition[0]):
                _conditioned(conv, channels if fused else -channels)

    def set_realism(self, depth: int) -> None:
        """Give the decoder a branch for realism, which adds nothing yet; or take it away.

        Args:
            depth: blocks at each stride of the branch; 0 for none. A branch of that depth stays as it is.
        """
        if depth != self.config.realism:
            self.config = replace(self.config, realism=depth)
            self.synthesis.set_realism(depth)

    def freeze_tables(self) -> None:
        """Turn what training learned of the hyper-latent's distribution into integer tables."""
        self.detail.prior.freeze_tables()

    # -- identity ----------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Of the weights as they are: streams carry it, and no other weights read them. Teachers do not count."""
        return self._fingerprint.get(self._own_tensors(), lambda: fingerprint_of(self, asdict(self.config)))

    def _own_tensors(self) -> list[Tensor]:
        """All weights and tables but the teachers', of which nothing is kept that streams depend on."""
        parts = (self.global_layer, self.spatial, self.detail, self.synthesis)
        return [self.scale_tables, *tensors_of(*parts)]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.scale_tables.device

    def settle(self) -> bool:
        """Before streams are written: what is kept of weights must be of the weights as they are.

        Returns:
            whether they had changed since the last time.

        Raises:
            ValueError: if they are not in single precision.
        """
        others = {t.dtype for t in tensors_of(self) if isinstance(t, nn.Parameter)} - {torch.float32}
        if others:
            raise ValueError(
                f"a codec encodes in torch.float32, and this one is in {others.pop()}: cast the heads alone "
                "(model.heads), or use torch.autocast"
            )
        found = checksum(self._own_tensors())
        if self._checksum is not None and torch.equal(found, self._checksum):
            return False
        forget_derived(self)
        self._checksum = found
        return True

    # -- images to latents -------------------------------------------------------------------

    @torch.no_grad()
    def analyze(
        self,
        x: Tensor,
        layers: int = 3,
        spatial_size: int | None = None,
        effort: int = 0,
        realism: float = 0.0,
    ) -> AnalyzedImages:
        """What images are at any quality.

        Under autocast the detail layer's analysis, which takes most of the time, is in its precision; teachers are not.

        Args:
            x: (N, 3, H, W), uint8 or in [0, 1], of any size.
            layers: how many to analyze, 1 to 3, from the first on.
            spatial_size: working size of the spatial layer, by default the configuration's.
            effort: steps of the search for the detail layer's latents, see `LatentSearch`.
            realism: in [0, 1], at which the pictures that the search is for will be decoded.

        Returns:
            the embedding (N, E); y of the other layers before its gain, (N, C, h, w), each on its own grid; and the
            search, where there is effort.

        Raises:
            ValueError: for a realism above 0 where the decoder has none, or the classifier takes but one size of
                photographs.
        """
        with full_precision():
            seen = self.teachers_see(x, layers, spatial_size)
            spatial = None if seen.detected is None else self.spatial.g_a(analysis_inputs(seen.detected))
        if layers < 3:
            return AnalyzedImages(seen.embedding, spatial, None)
        detail = tiled(self.detail.g_a, x, self.detail.g_a.receptive_radius).float()
        search = None
        if effort:
            self._check_realism(realism)
            if realism and (self.classifier.size or not self.classifier.stages):
                name = self.classifier.name
                raise ValueError(f"effort at a realism asks the classifier, and {name} takes no part of a photograph")
            search = LatentSearch(self.detail, self.synthesis, x, effort, realism, self.classifier)
        return AnalyzedImages(seen.embedding, spatial, detail, search)

    def teachers_see(self, x: Tensor, layers: int = 2, spatial_size: int | None = None) -> Seen:
        """What the teachers see in images, resized to the working sizes.

        Args:
            x: (N, 3, H, W), uint8 or in [0, 1].
            layers: 1 for the classifier alone.
            spatial_size: as `analyze` takes it.

        Returns:
            the embedding (N, E) float32, and the detector's features; None for the classifier alone.
        """
        height, width = x.shape[-2:]
        pixels = x if x.dtype == torch.uint8 else (x * 255).round().to(torch.uint8)
        size = self.classifier.size or self.config.working_size(height, width, 1)  # some networks take one size alone
        embedding = self.classifier(resized(pixels, size)).float()
        if layers == 1:
            return Seen(embedding, None)
        size = self.config.working_size(height, width, 2, spatial_size)
        return Seen(embedding, self.detector(resized(pixels, size)))

    @torch.no_grad()
    @full_precision()
    def encode_at(
        self,
        y: AnalyzedImages,
        size: tuple[int, int],
        levels: Levels,
        quality_offsets: Tensor | None = None,
        embedding: Quantized | None = None,
    ) -> CodedLatents:
        """Analyzed images at a quality.

        Args:
            y: of N images of one size.
            size: of the images, (height, width) in pixels.
            levels: quality levels 0..120, one for each layer that was analyzed.
            quality_offsets: how far the detail layer's quality lies below its level, place by place: see `Latents`.
            embedding: the global layer's symbols at its level, if `quantized_embedding` has found them before.

        Returns:
            latents of the layers that were analyzed, and the passes that code each.
        """
        embedding = embedding or self.quantized_embedding(y.embedding, levels[0])
        latents, passes = Latents(size, levels[:1], embedding.values), [embedding.passes]
        if y.spatial is not None:
            spatial = self.spatial.quantize(y.spatial, embedding.values, levels[1])
            latents = replace(latents, spatial=spatial.values, quality=levels[:2])
            passes.append(spatial.passes)
        if y.detail is not None:
            level = levels[2] if quality_offsets is None else lowered(levels[2], quality_offsets)
            condition = self.condition(latents.spatial, size)
            improved = None if y.search is None else y.search.improved
            detail, hyper = self.detail.quantize(y.detail, level, condition, improved)
            latents = replace(
                latents, detail=detail.values, hyper=hyper, quality_offsets=quality_offsets, quality=levels
            )
            passes.append(detail.passes)
        return CodedLatents(latents, passes)

    @torch.no_grad()
    @full_precision()
    def quantized_embedding(self, embeddings: Tensor, level: int) -> Quantized:
        """The symbols of embeddings that keep the classes which the teacher sees.

        Args:
            embeddings: (N, E).
            level: quality 0..120.

        Returns:
            values (N, C, 1, 1), and the passes that code them.
        """
        layer, weight, bias = self.global_layer, *self.classifier.classifier_weights()
        classes = self._classes.get((weight, bias, *layer.decoder), lambda: Classes.of(layer, weight, bias))
        return VectorSearch(layer, classes, embeddings, level, self.search_rounds).best()

    def to_latents(self, x: Tensor, levels: Levels, layers: int = 3, quality_offsets: Tensor | None = None) -> Latents:
        """Images to integer latents.

        Args:
            x: (N, 3, H, W), uint8 or in [0, 1], of any size.
            levels: quality levels 0..120, one for each of these layers.
            layers: how many, 1 to 3, from the first on.
            quality_offsets: as of `encode_at`.

        Returns:
            a batch of N images, see `Latents`.
        """
        return self.encode_at(self.analyze(x, layers), (x.shape[-2], x.shape[-1]), levels, quality_offsets).latents

    # -- latents to features and images ------------------------------------------------------

    @property
    def feature_spec(self) -> FeatureSpec:
        """What `features` look like."""
        return FeatureSpec(self.classifier.embedding, self.spatial.outputs, self.detail.spec.channels)

    def features(self, latents: Latents) -> Features:
        """What heads read of latents; no pixel is decoded, and no teacher runs.

        Args:
            latents: of N images; layers may be missing, see `Latents.up_to`.

        Returns:
            features as `feature_spec` describes them, of the layers that are there.
        """
        like = self.global_layer.g_s[1].weight
        planes = [quality_plane(level, like) for level in latents.quality]
        embedding = self.global_layer.dequantize(to_real(latents.embedding, like.dtype), planes[0])
        pyramid: list[Tensor] = []
        if latents.spatial is not None:
            y = self.spatial.dequantize(to_real(latents.spatial, like.dtype), planes[1])
            pyramid = self.spatial.g_s(y, planes[1], embedding)
        detail = None if latents.detail is None else self.dequantized_detail(latents)
        return Features([latents.size] * len(latents), self.global_layer.embedding(embedding), pyramid, detail)

    def dequantized_detail(self, latents: Latents, seen: Place = (slice(None), slice(None))) -> Tensor:
        """The detail layer, its gain undone.

        Args:
            latents: of N images; the layer may be missing.
            seen: rows and columns of its grid; by default all.

        Returns:
            (N, C, h, w) for that place; zeros where the layer is missing.
        """
        like, (rows, columns) = self.synthesis.stem.weight, seen
        if latents.detail is None:
            grid = grid_of(*latents.size)
            sides = (len(range(*s.indices(n))) for s, n in zip(seen, grid, strict=True))
            return like.new_zeros(len(latents), self.detail.spec.channels, *sides)
        detail = to_real(latents.detail[..., rows, columns], like.dtype)
        return self.detail.dequantize(detail, self._detail_plane(latents, seen))

    def _detail_plane(self, latents: Latents, seen: Place) -> Tensor:
        level: int | Tensor = 0 if latents.detail is None else latents.detail_level
        level = level if isinstance(level, int) else level[..., seen[0], seen[1]]
        return quality_plane(level, self.synthesis.stem.weight)

    def to_images(self, latents: Latents, realism: float = 0.0) -> Tensor:
        """Decode images; without a detail layer, a preview.

        Args:
            latents: of N images of H x W pixels.
            realism: from the least squared error (0) to the most photograph-like (1).

        Returns:
            uint8 (N, 3, H, W).

        Raises:
            ValueError: if there is no detail layer and the codec is not fused, so that there is nothing to show; or for
                a realism above 0 of a codec whose decoder has none.
        """
        self._check_realism(realism)
        if latents.detail is None and not self.config.fused:
            raise ValueError("this codec's decoder does not see the semantic layers, and so has no previews")
        (height, width), like = latents.size, self.synthesis.stem.weight
        known = None if latents.spatial is None else to_real(latents.spatial, like.dtype)
        condition = self.condition(known, latents.size)
        shape, last = (len(latents), 3, height, width), torch.channels_last  # as pictures are kept
        x = torch.empty(shape, dtype=torch.uint8, device=like.device, memory_format=last)
        amount = like.new_full((1, 1, 1, 1), realism) if realism else None
        share = 2 / 3 if realism else 1.0  # the branch for realism holds features at stride 2
        for tile in tiles(grid_of(height, width), self.synthesis.reach(realism), share):
            seen = None if condition is None else condition[..., tile.seen[0], tile.seen[1]]
            detail, plane = self.dequantized_detail(latents, tile.seen), self._detail_plane(latents, tile.seen)
            corner = (tile.seen[0].start, tile.seen[1].start)
            part = self.synthesis(detail, plane, seen, amount, corner)
            (top, bottom), (left, right) = ((STRIDE * s.start, STRIDE * s.stop) for s in tile.core)
            first, second = (STRIDE * s.start for s in tile.inner)
            place = x[..., top:bottom, left:right]
            part = part[..., first : first + place.shape[-2], second : second + place.shape[-1]]
            place.copy_(part.mul(255).round_().clamp_(0, 255))
        return x

    def _check_realism(self, realism: float) -> None:
        if realism and self.synthesis.realism is None:
            raise ValueError("this codec's decoder was not trained for realism: it decodes with realism 0 alone")

    def bit_maps(self, latents: Latents) -> dict[str, Tensor]:
        """Bits of each layer in each cell of its grid, as the entropy models' floating-point face has them.

        The global layer's grid is one cell. Bits of a hyper-latent are shared out among its cells; those of a quality
        map do not count.

        Args:
            latents: of N images.

        Returns:
            bits (N, h, w) by the name of each layer that is there.
        """
        planes = [
            quality_plane(level, self.scale_tables.new_zeros((), dtype=torch.float32)) for level in latents.quality
        ]
        known = to_real(latents.embedding)
        maps = {"global": self.global_layer.context(known, planes[0].expand(len(latents), 1, 1, 1), noisy=False)[1]}
        if latents.spatial is not None:
            y = to_real(latents.spatial)
            maps["spatial"] = self.spatial.context(y, self.spatial.entropy_base(known, planes[1], y), noisy=False)[1]
        if latents.detail is not None:
            z, y = latents.hyper.float(), to_real(latents.detail)
            plane = quality_plane(latents.detail_level, y)
            side = self.condition(None if latents.spatial is None else to_real(latents.spatial), latents.size)
            bits = self.detail.context(y, self.detail.entropy_base(z, plane, side, y), noisy=False)[1]
            maps["detail"] = (
                bits + _shared(self.detail.prior.bits(z).sum(1, keepdim=True), bits.shape[-2:]) / bits.shape[1]
            )
        return {name: bits.sum(1) for name, bits in maps.items()}


def _detector(name: str) -> NanoDetPlus | Backbone:
    made = TEACHERS.get(name)
    if made is not None and hasattr(made, "PYRAMID"):
        return cast(NanoDetPlus, made())
    if made is None or timm.is_model(name):
        return Backbone(name)
    raise ValueError(f"{name!r} cannot be the spatial layer's teacher: it has no feature pyramid")


def resized(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Images resized by Pillow's fixed-point bicubic resampling; on accelerators by floats, which come near to it.

    Args:
        pixels: uint8 (N, 3, H, W).
        size: (rows, columns) to resize to.

    Returns:
        uint8 (N, 3, rows, columns).
    """
    if pixels.device.type == "cpu":
        return F.interpolate(pixels, list(size), mode="bicubic", antialias=True)
    # Accelerators know no bytes here; what they make of floats is as near as no matter.
    floats = F.interpolate(pixels.float(), list(size), mode="bicubic", antialias=True)
    return floats.round().clamp(0, 255).to(torch.uint8)


def resampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A layer of the whole image on the detail layer's grid, that of the padded one.

    Row i takes row min(h - 1, (16 i + 8) h // height), where its middle lies; columns alike. Integers throughout: part
    of the format.

    Args:
        x: (N, C, h, w).
        size: of the image, (height, width) in pixels.

    Returns:
        (N, C, H/16, W/16) for an image that is padded to H x W.
    """
    for axis, side, cells in zip((2, 3), size, grid_of(*size), strict=True):
        middles = STRIDE * torch.arange(cells, device=x.device) + STRIDE // 2
        x = x.index_select(axis, (middles * x.shape[axis] // side).clamp_max(x.shape[axis] - 1))
    return x


def to_real(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integer latents as steps.

    Args:
        values: integers in sixteenths of a step, of any shape.
        dtype: of the result.

    Returns:
        steps, of the same shape.
    """
    return values.to(dtype) / STEPS


def _conditioned(conv: nn.Conv2d, channels: int) -> None:
    """Let a convolution read ``channels`` more inputs, before its others, by weights of 0; or as many fewer."""
    weight = conv.weight
    more = weight.new_zeros(len(weight), max(0, channels), *weight.shape[2:])
    conv.weight = nn.Parameter(torch.cat([more, weight[:, max(0, -channels) :]], 1), weight.requires_grad)
    conv.in_channels += channels


def _shared(values: Tensor, grid: Sequence[int]) -> Tensor:
    """Values (N, C, h, w) of coarse cells, each in equal parts to the cells of ``grid`` that lie in it."""
    rows, columns = (torch.arange(side, device=values.device) // HYPER_REDUCTION for side in grid)
    counts = rows.bincount()[:, None] * columns.bincount()
    return (values / counts)[..., rows, :][..., columns]
