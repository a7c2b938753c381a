"""What a model makes of images that no codec has touched: the bound for what it makes of streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .codec.layered import LayeredCodec
from .data.images import ImageLike, to_pixels
from .heads.base import Head, grouped, layers_of, predict, tasks_of
from .structures.features import Features
from .structures.predictions import Result


class Reference:
    """A model's counterparts on its teachers' own features.

    Args:
        codec: whose teachers look at images.
        heads: for each of the model's tasks its counterpart.
        name: of the model.
    """

    def __init__(self, codec: LayeredCodec, heads: Mapping[str, Head], name: str):
        self.codec, self.heads, self.name = codec, heads, name

    @torch.inference_mode()
    def features(self, images: Sequence[ImageLike], layers: int = 2) -> Features:
        """What the teachers see in images of one size, in place of what streams tell of it.

        Args:
            layers: 1 for the classifier's embedding alone.

        Raises:
            ValueError: for layers that have no teacher.
        """
        if layers > 2:
            raise ValueError("a head that reads the detail layer has no counterpart: that layer has no teacher")
        x = torch.stack([to_pixels(image) for image in images]).to(self.codec.device)
        seen = self.codec.teachers_see(x, layers)
        pyramid = [] if seen.detected is None else list(seen.detected.pyramid)
        return Features([(x.shape[-2], x.shape[-1])] * len(x), seen.embedding, pyramid)

    @torch.inference_mode()
    def logits(self, images: Sequence[ImageLike]) -> Tensor:
        """Logits (N, classes) of the classification counterpart."""
        head = self.heads["classification"]
        tensors = [to_pixels(image) for image in images]
        return torch.stack(grouped(tensors, _kind, lambda group: list(head(self.features(group, layers_of([head]))))))

    @torch.inference_mode()
    def analyze(self, images: Sequence[ImageLike], tasks: Sequence[str] | None = None) -> list[Result]:
        """What the counterparts predict of each image; by default for all tasks that the model has.

        Raises:
            ValueError: for a task the model has no head for.
        """
        heads = {task: self.heads[task] for task in tasks_of(self.heads, tasks, self.name)}
        layers = layers_of(heads.values())
        work = lambda group: predict(heads, self.features(group, layers))  # noqa: E731
        return grouped([to_pixels(image) for image in images], _kind, work)


def _kind(x: Tensor) -> tuple:
    return x.shape, x.dtype
