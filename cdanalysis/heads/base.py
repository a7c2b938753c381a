"""The base class of heads, and prediction with several heads at once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, ItemsView, Iterable, Mapping, Sequence, ValuesView
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.labels import class_index
from ..faults import one_line
from ..structures.features import Features, FeatureSpec
from ..structures.latents import SEMANTIC, layer_count
from ..structures.predictions import Prediction, Result
from ..structures.targets import Target

T = TypeVar("T")
R = TypeVar("R")


def made_head(
    kinds: Mapping[str, type[nn.Module]], task: str, spec: FeatureSpec, options: Mapping[str, Any]
) -> nn.Module:
    """A head of random weights.

    Args:
        kinds: the class of each task's heads.
        task: one of these.
        spec: of the features that the head will read.
        options: arguments of the head beside it.

    Raises:
        ValueError: for a task that there is no head for, an option that its head does not have, or one of another kind.
    """
    if task not in kinds:
        raise ValueError(f"unknown task {task!r}; there are heads for {', '.join(kinds)}")
    known = [name for name in inspect.signature(kinds[task]).parameters if name != "spec"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"a {task} head has no option {unknown[0]!r}; it has: {', '.join(known)}")
    try:
        return kinds[task](spec, **options)
    except (TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"no {task} head can be made of {', '.join(options) or 'no options'}: {one_line(error)}"
        ) from None


class Head(nn.Module):
    """Predicts from features that were decoded from latents. Knows strides and channels, but no codec, and no pixels.

    Subclasses are registered under the name of their task in `cdanalysis.registry.HEADS`. They are constructed with the
    `FeatureSpec`, the class names, and the ``options`` of a recipe; `describe` returns the arguments that rebuild them.
    Targets are in pixels of the features' working size, to which the whole image was resized; predictions are in
    pixels of the true image.

    Attributes:
        layers: the layers that it reads, and those before them.
        classes: class names, in the order of its outputs.
    """

    layers: ClassVar[tuple[str, ...]] = SEMANTIC
    classes: list[str]

    def loss(self, features: Features, targets: list[Any]) -> dict[str, Tensor]:
        """The training losses.

        Args:
            features: of N images.
            targets: N targets of the task's data sets, in pixels of ``features.working``, on the head's device.

        Returns:
            scalars by name; their sum is minimized.

        Raises:
            NotImplementedError: for a kind of head that does not learn.
        """
        raise NotImplementedError(f"a {type(self).__name__} does not learn")

    def distillation(self, features: Features, teacher: Features, by: Any = None) -> Tensor:
        """Distance of this head's outputs on ``features`` from those on ``teacher``, which are the targets.

        Args:
            features: of N images.
            teacher: features of the same images, on the same grids.
            by: the head of this kind whose outputs on ``teacher`` count; by default this one.

        Returns:
            (N,), at least 0.

        Raises:
            ValueError: if it has no dense outputs to compare.
        """
        raise ValueError(f"a {type(self).__name__} cannot be distilled")

    def predict(self, features: Features) -> Sequence[Prediction]:
        """The predictions for a batch.

        Args:
            features: of N images.

        Returns:
            one prediction per image, in pixels of the true image.

        Raises:
            NotImplementedError: for a kind of head that does not predict.
        """
        raise NotImplementedError(f"a {type(self).__name__} does not predict")

    def describe(self) -> dict[str, Any]:
        """The arguments that rebuild this head, as JSON, without the `FeatureSpec`."""
        return {"classes": self.classes}

    def class_rows(self) -> dict[str, Tensor] | None:
        """Which outputs belong to which class, so that a head of other classes can start from this one.

        Returns:
            for each parameter whose first dimension has outputs of classes, by its name in the state: the indices
            (classes, n) of the n outputs of each class. None, as by default, if nobody knows.
        """
        return None

    @torch.no_grad()
    def start_from(self, other: Head) -> list[str] | None:
        """Take over the weights of a head of the same kind.

        With the same classes it takes over all of them. Otherwise the last layers' outputs of shared classes, found by
        name (`cdanalysis.data.labels.class_index`), and all other layers; the outputs of new classes stay as they are.

        Args:
            other: the head; it does not change.

        Returns:
            the classes that the two have in common; None, and nothing is taken over, if ``other`` is of another kind or
            shape, or the heads do not know their classes' outputs.
        """
        mine = self.state_dict()
        theirs = {
            name: tensor.to(mine[name]) if name in mine else tensor for name, tensor in other.state_dict().items()
        }
        if type(self) is type(other) and self.describe() == other.describe():
            self.load_state_dict(theirs)
            return list(self.classes)
        rows, their_rows = self.class_rows(), other.class_rows()
        if type(self) is not type(other) or rows is None or their_rows is None or not _fit(mine, theirs, rows):
            return None
        shared = [(own, _known(name, other.classes)) for own, name in enumerate(self.classes)]
        for name, tensor in mine.items():
            if name not in rows:
                tensor.copy_(theirs[name])
                continue
            tensor[_others(rows[name], tensor)] = theirs[name][_others(their_rows[name], theirs[name])]
            for own, known in shared:
                if known is not None:
                    tensor[rows[name][own]] = theirs[name][their_rows[name][known]]
        return [self.classes[own] for own, known in shared if known is not None]

    @classmethod
    def prepared(cls, target: Target, options: Mapping[str, Any]) -> Target:
        """The part of a target that a head with these options needs; the rest is not kept in memory. By default all.

        Args:
            target: of one image.
            options: arguments of the head, as a recipe gives them.
        """
        return target


def _known(name: str, classes: Sequence[str]) -> int | None:
    """The index of a class by its name; None if there is none, or several have it."""
    try:
        return class_index(name, classes)
    except ValueError:
        return None


def _fit(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> bool:
    """Whether two states differ in outputs of classes alone."""
    shape = lambda name, tensor: tensor.shape[1:] if name in rows else tensor.shape  # noqa: E731
    return {n: shape(n, t) for n, t in mine.items()} == {n: shape(n, t) for n, t in theirs.items()}


def _others(rows: Tensor, tensor: Tensor) -> Tensor:
    """The indices of a tensor's first dimension that belong to no class."""
    others = torch.ones(len(tensor), dtype=torch.bool)
    others[rows.flatten()] = False
    return others.nonzero()[:, 0]


