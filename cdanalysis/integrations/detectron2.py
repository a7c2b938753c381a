"""detectron2's models on streams: a backbone, a mixin for its meta-architectures, and a dataset mapper.

The spatial layer knows the whole photograph at a working size. Models therefore work in pixels of that size, to which
the mapper scales annotations; predictions come out in pixels of the photograph, where detectron2 always gives them.
Needs detectron2 (Wu, Kirillov, Massa, Lo, Girshick, 2019): the README says how to install it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import detection_utils
from detectron2.data.transforms import ResizeTransform, TransformList
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.meta_arch import GeneralizedRCNN, PanopticFPN, RetinaNet, SemanticSegmentor
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList
from PIL import Image
from torch import Tensor

from ..blocks import Upsample
from ..codec.gains import quality_plane
from ..codec.layered import to_real
from ..codec.tiles import STRIDE
from ..data.segmentation import class_indices
from ..heads.base import grouped
from ..heads.pyramid import FeaturePyramid
from ..model import Model
from ..structures.latents import PAD, SEMANTIC
from ..zoo import load

LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
"""Names of the features, and the pixels of the working size that a cell spans."""


class LatentBatch(NamedTuple):
    """What `LatentBackbone` reads of a batch of streams, one entry a photograph.

    Attributes:
        latents: dequantized latents of the spatial layer, (C, h / 16, w / 16) for a working size of h x w.
        qualities: (1, 1, 1), of that layer, in [0, 1].
        contexts: dequantized latents of the global layer, (S, 1, 1).
    """

    latents: list[Tensor]
    qualities: list[Tensor]
    contexts: list[Tensor]


class LatentBackbone(Backbone):
    """Latents of the semantic layers to p2..p6, by the spatial layer's synthesis and a feature pyramid.

    Args:
        model: a zoo name, the folder of a model, or a model; the synthesis of its spatial layer is copied.
        out_channels: channels of every level.
        out_features: which of `LEVELS` to give.
        frozen: whether the synthesis stands still.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: for a feature that is none of `LEVELS`, or a damaged model.
    """

    def __init__(
        self,
        model: str | Path | Model = "photo",
        out_channels: int = 256,
        out_features: tuple[str, ...] = tuple(LEVELS),
        frozen: bool = True,
    ):
        super().__init__()
        unknown = [name for name in out_features if name not in LEVELS]
        if unknown:
            raise ValueError(f"unknown feature {unknown[0]!r} in out_features; there are {', '.join(LEVELS)}")
        model = model if isinstance(model, Model) else load(model)
        self.synthesis = copy.deepcopy(model.codec.spatial.g_s).requires_grad_(not frozen)
        self.pyramid = FeaturePyramid(model.codec.feature_spec.pyramid, out_channels)
        self.finest = Upsample(out_channels, out_channels) if "p2" in out_features else None
        self._out_features = list(out_features)
        self._out_channels = out_channels

    def forward(self, batch: LatentBatch) -> dict[str, Tensor]:
        """The features of a batch of photographs.

        Args:
            batch: as `ReadsLatents.preprocess_image` makes it; working sizes may differ.

        Returns:
            (N, C, h / s, w / s) by name, rounded up, for the largest working height h and width w; those of smaller
            photographs have zeros to the right and below.
        """
        each = grouped(list(zip(*batch, strict=True)), lambda row: row[0].shape, self._rows)
        height, width = (max(latents.shape[axis] for latents in batch.latents) * STRIDE for axis in (1, 2))
        features = {}
        for name in self._out_features:
            at, levels = LEVELS[name], [row[name] for row in each]
            rows, columns = -(-height // at), -(-width // at)
            padded = [F.pad(x, (0, columns - x.shape[2], 0, rows - x.shape[1])) for x in levels]
            features[name] = torch.stack(padded)
        return features

    def _rows(self, rows: list[tuple[Tensor, Tensor, Tensor]]) -> list[dict[str, Tensor]]:
        """Features of each of photographs of one working size."""
        latents, qualities, contexts = (torch.stack(column) for column in zip(*rows, strict=True))
        levels = self.pyramid(self.synthesis(latents, qualities, contexts)).values()
        features = dict(zip(("p3", "p4", "p5", "p6"), levels, strict=True))
        if self.finest is not None:
            features["p2"] = self.finest(features["p3"])
        return [{name: level[i] for name, level in features.items()} for i in range(len(rows))]

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature.

        Returns:
            by name; strides in pixels of the working size.
        """
        return {name: ShapeSpec(channels=self._out_channels, stride=LEVELS[name]) for name in self._out_features}

    @property
    def size_divisibility(self) -> int:
        """What the sides of working sizes are multiples of."""
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
        """What the backbone reads.

        Args:
            batched_inputs: entries from `LatentMapper`.

        Returns:
            a `LatentBatch` in place of pixels, on the model's device; sizes are the photographs' working sizes.

        Raises:
            ValueError: if an entry has no latents.
        """
        for entry in batched_inputs:
            if "latents" not in entry:
                raise ValueError("the batch holds no latents: map the data set with LatentMapper")
        columns = (
            [entry[key].to(self.device) for entry in batched_inputs] for key in ("latents", "quality", "context")
        )
        return ImageList(LatentBatch(*columns), [entry["size"] for entry in batched_inputs])


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

    @torch.no_grad()
    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """One entry: what `LatentBatch` takes of it, and ``size``, the working height and width; in training also
        ``instances`` or ``sem_seg``, in pixels of that size. ``height`` and ``width`` are the photograph's.

        Args:
            dataset_dict: one of detectron2's; it is not changed.

        Raises:
            FileNotFoundError: if there is no stream.
            StreamError: if it is bad, another model's, or has no spatial layer.
            ValueError: if its size is not that which the data set gives, or that of its labels, these are no class
                indices, or masks are wanted and missing.
        """
        entry = copy.deepcopy(dataset_dict)
        size = self._read(entry)
        annotations, labels = entry.pop("annotations", None), entry.pop("sem_seg_file_name", None)
        if self.is_train and annotations is not None:
            if self.masks and not all(a.get("segmentation") for a in annotations):
                raise ValueError(f"{entry['file_name']} has objects without a mask to learn from: use masks=False")
            entry["instances"] = self._instances(annotations, size, entry["size"])
        if self.is_train and labels is not None:
            indices = Image.fromarray(class_indices(Path(labels).read_bytes(), labels, size).astype(np.uint8))
            indices = indices.resize(entry["size"][::-1], Image.Resampling.NEAREST)
            entry["sem_seg"] = torch.from_numpy(np.asarray(indices).astype(np.int64))
        return entry

    def _read(self, entry: dict[str, Any]) -> tuple[int, int]:
        """Put what an entry's stream says into the entry; gives the photograph's height and width."""
        codec, data = self.model.codec, self.path_of(entry["file_name"]).read_bytes()
        latents = self.model.to_latents([data], SEMANTIC)
        size = latents.size
        if (entry.get("height", size[0]), entry.get("width", size[1])) != size:
            raise ValueError(
                f"{entry['file_name']}: the stream's photograph is {size[1]}x{size[0]}, not the data set's"
            )
        context, spatial = to_real(latents.embedding), to_real(latents.spatial)
        planes = [quality_plane(level, context) for level in latents.quality]
        entry["context"] = codec.global_layer.dequantize(context, planes[0])[0]
        entry["latents"] = codec.spatial.dequantize(spatial, planes[1])[0]
        entry["quality"] = planes[1][0]
        entry["size"] = (STRIDE * spatial.shape[-2], STRIDE * spatial.shape[-1])
        entry["height"], entry["width"] = size
        return size

    def _instances(self, annotations: list[dict[str, Any]], size: tuple[int, int], working: tuple[int, int]) -> Any:
        kept = [a for a in annotations if not a.get("iscrowd", 0)]
        for annotation in kept:
            annotation["bbox"] = [
                float(value) for value in annotation["bbox"]
            ]  # whole numbers would be scaled to whole ones
            if not self.masks:
                annotation.pop("segmentation", None)
            elif isinstance(annotation["segmentation"], list):
                annotation["segmentation"] = [[float(v) for v in ring] for ring in annotation["segmentation"]]
        scaled = TransformList([ResizeTransform(*size, *working)])
        moved = [detection_utils.transform_instance_annotations(a, scaled, working) for a in kept]
        form = "polygon" if all(isinstance(a.get("segmentation"), list) for a in moved) else "bitmask"
        return detection_utils.filter_empty_instances(detection_utils.annotations_to_instances(moved, working, form))
