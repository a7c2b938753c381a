"""Another package, as somebody else would write it: a task, an observer, a metric, an evaluator, a codec, a data set.

`test_plugins.py` copies this file into a folder of its own, with entry points beside it; nothing here is known to
cdanalysis otherwise.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from cdanalysis.codecs.base import Codec
from cdanalysis.data.images import ImageSet, data_path
from cdanalysis.heads.base import Head
from cdanalysis.observers import Observer
from cdanalysis.observers.base import weighted_mean
from cdanalysis.structures.features import Features, FeatureSpec
from cdanalysis.structures.targets import Target


@dataclass
class Points(Target):
    """One point for each kind, (K, 2): x, y in pixels; where it is not to be seen, NaN."""

    xy: Tensor

    def flipped(self, width: int) -> Points:
        return Points(torch.stack([width - self.xy[:, 0], self.xy[:, 1]], 1))

    def scaled(self, width: float, height: float) -> Points:
        return Points(self.xy * self.xy.new_tensor([width, height]))

    def cropped(self, left: int, top: int, width: int, height: int) -> Points:
        xy = self.xy - self.xy.new_tensor([left, top])
        inside = (xy >= 0).all(1) & (xy < xy.new_tensor([width, height])).all(1)
        return Points(xy.where(inside[:, None], torch.nan))

    def to(self, device: torch.device) -> Points:
        return Points(self.xy.to(device))


@dataclass(frozen=True)
class Keypoints:
    """Where each kind of point is, (K, 2) in pixels."""

    xy: np.ndarray
    classes: list[str]

    def to_dict(self) -> dict[str, list[float]]:
        return dict(zip(self.classes, self.xy.tolist(), strict=True))

    def summary(self) -> str:
        return ", ".join(f"{name} {x:.0f},{y:.0f}" for name, (x, y) in zip(self.classes, self.xy, strict=True))


class KeypointHead(Head):
    """A heat map at stride 8 for each kind of point."""

    def __init__(self, spec: FeatureSpec, classes: list[str], width: int = 16):
        super().__init__()
        self.classes, self.width = list(classes), width
        channels = spec.pyramid[0]
        self.norm = nn.BatchNorm2d(channels)
        self.net = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, len(classes), 1))

    def forward(self, features: Features) -> Tensor:
        return self.net(self.norm(features.pyramid[0]))

    def describe(self) -> dict[str, Any]:
        return {"classes": self.classes, "width": self.width}

    def loss(self, features: Features, targets: list[Points]) -> dict[str, Tensor]:
        maps = self(features).float()
        xy = torch.stack([target.xy for target in targets])
        cells = (xy / 8).long()
        cells = cells[..., 1] * maps.shape[-1] + cells[..., 0]
        cells = cells.where(~xy.isnan().any(-1), -1)
        return {"keypoints": F.cross_entropy(maps.flatten(2).flatten(0, 1), cells.flatten(), ignore_index=-1)}

    @torch.no_grad()
    def predict(self, features: Features) -> list[Keypoints]:
        maps = self(features).float()
        best = maps.flatten(2).argmax(-1)
        xy = 8 * torch.stack([best % maps.shape[-1], best // maps.shape[-1]], -1) + 4.0
        scales = xy.new_tensor(features.scales())[:, None]
        return [Keypoints(row.cpu().numpy(), self.classes) for row in xy * scales]


class PointFolder:
    """Images in a folder, with ``points.json`` beside: {"classes": [...], "points": {file: [[x, y], ...]}}."""

    task = "keypoints"

    def __init__(self, source):
        self.images = ImageSet(source.path)
        table = json.loads(data_path(source.annotations).read_text())
        self.classes, self.points = table["classes"], table["points"]
        self.title, self.names = self.images.title, self.images.names

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image.Image:
        return self.images.named(self.names[index])

    def read(self, index: int) -> bytes:
        return self.images.read_named(self.names[index])

    def every(self, step: int) -> PointFolder:
        return self.chosen(range(0, len(self), step))

    def chosen(self, indices: Sequence[int]) -> PointFolder:
        view = copy.copy(self)
        view.names = [self.names[index] for index in indices]
        return view

    def target(self, index: int) -> Points:
        return Points(torch.tensor(self.points[self.names[index]], dtype=torch.float32))

    def __getitem__(self, index: int) -> tuple[Image.Image, Points]:
        return self.image(index), self.target(index)


class PCK:
    """Share of points that lie within 12 pixels of where they should."""

    main, biased = "PCK", False

    def __init__(self, labeled, classes):
        self.labeled, self.parts = labeled, {}

    def update(self, index: int, prediction: Keypoints) -> None:
        distance = np.linalg.norm(prediction.xy - self.labeled.target(index).xy.numpy(), axis=1)
        self.parts[index] = float((distance <= 12).mean())

    def compute(self, chosen=None) -> dict[str, float]:
        chosen = sorted(self.parts) if chosen is None else chosen
        return {"PCK": float(np.mean([self.parts[int(i)] for i in chosen]))}


class Blurred(Observer):
    """Squared error after a blur."""

    def __init__(self, radius: int):
        super().__init__()
        self.radius = radius

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        blur = lambda x: F.avg_pool2d(x, 2 * self.radius + 1, 1, self.radius)  # noqa: E731
        return weighted_mean((blur(original) - blur(reconstruction)).square(), weight)


def blurred(config, spatial: int) -> Observer:
    return Blurred(**config.options)


class PalettePNG(Codec):
    """PNG files of 2 to 256 colors."""

    name, max_level = "palette PNG", 7

    def encode(self, image: Image.Image, level: int) -> bytes:
        buffer = io.BytesIO()
        image.convert("RGB").quantize(2 ** (1 + level)).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def decode(self, data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


PALETTE_PNG = PalettePNG()


class Brightness:
    """Mean difference of brightness."""

    def __init__(self):
        self.values = []

    def update(self, index: int, original: np.ndarray, decoded: np.ndarray, data: bytes) -> dict[str, float]:
        self.values.append(abs(float(original.mean()) - float(decoded.mean())))
        return {"brightness": self.values[-1]}

    def compute(self) -> dict[str, float]:
        return {"brightness": float(np.mean(self.values))}


def brightness(context) -> Brightness:
    return Brightness()


def tiny_teacher() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
