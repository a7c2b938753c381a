"""Published weights: of the teachers, and of the heads that start as the teachers' own."""

from __future__ import annotations

from ..model import Model
from ..reference import teachers_weights


def load_pretrained(model: Model) -> None:
    """Give a model's teachers their published weights, and its heads those that fit them.

    The classification head takes the classifier's matrix, if it has ImageNet's classes; the detection head takes the
    detector's heads, if it is of their kind and has COCO's classes.

    Args:
        model: gets the weights.

    Raises:
        FileNotFoundError, RuntimeError: if weights cannot be had.
    """
    model.codec.classifier.load_imagenet()
    model.codec.detector.load()
    for head in model.heads.values():
        head.load_state_dict(head.state_dict() | teachers_weights(model.codec, head))
