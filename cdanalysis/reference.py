"""What a model makes of photographs that no codec has touched: the bound for what it makes of streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .codec.tiles import padded
from .data.images import Photograph, to_tensor
from .structures.predictions import Result, grouped, predict

if TYPE_CHECKING:
    from .model import Model


class Reference:
    """A model's counterparts on its backbone's own features.

    Args:
        model: whose backbone and counterparts to use.
    """

    def __init__(self, model: Model):
        self.model = model

    @torch.inference_mode()
    def pyramid(self, x: Tensor) -> list[Tensor]:
        """The backbone's features of photographs x (N, 3, H, W) in [0, 1]: what the neck imitates."""
        return self.model.codec.backbone(padded(x.to(self.model.device)))

    @torch.inference_mode()
    def logits(self, images: Sequence[Photograph]) -> Tensor:
        """Logits (N, classes) of the classification counterpart."""
        head = self.model.counterpart("classification")
        tensors = [to_tensor(image) for image in images]
        return torch.stack(grouped(tensors, _size, lambda group: list(head(self.pyramid(torch.stack(group))))))

    @torch.inference_mode()
    def analyze(self, images: Sequence[Photograph], tasks: Sequence[str] | None = None) -> list[Result]:
        """What the counterparts predict of each photograph; by default for all tasks that the model has.

        Raises:
            ValueError: for a task the model has no head for.
        """
        heads = {task: self.model.counterpart(task) for task in self.model.tasks(tasks)}

        def work(group: list[Tensor]) -> list[Result]:
            return predict(heads, self.pyramid(torch.stack(group)), [_size(x) for x in group])

        return grouped([to_tensor(image) for image in images], _size, work)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
