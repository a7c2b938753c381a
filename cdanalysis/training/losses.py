"""The loss of a training step, and its terms, which the progress bar shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.tiles import STRIDE
from ..model import Model
from ..roi.importance import saliency_model
from ..roi.saliency import Saliency
from .auxiliary import AuxiliaryLoss, CropBatch
from .distortion import WeightedDistortion
from .objective import feature_distance, log_interpolate
from .rate_controller import RateController
from .recipe import StageConfig


class StageLoss(nn.Module):
    """The loss of a stage that trains the codec; a module with one ``forward``, so that data-parallel wrappers can wrap
    it.

    Args:
        model: to train.
        stage: what is trained, and its objective.
        classes: for each auxiliary task of the stage, the class names of its data.

    Raises:
        ValueError: for a combination of settings that cannot be trained; also as `WeightedDistortion`, `AuxiliaryLoss`
            and `RateController`.
    """

    def __init__(self, model: Model, stage: StageConfig, classes: Sequence[list[str]] = ()):
        super().__init__()
        self.model, self.stage = model, stage
        self.semantic = any(name.startswith(("codec.semantic", "neck")) for name in stage.trains)
        self.detail = any(name.startswith(("codec.detail", "codec.synthesis")) for name in stage.trains)
        if not stage.semantics and (self.semantic or stage.target_bpp):
            raise ValueError(
                "a stage with semantics: false trains the detail layer and the decoder only: remove target_bpp, and "
                "codec.semantic and neck from trains"
            )
        if stage.auxiliary and not self.semantic:
            raise ValueError(
                "auxiliary tasks need codec.semantic or neck among the trained parts: add one of them to trains"
            )
        self.auxiliary = nn.ModuleDict(
            {task.task: AuxiliaryLoss(model, task, c) for task, c in zip(stage.auxiliary, classes, strict=True)}
        )
        self.own = nn.ModuleDict()
        if stage.target_bpp:
            self.own["controller"] = RateController(stage.target_bpp, stage.control_speed)
        if self.detail:
            channels = model.codec.semantic.spec.channels
            self.distortion = WeightedDistortion(stage.objective.observers, stage.objective.alpha, channels)
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
        """The loss of a batch.

        Args:
            batch: crops, and targets of the labeled ones.
            step: of the stage, for its warm-up of the rate.

        Returns:
            the scalar loss, and its terms by name, detached; rates are in bits per pixel, PSNR in dB.
        """
        codec, x = self.model.codec, batch.pixels()
        if not self.stage.semantics:
            return self._pixel_loss(x)
        quality = _drawn(self.stage.semantic_quality, torch.rand(len(x), 1, 1, 1, device=x.device))
        with torch.no_grad():
            features = codec.backbone(x)
        with torch.set_grad_enabled(self.semantic and torch.is_grad_enabled()):
            y_hat, bits = codec.semantic(features, quality, noisy=self.semantic)
        terms, losses = {}, []
        rate = bits.flatten(1).sum(1) / (x.shape[-1] * x.shape[-2])
        terms["bpp_semantic"] = rate.mean()
        if self.semantic:
            losses.append(self._semantic_loss(batch, features, y_hat, rate * self._rate_ramp(step), quality, terms))
        if self.detail:
            losses.append(self._detail_loss(x, y_hat, quality, terms))
        self._control(terms)
        loss = torch.stack(losses).sum()
        terms["loss"] = loss
        return loss, {name: value.detach() for name, value in terms.items()}

    def _pixel_loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the detail layer and the decoder alone: they see a semantic layer of zeros."""
        terms: dict[str, Tensor] = {}
        y_semantic, quality = self.model.codec.no_semantics(x)
        loss = self._detail_loss(x, y_semantic, quality, terms)
        terms["loss"] = loss
        return loss, {name: value.detach() for name, value in terms.items()}

    def _rate_factor(self) -> float:
        controller = self._controller()
        return controller.factor if controller else 1.0

    def _controller(self) -> RateController | None:
        return cast(RateController, self.own["controller"]) if "controller" in self.own else None

    def _control(self, terms: dict[str, Tensor]) -> None:
        """Let the controller, if there is one, take note of the rate."""
        if controller := self._controller():
            terms["rate_factor"] = torch.tensor(controller.factor)
            if torch.is_grad_enabled():
                controller.observe(terms["bpp_semantic"] + terms.get("bpp_detail", 0.0))

    def _rate_ramp(self, step: int) -> float:
        return min(1.0, (step + 1) / self.stage.rate_warmup) if self.stage.rate_warmup else 1.0

    def _semantic_loss(
        self,
        batch: CropBatch,
        features: list[Tensor],
        y_hat: Tensor,
        rate: Tensor,
        quality: Tensor,
        terms: dict[str, Tensor],
    ) -> Tensor:
        objective, model = self.stage.objective, self.model
        pyramid = model.neck([model.codec.semantic.dequantize(y_hat, quality)], quality)
        distance = feature_distance(pyramid, features, objective.features)
        terms["features"] = distance.mean()
        weight = log_interpolate(objective.semantic_rate, quality.flatten()) * self._rate_factor()
        loss = weight * rate + distance
        for task, task_weight in objective.distillation.items():
            divergence = model.counterpart(task).distillation(pyramid, features)
            terms[task] = divergence.mean()
            loss = loss + task_weight * divergence
        loss = loss.mean()
        for auxiliary in batch.auxiliary:
            learned = self.auxiliary[auxiliary.task](pyramid, auxiliary, batch.images.shape[-1])
            terms[f"{auxiliary.task} auxiliary"] = learned
            loss = loss + learned
        return loss

    def _detail_loss(self, x: Tensor, y_semantic: Tensor, quality: Tensor, terms: dict[str, Tensor]) -> Tensor:
        objective, codec, stage = self.stage.objective, self.model.codec, self.stage
        detail_quality = self._detail_quality(x)
        qualities = (quality, detail_quality)
        y_hat, y_bits, z_bits = codec.detail(x, y_semantic, qualities)
        # A crop without detail: its latents are zero and its rate does not count.
        kept = (torch.rand(len(x), 1, 1, 1, device=x.device) >= stage.blank).float()
        semantic = codec.semantic.dequantize(y_semantic, quality)
        x_hat = codec.synthesis(codec.detail.dequantize(y_hat, detail_quality) * kept, semantic, qualities)
        x_hat = x_hat.float()
        # Every place counts by its lambda; `seen` is the observers' mean over places that do.
        lambdas = log_interpolate(objective.lambdas, detail_quality)
        lowest, middle = objective.lambdas[0], log_interpolate(objective.lambdas, torch.tensor(0.5)).item()
        lambdas = torch.where(kept.bool(), lambdas, 0.25 * lowest)
        counts = lambdas if self.saliency is None else lambdas * self._attention(x, self.saliency)
        seen, each = self.distortion(x, x_hat, counts, semantic)
        weight = counts.mean((1, 2, 3))
        cells = x.shape[-1] * x.shape[-2] / STRIDE**2
        rate = (y_bits.flatten(1).sum(1) + z_bits.flatten(1).sum(1)) / cells / STRIDE**2 * kept.flatten()
        balance = (lambdas / middle).sqrt().mean((1, 2, 3))
        share = kept.flatten() / kept.sum().clamp_min(1)
        terms["bpp_detail"] = rate.sum() / kept.sum().clamp_min(1)
        mse = (x_hat - x).square().mean((1, 2, 3))
        terms["psnr"] = torch.where(kept.any(), -10 * torch.log10((mse * share).sum().clamp_min(1e-10)), torch.nan)
        terms |= {name: (value * share).sum() for name, value in each.items() if name != "mse"}
        loss = ((self._rate_factor() * rate + 255**2 * weight * seen) / balance).mean()
        adversary_loss = self.distortion.adversary_loss(x, x_hat, semantic)
        if adversary_loss is not None:
            terms["adversary"] = adversary_loss
            loss = loss + adversary_loss
        return loss

    def _attention(self, x: Tensor, saliency: Saliency) -> Tensor:
        """What each place of crops counts for observers, (N, 1, H/16, W/16), by its saliency."""
        pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        maps = torch.stack([torch.from_numpy(saliency(crop)) for crop in pixels])[:, None].to(x)
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
