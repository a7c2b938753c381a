"""Published weights: of the teachers, and of the heads that start as the teachers' own."""

from __future__ import annotations

from ..heads.nanodet import NanoDet
from ..model import Model
from ..teachers.nanodet import COCO_CLASSES


def load_pretrained(model: Model) -> None:
    """Give a model's teachers their published weights, and its heads those that fit them.

    The classification head takes the classifier's matrix, if it has ImageNet's classes; the detection head takes the
    detector's heads, if it is of their kind and has COCO's classes.

    Raises:
        FileNotFoundError, RuntimeError: if weights cannot be had.
    """
    codec = model.codec
    codec.classifier.load_imagenet()
    codec.detector.load()
    weight, bias = codec.classifier.classifier_weights()
    if "classification" in model.heads and len(model.heads["classification"].classes) == len(weight):
        model.heads["classification"].classify.load_state_dict({"weight": weight, "bias": bias})
    if "detection" in model.heads:
        head = model.heads["detection"]
        if isinstance(head.detector, NanoDet) and head.classes == COCO_CLASSES:
            head.detector.heads.load_state_dict(codec.detector.heads.state_dict())
