"""What heads are trained on: features from cached streams, or those that teachers see, each with its target."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.cached import cache_streams, content_key
from ..data.labeled import LabeledSet, LabeledSource, open_labeled
from ..data.labels import class_index
from ..data.readable import readable, told
from ..model import Model
from ..notices import notice
from ..registry import HEADS
from ..stream.container import VERSION, unpack
from ..stream.errors import StreamError
from ..structures.features import Features
from ..structures.targets import ClassLabel, Instances, Target

INPUTS = ("streams", "features")


@dataclass
class HeadConfig:
    """What a stage trains a head on. The codec stands still.

    Attributes:
        task: classification, detection, segmentation, or another task with a registered head.
        sources: labeled sets, all with the same classes.
        input: "streams" trains the model's head, on the layers that it reads of cached streams; "features" trains its
            counterpart, on what the teachers see in the photographs themselves.
        classes: "data" for a new head with the data's classes, "keep" for the head that is there, which must know the
            data's classes.
        init: what a new head starts from. "model": the counterpart, where there is one of the same classes, or else the
            head of the task that the model has, where it is of the same kind: all weights but those of the last layer's
            outputs of new classes. "noise": random weights.
        options: arguments of a new head, beside its classes.
        qualities: of the stream; every photograph is encoded at each.
        flip: use every photograph's mirror image too; it is encoded like any other.
        epochs: how often every example is seen; replaces the stage's ``steps``.
        distill: weight of the distillation of what the counterpart, a head of the same kind and classes, makes of the
            photographs themselves; for ``input: streams``.
        holdout: every ``holdout``-th photograph, counted from the recipe's seed, is not learned from; 0 to use all.
        val: labeled sets that are not learned from, to validate on; where there are none, what ``holdout`` leaves out.
            After each epoch, and before the first if it knows all classes, the head is scored on them, from streams of
            the middle one of the qualities, by the metric that is registered for the task; the best weights are kept.
        patience: so many epochs without a better score end the stage; 0 for never.
        every: use only each ``every``-th photograph of the sources.
    """

    task: str = "classification"
    sources: list[LabeledSource] = field(default_factory=list)
    input: str = "streams"
    classes: str = "data"
    init: str = "model"
    options: dict[str, Any] = field(default_factory=dict)
    qualities: list[float] = field(default_factory=lambda: [0.5])
    flip: bool = False
    epochs: int = 12
    distill: float = 0.0
    holdout: int = 0
    val: list[LabeledSource] = field(default_factory=list)
    patience: int = 0
    every: int = 1


class Batch:
    """Examples of one working size.

    Neither a tuple nor a dataclass: what these hold, mixed precision rounds.

    Attributes:
        features: what the head reads.
        targets: one for each, in pixels of the working size.
        teacher: what teachers see in the photographs themselves, where it is to be distilled.
    """

    def __init__(self, features: Features, targets: list[Target], teacher: Features | None):
        self.features, self.targets, self.teacher = features, targets, teacher


@dataclass
class _Example:
    features: Features
    target: Target
    teacher: Features | None


class Examples:
    """All examples of a head's stage, decoded, in memory, in half precision: 0.6 MB each where the pyramid is read.

    Args:
        model: whose codec encodes, and whose teachers look.
        config: what to use.
        folder: where streams are cached, by weights, quality, and the content of photographs.
        track: wraps an iterable to show progress.
        seed: of the recipe.
        sets: the photographs; by default those of the configuration that are learned from.

    Attributes:
        sets: the photographs that can be read; those of the examples, in order.
        classes: their names.
        key: digest of all photographs and targets, in their order.
        unreadable: what is wrong with the photographs that were left out.

    Raises:
        FileNotFoundError: as `open_sets`.
        ValueError: as `open_sets`; also if no photograph can be read.
    """

    def __init__(
        self,
        model: Model,
        config: HeadConfig,
        folder: Path,
        track: Callable[[Iterable], Iterable] = lambda items: items,
        seed: int = 0,
        sets: list[LabeledSet] | None = None,
    ):
        self.unreadable: list[str] = []
        kept = training_sets(config, seed) if sets is None else sets
        self.sets = sets = [told(readable(labeled, track), self.unreadable) for labeled in kept]
        if not all(len(labeled) for labeled in sets):
            raise ValueError(f"no photographs to train the {config.task} head on: none of the sources' can be read")
        self.classes = sets[0].classes
        self.model, self.config, self.layers = model, config, HEADS[config.task].layers
        self.folder = folder / f"{model.fingerprint}-{VERSION}" / self.layers[-1]
        self.rows: list[_Example] = []
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for labeled in sets:
            for flip in (False, True) if config.flip else (False,):
                self._add(_Variant(labeled, flip), track, digest)
        self.key = digest.hexdigest()
        if config.classes == "data" and config.epochs:
            _check_taught(config, self.classes, [row.target for row in self.rows])

    @torch.no_grad()
    def _add(self, variant: _Variant, track: Callable[[Iterable], Iterable], digest: Any) -> None:
        model, config = self.model, self.config
        streams, keys = [], [content_key(variant.image(i)) for i in range(len(variant.names))]
        for quality in config.qualities if config.input == "streams" else ():
            folder = self.folder / f"{quality:g}"
            encode = lambda images, q=quality: model.encode_batch(images, q, self.layers)  # noqa: E731
            cached = cache_streams(variant.names, variant.image, folder, encode, track, keys=keys, whole=_is_whole)
            streams.append(cached)
        for index in track(range(len(variant.names))):
            image, target = variant[index]
            target = HEADS[config.task].prepared(target, config.options)
            digest.update(keys[index].encode())
            _feed(digest, target)
            teacher = None
            if config.input == "features" or config.distill:
                teacher = model.reference.features([image], len(self.layers)).to(torch.float16)
            if config.input == "features":
                found, teacher = [teacher], None
            else:
                found = [model.features(cached[index], self.layers).to(torch.float16) for cached in streams]
            self.rows += [_Example(features, _resized(target, features, image), teacher) for features in found]

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, generator: torch.Generator | None = None) -> list[list[int]]:
        """Row numbers in batches of one working size each.

        Args:
            size: rows of a batch; the last one of a working size may have fewer.
            generator: shuffles rows and batches; without one they stay in order.
        """
        groups: dict[tuple, list[int]] = {}
        for index, row in enumerate(self.rows):
            groups.setdefault(_grids(row.features), []).append(index)
        batches = []
        for rows in map(torch.tensor, groups.values()):
            order = torch.arange(len(rows)) if generator is None else torch.randperm(len(rows), generator=generator)
            batches += [part.tolist() for part in rows[order].split(size)]
        if generator is not None:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
        return batches

    def batch(self, rows: list[int], device: torch.device) -> Batch:
        """A batch of examples, in single precision.

        Args:
            rows: indices of the examples, whose grids are of one size.
            device: of the batch.
        """
        chosen = [self.rows[i] for i in rows]
        teachers = [row.teacher for row in chosen if row.teacher is not None]
        return Batch(
            Features.joined([row.features for row in chosen]).to(device, torch.float32),
            [row.target.to(device) for row in chosen],
            Features.joined(teachers).to(device, torch.float32) if teachers else None,
        )


def _resized(target: Target, features: Features, image: Image.Image) -> Target:
    """A target in pixels of the working size, where features have one."""
    if not features.pyramid:
        return target
    height, width = features.working
    return target.scaled(width / image.width, height / image.height)


def _grids(features: Features) -> tuple:
    """What features must have in common to make a batch."""
    detail = () if features.detail is None else features.detail.shape[-2:]
    return (*(level.shape for level in features.pyramid), *detail)


def training_sets(config: HeadConfig, seed: int = 0, opened: Sequence[LabeledSet] | None = None) -> list[LabeledSet]:
    """The photographs that a head learns from: those of the sources that ``holdout`` does not leave out.

    Args:
        config: names them.
        seed: of the recipe, which says what is held out.
        opened: what `open_sets` gives, if that was called before: it reads all photographs.

    Raises:
        FileNotFoundError: as `open_sets`.
        ValueError: as `open_sets`.
    """
    opened = open_sets(config, seed) if opened is None else opened
    return [labeled.chosen(_not_held_out(len(labeled), config.holdout, seed)) for labeled in opened]


def validation_sets(config: HeadConfig, seed: int = 0, opened: Sequence[LabeledSet] | None = None) -> list[LabeledSet]:
    """The photographs that a head is validated on: those of ``val``, or else those that ``holdout`` leaves out.

    Args:
        config: names them.
        seed: of the recipe, which says what is held out.
        opened: what `open_sets` gives, if that was called before: it reads all photographs.

    Returns:
        the sets that have any photographs; none where nothing is held out.

    Raises:
        FileNotFoundError: if one does not exist.
        ValueError: if one is not in its reader's layout, has no photographs, or classes that the sources do not have.
    """
    if not config.val:
        opened = open_sets(config, seed) if opened is None and config.holdout else opened or []
        held = [labeled.chosen(held_out(len(labeled), config.holdout, seed)) for labeled in opened]
        return [labeled for labeled in held if len(labeled)]
    known, sets = (opened[0] if opened else open_labeled(config.task, config.sources[0])).classes, []
    for source in config.val:
        try:
            sets.append(open_labeled(config.task, source))
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"val: {error}") from None
        if unknown := [name for name in sets[-1].classes if class_index(name, known) is None]:
            raise ValueError(f"val: {source.path} has the class {unknown[0]!r}, which the training data do not have")
    return sets


def open_sets(config: HeadConfig, seed: int = 0) -> list[LabeledSet]:
    """Open the labeled sets that a stage trains a head on, held-out photographs included.

    Args:
        config: names them.
        seed: of the recipe, which says what is held out.

    Raises:
        FileNotFoundError: if one does not exist.
        ValueError: for an invalid setting, if there are no photographs, or if the sources' classes differ.
    """
    if config.input not in INPUTS:
        raise ValueError(f"input must be one of {', '.join(INPUTS)}, got {config.input!r}")
    if config.input == "streams" and not config.qualities:
        raise ValueError("qualities must be one or more numbers in [0, 1], got none")
    if config.distill and config.input == "features":
        raise ValueError("distill is for a head on streams: a counterpart sees the photographs themselves")
    if config.holdout < 0:
        raise ValueError(f"holdout must be at least 0, where 0 uses all photographs; got {config.holdout}")
    sets = [open_labeled(config.task, source).every(config.every) for source in config.sources]
    if not sets or not all(len(s) for s in sets):
        raise ValueError(f"no photographs to train the {config.task} head on: set its sources")
    for labeled, source in zip(sets, config.sources, strict=True):
        if labeled.classes != sets[0].classes:
            raise ValueError(f"{source.path} and {config.sources[0].path} have different classes")
        if not _not_held_out(len(labeled), config.holdout, seed):
            raise ValueError(
                f"no photographs of {source.path} are left to train on: every {config.every} uses one in "
                f"{config.every}, of which holdout {config.holdout} leaves out one in {config.holdout}, also the first"
            )
    if "detail" in HEADS[config.task].layers and (config.input == "features" or config.distill):
        raise ValueError(
            f"no teacher sees the detail layer, so the {config.task} head, which reads it, has no counterpart"
        )
    return sets


def _is_whole(stream: bytes) -> bool:
    try:
        unpack(stream)
    except StreamError:
        return False
    return True


def _feed(digest: Any, target: Target) -> None:
    """Add all that a target says to a digest."""
    digest.update(str(int(target)).encode() if isinstance(target, int) else b"")
    for part in vars(target).values():
        digest.update(part.cpu().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())


def _check_taught(config: HeadConfig, classes: list[str], targets: list[Target]) -> None:
    """Raises `ValueError` where a class of a classifier, or all of a detector, has no example: nothing would teach it.

    Which classes the others have never seen, a notice says: lists of classes are often longer than data sets.
    """
    if config.task == "classification":
        seen = {int(target) for target in targets if isinstance(target, ClassLabel)}
    elif config.task == "detection":
        seen = {int(label) for target in targets if isinstance(target, Instances) for label in target.labels}
    else:
        return
    unseen = [name for number, name in enumerate(classes) if number not in seen]
    names = ", ".join(map(repr, unseen[:3])) + (f" and {len(unseen) - 3} more" if len(unseen) > 3 else "")
    if unseen and (config.task == "classification" or not seen):
        raise ValueError(
            f"nothing would teach the {config.task} head {names}: no example is left of what can be read, is used "
            f"(every: {config.every}) and is not held out (holdout: {config.holdout})"
        )
    if unseen:
        notice(f"the {config.task} head's data have no example of {names}")


def held_out(count: int, holdout: int, seed: int) -> list[int]:
    """Indices of the photographs that are held out, readable or not: of sorted names, so that all classes have some.

    Args:
        count: number of photographs.
        holdout: every so many-th is held out; 0 for none.
        seed: of the recipe; says with which of them to begin.
    """
    return list(range(seed % holdout, count, holdout)) if holdout else []


def _not_held_out(count: int, holdout: int, seed: int) -> list[int]:
    held = set(held_out(count, holdout, seed))
    return [index for index in range(count) if index not in held]


class _Variant:
    """A labeled set, as it is or mirrored."""

    def __init__(self, labeled: LabeledSet, flip: bool):
        self.labeled, self.flip = labeled, flip
        self.names = [name + (".flip" if flip else "") for name in labeled.names]

    def image(self, index: int) -> Image.Image:
        image = self.labeled.image(index)
        return ImageOps.mirror(image) if self.flip else image

    def __getitem__(self, index: int) -> tuple[Image.Image, Target]:
        image, target = self.labeled[index]
        if self.flip:
            return ImageOps.mirror(image), target.flipped(image.width)
        return image, target
