"""Scores of a head on photographs that it does not learn from, after every epoch; the best weights are kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.labeled import LabeledSet
from ..heads.base import Head
from ..metrics.tasks import Scorer
from ..model import Model
from ..registry import METRICS
from .head_data import Examples, HeadConfig, validation_sets

Scores = dict[str, float | None]


class HeadValidation:
    """Validates a head while its stage runs.

    Args:
        model: whose codec encodes, and whose teachers look.
        config: of the stage.
        sets: the photographs, see `validation_sets`.
        folder: where streams are cached.
        track: wraps an iterable to show progress.

    Attributes:
        main: the score that counts, as the task's metric has it.
        best: the ``scores`` of the best epoch, its number ``epoch``, counted from 1 (0 is the head before it learned),
            and its ``weights``; empty before the first.
        since: epochs without a better score.
        stopped: whether the stage's patience is at an end.

    Raises:
        ValueError: if no photograph of a set can be read.
    """

    def __init__(
        self,
        model: Model,
        config: HeadConfig,
        sets: list[LabeledSet],
        folder: Path,
        track: Callable[[Iterable], Iterable] = lambda items: items,
    ):
        self.config, self.main = config, str(METRICS[config.task].main)
        self.quality = statistics.median_low(config.qualities) if config.input == "streams" else None
        qualities = [] if self.quality is None else [self.quality]
        asked = replace(config, flip=False, distill=0.0, epochs=0, qualities=qualities)
        self.examples = Examples(model, asked, folder, track, sets=sets)
        self.best: dict[str, Any] = {}
        self.since = 0

    @property
    def stopped(self) -> bool:
        """Whether the stage's patience is at an end."""
        return bool(self.config.patience) and self.since >= self.config.patience

    @torch.no_grad()
    def scores(self, head: Head) -> Scores:
        """The scores of a head; of several sets, their means by the number of photographs.

        Args:
            head: to score; it is left in the mode, training or evaluation, that it was in.

        Returns:
            by name, as the task's metric gives them; None where no set has the score.
        """
        training, weight = head.training, next(head.parameters())
        head.eval()
        found, first = list[tuple[int, Scores]](), 0
        for labeled in self.examples.sets:
            scorer: Scorer = METRICS[self.config.task](labeled, head.classes)
            for index in range(len(labeled)):
                features = self.examples.rows[first + index].features.to(weight.device, weight.dtype)
                seen = head(features)[0].cpu() if self.config.task == "classification" else head.predict(features)[0]
                scorer.update(index, seen)
            first += len(labeled)
            found.append((len(labeled), scorer.compute()))
        head.train(training)
        return {name: _mean([(count, scores.get(name)) for count, scores in found]) for name in found[0][1]}

    def add(self, epoch: int, scores: Scores, head: Head) -> bool:
        """Note the scores of an epoch.

        Of epochs that are equally good the last one's weights are kept, because it has learned most, but the number of
        epochs without a better score, which counts for the patience, goes on growing.

        Args:
            epoch: its number, from 1.
            scores: of the head.
            head: as it is after the epoch.

        Returns:
            whether it is the best so far, or as good; its weights are then kept.
        """
        value, best = scores[self.main], self.best.get("scores", {}).get(self.main)
        better = not self.best or (value is not None and (best is None or value > best))
        self.since = 0 if better else self.since + 1
        if better or value == best:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in head.state_dict().items()}
            self.best = {"scores": scores, "epoch": epoch, "weights": weights}
        return better or value == best

    def restore(self, head: Head) -> None:
        """Give a head the weights of the best epoch, if there was one.

        Args:
            head: the one whose scores were noted.
        """
        if self.best:
            head.load_state_dict(self.best["weights"])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "since": self.since}

    def load(self, state: dict[str, Any]) -> None:
        """Take back what a checkpoint has kept.

        Args:
            state: as ``state`` gave it.
        """
        self.best, self.since = state["best"], state["since"]

    def report(self) -> dict[str, Any]:
        """The scores of the best epoch, and of what they are, as JSON."""
        return {
            "task": self.config.task,
            "score": self.main,
            **self.best.get("scores", {}),
            "epoch": self.best.get("epoch"),
            "photographs": len(self.examples),
            "held_out": not self.config.val,
            "quality": self.quality,
        }


def validation_of(
    model: Model,
    config: HeadConfig,
    folder: Path,
    track: Callable[[Iterable], Iterable],
    seed: int,
    opened: Sequence[LabeledSet] | None = None,
) -> HeadValidation | None:
    """The validation of a head's stage; None where it has no photographs for it, or no metric for its task.

    Args:
        model: whose codec encodes, and whose teachers look.
        config: of the stage.
        folder: where streams are cached.
        track: wraps an iterable to show progress.
        seed: of the recipe, which says what is held out.
        opened: as of `validation_sets`.

    Raises:
        FileNotFoundError: as `validation_sets`.
        ValueError: as `validation_sets` and `HeadValidation`.
    """
    sets = validation_sets(config, seed, opened) if config.epochs and config.task in METRICS else []
    return HeadValidation(model, config, sets, folder, track) if sets else None


def _mean(parts: list[tuple[int, float | None]]) -> float | None:
    """The mean of values by their weights; None if there is none."""
    known = [(count, value) for count, value in parts if value is not None]
    return sum(count * value for count, value in known) / sum(count for count, _ in known) if known else None
