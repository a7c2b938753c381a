"""A model: a codec, a neck and heads. What `cdanalysis.load` gives and the public verbs call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .codec.layered import CodecConfig, LayeredCodec, pad
from .codec.semantic import quality_plane, to_real
from .codec.symbols import SymbolCoder, same_kind
from .data.photographs import to_rgb
from .heads.classification import Classification, ClassificationHead
from .heads.neck import Neck
from .latents import Latents, quality_level
from .stream.container import LAYERS, Layer, Stream, pack, unpack
from .stream.errors import StreamError

if TYPE_CHECKING:
    from .training.recipe import Recipe

TASKS = ("classification",)
"""What heads can be asked for."""

Photograph = Image.Image | np.ndarray | Tensor
"""A PIL image, a uint8 array (H, W, 3) or (H, W), or a float tensor (3, H, W) in [0, 1]."""

Quality = float | tuple[float, float]
"""One number in [0, 1] for both layers, or (semantic, detail)."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Result:
    """Predictions of one photograph; a task that was not asked for is None."""

    classification: Classification | None = None


class Model(nn.Module):
    """A layered codec and the heads that read its latents.

    Args:
        codec: shape of the codec.
        neck_hidden: width of the neck.
        classes: names of the classification head's classes.
        name: what error messages call it.
        head_hidden: width of the classification head.
    """

    def __init__(
        self,
        codec: CodecConfig,
        neck_hidden: int,
        classes: Sequence[str],
        name: str = "model",
        head_hidden: int = 1280,
    ):
        super().__init__()
        self.name, self.fingerprint = name, "000000"
        self.codec = LayeredCodec(codec)
        features = self.codec.backbone.channels
        self.neck = Neck(self.codec.semantic.spec, features, neck_hidden)
        self.heads = nn.ModuleDict({"classification": ClassificationHead(features[-1], list(classes), head_hidden)})

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Model:
        """A new model with a pre-trained backbone and classifier, ready for training."""
        from .training.pretrained import imagenet_classes, load_imagenet

        model = cls(recipe.codec, recipe.neck_hidden, imagenet_classes(), recipe.name)
        load_imagenet(model)
        return model

    # -- the verbs ---------------------------------------------------------------------------

    def encode(self, image: Photograph, quality: Quality = 0.5, layers: Sequence[str] = LAYERS) -> bytes:
        """Encode a photograph into a stream.

        Args:
            image: PIL image of any mode, uint8 array (H, W, 3) or (H, W), or float tensor
                (3, H, W) in [0, 1].
            quality: in [0, 1], for both layers; or a pair (semantic, detail).
            layers: ("semantic",) for a stream without detail.

        Raises:
            ValueError: for an image, quality or layer list that is none of these.
        """
        return self.encode_batch([image], quality, layers)[0]

    def encode_batch(
        self, images: Sequence[Photograph], quality: Quality = 0.5, layers: Sequence[str] = LAYERS
    ) -> list[bytes]:
        """`encode` for a list; photographs of one size are worked on together."""
        if not layers or tuple(layers) != LAYERS[: len(layers)]:
            raise ValueError(f"layers must be ('semantic',) or ('semantic', 'detail'), got {tuple(layers)!r}")
        levels = _levels(quality)
        tensors = [to_tensor(image) for image in images]
        return _grouped(
            tensors, lambda t: tuple(t.shape), lambda group: self._encode_group(torch.stack(group), levels, len(layers))
        )

    def analyze(self, stream: bytes, tasks: Sequence[str] | None = None) -> Result:
        """Predictions from a stream's semantic layer. Never decodes the photograph.

        Args:
            stream: a stream, which may have been stripped of, or cut before, its detail layer.
            tasks: what to predict; by default all that the model can.

        Raises:
            StreamError: if the stream is bad, or was written by another model.
            ValueError: for a task the model has no head for.
        """
        return self.analyze_batch([stream], tasks)[0]

    def analyze_batch(self, streams: Sequence[bytes], tasks: Sequence[str] | None = None) -> list[Result]:
        """`analyze` for a list; streams of one size and quality are worked on together."""
        tasks = tuple(self.heads) if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
        for task in tasks:
            if task not in self.heads:
                raise ValueError(f"unknown task {task!r}; model {self.name!r} can do: {', '.join(self.heads)}")
        return _grouped([self._unpack(s) for s in streams], same_kind, lambda group: self._analyze_group(group, tasks))

    def decode(self, stream: bytes, preview: bool = False) -> Image.Image:
        """The photograph, by the synthesis network.

        Args:
            stream: a stream with both layers.
            preview: accept a stream without detail layer and give a rough picture.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
        """
        return self.decode_batch([stream], preview)[0]

    def decode_batch(self, streams: Sequence[bytes], preview: bool = False) -> list[Image.Image]:
        """`decode` for a list; streams of one size and quality are worked on together."""

        def kind(stream: Stream) -> tuple:
            return (*same_kind(stream), preview and stream.layer("detail") is None)

        return _grouped([self._unpack(s) for s in streams], kind, lambda group: self._decode_group(group, preview))

    # -- between the verbs and the networks --------------------------------------------------

    @torch.inference_mode()
    def to_latents(self, streams: Sequence[bytes], layers: Sequence[str] = LAYERS) -> Latents:
        """The integer latents of streams of one size and quality: what entropy decoding gives."""
        return self.symbols.read([self._unpack(s) for s in streams], len(layers))

    @cached_property
    def symbols(self) -> SymbolCoder:
        return SymbolCoder(self.codec)

    def pyramid(self, latents: Latents) -> list[Tensor]:
        """Features at strides 8, 16 and 32, from the semantic layer alone."""
        return self.neck(self._dequantize(latents), quality_plane(latents.quality[0], self.neck.to16.weight))

    @torch.inference_mode()
    def read_semantic(self, stream: bytes) -> Tensor:
        """What the neck reads of one stream: dequantised semantic latents (C, h, w), float."""
        return self._dequantize(self.symbols.read([self._unpack(stream)], layers=1))[0]

    def _dequantize(self, latents: Latents) -> Tensor:
        like = self.neck.to16.weight
        quality = quality_plane(latents.quality[0], like)
        return self.codec.semantic.dequantize(to_real(latents.semantic, like.dtype), quality)

    @torch.inference_mode()
    def estimated_bits(self, stream: bytes) -> dict[str, float]:
        """Bits of each layer in the stream as the entropy models estimate them, without the container."""
        parsed = self._unpack(stream)
        latents = self.symbols.read([parsed], layers=2 if parsed.layer("detail") else 1)
        return {name: float(bits) for name, bits in self.codec.estimated_bits(latents).items()}

    def class_logits(self, streams: Sequence[bytes]) -> Tensor:
        """Logits (N, classes) of the classification head, from the semantic layers of N streams."""
        head = self.heads["classification"]
        return torch.stack(
            _grouped([self._unpack(s) for s in streams], same_kind, lambda g: list(head(self._pyramid(g))))
        )

    @torch.inference_mode()
    def reference_pyramid(self, x: Tensor) -> list[Tensor]:
        """The backbone's own features of photographs x (N, 3, H, W) in [0, 1]: what `pyramid` imitates."""
        return self.codec.backbone(pad(x.to(self.device)))

    @torch.inference_mode()
    def reference_logits(self, images: Sequence[Photograph]) -> Tensor:
        """Logits (N, classes) of the classification head from the photographs themselves: no codec between."""
        head = self.heads["classification"]
        tensors = [to_tensor(image) for image in images]
        return torch.stack(
            _grouped(tensors, lambda t: tuple(t.shape), lambda g: list(head(self.reference_pyramid(torch.stack(g)))))
        )

    @torch.inference_mode()
    def _encode_group(self, x: Tensor, levels: tuple[int, int], layers: int) -> list[bytes]:
        latents = self.codec.to_latents(x.to(self.device), levels, layers)
        height, width = latents.size
        return [
            pack(Stream(self.fingerprint, width, height, tuple(map(_layer, LAYERS, levels, parts))))
            for parts in self.symbols.write(latents)
        ]

    @torch.inference_mode()
    def _analyze_group(self, streams: Sequence[Stream], tasks: Sequence[str]) -> list[Result]:
        pyramid = self._pyramid(streams)
        predictions = {task: self.heads[task].predict(pyramid) for task in tasks}
        return [Result(**{task: rows[i] for task, rows in predictions.items()}) for i in range(len(streams))]

    @torch.inference_mode()
    def _pyramid(self, streams: Sequence[Stream]) -> list[Tensor]:
        return self.pyramid(self.symbols.read(streams, layers=1))

    @torch.inference_mode()
    def _decode_group(self, streams: Sequence[Stream], preview: bool) -> list[Image.Image]:
        layers = 1 if preview and streams[0].layer("detail") is None else 2
        x = self.codec.to_photographs(self.symbols.read(streams, layers))
        array = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(row) for row in array]

    def _unpack(self, data: bytes) -> Stream:
        stream = unpack(data)
        if stream.fingerprint != self.fingerprint:
            raise StreamError(
                f"the stream was written by the model with fingerprint {stream.fingerprint}; "
                f"this is {self.name!r} with fingerprint {self.fingerprint}"
            )
        return stream

    @property
    def device(self) -> torch.device:
        return self.codec.scale_tables.device


