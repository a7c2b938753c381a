"""Classification from the global layer's embedding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..structures.features import Features, FeatureSpec
from ..structures.latents import LAYERS
from ..structures.predictions import Classification
from .base import Head


class ClassificationHead(Head):
    """An embedding to class logits by one matrix, so that a pre-trained classifier can be taken over whole.

    Scores are calibrated by one temperature (Guo and others, "On calibration of modern neural networks", ICML 2017).

    Args:
        spec: of the features; the embedding is read.
        classes: class names, in the order of the logits.
    """

    layers = LAYERS[:1]

    def __init__(self, spec: FeatureSpec, classes: list[str]):
        super().__init__()
        self.classes = list(classes)
        self.classify = nn.Linear(spec.embedding, len(self.classes))
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, features: Features) -> Tensor:
        """Class logits, not yet divided by the temperature.

        Args:
            features: of N images.

        Returns:
            (N, classes).
        """
        return self.classify(features.embedding)

    def describe(self) -> dict[str, Any]:
        """What rebuilds this head, beside the features' shape."""
        return {"classes": self.classes}

    def class_rows(self) -> dict[str, Tensor]:
        """As `Head.class_rows`."""
        rows = torch.arange(len(self.classes))[:, None]
        return {"classify.weight": rows, "classify.bias": rows}

    @torch.no_grad()
    def start_from(self, other: Head) -> list[str] | None:
        """As `Head.start_from`; a temperature is of its classes, and does not pass to others."""
        shared = super().start_from(other)
        if shared is not None and self.classes != other.classes:
            self.temperature.fill_(1.0)
        return shared

    def loss(self, features: Features, targets: list[int]) -> dict[str, Tensor]:
        """As `Head.loss`: cross-entropy, in nats; targets are class indices."""
        logits = self(features).float()
        return {"classification": nn.functional.cross_entropy(logits, torch.tensor(targets, device=logits.device))}

    def distillation(self, features: Features, teacher: Features, by: Any = None) -> Tensor:
        """As `Head.distillation`: divergence, in nats, of class probabilities; temperatures do not count."""
        with torch.no_grad():
            target = (self if by is None else by)(teacher)
        return divergence(self(features), target)

    @torch.no_grad()
    def predict(self, features: Features) -> list[Classification]:
        """As `Head.predict`."""
        probabilities = (self(features).float() / self.temperature).softmax(1)
        scores, indices = probabilities.topk(min(5, len(self.classes)), dim=1)
        results = []
        for row_scores, row in zip(scores.tolist(), indices.tolist(), strict=True):
            top5 = [(self.classes[i], s) for i, s in zip(row, row_scores, strict=True)]
            results.append(Classification(*top5[0], top5, row))
        return results


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence of predicted class probabilities from the target's.

    Args:
        logits: (N, C, ...).
        targets: logits, of the same shape.

    Returns:
        (N, ...), at least 0, in nats.
    """
    student, teacher = logits.float().log_softmax(1), targets.float().log_softmax(1)
    return nn.functional.kl_div(student, teacher, log_target=True, reduction="none").sum(1)


def binary_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence of probabilities of two outcomes, element by element.

    Args:
        logits: of any shape.
        targets: logits, of the same shape.

    Returns:
        the same shape, at least 0 but for rounding, in nats.
    """
    wanted = targets.sigmoid()
    cost, least = (
        nn.functional.binary_cross_entropy_with_logits(x, wanted, reduction="none") for x in (logits, targets)
    )
    return cost - least


MAX_LOG_TEMPERATURE = math.log(100)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature that minimizes the cross-entropy of logits with targets.

    Targets are not quite sure: of N examples, (N + 1) / (N + 2) for the class that is right (Platt, "Probabilistic
    outputs for support vector machines", 1999). Otherwise a few photographs that are all classified rightly would make
    every score 1. Without bounds there is no minimum where logits are worse than a guess.

    Args:
        logits: (N, classes).
        targets: (N,) class indices, int64.

    Returns:
        a number in [0.01, 100].
    """
    smoothing = 1 / (len(targets) + 2) * logits.shape[1] / max(1, logits.shape[1] - 1)  # torch's is for all classes
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def temperature() -> Tensor:
        return log_temperature.clamp(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE).exp()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits.float() / temperature(), targets, label_smoothing=smoothing)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(temperature().detach())
