"""Classification from the feature pyramid."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..structures.predictions import Classification
from .base import Head


class ClassificationHead(Head):
    """Stride-32 features to class logits: pointwise expansion, global average, linear classifier.

    The shape is that of the EfficientNets' own head (Tan, Le, ICML 2019), so a pre-trained
    classifier can be taken over whole. Scores are calibrated by one temperature (Guo and others,
    "On calibration of modern neural networks", ICML 2017).

    Args:
        features: channels at strides 8, 16 and 32; the last are read.
        classes: class names, in the order of the logits.
        hidden: width of the expansion.
    """

    levels = 1

    def __init__(self, features: tuple[int, int, int], classes: list[str], hidden: int = 1280):
        super().__init__()
        self.classes = list(classes)
        self.expand = nn.Conv2d(features[-1], hidden, 1)
        self.act = nn.ReLU6(inplace=True)
        self.classify = nn.Linear(hidden, len(self.classes))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Logits (N, classes), not yet divided by the temperature."""
        x = self.act(self.expand(pyramid[-1]))
        # Of bfloat16 a mean would first make a float32 copy, in new memory.
        return self.classify(nn.functional.avg_pool2d(x, x.shape[-2:]).flatten(1))

    def describe(self) -> dict[str, Any]:
        """What rebuilds this head, beside the features' channels."""
        return {"classes": self.classes, "hidden": self.expand.out_channels}

    def loss(self, pyramid: list[Tensor], targets: list[int], sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Cross-entropy of class indices; ``sizes`` as the other heads take them."""
        logits = self(pyramid).float()
        return {"classification": nn.functional.cross_entropy(logits, torch.tensor(targets, device=logits.device))}

    def distillation(self, pyramid: list[Tensor], features: list[Tensor]) -> Tensor:
        """Divergence (N,), in nats, of what this head makes of ``pyramid`` from what it makes of ``features``."""
        with torch.no_grad():
            target = self(features)
        return divergence(self(pyramid), target)

    @torch.no_grad()
    def predict(self, pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Classification]:
        """One `Classification` a photograph; ``sizes`` as the other heads take them."""
        probabilities = (self.forward(pyramid).float() / self.temperature).softmax(1)
        scores, indices = probabilities.topk(min(5, len(self.classes)), dim=1)
        results = []
        for row_scores, row in zip(scores.tolist(), indices.tolist(), strict=True):
            top5 = [(self.classes[i], s) for i, s in zip(row, row_scores, strict=True)]
            results.append(Classification(*top5[0], top5))
        return results


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence of predicted class probabilities from the target's: (N, C, ...) to (N, ...) nats."""
    student, teacher = logits.float().log_softmax(1), targets.float().log_softmax(1)
    return nn.functional.kl_div(student, teacher, log_target=True, reduction="none").sum(1)


MAX_LOG_TEMPERATURE = math.log(100)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature in [0.01, 100] that minimizes the negative log-likelihood of (N, classes) logits, (N,) targets.

    Without bounds there is no minimum where logits are all right (0 is best) or worse than a guess (infinity is).
    """
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def temperature() -> Tensor:
        return log_temperature.clamp(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE).exp()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits.float() / temperature(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(temperature().detach())
