"""What frozen teachers see in images, kept on the disk: features take hours to compute and minutes to learn from.

Every image is seen several times: whole, and in crops of it, some mirrored. Maps are kept in 8 bits a number, with a
scale for each channel; the error is a fiftieth of a deviation.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ..data.images import ImageSet
from ..files import read_tensors, write_whole
from ..structures.latents import PAD
from ..teachers import Classifier, DeepLab, NanoDetPlus

INDEX, FIRST = "index.pt", 64
"""So many whole images give the scales of all."""
MAPS = ("p3", "p4", "p5", "p6", "c4", "c5", "segmentation")
"""Of the detector, the pyramid at strides 8 to 64 and the backbone at 16 and 32; then the segmenter's logits at 16."""


def working_size(width: int, height: int, shorter: int = 0, longer: int = 0) -> tuple[int, int]:
    """Width and height, multiples of 32, at which a semantic layer sees an image.

    With ``longer`` the longer side becomes that long, and the other follows in proportion. With ``shorter`` the shorter
    one does, and the longer one becomes at most twice as long.
    """

    def nearest(numerator: int, denominator: int) -> int:
        return PAD * max(1, (2 * numerator + PAD * denominator) // (2 * PAD * denominator))

    small, large = sorted((width, height))
    if longer:
        sides = nearest(small * longer, large), longer
    else:
        sides = shorter, min(2 * shorter, nearest(large * shorter, small))
    return sides if width <= height else sides[::-1]


def pixels(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An image, resized, as teachers take it: (1, 3, H, W) in 0..255."""
    array = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)


class View(NamedTuple):
    """A crop of an image, drawn once and for all by the image's name and a number; number 0 is the whole image."""

    name: str
    number: int

    def of(self, image: Image.Image) -> Image.Image:
        """What it shows of the image."""
        if not self.number:
            return image
        draw = random.Random(f"{self.name}/{self.number}")
        area, aspect = draw.uniform(0.35, 1.0) ** 0.5, draw.uniform(0.85, 1.18)
        width = min(image.width, round(image.width * area * aspect))
        height = min(image.height, round(image.height * area / aspect))
        left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
        cropped = image.crop((left, top, left + width, top + height))
        return ImageOps.mirror(cropped) if draw.random() < 0.5 else cropped


@dataclass
class Teachers:
    """The networks whose features are kept, and at which sides, in pixels, they see images."""

    classifier: Classifier
    detector: NanoDetPlus
    segmenter: DeepLab
    shorter: int = 224
    longer: int = 448
    segmenter_side: int = 513

    @torch.inference_mode()
    def embedding(self, image: Image.Image) -> Tensor:
        """(E,), of the classifier."""
        return self.classifier(pixels(image, working_size(*image.size, shorter=self.shorter)))[0].float()

    @torch.inference_mode()
    def maps(self, image: Image.Image) -> dict[str, Tensor]:
        """`MAPS`, (C, h, w) each, on the grid of the detector's working size."""
        width, height = working_size(*image.size, longer=self.longer)
        found = self.detector(pixels(image, (width, height)))
        scale = self.segmenter_side / max(image.size)
        sides = [max(33, round(side * scale / 16) * 16 + 1) for side in image.size]
        logits = self.segmenter(pixels(image, (sides[0], sides[1])))
        logits = F.interpolate(logits, size=(height // 16, width // 16), mode="bilinear", align_corners=False)
        every = (*found.pyramid, *found.backbone[1:], logits)
        return {name: value[0].float() for name, value in zip(MAPS, every, strict=True)}


class FeatureBatch(NamedTuple):
    """Maps (N, C, h, w) by their names, and embeddings (N, E), of views with one grid."""

    maps: dict[str, Tensor]
    embeddings: Tensor


class FeatureCache:
    """Features of views on the disk: a file for each grid, and an index of all of them.

    Args:
        folder: where they are; what another call is writing meanwhile is seen by `refresh`.

    Raises:
        FileNotFoundError: if nothing was written there.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.refresh()

    def refresh(self) -> None:
        """Look again what there is."""
        path = self.folder / INDEX
        if not path.is_file():
            raise FileNotFoundError(f"no features of teachers in {self.folder}: write them first")
        found = read_tensors(path)
        self.views, self.shapes = [View(*view) for view in found["views"]], found["shapes"]
        self.embeddings, self.scales = found["embeddings"], found["scales"]
        self.grids: dict[tuple[int, int], list[int]] = {}
        self.places: list[tuple[tuple[int, int], int]] = []
        for number, grid in enumerate(found["grids"]):
            rows = self.grids.setdefault(grid, [])
            self.places.append((grid, len(rows)))
            rows.append(number)

    def __len__(self) -> int:
        return len(self.views)

    def batch(self, numbers: Sequence[int]) -> FeatureBatch:
        """Features of views of one grid, by their numbers."""
        grid = self.places[numbers[0]][0]
        shapes = self.shapes[grid]
        length = sum(int(np.prod(shape)) for shape in shapes.values())
        file = np.memmap(self.folder / _file(grid), np.int8, "r")
        rows = [file[self.places[n][1] * length : (self.places[n][1] + 1) * length] for n in numbers]
        whole, maps, first = torch.from_numpy(np.stack(rows)), {}, 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            part = whole[:, first : first + size].view(len(numbers), *shape).float()
            maps[name] = part.mul_(self.scales[name][:, None, None]).contiguous(memory_format=torch.channels_last)
            first += size
        return FeatureBatch(maps, self.embeddings[list(numbers)].float())

    def batches(self, size: int, seed: int) -> Iterator[FeatureBatch]:
        """Batches of one grid each, drawn without end; a grid comes as often as it has views."""
        draw = random.Random(seed)
        while True:
            known = {grid: rows for grid, rows in self.grids.items() if len(rows) >= size}
            (rows,) = draw.choices(list(known.values()), [len(rows) for rows in known.values()])
            yield self.batch(draw.sample(rows, size))


def write_features(
    folder: str | Path,
    sources: Iterable[ImageSet],
    teachers: Teachers,
    views: int,
    track: Callable[[list], Iterable] = lambda items: items,
    every: int = 256,
) -> None:
    """Write the features of all images of some sets, each seen ``views`` times.

    Views come in an order drawn once, all whole images first, so that what is there at any time is a fair sample; the
    index is written anew after ``every`` views, and what was done before is not done again.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = _jobs(list(sources), views)
    done = FeatureCache(folder) if (folder / INDEX).is_file() else None
    start = len(done) if done else 0
    index = (
        _Index(folder, done)
        if done
        else _Index.measured(folder, [job for job in jobs if not job[1].number][:FIRST], teachers)
    )
    for count, (images, view) in enumerate(track(jobs[start:]), start + 1):
        image = view.of(images.named(view.name))
        index.add(view, teachers.maps(image), teachers.embedding(image))
        if count % every == 0 or count == len(jobs):
            index.save()


def _jobs(sources: list[ImageSet], views: int) -> list[tuple[ImageSet, View]]:
    draw, jobs = random.Random(0), []
    for number in range(views):
        these = [(images, View(name, number)) for images in sources for name in images.names]
        draw.shuffle(these)
        jobs += these
    return jobs


def _file(grid: tuple[int, int]) -> str:
    return f"{grid[0]}x{grid[1]}.bin"


class _Index:
    """What was written so far. Files may hold more than the index knows of; that is cut off when writing goes on."""

    def __init__(self, folder: Path, done: FeatureCache | None, scales: dict[str, Tensor] | None = None):
        self.folder, self.rows = folder, {} if done is None else {g: len(rows) for g, rows in done.grids.items()}
        self.views = list(done.views) if done else []
        self.grids = [place[0] for place in done.places] if done else []
        self.embeddings = [done.embeddings] if done else []
        self.shapes = dict(done.shapes) if done else {}
        self.scales = done.scales if done else scales
        self.pending: dict[tuple[int, int], list[bytes]] = {}

    @classmethod
    def measured(cls, folder: Path, jobs: list[tuple[ImageSet, View]], teachers: Teachers) -> _Index:
        """A new one, whose scales are those of a few views."""
        seen: dict[str, list[Tensor]] = {}
        for images, view in jobs:
            for name, value in teachers.maps(view.of(images.named(view.name))).items():
                seen.setdefault(name, []).append(value.flatten(1))
        scales = {}
        for name, values in seen.items():
            whole = torch.cat(values, 1)
            scales[name] = (whole.mean(1).abs() + 8 * whole.std(1)).clamp_min(1e-3) / 127
        return cls(folder, None, scales)

    def add(self, view: View, maps: dict[str, Tensor], embedding: Tensor) -> None:
        """Take in what teachers saw."""
        assert self.scales is not None
        grid = (maps["p4"].shape[-2], maps["p4"].shape[-1])
        self.shapes[grid] = {name: tuple(value.shape) for name, value in maps.items()}
        parts = [(maps[n] / self.scales[n][:, None, None]).round().clamp(-127, 127).to(torch.int8) for n in maps]
        self.pending.setdefault(grid, []).append(torch.cat([part.flatten() for part in parts]).numpy().tobytes())
        self.views.append(view)
        self.grids.append(grid)
        self.embeddings.append(embedding.half()[None])

    def save(self) -> None:
        """Write what came since the last time, the index last."""
        for grid, records in self.pending.items():
            with open(self.folder / _file(grid), "ab") as file:
                file.truncate(self.rows.get(grid, 0) * len(records[0]))
                file.seek(0, 2)
                file.writelines(records)
            self.rows[grid] = self.rows.get(grid, 0) + len(records)
        self.pending = {}
        self.embeddings = [torch.cat(self.embeddings)]
        content = {
            "views": [tuple(view) for view in self.views],
            "grids": self.grids,
            "embeddings": self.embeddings[0],
            "scales": self.scales,
            "shapes": self.shapes,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(self.folder / INDEX, buffer.getvalue())
