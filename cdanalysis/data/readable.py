"""Photographs that can be decoded; those that cannot are reported and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from PIL import Image

from ..faults import sentence
from ..notices import notice

if TYPE_CHECKING:
    from typing_extensions import Self

S = TypeVar("S", bound="Images")


class Images(Protocol):
    """The protocol that image sets and labeled sets have in common."""

    @property
    def title(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...
    def image(self, index: int) -> Image.Image: ...
    def read(self, index: int) -> bytes: ...
    def chosen(self, indices: Sequence[int]) -> Self: ...


def readable(images: S, track: Callable[[Iterable], Iterable] = lambda items: items) -> tuple[S, list[dict[str, str]]]:
    """Decode all photographs, and leave out those that fail, or whose files of labels do.

    Labels that can be decoded, but are wrong, are not checked here. `told` warns of what was left out.

    Args:
        images: photographs, or a labeled set.
        track: wraps an iterable to show progress.

    Returns:
        a view of the photographs that can be decoded, and a list of ``{"file", "error"}`` for the others.

    Raises:
        ValueError: if no photograph can be decoded.
    """
    good: list[int] = []
    failures: list[dict[str, str]] = []
    for index in track(range(len(images))):
        try:
            images.image(index)
            getattr(images, "check", _no_check)(index)
            good.append(index)
        except (ValueError, OSError, MemoryError) as error:
            failures.append({"file": images.names[index], "error": sentence(error)})
    if failures and not good:
        raise ValueError(f"no photograph of {images.title} can be read; error of the first: {failures[0]['error']}")
    return (images.chosen(good) if failures else images), failures


def _no_check(index: int) -> None:
    """Sets without files of labels have nothing to check."""


def told(found: tuple[S, list[dict[str, str]]], errors: list[str] | None = None) -> S:
    """The photographs that `readable` has found; notices tell at once what cannot be read.

    Args:
        found: what `readable` gave.
        errors: a list to which the same is added, to be told again at the end.

    Returns:
        the view of the photographs that can be decoded.
    """
    for failure in found[1]:
        notice(f"left out: {failure['error']}")
        if errors is not None:
            errors.append(failure["error"])
    return found[0]
