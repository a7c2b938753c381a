"""What heads are trained on: cached streams, or the backbone's own features, each with its target."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.cached import cache_streams, content_key
from ..data.images import to_tensor
from ..data.labeled import LabeledSet, LabeledSource, open_labeled
from ..data.readable import readable, told
from ..model import Model
from ..notices import notice
from ..registry import HEADS
from ..stream.container import VERSION, unpack
from ..stream.errors import StreamError
from ..structures.targets import Target

INPUTS = ("streams", "features")


@dataclass
class HeadConfig:
    """What a stage trains a head on. Codec and backbone stand still.

    Attributes:
        task: classification, detection, segmentation, or another that a head is registered for.
        sources: labeled sets, all with the same classes.
        input: "streams" trains the model's head, on the semantic layers of cached streams; "features" trains its
            counterpart, on the backbone's features of the photographs themselves.
        classes: "data" for a new head with the data's classes (which starts from the counterpart, where there is
            one), "keep" for the head that is there, which must know the data's classes.
        options: arguments of a new head, beside its classes.
        qualities: of the stream; every photograph is encoded at each.
        flip: use every photograph's mirror image too; it is encoded like any other.
        epochs: how often every example is seen; replaces the stage's ``steps``.
        distill: weight of the distillation of what the counterpart makes of the photographs themselves.
        holdout: every ``holdout``-th photograph is left out; 0 to use all.
        every: use only each ``every``-th photograph of the sources.
    """

    task: str = "classification"
    sources: list[LabeledSource] = field(default_factory=list)
    input: str = "streams"
    classes: str = "data"
    options: dict[str, Any] = field(default_factory=dict)
    qualities: list[float] = field(default_factory=lambda: [0.5])
    flip: bool = False
    epochs: int = 12
    distill: float = 0.0
    holdout: int = 0
    every: int = 1


@dataclass
class Batch:
    """Examples of one grid.

    Attributes:
        tensors: the pyramid (three), or dequantized latents, one for each layer that the neck reads; (N, C, h, w).
        qualities: (N, 1, 1, 1) of the semantic layer; only counts for latents.
        targets: N targets.
        sizes: true (height, width) of the photographs.
        features: the photographs' own pyramid, where it is to be distilled; else empty.
    """

    tensors: list[Tensor]
    qualities: Tensor
    targets: list[Target]
    sizes: list[tuple[int, int]]
    features: list[Tensor]


@dataclass
class _Example:
    tensors: list[Tensor]
    quality: float
    target: Target
    size: tuple[int, int]
    features: list[Tensor]


class Examples:
    """All examples of a head's stage, in memory, in half precision.

    Args:
        model: whose codec encodes, and whose backbone gives features.
        config: what to use.
        folder: where streams are cached, by weights, quality, and the content of photographs.

    Attributes:
        classes: their names.
        key: digest of all photographs and targets, in their order.
        unreadable: what is wrong with the photographs that were left out.

    Raises:
        FileNotFoundError, ValueError: as `open_sets` does.
    """

    def __init__(
        self,
        model: Model,
        config: HeadConfig,
        folder: Path,
        track: Callable[[Iterable], Iterable] = lambda items: items,
    ):
        opened = open_sets(config)
        kept = [labeled.chosen(_not_held_out(len(labeled), config.holdout)) for labeled in opened]
        self.unreadable: list[str] = []
        sets = [told(readable(labeled, track), self.unreadable) for labeled in kept]
        if not all(len(labeled) for labeled in sets):
            raise ValueError(f"training a {config.task} head needs photographs that can be read")
        self.classes = sets[0].classes
        self.model, self.config = model, config
        self.folder = folder / f"{model.fingerprint}-{VERSION}"
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
            encode = lambda images, q=quality: model.encode_batch(images, q, model.layers)  # noqa: E731
            cached = cache_streams(variant.names, variant.image, folder, encode, track, keys=keys, whole=_is_whole)
            streams.append((quality, cached))
        for index in track(range(len(variant.names))):
            image, target = variant[index]
            target = HEADS[config.task].prepared(target, config.options)
            digest.update(keys[index].encode())
            _feed(digest, target)
            size = (image.height, image.width)
            wanted = config.input == "features" or config.distill
            features = [f[0].half() for f in model.reference.pyramid(to_tensor(image)[None])] if wanted else []
            if config.input == "features":
                self.rows.append(_Example(features, 1.0, target, size, []))
            for quality, cached in streams:
                latents = [layer.half() for layer in model.read_latents(cached[index])[0]]
                self.rows.append(_Example(latents, quality, target, size, features))

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, generator: torch.Generator | None = None) -> list[list[int]]:
        """Row numbers in batches of one grid each; shuffled if there is a generator."""
        groups: dict[torch.Size, list[int]] = {}
        for index, row in enumerate(self.rows):
            groups.setdefault(row.tensors[0].shape, []).append(index)
        batches = []
        for rows in map(torch.tensor, groups.values()):
            order = torch.arange(len(rows)) if generator is None else torch.randperm(len(rows), generator=generator)
            batches += [part.tolist() for part in rows[order].split(size)]
        if generator is not None:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
        return batches

    def batch(self, rows: list[int], device: torch.device) -> Batch:
        """Those examples together, in single precision, on a device."""
        chosen = [self.rows[i] for i in rows]

        def stacked(columns: list[list[Tensor]]) -> list[Tensor]:
            return [torch.stack(column).to(device).float() for column in zip(*columns, strict=True)]

        return Batch(
            stacked([row.tensors for row in chosen]),
            torch.tensor([row.quality for row in chosen], device=device)[:, None, None, None],
            [row.target.to(device) for row in chosen],
            [row.size for row in chosen],
            stacked([row.features for row in chosen]),
        )


def open_sets(config: HeadConfig) -> list[LabeledSet]:
    """The labeled sets that a stage's head learns from.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if there are no photographs, or the sources' classes differ.
    """
    if config.input not in INPUTS:
        raise ValueError(f"input must be one of {', '.join(INPUTS)}, got {config.input!r}")
    if config.input == "streams" and not config.qualities:
        raise ValueError("qualities must be one or more numbers in [0, 1], got none")
    if config.holdout < 0:
        raise ValueError(f"holdout must be 0, to use all photographs, or above, got {config.holdout}")
    sets = [open_labeled(config.task, source).every(config.every) for source in config.sources]
    if not sets or not all(len(s) for s in sets):
        raise ValueError(f"training a {config.task} head needs photographs")
    for labeled, source in zip(sets, config.sources, strict=True):
        if labeled.classes != sets[0].classes:
            raise ValueError(f"the classes of {source.path} are not those of {config.sources[0].path}")
        if not _not_held_out(len(labeled), config.holdout):
            raise ValueError(
                f"nothing is left of {source.path} to learn from: of its images one in {config.every} is used, and of "
                f"those one in {config.holdout} is held out, the first included"
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
        seen = {int(target) for target in targets}
    elif config.task == "detection":
        seen = {label for target in targets for label in target.labels.tolist()}
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


def _not_held_out(count: int, holdout: int) -> list[int]:
    """Of so many photographs those that are not held out, whether they can be read or not."""
    return [index for index in range(count) if not holdout or index % holdout]


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
