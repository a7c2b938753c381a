"""What a stage trains on and what it minimizes: the batches and the loss of one stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.crops import Crops
from ..data.images import ImageSet, data_path
from ..data.labeled_crops import LabeledCrops
from ..files import key_of
from ..heads.nanodet import NanoDet
from ..model import Model
from ..teachers.deeplab import DeepLab
from ..teachers.nanodet import BINS, NanoDetPlus
from .auxiliary import AuxiliaryTargets, CropBatch
from .head_data import Batch, Examples, open_sets, training_sets
from .head_validation import HeadValidation, validation_of
from .heads import HeadLoss, keep_counterpart
from .losses import StageLoss
from .recipe import Recipe, StageConfig, moves, touches
from .semantic_layers import (
    GlobalLoss,
    SegmentationProbe,
    SpatialLoss,
    Statistics,
    check_room,
    start_global_layer,
    start_spatial_layer,
)
from .teacher_features import FeatureBatch, Teachers, cached_features


class CodecStage:
    """Crops of photographs, for the codec, and for heads that learn along with it.

    Args:
        model: that learns.
        recipe: of the training.
        number: of the stage in the recipe, from 0.
        fabric: that it runs on.

    Raises:
        FileNotFoundError: if data or weights do not exist.
        ValueError: if a batch does not divide among the processes; or for data, or a stage, that cannot be used.
    """

    validation: HeadValidation | None = None

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
        for task in config.objective.distillation:
            if touches(config, f"heads.{task}"):  # what moves cannot be what it is compared with
                keep_counterpart(model, task)
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new adversary
        self.steps, self.loss = config.steps, StageLoss(model, config, [crops.classes for crops in self.labeled_crops])

    def _seed(self, loader: int) -> int:
        return self.recipe.seed + 7919 * self.number + 104729 * loader

    @property
    def _sets(self) -> list[Crops | LabeledCrops]:
        return [self.crops, *self.labeled_crops]

    @property
    def own(self) -> nn.ModuleDict:
        """What learns or changes beside the model."""
        return self.loss.own

    def own_parameters(self) -> list[dict[str, Any]]:
        """Optimizer groups of what learns beside the model."""
        return self.loss.own_parameters()

    @property
    def key(self) -> str:
        """Digest of what crops are drawn from."""
        return key_of(*(crops.key for crops in self._sets))

    @property
    def unreadable(self) -> list[str]:
        """Photographs that were drawn and could not be read."""
        return [name for crops in self._sets for name in crops.unreadable]

    def start(self, model: Model) -> None:
        """Nothing happens before the first step.

        Args:
            model: does not count.
        """

    def batches(self, first: int, last: int) -> Iterator[CropBatch]:
        """Crops, and labeled ones, for this process.

        Args:
            first: step of the first batch.
            last: step before which to end.

        Returns:
            an iterator over a batch for each step, on the device.
        """
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


LAYERS = ("codec.global_layer", "codec.spatial")
"""What a stage on teachers' features trains: one of these, or parts of it."""
FEW = 24
"""So many batches tell the statistics of maps, and so many give the spatial layer's principal components."""


def layer_of(stage: StageConfig) -> str:
    """Which of `LAYERS` a stage on teachers' features trains.

    Args:
        stage: of a recipe.

    Raises:
        ValueError: if it is none, or not it alone.
    """
    for layer in LAYERS:
        if stage.trains and all(f"{name}.".startswith(f"{layer}.") for name in stage.trains):
            return layer
    raise ValueError(
        f"stage {stage.name!r} learns from teachers' features, by which {' or '.join(LAYERS)} is trained, "
        f"and it alone; it trains {list(stage.trains)}"
    )


def _tracker(fabric: Fabric, what: str) -> Callable[[Iterable], Iterable]:
    """Shows progress on standard error, by one process."""
    return partial(track, console=Console(stderr=True), description=what, disable=fabric.global_rank != 0)


