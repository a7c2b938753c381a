"""Photographs of a data set that can be read; what cannot is named, and the rest goes on without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from PIL import Image

from ..faults import sentence
from ..notices import notice

S = TypeVar("S", bound="Images")


class Images(Protocol):
    """What photographs, and labeled sets of all kinds, have."""

    title: str
    names: list[str]

    def __len__(self) -> int: ...
    def image(self, index: int) -> Image.Image: ...
    def read(self, index: int) -> bytes: ...
    def chosen(self, indices: Any) -> Images: ...


def readable(images: S, track: Callable[[Iterable], Iterable] = lambda items: items) -> tuple[S, list[dict[str, str]]]:
    """The photographs that can be decoded, and of the others ``{"file", "error"}``; notices name them, too.

    Raises:
        ValueError: if there is none that can.
    """
    good, failures = [], []
    for index in track(range(len(images))):
        try:
            images.image(index)
            good.append(index)
        except (ValueError, OSError, MemoryError) as error:
            failures.append({"file": images.names[index], "error": sentence(error)})
    if failures and not good:
        raise ValueError(f"no photograph of {images.title} can be read; the first: {failures[0]['error']}")
    for failure in failures:
        notice(f"left out: {failure['error']}")
    return (images.chosen(good) if failures else images), failures
