"""Photographs of a data set that can be read; what cannot is named, and the rest goes on without it."""

from __future__ import annotations

import hashlib
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
    """The photographs that can be decoded, with their labels, and of the others ``{"file", "error"}``.

    Labels that can be decoded and are not what they must be are no matter of this.

    Raises:
        ValueError: if there is none that can.
    """
    good, failures = [], []
    for index in track(range(len(images))):
        try:
            images.image(index)
            getattr(images, "check", _no_check)(index)
            good.append(index)
        except (ValueError, OSError, MemoryError) as error:
            failures.append({"file": images.names[index], "error": sentence(error)})
    if failures and not good:
        raise ValueError(f"no photograph of {images.title} can be read; the first: {failures[0]['error']}")
    return (images.chosen(good) if failures else images), failures


def _no_check(index: int) -> None:
    """Sets without files of labels have nothing to check."""


def told(found: tuple[S, list[dict[str, str]]], errors: list[str] | None = None) -> S:
    """What `readable` found; notices tell at once what cannot be read, and ``errors`` keep it for the end."""
    for failure in found[1]:
        notice(f"left out: {failure['error']}")
        if errors is not None:
            errors.append(failure["error"])
    return found[0]


def contents_digest(images: Images) -> str:
    """16 bytes of BLAKE2b, in hexadecimal, of all names and files in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for index, name in enumerate(images.names):
        digest.update(hashlib.blake2b(name.encode() + b"\0" + images.read(index)).digest())
    return digest.hexdigest()