class FeatureStage:
    """What teachers see in photographs, cached, for the global or the spatial layer.

    Args:
        model: that learns; its teachers look.
        recipe: of the training.
        number: of the stage in the recipe, from 0.
        fabric: that it runs on.
        folder: of the run, in which features are cached.

    Raises:
        FileNotFoundError: if data or weights do not exist.
        ValueError: if no image can be read, or the stage trains what it cannot.
    """

    validation: HeadValidation | None = None

    def __init__(self, model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path):
        self.recipe, self.number, self.fabric = recipe, number, fabric
        self.config = config = recipe.stages[number]
        assert config.features is not None, "a stage that learns from crops is a CodecStage"
        self.features, self.spatial = config.features, layer_of(config) == "codec.spatial"
        teachers = Teachers(model.codec.eval(), self.spatial, self._segmenter())
        shown = _tracker(fabric, f"{config.name}: features")
        if fabric.global_rank == 0:
            self.cache = cached_features(folder / "features", self.features, teachers, shown)
        fabric.barrier()
        if fabric.global_rank != 0:
            self.cache = cached_features(folder / "features", self.features, teachers)
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new probe
        self.steps, self.loss = config.steps, self._spatial_loss(model) if self.spatial else self._global_loss(model)

    def _segmenter(self) -> DeepLab | None:
        asked = self.spatial and self.features.spatial.segmentation
        return DeepLab().load().to(self.fabric.device) if asked else None

    def _whole(self) -> Tensor:
        """Embeddings of images seen whole."""
        return self.cache.embeddings[[not view.number for view in self.cache.views]].float()

    def _few(self, what: str, device: torch.device) -> Iterator[FeatureBatch]:
        for number in range(FEW):
            rows = self.cache.drawn(self.config.batch, f"{self.recipe.seed}/{self.number}/{what}/{number}")
            yield self.cache.batch(rows).to(device)

    def _global_loss(self, model: Model) -> GlobalLoss:
        weight, bias = model.codec.classifier.classifier_weights()
        embeddings = self._whole().to(model.device)
        return GlobalLoss(model.codec.global_layer, weight, bias, embeddings, self.features.embedding)

    def _spatial_loss(self, model: Model) -> SpatialLoss:
        codec, weights = model.codec, self.features.spatial
        head = probe = None
        if isinstance(codec.detector, NanoDetPlus):
            classes = codec.detector.heads[0].predict.out_channels - 4 * BINS
            head = NanoDet(codec.detector.PYRAMID, classes)
            head.heads = codec.detector.heads
        if weights.segmentation:
            probe = SegmentationProbe(codec.spatial.outputs[:3], codec.classifier.embedding, len(DeepLab.CLASSES))
        self.known, warmup = Statistics.of(self._few("statistics", torch.device("cpu"))), self.config.rate_warmup
        return SpatialLoss(codec.spatial, probe, codec.global_layer, head, self.known, weights, warmup)

    @property
    def own(self) -> nn.ModuleDict:
        """The probe, by which the spatial layer is told what a segmenter sees."""
        probe = self.loss.probe if isinstance(self.loss, SpatialLoss) else None
        return nn.ModuleDict({} if probe is None else {"probe": probe})

    def own_parameters(self) -> list[dict[str, Any]]:
        """Optimizer groups of what learns beside the model."""
        return [{"params": list(part.parameters()), "share": 1.0} for part in self.own.values()]

    @property
    def key(self) -> str:
        """Digest of all images."""
        return self.cache.images

    @property
    def unreadable(self) -> list[str]:
        """What is wrong with the images that were left out."""
        return self.cache.unreadable

    def start(self, model: Model) -> None:
        """Let the layer start as principal components, if it shall.

        Args:
            model: that learns.

        Raises:
            ValueError: if the layer has no room for them.
        """
        if not self.features.start:
            return
        codec, device = model.codec, model.device
        if self.spatial:
            start_spatial_layer(codec.spatial, self._few("components", device), self.known.to(device))
        else:
            start_global_layer(codec.global_layer, self._whole().to(device), codec.classifier.classifier_weights()[0])

    def batches(self, first: int, last: int) -> Iterator[FeatureBatch]:
        """Features for this process.

        Args:
            first: step of the first batch.
            last: step before which to end.

        Returns:
            an iterator over a batch for each step, on the device.
        """
        rank, world = self.fabric.global_rank, self.fabric.world_size
        for step in range(first, last):
            rows = self.cache.drawn(self.config.batch, f"{self.recipe.seed}/{self.number}/{step}")
            yield self.cache.batch(rows[rank::world] or rows[:1]).to(self.fabric.device)


