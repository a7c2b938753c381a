"""detectron2's models on streams: a backbone, a mixin for its meta-architectures, and a dataset mapper.

Geometry is in pixels of the photograph: annotations need no scaling, and predictions have detectron2's usual form.
Latents are padded on the right and at the bottom, to a multiple of ``size_divisibility`` pixels.
Needs detectron2 (Wu, Kirillov, Massa, Lo, Girshick, 2019): the README says how to install it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import detection_utils
from detectron2.data.transforms import TransformList
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.meta_arch import GeneralizedRCNN, PanopticFPN, RetinaNet, SemanticSegmentor
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList
from torch import Tensor

from ..blocks import Upsample
from ..data.segmentation import class_indices
from ..heads.neck import FeaturePyramid
from ..model import Model
from ..structures.latents import PAD
from ..zoo import load

LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
"""Strides, in pixels of the photograph, of the features by name."""


class LatentBackbone(Backbone):
    """A backbone from semantic latents to p2..p6: a model's neck, and a feature pyramid.

    Args:
        model: a zoo name, the folder of a model, or a model; its neck is copied.
        out_channels: channels of every level.
        out_features: names in `LEVELS`.
        freeze_neck: whether the neck is frozen.

    Raises:
        ValueError: for an unknown feature.
        FileNotFoundError: if there is no such model.
    """

    def __init__(
        self,
        model: str | Path | Model = "photo",
        out_channels: int = 256,
        out_features: tuple[str, ...] = tuple(LEVELS),
        freeze_neck: bool = True,
    ):
        super().__init__()
        unknown = [name for name in out_features if name not in LEVELS]
        if unknown:
            raise ValueError(f"unknown feature {unknown[0]!r} in out_features; there are {', '.join(LEVELS)}")
        model = model if isinstance(model, Model) else load(model)
        self.neck = copy.deepcopy(model.neck).requires_grad_(not freeze_neck)
        finest, middle, coarsest = model.codec.backbone.channels
        self.pyramid = FeaturePyramid((finest, middle, coarsest), out_channels)
        self.finest = Upsample(out_channels, out_channels) if "p2" in out_features else None
        self._out_features = list(out_features)
        self._out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The features.

        Args:
            x: (N, C, h, w), h and w at stride 16: dequantized latents of all layers that the neck reads, then one
                channel of the quality in [0, 1].

        Returns:
            (N, out_channels, h', w') by name.
        """
        layers = list(x[:, :-1].split([spec.channels for spec in self.neck.specs], 1))
        levels = list(self.pyramid(self.neck(layers, x[:, -1:])).values())
        features = dict(zip(("p3", "p4", "p5", "p6"), levels, strict=True))
        if self.finest is not None:
            features["p2"] = self.finest(features["p3"])
        return {name: features[name] for name in self._out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature."""
        return {name: ShapeSpec(channels=self._out_channels, stride=LEVELS[name]) for name in self._out_features}

    @property
    def size_divisibility(self) -> int:
        """Multiple, in pixels, to which the codec pads photographs."""
        return PAD


class ReadsLatents:
    """A mixin for detectron2's meta-architectures, whose batches then have latents, from `LatentMapper`, not pixels.

    It comes first: ``class MyRCNN(ReadsLatents, GeneralizedRCNN)``. The model needs a `LatentBackbone`, and takes
    neither ``pixel_mean`` nor ``pixel_std``.

    Args:
        **options: of the meta-architecture.
    """

    device: torch.device
    """Of the meta-architecture."""

    def __init__(self, **options: Any):
        super().__init__(**{"pixel_mean": (0.0,), "pixel_std": (1.0,), **options})

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Stack latents into a batch, padded with zeros on the right and at the bottom.

        Args:
            batched_inputs: entries from `LatentMapper`.

        Returns:
            tensor (N, C, h, w), with the sizes of the photographs.

        Raises:
            ValueError: if the entries have no latents.
        """
        for entry in batched_inputs:
            if "latents" not in entry:
                raise ValueError("the batch holds no latents: map the data set with LatentMapper")
        planes = [entry["latents"].to(self.device) for entry in batched_inputs]
        height, width = (max(plane.shape[axis] for plane in planes) for axis in (1, 2))
        padded = [F.pad(plane, (0, width - plane.shape[2], 0, height - plane.shape[1])) for plane in planes]
        return ImageList(torch.stack(padded), [entry["size"] for entry in batched_inputs])


class LatentRCNN(ReadsLatents, GeneralizedRCNN):
    """Faster, Mask or Cascade R-CNN on latents."""


class LatentRetinaNet(ReadsLatents, RetinaNet):
    """RetinaNet on latents."""


class LatentFCOS(ReadsLatents, FCOS):
    """FCOS on latents."""


class LatentPanopticFPN(ReadsLatents, PanopticFPN):
    """Panoptic FPN on latents."""


class LatentSemanticSegmentor(ReadsLatents, SemanticSegmentor):
    """Semantic FPN on latents."""

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """As `SemanticSegmentor.forward`, which does not use ``preprocess_image``.

        Args:
            batched_inputs: entries from `LatentMapper`.
        """
        images = self.preprocess_image(batched_inputs)
        features, targets = self.backbone(images.tensor), None
        if "sem_seg" in batched_inputs[0]:
            targets = [entry["sem_seg"].to(self.device) for entry in batched_inputs]
            ignore = self.sem_seg_head.ignore_value
            targets = ImageList.from_tensors(targets, self.backbone.size_divisibility, ignore).tensor
        results, losses = self.sem_seg_head(features, targets)
        if self.training:
            return losses
        processed = []
        for result, entry, size in zip(results, batched_inputs, images.image_sizes, strict=True):
            height, width = entry.get("height", size[0]), entry.get("width", size[1])
            processed.append({"sem_seg": sem_seg_postprocess(result, size, height, width)})
        return processed


class LatentMapper:
    """A dataset mapper that reads streams instead of images, for models with `ReadsLatents`.

    The stream of a photograph, ``file_name``, is next to it or in ``streams``, and has the same name with the suffix
    ``.cda``. There is no augmentation, because latents are stored.

    Args:
        model: that wrote the streams: a zoo name, a folder, or a model.
        is_train: whether to add annotations.
        streams: folder of the streams; by default they are next to the photographs.
        masks: whether to add instance masks.

    Raises:
        FileNotFoundError: if there is no such model.
    """

    def __init__(
        self,
        model: str | Path | Model = "photo",
        is_train: bool = True,
        streams: str | Path | None = None,
        masks: bool = False,
    ):
        self.model = model if isinstance(model, Model) else load(model)
        self.is_train, self.masks = is_train, masks
        self.streams = None if streams is None else Path(streams)

    def path_of(self, file_name: str) -> Path:
        """The path of a photograph's stream.

        Args:
            file_name: of the photograph.
        """
        path = Path(file_name).with_suffix(".cda")
        return path if self.streams is None else self.streams / path.name

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one entry of a data set.

        Args:
            dataset_dict: in detectron2's standard format.

        Returns:
            the entry with ``latents`` (C, h, w) and ``size`` (height, width), in training also ``instances`` or
            ``sem_seg``.

        Raises:
            FileNotFoundError: if there is no stream.
            StreamError: if it is bad, or another model's.
            ValueError: if its size differs from that of the data set or of the label map, the label map is invalid, or
                masks are missing.
        """
        entry = copy.deepcopy(dataset_dict)
        data = self.path_of(entry["file_name"]).read_bytes()
        layers, quality, size = self.model.read_latents(data)
        if (entry.get("height", size[0]), entry.get("width", size[1])) != size:
            raise ValueError(
                f"{entry['file_name']}: the stream's photograph has {size[1]}x{size[0]} pixels, not the data set's size"
            )
        entry["latents"] = torch.cat([*layers, torch.full_like(layers[0][:1], quality)])
        entry["size"], entry["height"], entry["width"] = size, *size
        annotations, labels = entry.pop("annotations", None), entry.pop("sem_seg_file_name", None)
        if self.is_train and annotations is not None:
            if self.masks and not all(a.get("segmentation") for a in annotations):
                raise ValueError(f"{entry['file_name']} has objects without masks: use LatentMapper(masks=False)")
            entry["instances"] = self._instances(annotations, size)
        if self.is_train and labels is not None:
            indices = class_indices(Path(labels).read_bytes(), labels, size)
            entry["sem_seg"] = torch.from_numpy(indices.astype(np.int64))
        return entry

    def _instances(self, annotations: list[dict[str, Any]], size: tuple[int, int]) -> Any:
        kept = [a for a in annotations if not a.get("iscrowd", 0)]
        for annotation in kept:
            if not self.masks:
                annotation.pop("segmentation", None)
        moved = [detection_utils.transform_instance_annotations(a, TransformList([]), size) for a in kept]
        form = "polygon" if all(isinstance(a.get("segmentation"), list) for a in moved) else "bitmask"
        return detection_utils.filter_empty_instances(detection_utils.annotations_to_instances(moved, size, form))
