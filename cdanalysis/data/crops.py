"""Training crops, each a pure function of the seed and its number, so that training resumes exactly."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..faults import sentence
from .images import ImageSet

_log = logging.getLogger(__name__)
TRIES = 20
"""So many unreadable photographs in a row are no accident."""


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
    """Square crops (3, crop, crop) uint8, flipped at random, from a mixture of sources."""

    def __init__(self, sources: list[Source], crop: int, seed: int, length: int):
        if not sources:
            raise ValueError("a stage needs at least one data source")
        self.sources, self.crop, self.seed, self.length = sources, crop, seed, length
        self.sets = [ImageSet(s.path) for s in sources]
        self.members = [
            [i for i, name in enumerate(images.names) if name.startswith(source.folder)]
            for images, source in zip(self.sets, sources, strict=True)
        ]
        for source, members in zip(sources, self.members, strict=True):
            if not members:
                raise ValueError(f"no images below {source.folder} in {source.path}")
        weights = np.array([s.weight for s in sources], dtype=np.float64)
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([self.seed, index])
        which, image = self._drawn(rng)
        image = self._resize(image, rng.uniform(*self.sources[which].scale))
        left = int(rng.integers(image.width - self.crop + 1))
        top = int(rng.integers(image.height - self.crop + 1))
        array = np.asarray(image)[top : top + self.crop, left : left + self.crop]
        if rng.random() < 0.5:
            array = array[:, ::-1]
        return torch.from_numpy(array.copy()).permute(2, 0, 1)

    def _drawn(self, rng: np.random.Generator) -> tuple[int, Image.Image]:
        """(number of the set, a photograph of it); one that cannot be read is told, and another one drawn."""
        for _ in range(TRIES):
            which = int(rng.choice(len(self.sets), p=self.shares))
            member = self.members[which][int(rng.integers(len(self.members[which])))]
            try:
                return which, self.sets[which].image(member)
            except (ValueError, OSError) as error:
                _log.warning("left out: %s", sentence(error))
        raise ValueError(f"{TRIES} photographs in a row cannot be read, {self.sets[which].names[member]} the last")

    def _resize(self, image: Image.Image, scale: float) -> Image.Image:
        """Resize by ``scale``, or by what it takes for the crop to fit."""
        scale = max(scale, self.crop / min(image.size))
        size = (max(self.crop, round(image.width * scale)), max(self.crop, round(image.height * scale)))
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
