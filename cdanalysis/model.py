"""A model: a codec, a neck and heads. `cdanalysis.load` returns one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .codec.budget import StreamWriter, budget_of
from .codec.entropy.symbols import SymbolCoder, same_kind
from .codec.layered import CodecConfig, LayeredCodec
from .codec.semantic import quality_plane, to_real
from .data.images import ImageLike, to_pixels, to_tensor
from .heads.base import Head, Heads, grouped, predict, tasks_of
from .heads.neck import Neck
from .reference import Reference
from .registry import HEADS
from .roi.importance import Importance, quality_offsets_of
from .stream.container import LAYERS, MAX_PIXELS, Stream, layer_count, unpack
from .stream.errors import StreamError
from .structures.latents import QUALITY_LEVELS, Latents, Quality, quality_levels
from .structures.predictions import Result


class Model(nn.Module):
    """A layered codec and the heads that read its latents.

    Args:
        codec: shape of the codec.
        neck_hidden: width of the neck.
        neck_layers: the layers that the neck reads, and so all heads: ("semantic",), or both.
        heads: for each task the arguments of its head (`cdanalysis.registry.HEADS`), beside the features' channels.
        name: what error messages call it.

    Attributes:
        heads: by task; they read the pyramid that the neck makes of latents.
        counterparts: the same heads, trained on the backbone's features of photographs: the RGB reference that
            ``heads`` are compared with. May be empty; a task without one has its head as its own counterpart.
        max_pixels: streams whose headers claim more, padded, are refused before anything is allocated for them. Memory
            and time grow with the claim, however few bytes follow: lower it for streams from untrusted sources.
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
        self.name, self.fingerprint, self.max_pixels = name, "000000", MAX_PIXELS
        self.codec = LayeredCodec(codec)
        features = self.codec.backbone.channels
        detail = self.codec.detail.spec if layer_count(neck_layers) == 2 else None
        self.neck = Neck(self.codec.semantic.spec, features, neck_hidden, detail)
        self.heads = Heads({task: self.new_head(task, **options) for task, options in heads.items()})
        self.counterparts = Heads()

    def read_layers(self, layers: Sequence[str]) -> None:
        """Let the neck, and so all heads, read these layers; its weights for the semantic layer are kept."""
        detail = self.codec.detail.spec if layer_count(layers) == 2 else None
        old, new = self.neck, Neck(self.codec.semantic.spec, self.codec.backbone.channels, self.neck.hidden, detail)
        new.load_state_dict(
            {**new.state_dict(), **{n: t for n, t in old.state_dict().items() if n in new.state_dict()}}
        )
        self.neck = new.to(self.device)

    def new_head(self, task: str, **options: Any) -> Head:
        """A head of a registered task, with random weights, that fits this model's pyramid.

        Raises:
            ValueError: if nobody registered a head for the task.
        """
        return HEADS[task](self.codec.backbone.channels, **options)

    def counterpart(self, task: str) -> Head:
        """The head of a task that reads photographs' own features."""
        return self.counterparts[task] if task in self.counterparts else self.heads[task]

    # -- the verbs ---------------------------------------------------------------------------

    def encode(
        self,
        image: ImageLike,
        quality: Quality | None = None,
        layers: Sequence[str] = LAYERS,
        *,
        bpp: float | tuple[float, float] | None = None,
        max_bytes: int | tuple[int, int] | None = None,
        importance: Importance | None = None,
    ) -> bytes:
        """Encode a photograph into a stream.

        Args:
            image: PIL image of any mode, uint8 array (H, W, 3) or (H, W), or float tensor
                (3, H, W) in [0, 1].
            quality: in [0, 1], for both layers; or a pair (semantic, detail). 0.5 where no budget is given.
            layers: ("semantic",) for a stream without detail layer.
            bpp: instead of a quality: the maximum bits per pixel of the whole stream, header and checksums included; or
                a pair, for the symbols of each layer.
            max_bytes: the same in bytes.
            importance: where the detail layer's bits should go: a map (H, W) in [0, 1], a mask (image, or image file),
                boxes (x, y, width, height) in pixels, "saliency", or a callable that maps an image to a map. Places of
                importance 1 get the quality, others a lower one.

        Returns:
            the bytes of a ``.cda`` file.

        Raises:
            ValueError: for an image, quality, layer list or importance that is none of these, and for a budget
                of which the model cannot use 95 % or more; the message gives the possible range.
        """
        return self.encode_batch([image], quality, layers, bpp=bpp, max_bytes=max_bytes, importance=importance)[0]

    def encode_batch(
        self,
        images: Sequence[ImageLike],
        quality: Quality | None = None,
        layers: Sequence[str] = LAYERS,
        *,
        bpp: float | tuple[float, float] | None = None,
        max_bytes: int | tuple[int, int] | None = None,
        importance: Importance | None = None,
    ) -> list[bytes]:
        """`encode` for a list, with one ``importance`` for all; images of one size are processed as a batch."""
        if sum(given is not None for given in (quality, bpp, max_bytes)) > 1:
            raise ValueError("give one of quality, bpp and max_bytes")
        count, levels = layer_count(layers), quality_levels(0.5 if quality is None else quality)
        tensors = [to_pixels(image) for image in images]
        if bpp is None and max_bytes is None:
            work = lambda group: self.writer(group, count, importance).at(levels)  # noqa: E731
            return grouped(tensors, lambda t: (t.shape, t.dtype), work)
        budgets = [budget_of(x[0].numel(), bpp, max_bytes) for x in tensors]
        return [self.writer([x], count, importance).within(b) for x, b in zip(tensors, budgets, strict=True)]

    def analyze(self, stream: bytes, tasks: Sequence[str] | None = None) -> Result:
        """Predict from a stream's semantic layer. Never decodes the photograph.

        Args:
            stream: a stream, which may have been stripped of, or cut before, its detail layer.
            tasks: tasks to run; by default all of the model's.

        Returns:
            predictions by task; boxes and masks are in pixels of the original photograph.

        Raises:
            StreamError: if the stream is bad, or was written by another model.
            ValueError: for a task the model has no head for.
        """
        return self.analyze_batch([stream], tasks)[0]

    def analyze_batch(self, streams: Sequence[bytes], tasks: Sequence[str] | None = None) -> list[Result]:
        """`analyze` for a list; streams of one size and quality are processed as a batch."""
        tasks = self.tasks(tasks)
        return grouped([self._unpack(s) for s in streams], same_kind, lambda group: self._analyze_group(group, tasks))

    def decode(self, stream: bytes, preview: bool = False) -> Image.Image:
        """Reconstruct the photograph with the synthesis network.

        Args:
            stream: a stream with both layers.
            preview: accept a stream without detail layer and return a rough picture.

        Returns:
            an RGB image of the original size.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
        """
        return self.decode_batch([stream], preview)[0]

    def decode_batch(self, streams: Sequence[bytes], preview: bool = False) -> list[Image.Image]:
        """`decode` for a list; streams of one size and quality are processed as a batch."""

        def kind(stream: Stream) -> tuple:
            return (*same_kind(stream), preview and stream.layer("detail") is None)

        return grouped([self._unpack(s) for s in streams], kind, lambda group: self._decode_group(group, preview))

    # -- between the verbs and the networks --------------------------------------------------

    def writer(
        self, images: Sequence[ImageLike], layers: int = 2, importance: Importance | None = None
    ) -> StreamWriter:
        """Images of one size, analyzed once and ready to be written at any quality: see `StreamWriter`."""
        group = [to_pixels(image) for image in images]
        if len({x.dtype for x in group}) > 1:
            group = [to_tensor(image) for image in images]
        quality_offsets = None if importance is None else quality_offsets_of(importance, group)
        x = group[0][None] if len(group) == 1 else torch.stack(group)  # a large one need not be there twice
        return StreamWriter(self.codec, self.symbols, self.fingerprint, x, layers, quality_offsets)

    @torch.inference_mode()
    def to_latents(self, streams: Sequence[bytes], layers: Sequence[str] = LAYERS) -> Latents:
        """Entropy-decode streams of one size and quality into integer latents; these are the same on every machine."""
        return self.symbols.read([self._unpack(s) for s in streams], len(layers))

    @cached_property
    def symbols(self) -> SymbolCoder:
        return SymbolCoder(self.codec)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the neck reads, and so all that `analyze` needs of a stream."""
        return LAYERS[: len(self.neck.specs)]

    def pyramid(self, latents: Latents, levels: int = 3) -> list[Tensor]:
        """Features at strides 8, 16 and 32, or the coarsest ``levels`` of them, from the layers that the neck reads."""
        quality = quality_plane(latents.quality[0], self.neck.to16.weight)
        return self.neck(self._dequantize(latents), quality, levels)

    @torch.inference_mode()
    def read_latents(self, stream: bytes) -> tuple[list[Tensor], float, tuple[int, int]]:
        """Dequantized latents of one stream: the input of the neck, and of heads trained outside this library.

        Returns:
            dequantized latents (C, h, w) of each layer that the neck reads, the semantic layer's quality in [0, 1], and
            the photograph's (height, width).

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
        """
        latents = self.symbols.read([self._unpack(stream)], len(self.layers))
        return [layer[0] for layer in self._dequantize(latents)], latents.quality[0] / QUALITY_LEVELS, latents.size

    def _dequantize(self, latents: Latents) -> list[Tensor]:
        codec, like = self.codec, self.neck.to16.weight
        layers = zip((codec.semantic, codec.detail), (latents.semantic, latents.detail), latents.levels, strict=True)
        return [
            layer.dequantize(to_real(values, like.dtype), quality_plane(level, like))
            for layer, values, level in list(layers)[: len(self.layers)]
        ]

    @torch.inference_mode()
    def estimated_bits(self, stream: bytes) -> dict[str, float]:
        """Estimated bits of each layer in the stream by the entropy models, without the container."""
        return {name: float(bits.sum()) for name, bits in self.bit_maps(stream).items()}

    @torch.inference_mode()
    def bit_maps(self, stream: bytes) -> dict[str, Tensor]:
        """Estimated bits of each layer per cell of 16x16 pixels, (h, w)."""
        parsed = self._unpack(stream)
        latents = self.symbols.read([parsed], layers=2 if parsed.layer("detail") else 1)
        return {name: bits[0] for name, bits in self.codec.bit_maps(latents).items()}

    @torch.inference_mode()
    def class_logits(self, streams: Sequence[bytes]) -> Tensor:
        """Logits (N, classes) of the classification head, from the semantic layers of N streams."""
        head = self.heads["classification"]
        work = lambda group: list(head(self._pyramid(group, head.levels)))  # noqa: E731
        return torch.stack(grouped([self._unpack(s) for s in streams], same_kind, work))

    @property
    def reference(self) -> Reference:
        """The counterparts: predictions from photographs themselves."""
        heads = {task: self.counterpart(task) for task in self.heads}
        return Reference(self.codec.backbone, heads, self.name)

    def tasks(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        """The tasks of that list, which must be known here; all of them for None."""
        return tasks_of(self.heads, tasks, self.name)

    @torch.inference_mode()
    def _analyze_group(self, streams: Sequence[Stream], tasks: Sequence[str]) -> list[Result]:
        heads = {task: self.heads[task] for task in tasks}
        pyramid = self._pyramid(streams, max((head.levels for head in heads.values()), default=1))
        return predict(heads, pyramid, [(stream.height, stream.width) for stream in streams])

    @torch.inference_mode()
    def _pyramid(self, streams: Sequence[Stream], levels: int) -> list[Tensor]:
        return self.pyramid(self.symbols.read(streams, len(self.layers)), levels)

    @torch.inference_mode()
    def _decode_group(self, streams: Sequence[Stream], preview: bool) -> list[Image.Image]:
        layers = 1 if preview and streams[0].layer("detail") is None else 2
        x = self.codec.to_images(self.symbols.read(streams, layers))
        array = x.permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(row) for row in array]

    def _unpack(self, data: bytes) -> Stream:
        stream = unpack(data, self.max_pixels)
        if stream.fingerprint != self.fingerprint:
            raise StreamError(
                f"the stream was written by the model with fingerprint {stream.fingerprint}; "
                f"this is {self.name!r} with fingerprint {self.fingerprint}"
            )
        return stream

    @property
    def device(self) -> torch.device:
        return self.codec.scale_tables.device