class Heads(nn.ModuleDict):
    """Heads by their tasks."""

    def __getitem__(self, task: str) -> Head:
        return cast(Head, super().__getitem__(task))

    def items(self) -> ItemsView[str, Head]:
        """(task, head) of all."""
        return cast("ItemsView[str, Head]", super().items())

    def values(self) -> ValuesView[Head]:
        """The heads, in the order of their tasks."""
        return cast("ValuesView[Head]", super().values())


def predict(heads: Mapping[str, Head], features: Features) -> list[Result]:
    """Predictions of all heads on the same features.

    Args:
        heads: by task, in evaluation mode.
        features: of N images, with the layers that the heads read.

    Returns:
        one `Result` per image.
    """
    predictions = {task: head.predict(features) for task, head in heads.items()}
    return [Result(**{task: rows[i] for task, rows in predictions.items()}) for i in range(len(features))]


def layers_of(heads: Iterable[Head]) -> int:
    """How many layers must be read for some heads.

    Args:
        heads: may be none.

    Returns:
        1 to 3, counted from the first layer on; 1 where there are no heads.
    """
    return max((layer_count(head.layers) for head in heads), default=1)


def check_list(items: Any, name: str, single: str = "") -> None:
    """Refuse one stream or photograph in place of a list of them: it would be read letter by letter, or row by row.

    Args:
        items: what is given.
        name: of the function that takes a list.
        single: name of that which takes one item, where there is one.

    Raises:
        ValueError: for text, bytes, a path, a picture, or numbers on at most three axes, as of a picture.
    """
    one = isinstance(items, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
    numbers = isinstance(items, Tensor) or (isinstance(items, np.ndarray) and items.dtype.kind in "biuf")
    if one or (numbers and items.ndim <= 3):
        instead = f"use {single}, or [...]" if single else "write [...]"
        raise ValueError(f"{name} takes a list, got one {type(items).__name__}: {instead}")


def grouped(items: Sequence[T], kind: Callable[[T], object], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Apply a function to the items of each kind as a batch.

    Args:
        items: of any kinds.
        kind: of an item; hashable, and equal for those that may be one batch.
        work: from the items of one kind to as many results.

    Returns:
        the results in the order of the items.
    """
    groups: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(kind(item), []).append(index)
    results: dict[int, R] = {}
    for indices in groups.values():
        results.update(zip(indices, work([items[i] for i in indices]), strict=True))
    return [results[index] for index in range(len(items))]


def tasks_of(heads: Mapping[str, Head] | Heads, tasks: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """The tasks of a list, each of which must have a head.

    Args:
        heads: by task.
        tasks: names of tasks, or one name; None for all that have a head.
        name: of the model whose heads these are, for the error message.

    Raises:
        ValueError: for a task without a head.
    """
    chosen = tuple(heads) if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
    for task in chosen:
        if task not in heads:
            raise ValueError(f"unknown task {task!r}; model {name!r} can do: {', '.join(heads)}")
    return chosen
