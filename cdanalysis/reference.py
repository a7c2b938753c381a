"""What a model makes of photographs that no codec has touched: the bound for what it makes of streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .codec.tiles import padded
from .data.images import ImageLike, to_tensor
from .heads.base import Head, grouped, predict, tasks_of
from .structures.predictions import Result


class Reference:
    """A model's counterparts on its backbone's own features.

    Args:
        backbone: the model's.
        heads: for each of the model's tasks its counterpart.
        name: of the model.
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, Head], name: str):
        self.backbone, self.heads, self.name = backbone, heads, name

    @torch.inference_mode()
    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The backbone's features of photographs x (N, 3, H, W) in [0, 1]: what the neck is trained to give."""
        return self.backbone(padded(x.to(next(self.backbone.parameters()).device)))

    @torch.inference_mode()
    def logits(self, images: Sequence[ImageLike]) -> Tensor:
        """Logits (N, classes) of the classification counterpart."""
        head = self.heads["classification"]
        tensors = [to_tensor(image) for image in images]
        return torch.stack(grouped(tensors, _size, lambda group: list(head(self.pyramid(torch.stack(group))))))

    @torch.inference_mode()
    def analyze(self, images: Sequence[ImageLike], tasks: Sequence[str] | None = None) -> list[Result]:
        """What the counterparts predict of each photograph; by default for all tasks that the model has.

        Raises:
            ValueError: for a task the model has no head for.
        """
        heads = {task: self.heads[task] for task in tasks_of(self.heads, tasks, self.name)}

        def work(group: list[Tensor]) -> list[Result]:
            return predict(heads, self.pyramid(torch.stack(group)), [_size(x) for x in group])

        return grouped([to_tensor(image) for image in images], _size, work)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
