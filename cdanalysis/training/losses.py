"""The loss of a training step, and its terms, which the progress bar shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.derived import REALISM
from ..codec.gains import log_interpolate
from ..codec.realism import PERIOD
from ..codec.shape import CodecConfig
from ..codec.spatial_layer import analysis_inputs
from ..codec.tiles import STRIDE
from ..model import Model
from ..roi.importance import saliency_model
from ..structures.features import Features
from .auxiliary import AuxiliaryLoss, CropBatch
from .distortion import WeightedDistortion
from .heads import what_is_distilled
from .objective import feature_distance
from .rate_controller import RateController
from .recipe import StageConfig, touches

PULLED = 50
"""Steps from one look at how an adversary's gradient compares with the other observers' to the next."""


class Semantics(NamedTuple):
    """What the semantic layers make of crops.

    Attributes:
        teacher: what the teachers see in them.
        features: what the layers keep of that.
        spatial: y_hat of the spatial layer, in steps.
        bits: of both layers, for each crop.
    """

    teacher: Features
    features: Features
    spatial: Tensor
    bits: Tensor


class StageLoss(nn.Module):
    """The loss of a stage that trains the codec; a module with one ``forward``, so that data-parallel wrappers can wrap
    it.

    Args:
        model: what is trained.
        stage: how.
        classes: for each of the stage's auxiliary tasks, its data's classes.

    Raises:
        ValueError: if the stage trains nothing that learns from crops, or asks for what its parts cannot do.
    """

    def __init__(self, model: Model, stage: StageConfig, classes: Sequence[list[str]] = ()):
        super().__init__()
        self.model, self.stage = model, stage
        check_possible(stage, model.codec.config)
        self.semantic, self.detail = _what_learns(stage)
        self.auxiliary = nn.ModuleDict(
            {task.task: AuxiliaryLoss(model, task, c) for task, c in zip(stage.auxiliary, classes, strict=True)}
        )
        self.own = nn.ModuleDict()
        if stage.target_bpp:
            self.own["controller"] = RateController(stage.target_bpp, stage.control_speed)
        self.realistic = _asks_for_realism(stage)
        if self.detail:
            shape = model.codec.config
            channels = shape.spatial_channels if shape.fused else shape.detail_channels
            self.distortion = WeightedDistortion(stage.objective.observers, stage.objective.alpha, channels)
            self.looks = any(config.kind != "mse" for config in self.distortion.asked)
            self.saliency = saliency_model(stage.objective.saliency) if stage.objective.saliency else None
            self.own["adversaries"] = nn.ModuleList(adversary for _, adversary in self.distortion.adversaries())

    def own_parameters(self) -> list[dict[str, Any]]:
        """Parameter groups of the discriminators, for the optimizer; ``share`` multiplies the stage's learning rate."""
        adversaries = self.distortion.adversaries() if self.detail else []
        return [
            {"params": list(adversary.parameters()), "share": config.lr / self.stage.lr, "betas": (0.5, 0.9)}
            for config, adversary in adversaries
        ]

    def forward(self, batch: CropBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, at qualities drawn anew.

        Args:
            batch: of crops.
            step: of the stage, from 0.

        Returns:
            a scalar, and its terms by name, detached.
        """
        terms: dict[str, Tensor] = {}
        losses, spatial = [], None
        if self.semantic or self.model.codec.config.fused:
            uniform = torch.rand(len(batch.images), 1, 1, 1, device=batch.images.device)
            quality = _drawn(self.stage.semantic_quality, uniform)
            with torch.set_grad_enabled(self.semantic and torch.is_grad_enabled()):
                seen = self._semantics(batch.images, quality)
            spatial = seen.spatial
        if self.semantic:
            losses.append(self._semantic_loss(batch, seen, quality.flatten(), step, terms))
        if self.detail:
            losses.append(self._detail_loss(batch.pixels(), spatial, step, terms))
        loss = torch.stack(losses).sum()
        terms["loss"] = loss
        return loss, {name: value.detach() for name, value in terms.items()}

    def _semantics(self, images: Tensor, quality: Tensor) -> Semantics:
        """Both semantic layers of crops (N, 3, H, W) uint8, each of which is taken for a whole photograph."""
        codec = self.model.codec
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            seen = codec.teachers_see(images)
        assert seen.detected is not None
        pyramid = list(seen.detected.pyramid)
        embedding, bits = codec.global_layer(seen.embedding, quality, noisy=self.semantic)
        y_hat, more = codec.spatial(analysis_inputs(seen.detected), embedding, quality, noisy=self.semantic)
        known = codec.global_layer.dequantize(embedding, quality)
        found = codec.spatial.g_s(codec.spatial.dequantize(y_hat, quality), quality, known)
        sizes = [(STRIDE * y_hat.shape[-2], STRIDE * y_hat.shape[-1])] * len(images)
        return Semantics(
            Features(sizes, seen.embedding, pyramid),
            Features(sizes, codec.global_layer.embedding(known), found),
            y_hat,
            bits.flatten(1).sum(1) + more.flatten(1).sum(1),
        )

    def _semantic_loss(
        self, batch: CropBatch, seen: Semantics, quality: Tensor, step: int, terms: dict[str, Tensor]
    ) -> Tensor:
        objective, features = self.stage.objective, seen.features
        terms["bytes"] = seen.bits.mean() / 8
        ours, theirs = ([*f.pyramid, f.embedding[:, None, :, None]] for f in (features, seen.teacher))
        distance = feature_distance(ours, theirs, [*objective.features, objective.embedding])
        terms["features"] = distance.mean()
        weight = log_interpolate(objective.semantic_rate, quality) * self._rate_ramp(step)
        loss = weight * seen.bits / 1000 + distance
        for task, share in objective.distillation.items():
            divergence = what_is_distilled(self.model, task).distillation(features, seen.teacher)
            terms[task] = divergence.mean()
            loss = loss + share * divergence
        loss = loss.mean()
        for auxiliary in batch.auxiliary:
            learned = self.auxiliary[auxiliary.task](features, auxiliary, batch.images.shape[-1])
            terms[f"{auxiliary.task} auxiliary"] = learned
            loss = loss + learned
        return loss

    def _rate_ramp(self, step: int) -> float:
        return min(1.0, (step + 1) / self.stage.rate_warmup) if self.stage.rate_warmup else 1.0

    def _detail_loss(self, x: Tensor, spatial: Tensor | None, step: int, terms: dict[str, Tensor]) -> Tensor:
        objective, codec, stage = self.stage.objective, self.model.codec, self.stage
        quality = self._detail_quality(x)
        condition = codec.condition(spatial, (x.shape[-2], x.shape[-1]))
        y_hat, y_bits, z_bits = codec.detail(x, quality, condition)
        # A crop without detail: its latents are zero and its rate does not count.
        kept = (torch.rand(len(x), 1, 1, 1, device=x.device) >= stage.blank).float()
        realism, corner = self._realism(x)
        latents = codec.detail.dequantize(y_hat, quality) * kept
        x_hat = codec.synthesis(latents, quality, condition, realism, corner).float()
        # Every place counts by its lambda; `seen` is the observers' mean over places that do.
        lambdas = log_interpolate(objective.lambdas, quality)
        lowest, middle = objective.lambdas[0], log_interpolate(objective.lambdas, 0.5)
        lambdas = torch.where(kept.bool(), lambdas, 0.25 * lowest)
        counts = lambdas if self.saliency is None else lambdas * self._attention(x)
        known = latents if condition is None else condition  # to adversaries
        pair = _moved(x, x_hat) if self.looks else (x, x_hat)
        amounts = None if realism is None else realism.flatten()
        seen, each = self.distortion(*pair, counts, known, amounts)
        weight = counts.mean((1, 2, 3))
        rate = (y_bits.flatten(1).sum(1) + z_bits.flatten(1).sum(1)) / x[0, 0].numel() * kept.flatten()
        balance = (lambdas / middle).sqrt().mean((1, 2, 3))
        share = kept.flatten() / kept.sum().clamp_min(1)
        terms["bpp_detail"] = rate.sum() / kept.sum().clamp_min(1)
        mse = (x_hat - x).square().mean((1, 2, 3))
        terms["psnr"] = torch.where(kept.any(), -10 * torch.log10((mse * share).sum().clamp_min(1e-10)), torch.nan)
        terms |= {name: (value * share).sum() for name, value in each.items() if name != "mse"}
        loss = ((self._rate_factor(terms) * rate + 255**2 * weight * seen) / balance).mean()
        adversary_loss = self.distortion.adversary_loss(pair[0], pair[1], known, amounts)
        if adversary_loss is not None:
            terms["adversary"] = adversary_loss
            loss = loss + adversary_loss
            if step % PULLED == 0 and torch.is_grad_enabled():
                terms["adversary_pull"] = self.distortion.adversary_pull(seen, each, x_hat, amounts)
        return loss

    def _realism(self, x: Tensor) -> tuple[Tensor | None, tuple[int, int]]:
        """Realisms (N, 1, 1, 1), every other one the highest, and a place in the noise; in a stage that trains it."""
        if not self.realistic:
            return None, (0, 0)
        drawn = torch.rand(len(x), 1, 1, 1, device=x.device)
        rows, columns = torch.randint(PERIOD, (2,)).tolist()
        return torch.where(torch.rand_like(drawn) < 0.5, 1.0, drawn), (rows, columns)

    def _rate_factor(self, terms: dict[str, Tensor]) -> float:
        """What the controller, if there is one, makes of the rate's weight; it takes note of the rate."""
        if "controller" not in self.own:
            return 1.0
        factor = self.own["controller"].factor
        terms["rate_factor"] = torch.tensor(factor)
        if torch.is_grad_enabled():
            self.own["controller"].observe(terms["bpp_detail"])
        return factor

    def _attention(self, x: Tensor) -> Tensor:
        """What each place of crops counts for observers, (N, 1, H/16, W/16), by its saliency."""
        pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        maps = torch.stack([torch.from_numpy(self.saliency(crop)) for crop in pixels])[:, None].to(x)
        rest = self.stage.objective.rest
        return rest + (1 - rest) * F.avg_pool2d(maps, STRIDE)

    def _detail_quality(self, x: Tensor) -> Tensor:
        """Qualities (N, 1, H/16, W/16): most are even, some differ between the two sides of a soft edge."""
        height, width = x.shape[-2] // STRIDE, x.shape[-1] // STRIDE
        even = torch.rand(len(x), 1, 1, 1, device=x.device)
        coarse = torch.rand(len(x), 1, 3, 3, device=x.device)
        bumpy = F.interpolate(coarse, size=(height, width), mode="bilinear")
        varied = torch.rand(len(x), 1, 1, 1, device=x.device) < self.stage.varied
        return _drawn(self.stage.detail_quality, torch.where(varied, bumpy, even))


def _drawn(ends: list[float], uniform: Tensor) -> Tensor:
    """Numbers in [0, 1] as numbers between two qualities."""
    return ends[0] + (ends[1] - ends[0]) * uniform


def _moved(*images: Tensor) -> list[Tensor]:
    """Images (N, 3, H, W), all moved by the same few pixels, less than half a cell.

    So a network that looks cannot have patterns of its own grid painted for it (after Kettunen, Harkonen, Lehtinen,
    "E-LPIPS", 2019).
    """
    down, right = torch.randint(1 - STRIDE // 2, STRIDE // 2, (2,)).tolist()
    return [torch.roll(image, (down, right), (-2, -1)) for image in images]


def _asks_for_realism(stage: StageConfig) -> bool:
    """Whether reconstructions of a stage are made at a realism: where an observer counts by it."""
    return any(observer.side == "realism" for observer in stage.objective.observers)


def _what_learns(stage: StageConfig) -> tuple[bool, bool]:
    """Whether a stage has losses of the semantic layers, which heads learn along with, and of the detail layer."""
    semantic = ["codec.global_layer", "codec.spatial", *(["heads"] if stage.auxiliary else [])]
    return touches(stage, *semantic), touches(stage, "codec.detail", "codec.synthesis")


def check_possible(stage: StageConfig, shape: CodecConfig) -> None:
    """Refuse a stage on crops that trains nothing, or asks for what its parts cannot do.

    Args:
        stage: of a recipe.
        shape: of the codec.

    Raises:
        ValueError: for such a stage.
    """
    semantic, detail = _what_learns(stage)
    if not semantic and not detail:
        raise ValueError(
            f"stage {stage.name!r} trains nothing that learns from crops: no parameter of a layer starts with "
            f"{list(stage.trains)}; heads learn in stages of their own, by head, or from auxiliary tasks"
        )
    if stage.auxiliary and not semantic:
        raise ValueError("auxiliary tasks train heads, or the semantic layers: name one of them in trains")
    if stage.target_bpp and not detail:
        raise ValueError("target_bpp holds the rate of the detail layer, which this stage does not train")
    trained = bool(shape.realism) and touches(stage, REALISM)
    if _asks_for_realism(stage) and not trained:
        raise ValueError(
            f'observers on the side "realism" count in stages that train {REALISM}: set codec.realism, the number of '
            "its blocks, and name it in trains"
        )
    if all(name.startswith(REALISM) for name in stage.trains) and not _asks_for_realism(stage):
        raise ValueError(f'stage {stage.name!r} trains {REALISM} alone, and no observer is on the side "realism"')
    if stage.blank and not shape.fused:
        raise ValueError("blank needs a decoder that sees the spatial layer: set codec.fused, or leave blank at 0")
