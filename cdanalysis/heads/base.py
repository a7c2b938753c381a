"""The base class of heads, and prediction with several heads at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, ItemsView, Mapping, Sequence, ValuesView
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from ..structures.predictions import Prediction, Result
from ..structures.targets import Target

T = TypeVar("T")
R = TypeVar("R")


def made_head(
    kinds: Mapping[str, type[nn.Module]], task: str, features: tuple[int, ...], options: Mapping[str, Any]
) -> nn.Module:
    """A head of random weights.

    Args:
        kinds: the class of each task's heads.
        features: channels of the pyramid.
        options: arguments of the head beside them.

    Raises:
        ValueError: for a task that there is no head for, an option that its head does not have, or one of another kind.
    """
    if task not in kinds:
        raise ValueError(f"unknown task {task!r}; there are heads for {', '.join(kinds)}")
    known = [name for name in inspect.signature(kinds[task]).parameters if name != "features"]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"a {task} head has no option {unknown[0]!r}; it has: {', '.join(known)}")
    try:
        return kinds[task](features, **options)
    except (TypeError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"no {task} head can be made of {', '.join(options) or 'no options'}: {reason}") from None


class Head(nn.Module):
    """Predicts from the feature pyramid that the neck makes of latents. Knows strides and channels, but no codec.

    Subclasses are registered under the name of their task in `cdanalysis.registry.HEADS`. They are constructed with the
    channels at strides 8, 16 and 32, the class names, and the ``options`` of a recipe; `describe` returns the arguments
    that rebuild them. A *pyramid* is a list of features (N, C, H/s, W/s) at the coarsest of the strides s = 8, 16 and
    32, at least ``levels`` of them. H and W are multiples of 32; images are padded right and bottom. *Sizes* are the
    images' true (height, width) in pixels; all geometry is in pixels of the true image.

    Attributes:
        levels: number of pyramid levels that it reads, the coarsest first: 1 is stride 32 alone, 3 are all.
        classes: class names, in the order of its outputs.
    """

    levels: ClassVar[int] = 3
    classes: list[str]

    def loss(self, pyramid: list[Tensor], targets: list[Any], sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The training losses.

        Args:
            pyramid: features.
            targets: N targets of the task's data sets, on the head's device.
            sizes: N true (height, width).

        Returns:
            scalars by name; their sum is minimized.
        """
        raise NotImplementedError(f"a {type(self).__name__} does not learn")

    def distillation(self, pyramid: list[Tensor], features: list[Tensor]) -> Tensor:
        """Distance (N,) of this head's outputs on ``pyramid`` from its own on ``features``, which are the targets.

        Raises:
            ValueError: if it has no dense outputs to compare.
        """
        raise ValueError(f"a {type(self).__name__} cannot be distilled")

    def predict(self, pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> Sequence[Prediction]:
        """One prediction per image, in pixels of the true image.

        Args:
            pyramid: features.
            sizes: N true (height, width).
        """
        raise NotImplementedError(f"a {type(self).__name__} does not predict")

    def describe(self) -> dict[str, Any]:
        """The arguments that rebuild this head, as JSON, without the features' channels."""
        return {"classes": self.classes}

    @classmethod
    def prepared(cls, target: Target, options: Mapping[str, Any]) -> Target:
        """The part of a target that a head with these options needs; the rest is not kept in memory. By default all."""
        return target


class Heads(nn.ModuleDict):
    """Heads by their tasks."""

    def __getitem__(self, task: str) -> Head:
        return cast(Head, super().__getitem__(task))

    def items(self) -> ItemsView[str, Head]:
        return cast("ItemsView[str, Head]", super().items())

    def values(self) -> ValuesView[Head]:
        return cast("ValuesView[Head]", super().values())


def predict(heads: Mapping[str, Head], pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Result]:
    """Predictions of all heads on one pyramid, one `Result` per image; sizes are the images' true (height, width)."""
    predictions = {task: head.predict(pyramid, sizes) for task, head in heads.items()}
    return [Result(**{task: rows[i] for task, rows in predictions.items()}) for i in range(len(sizes))]


def grouped(items: Sequence[T], kind: Callable[[T], object], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Apply ``work`` to the items of each kind as a batch; results in the order of the items."""
    groups: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(kind(item), []).append(index)
    results: dict[int, R] = {}
    for indices in groups.values():
        results.update(zip(indices, work([items[i] for i in indices]), strict=True))
    return [results[index] for index in range(len(items))]


def tasks_of(heads: Mapping[str, Head] | Heads, tasks: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """The tasks of that list, each of which must have a head; all of them for None.

    Args:
        name: of the model whose heads these are, for the error message.

    Raises:
        ValueError: for a task without a head.
    """
    chosen = tuple(heads) if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
    for task in chosen:
        if task not in heads:
            raise ValueError(f"unknown task {task!r}; model {name!r} can do: {', '.join(heads)}")
    return chosen
