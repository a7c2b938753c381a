"""What a model makes of images that no codec has touched: the bound for what it makes of streams.

A head that learned from streams reads what its teacher sees in an image worse than a head that learned from images, so
it is no bound. A head's counterpart is therefore one that was trained on what the teachers see, or the head itself
where it still is the teacher's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .codec.layered import LayeredCodec
from .heads.base import Head, check_list, grouped, layers_of, predict, tasks_of
from .heads.classification import ClassificationHead
from .heads.detection import DetectionHead
from .heads.nanodet import NanoDet
from .photographs.read import ImageLike, to_pixels
from .structures.features import Features
from .structures.predictions import Result
from .teachers.nanodet import COCO_CLASSES, NanoDetPlus


def teachers_weights(codec: LayeredCodec, head: Head) -> dict[str, Tensor]:
    """The weights that a head has where it is its teacher's own; empty where the teacher has no such head.

    A classification head has the classifier's matrix, if it has as many classes; a detection head the detector's
    heads, if it is of their kind and has COCO's classes.

    Args:
        codec: whose teachers they are.
        head: of any task.

    Returns:
        tensors by their names in the head.
    """
    own: dict[str, Tensor] = {}
    classifier, detector = getattr(codec, "classifier", None), getattr(codec, "detector", None)
    if isinstance(head, ClassificationHead) and classifier is not None:
        weight, bias = classifier.classifier_weights()
        own = {"classify.weight": weight, "classify.bias": bias}
    elif isinstance(head, DetectionHead) and isinstance(head.detector, NanoDet) and head.classes == COCO_CLASSES:
        known = detector.heads.state_dict() if isinstance(detector, NanoDetPlus) else {}
        own = {f"detector.heads.{name}": tensor for name, tensor in known.items()}
    has = head.state_dict()
    return own if all(name in has and has[name].shape == tensor.shape for name, tensor in own.items()) else {}


def is_teachers_own(codec: LayeredCodec, head: Head) -> bool:
    """Whether a head still is its teacher's own: it never learned from streams.

    Args:
        codec: whose teachers they are.
        head: of any task.
    """
    own, has = teachers_weights(codec, head), head.state_dict()
    return bool(own) and all(torch.equal(has[name], tensor) for name, tensor in own.items())


class Reference:
    """A model's counterparts on its teachers' own features.

    Args:
        codec: whose teachers look at images.
        heads: of the model, by task.
        counterparts: those that were trained, by task.
        name: of the model.
    """

    def __init__(self, codec: LayeredCodec, heads: Mapping[str, Head], counterparts: Mapping[str, Head], name: str):
        self.codec, self.heads, self.counterparts, self.name = codec, heads, counterparts, name

    def head(self, task: str) -> Head:
        """The counterpart of a task's head.

        Args:
            task: one of the model's.

        Raises:
            ValueError: if none was trained, and the head is not its teacher's own.
            KeyError: for a task that the model has no head for.
        """
        if why := self.missing(task):
            raise ValueError(why)
        return self.counterparts[task] if task in self.counterparts else self.heads[task]

    def missing(self, task: str) -> str:
        """Why a task's head has no counterpart; empty where it has one.

        Args:
            task: one of the model's.

        Raises:
            KeyError: for a task that the model has no head for.
        """
        if task in self.counterparts or is_teachers_own(self.codec, self.heads[task]):
            return ""
        return (
            f"model {self.name!r} has no counterpart of its {task} head, which learned from streams; train one "
            f"(trains: [counterparts.{task}], head: {{task: {task}, input: features}})"
        )

    @torch.inference_mode()
    def features(self, images: Sequence[ImageLike], layers: int = 2) -> Features:
        """What the teachers see in images of one size, in place of what streams tell of it.

        Args:
            images: of one size, each of any kind that `Model.encode` takes; at least one.
            layers: 1 for the classifier's embedding alone, 2 for the pyramid, too.

        Returns:
            a batch, on the codec's device, without detail layer.

        Raises:
            ValueError: for layers that have no teacher; for an image, as `to_pixels`.
            FileNotFoundError: if an image is the path of a file that is not there.
        """
        if layers > 2:
            raise ValueError("a head that reads the detail layer has no counterpart: that layer has no teacher")
        x = torch.stack([to_pixels(image) for image in images]).to(self.codec.device)
        seen = self.codec.teachers_see(x, layers)
        pyramid = [] if seen.detected is None else list(seen.detected.pyramid)
        return Features([(x.shape[-2], x.shape[-1])] * len(x), seen.embedding, pyramid)

    @torch.inference_mode()
    def logits(self, images: Sequence[ImageLike]) -> Tensor:
        """Logits of the classification counterpart.

        Args:
            images: of any sizes, each of any kind that `Model.encode` takes; at least one.

        Returns:
            (N, classes).

        Raises:
            ValueError: if the classification head has no counterpart; for an image, as `to_pixels`.
            KeyError: if the model has no classification head.
            FileNotFoundError: if an image is the path of a file that is not there.
        """
        head = self.head("classification")
        tensors = [to_pixels(image) for image in images]
        return torch.stack(grouped(tensors, _kind, lambda group: list(head(self.features(group, layers_of([head]))))))

    @torch.inference_mode()
    def analyze(self, images: Sequence[ImageLike], tasks: Sequence[str] | None = None) -> list[Result]:
        """What the counterparts predict of each image.

        Args:
            images: of any sizes, each of any kind that `Model.encode` takes.
            tasks: tasks to run; by default all that the model has.

        Returns:
            predictions by task for each image, in pixels of the image.

        Raises:
            ValueError: for a task the model has no head for, or no counterpart; for an image, as `to_pixels`.
            FileNotFoundError: if an image is the path of a file that is not there.
        """
        check_list(images, "analyze")
        heads = {task: self.head(task) for task in tasks_of(self.heads, tasks, self.name)}
        layers = layers_of(heads.values())
        work = lambda group: predict(heads, self.features(group, layers))  # noqa: E731
        return grouped([to_pixels(image) for image in images], _kind, work)


def _kind(x: Tensor) -> tuple:
    return x.shape, x.dtype
