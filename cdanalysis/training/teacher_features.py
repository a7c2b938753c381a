"""What frozen teachers see in images, kept on the disk: features take hours to compute and minutes to learn from.

Every image is seen several times: whole, and in crops of it, some mirrored. Maps are kept in 8 bits a number, with a
scale for each channel; the error is a fiftieth of a deviation.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ..codec.layered import LayeredCodec, resized
from ..codec.vector_search import DISTORTIONS
from ..data.images import ImageSet
from ..data.labeled import contents_digest
from ..faults import sentence
from ..files import json_text, key_of, make_folder, read_tensors, write_whole
from ..notices import notice
from ..photographs.read import to_pixels
from ..teachers.deeplab import DeepLab
from ..teachers.nanodet import DetectorFeatures

INDEX, FIRST = "index.pt", 64
"""So many whole images give the scales of all."""
MAPS = ("p3", "p4", "p5", "p6", "c4", "c5")
"""Of the detector, the pyramid at strides 8 to 64 and, where it has one beside that, the backbone at 16 and 32."""
SEGMENTATION = "segmentation"
"""The segmenter's logits at stride 16."""
SEGMENTER_SIDE = 513
"""Of an image's longer side, where the segmenter looks at it."""
ONE_CELL = (1, 1)
"""The grid of views without maps."""


@dataclass
class GlobalWeights:
    """What the terms of the global layer's loss count: see `cdanalysis.training.semantic_layers`.

    Attributes:
        distortions: w at quality 0 and at quality 1.
        squares, logits: a and b.
    """

    distortions: list[float] = field(default_factory=lambda: list(DISTORTIONS))
    squares: float = 0.2
    logits: float = 1.0


@dataclass
class SpatialWeights:
    """What the terms of the spatial layer's loss count: see `cdanalysis.training.semantic_layers`.

    Attributes:
        rate: w at quality 0 and at quality 1, of bits a cell.
        features: of the pyramid's levels.
        head: c.
        segmentation: d; at 0 no segmenter is asked.
    """

    rate: list[float] = field(default_factory=lambda: [0.06, 0.004])
    features: list[float] = field(default_factory=lambda: [0.3, 0.6, 1.0, 0.3])
    head: float = 2.0
    segmentation: float = 1.0


@dataclass
class FeatureConfig:
    """What a stage that trains the global or the spatial layer learns from.

    Attributes:
        sources: images, folders or tar archives, absolute or below ``CDANALYSIS_DATA``; their labels do not count.
        views: how often each is seen: whole, then in crops.
        start: whether the layer starts as principal components; else as it is.
        embedding: weights of the loss, where the stage trains the global layer.
        spatial: weights of the loss, where it trains the spatial one.
    """

    sources: list[str] = field(default_factory=list)
    views: int = 2
    start: bool = True
    embedding: GlobalWeights = field(default_factory=GlobalWeights)
    spatial: SpatialWeights = field(default_factory=SpatialWeights)


class View(NamedTuple):
    """A crop of an image, drawn once and for all by the image's name and a number.

    Attributes:
        name: of the image.
        number: 0 for the whole image.
    """

    name: str
    number: int

    def of(self, image: Image.Image) -> Image.Image:
        """What it shows of the image.

        Args:
            image: the one of its name, whole.
        """
        if not self.number:
            return image
        draw = random.Random(f"{self.name}/{self.number}")
        area, aspect = draw.uniform(0.35, 1.0) ** 0.5, draw.uniform(0.85, 1.18)
        width = min(image.width, round(image.width * area * aspect))
        height = min(image.height, round(image.height * area / aspect))
        left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
        cropped = image.crop((left, top, left + width, top + height))
        return ImageOps.mirror(cropped) if draw.random() < 0.5 else cropped


class Seen(NamedTuple):
    """What teachers see in one image: an embedding (E,), and maps (C, h, w) by their names."""

    embedding: Tensor
    maps: dict[str, Tensor]


@dataclass
class Teachers:
    """The networks whose features are kept.

    Attributes:
        codec: whose classifier and detector look at images, at the working sizes of its layers.
        maps: whether the detector looks.
        segmenter: also looks, if there is one.
    """

    codec: LayeredCodec
    maps: bool = True
    segmenter: DeepLab | None = None

    @torch.inference_mode()
    def see(self, image: Image.Image) -> Seen:
        """What the networks see in an image.

        Args:
            image: of any size.

        Returns:
            float32, on the CPU; maps on the grid of the spatial layer's working size, none where the detector does not
            look.
        """
        pixels = to_pixels(image)[None].to(self.codec.device)
        embedding, detected = self.codec.teachers_see(pixels, 2 if self.maps else 1)
        if detected is None:
            return Seen(embedding[0].float().cpu(), {})
        found = dict(zip(MAPS, (*detected.pyramid, *detected.backbone[1:]), strict=False))
        if self.segmenter is not None:
            scale = SEGMENTER_SIDE / max(image.size)
            sides = [max(33, round(side * scale / 16) * 16 + 1) for side in pixels.shape[-2:]]
            logits, grid = self.segmenter(resized(pixels, sides)), found["p4"].shape[-2:]
            found[SEGMENTATION] = F.interpolate(logits, size=grid, mode="bilinear", align_corners=False)
        return Seen(embedding[0].float().cpu(), {name: value[0].float().cpu() for name, value in found.items()})

    def key(self) -> str:
        """Hexadecimal digits of all that their features depend on beside the images."""
        config = self.codec.config
        digest = hashlib.blake2b(json_text([config.working_sizes, self.maps]).encode(), digest_size=8)
        for network in (self.codec.classifier, self.codec.detector if self.maps else None, self.segmenter):
            for name, tensor in [] if network is None else network.state_dict().items():
                digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()


