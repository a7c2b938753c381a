"""What all heads share: what a head is, how predictions are made, and how lists of images are worked on together."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Mapping, Sequence, ValuesView
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from ..structures.predictions import Prediction, Result
from ..structures.targets import Target

T = TypeVar("T")
R = TypeVar("R")


class Head(nn.Module):
    """Reads features that the neck makes of latents, and predicts; it knows strides and channels, and no codec.

    A head of one's own is registered under the name of its task in `cdanalysis.registry.HEADS`. It is made with the
    features' channels at strides 8, 16 and 32 and the class names, then what a recipe gives it as ``options``; what
    `describe` says must make it again. A *pyramid* is a list of features (N, c, H/s, W/s); of the strides 8, 16 and 32
    it holds the coarsest ones, at least as many as ``levels`` says. Sides H and W are multiples of 32; photographs lie
    left and top. *Sizes* are the photographs' own (height, width) in pixels, and so is the geometry of all predictions.

    Attributes:
        levels: of the pyramid, how many it reads, the coarsest first: 1 is stride 32 alone, 3 are all.
        classes: class names, in the order of its outputs.
    """

    levels: ClassVar[int] = 3
    classes: list[str]

    def loss(self, pyramid: list[Tensor], targets: list[Any], sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Losses by name, scalars that are added; targets are what the task's data sets give, on the head's device."""
        raise NotImplementedError(f"a {type(self).__name__} does not learn")

    def distillation(self, pyramid: list[Tensor], features: list[Tensor]) -> Tensor:
        """How far (N,) what this head says of ``pyramid`` is from what it says of ``features``, its targets.

        Raises:
            ValueError: if it has no dense outputs to compare.
        """
        raise ValueError(f"a {type(self).__name__} cannot be distilled")

    def predict(self, pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> Sequence[Prediction]:
        """One prediction a photograph."""
        raise NotImplementedError(f"a {type(self).__name__} does not predict")

    def describe(self) -> dict[str, Any]:
        """The arguments, as JSON holds them, that make this head again, beside the features' channels."""
        return {"classes": self.classes}

    @classmethod
    def prepared(cls, target: Target, options: Mapping[str, Any]) -> Target:
        """What a head with these options needs of a target; the rest need not be kept in memory. By default all."""
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
    """One `Result` a photograph, of all heads on one pyramid; sizes are the photographs' true (height, width)."""
    predictions = {task: head.predict(pyramid, sizes) for task, head in heads.items()}
    return [Result(**{task: rows[i] for task, rows in predictions.items()}) for i in range(len(sizes))]


def grouped(items: Sequence[T], kind: Callable[[T], object], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Do ``work`` on the items of each kind together; results in the order of the items."""
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
