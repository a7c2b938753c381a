"""What a stage trains on and what it minimises: a course gives the batches and the loss of one stage."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.crops import Crops
from ..data.labeled_crops import LabelledCrops
from ..model import Model
from .auxiliary import CropBatch, Lesson
from .head_data import Batch, Examples
from .heads import HeadLoss
from .losses import StageLoss
from .principal import start_semantic_layer
from .recipe import Recipe


class CodecCourse:
    """Crops of photographs, for the codec and the neck."""

    def __init__(self, model: Model, recipe: Recipe, number: int, fabric: Fabric):
        self.recipe, self.number, self.fabric = recipe, number, fabric
        self.stage = stage = recipe.stages[number]
        for batch in (stage.batch, *(lesson.batch for lesson in stage.lessons)):
            if batch % fabric.world_size:
                raise ValueError(f"batch {batch} does not divide among {fabric.world_size} processes")
        self.crops = Crops(stage.sources, stage.crop, self._seed(0), stage.steps * stage.batch)
        self.lessons = [
            LabelledCrops(lesson.task, lesson.sources, stage.crop, self._seed(1 + i), stage.steps * lesson.batch)
            for i, lesson in enumerate(stage.lessons)
        ]
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new adversary
        self.steps, self.loss = stage.steps, StageLoss(model, stage, [crops.classes for crops in self.lessons])

    def _seed(self, loader: int) -> int:
        return self.recipe.seed + 7919 * self.number + 104729 * loader

    @property
    def own(self) -> nn.ModuleDict:
        """What learns or changes beside the model."""
        return self.loss.own

    def start(self, model: Model) -> None:
        """What happens once, before the first step."""
        stage = self.stage
        if stage.principal:
            crops = Crops(stage.sources, stage.crop, self.recipe.seed, stage.principal * stage.batch)
            batches = (CropBatch(self._placed(batch)).pixels() for batch in DataLoader(crops, batch_size=stage.batch))
            start_semantic_layer(model, batches, stage.objective.features)

    def batches(self, first: int, last: int) -> Iterator[CropBatch]:
        """Crops, and labelled ones, for this process, for each step from ``first`` to before ``last``."""
        loaders = [self._loader(self.crops, self.stage.batch, first, last)]
        for lesson, crops in zip(self.stage.lessons, self.lessons, strict=True):
            loaders.append(self._loader(crops, lesson.batch, first, last, _pairs))
        return map(self._batch, zip(*loaders, strict=True))

    def _loader(self, crops: Dataset, batch: int, first: int, last: int, collate=None) -> DataLoader:
        sampler = _FromStep(first, last, batch, self.fabric.global_rank, self.fabric.world_size)
        return DataLoader(crops, batch_sampler=sampler, num_workers=self.recipe.workers, collate_fn=collate)

    def _batch(self, parts: tuple) -> CropBatch:
        crops, *labelled = parts
        photographs, lessons, first = [crops], [], len(crops)
        for lesson, (more, targets) in zip(self.stage.lessons, labelled, strict=True):
            photographs.append(more)
            lessons.append(Lesson(lesson.task, first, targets))
            first += len(targets)
        return CropBatch(self._placed(torch.cat(photographs)), lessons)

    def _placed(self, crops: Tensor) -> Tensor:
        return crops.to(self.fabric.device, memory_format=torch.channels_last)


class HeadCourse:
    """Cached examples, for a head."""

    def __init__(self, model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path):
        self.recipe, self.number, self.fabric = recipe, number, fabric
        self.stage = stage = recipe.stages[number]
        model.eval()
        shown = partial(track, description=f"{stage.name}: examples", disable=fabric.global_rank != 0)
        self.examples = Examples(model, stage.head, folder / "streams", shown)
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new head
        self.loss = HeadLoss(model, stage.head, self.examples.classes)
        self.each = len(self.examples.batches(stage.batch))
        self.steps = stage.head.epochs * self.each

    @property
    def own(self) -> nn.ModuleDict:
        """Nothing but the head changes."""
        return nn.ModuleDict()

    def start(self, model: Model) -> None:
        """Nothing happens before the first step."""

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Examples for this process, for each step from ``first`` to before ``last``."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        epoch, order = -1, []
        for step in range(first, last):
            if step // self.each != epoch:
                epoch = step // self.each
                seed = (self.recipe.seed * 1009 + self.number) * 10**5 + epoch
                order = self.examples.batches(self.stage.batch, torch.Generator().manual_seed(seed))
            rows = order[step % self.each]
            yield self.examples.batch(rows[rank::world] or rows[:1], self.fabric.device)


def _pairs(examples: list[tuple[Tensor, Any]]) -> tuple[Tensor, list[Any]]:
    crops, targets = zip(*examples, strict=True)
    return torch.stack(crops), list(targets)


Course = CodecCourse | HeadCourse


def course_of(model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path) -> Course:
    """The course of a recipe's stage."""
    if recipe.stages[number].head is None:
        return CodecCourse(model, recipe, number, fabric)
    return HeadCourse(model, recipe, number, fabric, folder)


class _FromStep(Sampler):
    """Numbers of the crops of this process, from a step on: batch ``i`` holds i * batch .. (i + 1) * batch."""

    def __init__(self, first: int, last: int, batch: int, rank: int, world: int):
        self.first, self.last, self.batch, self.rank, self.world = first, last, batch, rank, world

    def __iter__(self):
        share = self.batch // self.world
        for step in range(self.first, self.last):
            start = step * self.batch + self.rank * share
            yield list(range(start, start + share))

    def __len__(self) -> int:
        return self.last - self.first