class FeatureBatch:
    """Maps and embeddings of views with one grid.

    Neither a tuple nor a dataclass: what these hold, mixed precision rounds.

    Args:
        maps: (N, C, h, w) by their names.
        embeddings: (N, E).
    """

    def __init__(self, maps: dict[str, Tensor], embeddings: Tensor):
        self.maps, self.embeddings = maps, embeddings

    def detected(self) -> DetectorFeatures:
        """The detector's maps; its finest backbone features, which nothing reads, are left empty."""
        none, maps = self.embeddings.new_empty(0), self.maps
        pyramid = tuple(maps[name] for name in MAPS[:4])
        return DetectorFeatures(pyramid, (none, maps["c4"], maps["c5"]) if "c4" in maps else ())

    def to(self, device: torch.device) -> FeatureBatch:
        """The batch on a device.

        Args:
            device: torch device.
        """
        return FeatureBatch({name: value.to(device) for name, value in self.maps.items()}, self.embeddings.to(device))


class FeatureCache:
    """Features of views on the disk: a file for each grid, and an index of all of them.

    Args:
        folder: where they are; what another call is writing meanwhile is seen by `refresh`.

    Attributes:
        left_out: what is wrong with the image of each view that has no features, as it cannot be read.
        images: digest of all images, if `cached_features` opened the cache.

    Raises:
        FileNotFoundError: if nothing was written there.
    """

    def __init__(self, folder: str | Path):
        self.folder, self.images = Path(folder), ""
        self.refresh()

    def refresh(self) -> None:
        """Look again what there is.

        Raises:
            FileNotFoundError: if nothing was written there.
            ValueError: if the index is damaged.
        """
        path = self.folder / INDEX
        if not path.is_file():
            raise FileNotFoundError(f"no features of teachers in {self.folder}: write them first")
        found = read_tensors(path)
        self.views, self.shapes = [View(*view) for view in found["views"]], found["shapes"]
        self.embeddings, self.scales = found["embeddings"], found["scales"]
        self.left_out: list[str] = found.get("left_out", [])
        self.grids: dict[tuple[int, int], list[int]] = {}
        self.places: list[tuple[tuple[int, int], int]] = []
        for number, grid in enumerate(found["grids"]):
            rows = self.grids.setdefault(grid, [])
            self.places.append((grid, len(rows)))
            rows.append(number)

    def __len__(self) -> int:
        return len(self.views)

    @property
    def unreadable(self) -> list[str]:
        """What is wrong with each image that cannot be read."""
        return list(dict.fromkeys(self.left_out))

    def is_whole(self) -> bool:
        """Whether files are at least as long as the index says."""
        lengths = {grid: len(rows) * self._length(grid) for grid, rows in self.grids.items()}
        return all((self.folder / _file(grid)).stat().st_size >= length for grid, length in lengths.items() if length)

    def _length(self, grid: tuple[int, int]) -> int:
        """Bytes of the maps of a view."""
        return sum(int(np.prod(shape)) for shape in self.shapes[grid].values())

    def batch(self, numbers: Sequence[int]) -> FeatureBatch:
        """Features of views of one grid.

        Args:
            numbers: of the views, at least one.

        Returns:
            float32, on the CPU, in the order of the numbers.
        """
        grid = self.places[numbers[0]][0]
        shapes, length = self.shapes[grid], self._length(grid)
        if not length:
            return FeatureBatch({}, self.embeddings[list(numbers)].float())
        file = np.memmap(self.folder / _file(grid), np.int8, "r")
        rows = [file[self.places[n][1] * length : (self.places[n][1] + 1) * length] for n in numbers]
        whole, maps, first = torch.from_numpy(np.stack(rows)), {}, 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            part = whole[:, first : first + size].view(len(numbers), *shape).float()
            maps[name] = part.mul_(self.scales[name][:, None, None]).contiguous(memory_format=torch.channels_last)
            first += size
        return FeatureBatch(maps, self.embeddings[list(numbers)].float())

    def drawn(self, size: int, seed: str) -> list[int]:
        """Numbers of views of one grid; a grid comes as often as it has views.

        Args:
            size: at most so many.
            seed: of the draw.
        """
        draw = random.Random(seed)
        (rows,) = draw.choices(list(self.grids.values()), [len(rows) for rows in self.grids.values()])
        return draw.sample(rows, min(size, len(rows)))


