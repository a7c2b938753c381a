"""What a stage trains on and what it minimizes: the batches and the loss of one stage."""

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
from ..data.labeled_crops import LabeledCrops
from ..files import key_of
from ..model import Model
from .auxiliary import AuxiliaryTargets, CropBatch
from .head_data import Batch, Examples
from .heads import HeadLoss
from .losses import StageLoss
from .principal import start_semantic_layer
from .recipe import Recipe, StageConfig


class CodecStage:
    """Crops of photographs, for the codec and the neck."""

    def __init__(self, model: Model, recipe: Recipe, number: int, fabric: Fabric):
        self.recipe, self.number, self.fabric = recipe, number, fabric
        self.config = config = recipe.stages[number]
        for batch in (config.batch, *(task.batch for task in config.auxiliary)):
            if batch % fabric.world_size:
                raise ValueError(f"batch {batch} does not divide among {fabric.world_size} processes")
        self.crops = Crops(config.sources, config.crop, self._seed(0), config.steps * config.batch)
        self.labeled_crops = [
            LabeledCrops(task.task, task.sources, config.crop, self._seed(1 + i), config.steps * task.batch)
            for i, task in enumerate(config.auxiliary)
        ]
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new adversary
        self.steps, self.loss = config.steps, StageLoss(model, config, [crops.classes for crops in self.labeled_crops])

    def _seed(self, loader: int) -> int:
        return self.recipe.seed + 7919 * self.number + 104729 * loader

    @property
    def own(self) -> nn.ModuleDict:
        """What learns or changes beside the model."""
        return self.loss.own

    @property
    def key(self) -> str:
        """Digest of what crops are drawn from."""
        return key_of(*(crops.key for crops in (self.crops, *self.labeled_crops)))

    @property
    def unreadable(self) -> list[str]:
        """Photographs that were drawn and could not be read."""
        return [name for crops in (self.crops, *self.labeled_crops) for name in crops.unreadable]

    def start(self, model: Model) -> None:
        """What happens once, before the first step."""
        config = self.config
        if config.principal:
            crops = Crops(config.sources, config.crop, self.recipe.seed, config.principal * config.batch)
            batches = (CropBatch(self._placed(batch)).pixels() for batch in DataLoader(crops, batch_size=config.batch))
            start_semantic_layer(model, batches, config.objective.features)

    def batches(self, first: int, last: int) -> Iterator[CropBatch]:
        """Crops, and labeled ones, for this process, for each step from ``first`` to before ``last``."""
        loaders = [self._loader(self.crops, self.config.batch, first, last)]
        for task, crops in zip(self.config.auxiliary, self.labeled_crops, strict=True):
            loaders.append(self._loader(crops, task.batch, first, last, _pairs))
        return map(self._batch, zip(*loaders, strict=True))

    def _loader(self, crops: Dataset, batch: int, first: int, last: int, collate=None) -> DataLoader:
        sampler = _FromStep(first, last, batch, self.fabric.global_rank, self.fabric.world_size)
        return DataLoader(crops, batch_sampler=sampler, num_workers=self.recipe.workers, collate_fn=collate)

    def _batch(self, parts: tuple) -> CropBatch:
        crops, *labeled = parts
        images, auxiliary, first = [crops], [], len(crops)
        for task, (more, targets) in zip(self.config.auxiliary, labeled, strict=True):
            images.append(more)
            auxiliary.append(AuxiliaryTargets(task.task, first, targets))
            first += len(targets)
        return CropBatch(self._placed(torch.cat(images)), auxiliary)

    def _placed(self, crops: Tensor) -> Tensor:
        return crops.to(self.fabric.device, memory_format=torch.channels_last)


class HeadStage:
    """Cached examples, for a head."""

    def __init__(self, model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path):
        self.recipe, self.number, self.fabric = recipe, number, fabric
        self.config = config = recipe.stages[number]
        assert config.head is not None, "a stage that trains the codec is a CodecStage"
        self.head = config.head
        model.eval()
        shown = partial(track, description=f"{config.name}: examples", disable=fabric.global_rank != 0)
        self.examples = Examples(model, self.head, folder / "streams", shown)
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new head
        self.loss = HeadLoss(model, self.head, self.examples.classes)
        self.each = len(self.examples.batches(config.batch))
        self.steps = self.head.epochs * self.each

    @property
    def own(self) -> nn.ModuleDict:
        """Nothing but the head changes."""
        return nn.ModuleDict()

    @property
    def key(self) -> str:
        """Digest of all photographs and targets."""
        return self.examples.key

    @property
    def unreadable(self) -> list[str]:
        """What is wrong with the photographs that were left out."""
        return self.examples.unreadable

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
                order = self.examples.batches(self.config.batch, torch.Generator().manual_seed(seed))
            rows = order[step % self.each]
            yield self.examples.batch(rows[rank::world] or rows[:1], self.fabric.device)


def _pairs(examples: list[tuple[Tensor, Any]]) -> tuple[Tensor, list[Any]]:
    crops, targets = zip(*examples, strict=True)
    return torch.stack(crops), list(targets)


Stage = CodecStage | HeadStage


def stage_of(model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path) -> Stage:
    """A recipe's stage, ready to run."""
    if recipe.stages[number].head is None:
        return CodecStage(model, recipe, number, fabric)
    return HeadStage(model, recipe, number, fabric, folder)


def select(model: Model, stage: StageConfig) -> list[nn.Parameter]:
    """Let the parameters named by the stage move, and no others.

    Raises:
        ValueError: if it names none.
    """
    chosen = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(moves(stage, name))
        if parameter.requires_grad:
            chosen.append(parameter)
    if not chosen:
        raise ValueError(f"stage {stage.name!r} trains nothing: no parameter starts with {stage.trains}")
    return chosen


def moves(stage: StageConfig, name: str) -> bool:
    """Whether a stage lets the parameter of that name move."""
    return name.startswith(tuple(stage.trains)) and not name.startswith("codec.backbone")


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
