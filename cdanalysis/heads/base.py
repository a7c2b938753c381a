"""What all heads share: how predictions are made, and how lists of photographs and streams are worked on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from ..structures.predictions import Result

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


def predict(heads: Mapping[str, nn.Module], pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Result]:
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


def tasks_of(heads: Mapping[str, nn.Module], tasks: Sequence[str] | None, name: str) -> tuple[str, ...]:
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