def to_tensor(image: Photograph) -> Tensor:
    """A photograph of any accepted kind as a float32 tensor (3, H, W) in [0, 1].

    Raises:
        ValueError: if it is of no accepted kind, empty, or holds values out of range.
    """
    if isinstance(image, Image.Image):
        image = np.asarray(to_rgb(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"an array must be uint8 (H, W, 3) or (H, W), got {image.dtype} {image.shape}")
        array = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    elif isinstance(image, Tensor):
        if not image.is_floating_point() or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"a tensor must be float (3, H, W), got {image.dtype} {tuple(image.shape)}")
        tensor = image.detach().float()
        if tensor.numel() and not (tensor.min() >= 0 and tensor.max() <= 1):
            raise ValueError("a tensor's values must lie in [0, 1]")
    else:
        raise ValueError(f"not a photograph: {type(image).__name__}")
    if tensor.numel() == 0:
        raise ValueError("the photograph has no pixels")
    return tensor


def _levels(quality: Quality) -> tuple[int, int]:
    pair = tuple(quality) if isinstance(quality, (tuple, list)) else (quality, quality)
    if len(pair) != 2:
        raise ValueError(f"quality must be one number or a pair (semantic, detail), got {quality!r}")
    return quality_level(pair[0]), quality_level(pair[1])


def _layer(name: str, level: int, data: bytes) -> Layer:
    return Layer(name, level, len(data), data)


def _grouped(items: Sequence[T], kind: Callable[[T], object], work: Callable[[list[T]], list[R]]) -> list[R]:
    """Do ``work`` on the items of each kind together; results in the order of the items."""
    groups: dict[object, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(kind(item), []).append(index)
    results: dict[int, R] = {}
    for indices in groups.values():
        results.update(zip(indices, work([items[i] for i in indices]), strict=True))
    return [results[index] for index in range(len(items))]