def check_features(stage: StageConfig, model: Model) -> None:
    """Whether a stage can learn from teachers' features, without asking these.

    Args:
        stage: of a recipe, with ``features``.
        model: as it is before the stage.

    Raises:
        FileNotFoundError: if images or weights are not there.
        ValueError: if there are no images, or the stage trains what it cannot.
    """
    assert stage.features is not None
    layer = layer_of(stage)
    if not stage.features.sources:
        raise ValueError(f"stage {stage.name!r} needs images that teachers look at: name sources")
    for source in stage.features.sources:
        ImageSet(source)
    if stage.features.start:
        check_room(model.codec.spatial if layer == "codec.spatial" else model.codec.global_layer)
    if layer == "codec.spatial" and stage.features.spatial.segmentation:
        data_path(DeepLab.WEIGHTS)


class HeadStage:
    """Cached examples, for a head.

    Args:
        model: whose head, or counterpart, learns.
        recipe: of the training.
        number: of the stage in the recipe, from 0.
        fabric: that it runs on.
        folder: of the run, in which streams are cached.

    Raises:
        FileNotFoundError: as `Examples` and `validation_of`.
        ValueError: as `Examples`, `validation_of` and `HeadLoss`.
    """

    def __init__(self, model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path):
        self.recipe, self.number, self.fabric = recipe, number, fabric
        self.config = config = recipe.stages[number]
        assert config.head is not None, "a stage that trains the codec is a CodecStage"
        self.head = config.head
        model.eval()
        opened = open_sets(self.head, recipe.seed)
        streams, checked = (_tracker(fabric, f"{config.name}: {what}") for what in ("examples", "validation"))
        learned = training_sets(self.head, recipe.seed, opened)
        self.examples = Examples(model, self.head, folder / "streams", streams, recipe.seed, learned)
        self.validation = validation_of(model, self.head, folder / "validation", checked, recipe.seed, opened)
        torch.manual_seed(recipe.seed * 1009 + number)  # for the weights of a new head
        self.loss = HeadLoss(model, self.head, self.examples.classes)
        self.known = self.loss.known
        self.each = len(self.examples.batches(config.batch))
        self.steps = self.head.epochs * self.each

    @property
    def start_said(self) -> str:
        """What the head starts from, in words."""
        if self.known is None:
            return f"the {self.head.task} head starts from random weights"
        named = ", ".join(self.known[:5]) + (", ..." if len(self.known) > 5 else "")
        count = f"{len(self.known)} of {len(self.examples.classes)} classes"
        return f"the {self.head.task} head starts from one that knows {count}" + (f": {named}" if named else "")

    @property
    def ready(self) -> bool:
        """Whether the head knows all its classes before it learns."""
        return self.known is not None and len(self.known) == len(self.examples.classes)

    @property
    def own(self) -> nn.ModuleDict:
        """Nothing but the head changes."""
        return nn.ModuleDict()

    def own_parameters(self) -> list[dict[str, Any]]:
        """None."""
        return []

    @property
    def key(self) -> str:
        """Digest of all photographs and targets."""
        key = self.examples.key
        return key if self.validation is None else key_of(key, self.validation.examples.key)

    @property
    def unreadable(self) -> list[str]:
        """What is wrong with the photographs that were left out."""
        validated = [] if self.validation is None else self.validation.examples.unreadable
        return [*self.examples.unreadable, *validated]

    def start(self, model: Model) -> None:
        """Nothing happens before the first step.

        Args:
            model: does not count.
        """

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Examples for this process.

        Args:
            first: step of the first batch.
            last: step before which to end.

        Returns:
            an iterator over a batch for each step, on the device.
        """
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


Stage = CodecStage | FeatureStage | HeadStage


def stage_of(model: Model, recipe: Recipe, number: int, fabric: Fabric, folder: Path) -> Stage:
    """A recipe's stage, ready to run.

    Args:
        model: that learns.
        recipe: of the training.
        number: of the stage in the recipe, from 0.
        fabric: that it runs on.
        folder: of the run.

    Raises:
        FileNotFoundError: as the stage's class.
        ValueError: as the stage's class.
    """
    if recipe.stages[number].head is not None:
        return HeadStage(model, recipe, number, fabric, folder)
    if recipe.stages[number].features is not None:
        return FeatureStage(model, recipe, number, fabric, folder)
    return CodecStage(model, recipe, number, fabric)


def select(model: Model, stage: StageConfig) -> list[nn.Parameter]:
    """Let the parameters named by the stage move, and no others.

    Args:
        model: whose parameters they are.
        stage: of a recipe.

    Returns:
        the parameters that move.

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
