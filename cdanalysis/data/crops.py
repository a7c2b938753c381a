"""Training crops, each a pure function of the seed and its number, so that training resumes exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..faults import sentence
from ..files import key_of
from ..notices import notice
from .images import ImageSet

TRIES = 20
"""Unreadable photographs in a row after which drawing gives up."""


@dataclass
class Source:
    """A set of photographs in a mixture.

    Attributes:
        path: folder or tar archive, absolute or below ``CDANALYSIS_DATA``.
        folder: use only the photographs below this folder of it.
        weight: share of the crops, relative to the other sources.
        scale: photographs are resized by a factor drawn from this range before they are cropped.
    """

    path: str = ""
    folder: str = ""
    weight: float = 1.0
    scale: list[float] = field(default_factory=lambda: [0.6, 1.0])


class Crops(Dataset):
    """Square crops, randomly resized and flipped, from a mixture of sources.

    Indexing gives a tensor (3, crop, crop) uint8 that depends on the seed and the index alone.

    Args:
        sources: photographs, with their share of the crops.
        crop: side of a crop in pixels; smaller photographs are enlarged to it.
        seed: of the random numbers.
        length: number of crops.

    Raises:
        FileNotFoundError: if a source does not exist.
        ValueError: if there are no sources, a source has no photographs, or its weight or scale is invalid; on
            indexing, if many photographs in a row cannot be read.
    """

    def __init__(self, sources: list[Source], crop: int, seed: int, length: int):
        if not sources:
            raise ValueError("no photographs to train on: the stage needs at least one entry in sources")
        if not all(0 <= s.weight < float("inf") for s in sources) or not any(s.weight for s in sources):
            raise ValueError(f"source weights must be at least 0, and not all 0; got {[s.weight for s in sources]}")
        for s in sources:
            if len(s.scale) != 2 or not 0 < s.scale[0] <= s.scale[1] < float("inf"):
                raise ValueError(f"scale of {s.path} must be [smallest, largest], both above 0; got {list(s.scale)}")
        self.sources, self.crop, self.seed, self.length = sources, crop, seed, length
        self.sets = [ImageSet(s.path) for s in sources]
        self.members = [_below(images, source) for images, source in zip(self.sets, sources, strict=True)]
        # Shared with the processes that load crops, so that this one can say at the end what they could not read.
        self._unreadable = [torch.zeros(len(images), dtype=torch.bool).share_memory_() for images in self.sets]
        weights = np.array([s.weight for s in sources], dtype=np.float64)
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.length

    @property
    def unreadable(self) -> list[str]:
        """Names of the photographs that were drawn and could not be read."""
        return [s.names[i] for s, flags in zip(self.sets, self._unreadable, strict=True) for i in flags.nonzero()[:, 0]]

    @property
    def key(self) -> str:
        """Digest of the names that crops are drawn from, in their order."""
        return key_of([list(s.names) for s in self.sets])

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([self.seed, index])
        which, image = self._drawn(rng)
        low, high = self.sources[which].scale
        image = self._resize(image, rng.uniform(low, high))
        left = int(rng.integers(image.width - self.crop + 1))
        top = int(rng.integers(image.height - self.crop + 1))
        array = np.asarray(image)[top : top + self.crop, left : left + self.crop]
        if rng.random() < 0.5:
            array = array[:, ::-1]
        return torch.from_numpy(array.copy()).permute(2, 0, 1)

    def _drawn(self, rng: np.random.Generator) -> tuple[int, Image.Image]:
        """(index of a set, a photograph of it); if one cannot be read, a warning names it and another one is drawn."""
        for _ in range(TRIES):
            which = int(rng.choice(len(self.sets), p=self.shares))
            member = self.members[which][int(rng.integers(len(self.members[which])))]
            try:
                return which, self.sets[which].image(member)
            except (ValueError, OSError) as error:
                notice(f"left out: {sentence(error)}")
                self._unreadable[which][member] = True
        raise ValueError(f"{TRIES} photographs in a row cannot be read, the last one {self.sets[which].names[member]}")

    def _resize(self, image: Image.Image, scale: float) -> Image.Image:
        """Resize by ``scale``, or by what it takes for the crop to fit."""
        scale = max(scale, self.crop / min(image.size))
        size = (max(self.crop, round(image.width * scale)), max(self.crop, round(image.height * scale)))
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _below(images: ImageSet, source: Source) -> list[int]:
    """Numbers of the photographs in the source's folder, however deep."""
    parts = PurePosixPath(source.folder).parts
    found = [i for i, name in enumerate(images.names) if PurePosixPath(name).parts[: len(parts)] == parts]
    if not found:
        raise ValueError(f"{source.path} has no photographs below its folder {source.folder!r}")
    return found
