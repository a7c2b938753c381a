"""A model: a codec, a neck and heads. What `cdanalysis.load` gives and the public verbs call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from .codec.layered import CodecConfig, LayeredCodec, pad
from .codec.semantic import quality_plane, to_real
from .codec.symbols import SymbolCoder, same_kind
from .data.photographs import Photograph, to_tensor
from .heads.classification import Classification, ClassificationHead
from .heads.detection import Detection, DetectionHead
from .heads.neck import Neck
from .heads.segmentation import Segmentation, SegmentationHead
from .latents import QUALITY_LEVELS, Latents, Quality, quality_levels
from .stream.container import LAYERS, Layer, Stream, layer_count, pack, unpack
from .stream.errors import StreamError

if TYPE_CHECKING:
    from .training.recipe import Recipe

HEADS = {"classification": ClassificationHead, "detection": DetectionHead, "segmentation": SegmentationHead}
"""What can be asked for, and what answers."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Result:
    """Predictions of one photograph; a task that was not asked for is None."""

    classification: Classification | None = None
    detection: Detection | None = None
    segmentation: Segmentation | None = None


class Model(nn.Module):
    """A layered codec and the heads that read its latents.

    Args:
        codec: shape of the codec.
        neck_hidden: width of the neck.
        neck_layers: the layers that the neck reads, and so all heads: ("semantic",), or both.
        heads: for each task the arguments of its head (`HEADS`), beside the features' channels.
        name: what error messages call it.

    Attributes:
        heads: what reads the pyramid that the neck makes of latents.
        counterparts: the same heads, trained on the backbone's features of photographs: what `heads` are
            compared with. May be empty; a task without one has its head as its own counterpart.
    """

    def __init__(
        self,
        codec: CodecConfig,
        neck_hidden: int,
        heads: Mapping[str, Mapping[str, Any]],
        name: str = "model",
        neck_layers: Sequence[str] = ("semantic",),
    ):
        super().__init__()
        self.name, self.fingerprint = name, "000000"
        self.codec = LayeredCodec(codec)
        features = self.codec.backbone.channels
        detail = self.codec.detail.spec if layer_count(neck_layers) == 2 else None
        self.neck = Neck(self.codec.semantic.spec, features, neck_hidden, detail)
        self.heads = nn.ModuleDict({task: self.new_head(task, **options) for task, options in heads.items()})
        self.counterparts = nn.ModuleDict()

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Model:
        """A new model with a pre-trained backbone and classifier, ready for training."""
        from .training.pretrained import imagenet_classes, load_imagenet

        heads = {"classification": {"classes": imagenet_classes()}}
        model = cls(recipe.codec, recipe.neck_hidden, heads, recipe.name, recipe.neck_layers or ("semantic",))
        load_imagenet(model)
        return model

    def read_layers(self, layers: Sequence[str]) -> None:
        """Let the neck, and so all heads, read these layers; what it learned of the semantic layer stays."""
        detail = self.codec.detail.spec if layer_count(layers) == 2 else None
        old, new = self.neck, Neck(self.codec.semantic.spec, self.codec.backbone.channels, self.neck.hidden, detail)
        new.load_state_dict(
            {**new.state_dict(), **{n: t for n, t in old.state_dict().items() if n in new.state_dict()}}
        )
        self.neck = new.to(self.device)

    def new_head(self, task: str, **options: Any) -> nn.Module:
        """A head with random weights that fits this model's pyramid."""
        if task not in HEADS:
            raise ValueError(f"unknown task {task!r}; there are heads for {', '.join(HEADS)}")
        return HEADS[task](self.codec.backbone.channels, **options)

    def counterpart(self, task: str) -> nn.Module:
        """The head of a task that reads photographs' own features."""
        return self.counterparts[task] if task in self.counterparts else self.heads[task]

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
        count, levels = layer_count(layers), quality_levels(quality)
        tensors = [to_tensor(image) for image in images]
        return _grouped(
            tensors, lambda t: tuple(t.shape), lambda group: self._encode_group(torch.stack(group), levels, count)
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
        tasks = self._tasks(tasks)
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

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the neck reads, and so all that `analyze` needs of a stream."""
        return LAYERS[: len(self.neck.specs)]

    def pyramid(self, latents: Latents) -> list[Tensor]:
        """Features at strides 8, 16 and 32, from the layers that the neck reads."""
        return self.neck(self._dequantize(latents), quality_plane(latents.quality[0], self.neck.to16.weight))

    @torch.inference_mode()
    def read_latents(self, stream: bytes) -> tuple[list[Tensor], float, tuple[int, int]]:
        """What the neck reads of one stream.

        Returns:
            dequantised latents (C, h, w) of each layer that the neck reads, the semantic layer's quality in [0, 1], and
            the photograph's (height, width).

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
        """
        latents = self.symbols.read([self._unpack(stream)], len(self.layers))
        return [layer[0] for layer in self._dequantize(latents)], latents.quality[0] / QUALITY_LEVELS, latents.size

    def _dequantize(self, latents: Latents) -> list[Tensor]:
        codec, like = self.codec, self.neck.to16.weight
        layers = zip((codec.semantic, codec.detail), (latents.semantic, latents.detail), latents.quality, strict=True)
        return [
            layer.dequantize(to_real(values, like.dtype), quality_plane(level, like))
            for layer, values, level in list(layers)[: len(self.layers)]
        ]

    @torch.inference_mode()
    def estimated_bits(self, stream: bytes) -> dict[str, float]:
        """Bits of each layer in the stream as the entropy models estimate them, without the container."""
        parsed = self._unpack(stream)
        latents = self.symbols.read([parsed], layers=2 if parsed.layer("detail") else 1)
        return {name: float(bits) for name, bits in self.codec.estimated_bits(latents).items()}

    @torch.inference_mode()
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
        head = self.counterpart("classification")
        tensors = [to_tensor(image) for image in images]
        return torch.stack(
            _grouped(tensors, lambda t: tuple(t.shape), lambda g: list(head(self.reference_pyramid(torch.stack(g)))))
        )

    @torch.inference_mode()
    def reference_analyze(self, images: Sequence[Photograph], tasks: Sequence[str] | None = None) -> list[Result]:
        """What the counterparts predict from the photographs themselves: the bound for `analyze`."""
        tasks = self._tasks(tasks)

        def work(group: list[Tensor]) -> list[Result]:
            heads = {task: self.counterpart(task) for task in tasks}
            return _predict(heads, self.reference_pyramid(torch.stack(group)), [tuple(t.shape[-2:]) for t in group])

        return _grouped([to_tensor(image) for image in images], lambda t: tuple(t.shape), work)

    def _tasks(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        chosen = tuple(self.heads) if tasks is None else (tasks,) if isinstance(tasks, str) else tuple(tasks)
        for task in chosen:
            if task not in self.heads:
                raise ValueError(f"unknown task {task!r}; model {self.name!r} can do: {', '.join(self.heads)}")
        return chosen

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
        heads = {task: self.heads[task] for task in tasks}
        return _predict(heads, self._pyramid(streams), [(stream.height, stream.width) for stream in streams])

    @torch.inference_mode()
    def _pyramid(self, streams: Sequence[Stream]) -> list[Tensor]:
        return self.pyramid(self.symbols.read(streams, len(self.layers)))

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


def _predict(heads: Mapping[str, nn.Module], pyramid: list[Tensor], sizes: list[tuple[int, int]]) -> list[Result]:
    """One `Result` a photograph, of all heads on one pyramid."""
    predictions = {task: head.predict(pyramid, sizes) for task, head in heads.items()}
    return [Result(**{task: rows[i] for task, rows in predictions.items()}) for i in range(len(sizes))]


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
