"""Training crops with their targets, each a pure function of the seed and its number."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..faults import sentence
from ..files import key_of
from ..notices import notice
from ..registry import HEADS
from ..structures.targets import Target
from .crops import TRIES
from .labeled import LabeledSet, LabeledSource, open_labeled


class LabeledCrops(Dataset):
    """Square crops of labeled photographs, randomly flipped, with their targets.

    Indexing gives a tensor (3, crop, crop) uint8 and a target, which depend on the seed and the index alone. A
    photograph whose target describes it as a whole (its class) is resized to the crop; from others a window is cropped,
    after they are enlarged if they are smaller than it.

    Args:
        task: of the targets.
        sources: labeled sets, all with the same classes.
        crop: side of a crop in pixels.
        seed: of the random numbers.
        length: number of crops.

    Raises:
        FileNotFoundError: if a source does not exist.
        ValueError: if there are no sources, or their classes differ; on indexing, if many photographs in a row cannot
            be read.
    """

    def __init__(self, task: str, sources: list[LabeledSource], crop: int, seed: int, length: int):
        self.sets: list[LabeledSet] = [open_labeled(task, source) for source in sources]
        if not self.sets:
            raise ValueError(f"the auxiliary task {task} has no photographs: its sources are empty")
        if any(s.classes != self.sets[0].classes for s in self.sets):
            raise ValueError(f"the sources of the auxiliary task {task} have different classes")
        self.classes = self.sets[0].classes
        self.task, self.crop, self.seed, self.length = task, crop, seed, length
        self._unreadable = [torch.zeros(len(s), dtype=torch.bool).share_memory_() for s in self.sets]  # as in `Crops`
        self.starts = np.cumsum([0] + [len(s) for s in self.sets])

    def __len__(self) -> int:
        return self.length

    @property
    def unreadable(self) -> list[str]:
        """Names of the photographs that were drawn and could not be read."""
        return [s.names[i] for s, flags in zip(self.sets, self._unreadable, strict=True) for i in flags.nonzero()[:, 0]]

    @property
    def key(self) -> str:
        """Digest of the names that crops are drawn from, in their order."""
        return key_of(self.classes, [list(s.names) for s in self.sets])

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        rng = np.random.default_rng([self.seed, index])
        image, target = self._drawn(rng)
        target = HEADS[self.task].prepared(target, {})
        image, target = self._window(image, target, rng)
        array = np.asarray(image)
        if rng.random() < 0.5:
            array, target = array[:, ::-1], target.flipped(self.crop)
        return torch.from_numpy(array.copy()).permute(2, 0, 1), target

    def _drawn(self, rng: np.random.Generator) -> tuple[Image.Image, Target]:
        """A photograph with its target; if one cannot be read, a warning names it and another one is drawn."""
        for _ in range(TRIES):
            member = int(rng.integers(self.starts[-1]))
            which = int(np.searchsorted(self.starts, member, side="right")) - 1
            labeled, index = self.sets[which], member - int(self.starts[which])
            try:
                labeled.image(index)
            except (ValueError, OSError) as error:
                notice(f"left out: {sentence(error)}")
                self._unreadable[which][index] = True
                continue
            return labeled[index]
        raise ValueError(f"{TRIES} photographs in a row cannot be read, the last one {labeled.names[index]}")

    def _window(self, image: Image.Image, target: Target, rng: np.random.Generator) -> tuple[Image.Image, Target]:
        side = self.crop
        if target.whole:
            size = (side / image.width, side / image.height)
            return image.resize((side, side), Image.Resampling.BICUBIC), target.scaled(*size)
        image, target = _enlarged(image, target, side)
        left = int(rng.integers(image.width - side + 1))
        top = int(rng.integers(image.height - side + 1))
        return image.crop((left, top, left + side, top + side)), target.cropped(left, top, side, side)


def _enlarged(image: Image.Image, target: Target, side: int) -> tuple[Image.Image, Target]:
    """Both, enlarged to at least ``side`` pixels in width and height."""
    scale = side / min(image.size)
    if scale <= 1:
        return image, target
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    target = target.scaled(size[0] / image.width, size[1] / image.height)
    return image.resize(size, Image.Resampling.BICUBIC), target