def cached_features(
    folder: Path, config: FeatureConfig, teachers: Teachers, track: Callable[[list], Iterable] = lambda items: items
) -> FeatureCache:
    """What teachers see in a configuration's images, from a cache, which is written where it lacks.

    Args:
        folder: below which caches are; each is named by all that it depends on.
        config: names the images, and how often each is seen.
        teachers: that look.
        track: wraps a list to show progress.

    Raises:
        FileNotFoundError: if images do not exist.
        ValueError: if no image can be read.
    """
    sources = [ImageSet(source) for source in config.sources]
    digests = [contents_digest(images) for images in sources]
    words = [teachers.key(), config.views, *digests]
    name = hashlib.blake2b(json_text(words).encode(), digest_size=8).hexdigest()
    write_features(folder / name, sources, teachers, config.views, track)
    cache = FeatureCache(folder / name)
    cache.images = key_of(*digests)
    return cache


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
    index is written anew after ``every`` views, and what was done before is not done again. Images that cannot be read
    are left out, with a warning.

    Args:
        folder: made where it does not exist.
        sources: the images.
        teachers: that look.
        views: of each image: the first is the whole one.
        track: wraps a list to show progress.
        every: views after which the index is written.

    Raises:
        ValueError: if no image can be read.
        OSError: if the folder cannot be written to.
    """
    folder = Path(folder)
    make_folder(folder)
    jobs = _jobs(list(sources), views)
    done = _written(folder)
    start = len(done) + len(done.left_out) if done else 0
    if start == len(jobs):
        return
    index = _Index(folder, done) if done else _Index.measured(folder, [j for j in jobs if not j[1].number], teachers)
    for count, (images, view) in enumerate(track(jobs[start:]), start + 1):
        try:
            image = images.named(view.name)
        except (ValueError, OSError, MemoryError) as error:
            index.leave_out(sentence(error))
        else:
            index.add(view, teachers.see(view.of(image)))
        if count % every == 0 or count == len(jobs):
            index.save()


def _written(folder: Path) -> FeatureCache | None:
    """What was written before; nothing, where a crash or a full disk left less than the index says."""
    try:
        cache = FeatureCache(folder)
        return cache if cache.is_whole() else None
    except (OSError, ValueError):  # torch seeks beyond the start of a file that was cut
        return None


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
        self.left_out = list(done.left_out) if done else []
        self.grids = [place[0] for place in done.places] if done else []
        self.embeddings = [done.embeddings] if done else []
        self.shapes = dict(done.shapes) if done else {}
        self.scales = done.scales if done else scales
        self.pending: dict[tuple[int, int], list[bytes]] = {}

    @classmethod
    def measured(cls, folder: Path, jobs: list[tuple[ImageSet, View]], teachers: Teachers) -> _Index:
        """A new one, whose scales are those of the first views that can be read."""
        seen: dict[str, list[Tensor]] = {}
        count, errors = 0, []
        for images, view in jobs:
            try:
                image = images.named(view.name)
            except (ValueError, OSError, MemoryError) as error:
                errors.append(sentence(error))
                continue
            for name, value in teachers.see(view.of(image)).maps.items():
                seen.setdefault(name, []).append(value.flatten(1))
            count += 1
            if count == FIRST:
                break
        if not count:
            raise ValueError(f"teachers can read none of the images; error of the first: {errors[0]}")
        scales = {}
        for name, values in seen.items():
            whole = torch.cat(values, 1)
            scales[name] = (whole.mean(1).abs() + 8 * whole.std(1)).clamp_min(1e-3) / 127
        return cls(folder, None, scales)

    def add(self, view: View, seen: Seen) -> None:
        """Take in what teachers saw."""
        assert self.scales is not None
        embedding, maps = seen
        grid = (maps["p4"].shape[-2], maps["p4"].shape[-1]) if maps else ONE_CELL
        self.shapes[grid] = {name: tuple(value.shape) for name, value in maps.items()}
        parts = [(maps[n] / self.scales[n][:, None, None]).round().clamp(-127, 127).to(torch.int8) for n in maps]
        record = b"".join(part.numpy().tobytes() for part in parts)
        self.pending.setdefault(grid, []).append(record)
        self.views.append(view)
        self.grids.append(grid)
        self.embeddings.append(embedding.half()[None])

    def leave_out(self, error: str) -> None:
        """Go on without a view, whose image cannot be read."""
        if error not in self.left_out:
            notice(f"left out: {error}")
        self.left_out.append(error)

    def save(self) -> None:
        """Write what came since the last time, the index last; nothing, as long as no image could be read."""
        if not self.embeddings:
            return
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
            "left_out": self.left_out,
            "shapes": self.shapes,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(self.folder / INDEX, buffer.getvalue())
