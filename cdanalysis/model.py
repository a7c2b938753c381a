"""A model: a codec, a neck and heads. `cdanalysis.load` returns one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .codec.budget import StreamWriter, budget_of
from .codec.derived import Derived
from .codec.entropy.symbols import SymbolCoder, same_kind
from .codec.gains import quality_plane
from .codec.layered import CodecConfig, LayeredCodec
from .codec.semantic import to_real
from .data.images import ImageLike, to_pixels, to_tensor
from .heads.base import Head, Heads, grouped, made_head, predict, tasks_of
from .heads.neck import Neck
from .reference import Reference
from .registry import HEADS
from .roi.importance import Importance, quality_offsets_of
from .stream.container import LAYERS, MAX_PIXELS, Stream, StreamBytes, layer_count, padded_pixels, unpack
from .stream.errors import foreign_stream
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
        origin: fingerprint of the file that the model was loaded from; empty for a new one.
        max_pixels: larger photographs, and streams whose headers claim more, padded, are refused before anything is
            allocated for them. Memory and time grow with the claim, however few bytes follow: lower it for streams
            from untrusted sources.
    """

    @torch.inference_mode(False)  # weights are ordinary tensors, wherever a model is made
    def __init__(
        self,
        codec: CodecConfig,
        neck_hidden: int,
        heads: Mapping[str, Mapping[str, Any]],
        name: str = "model",
        neck_layers: Sequence[str] = ("semantic",),
    ):
        super().__init__()
        self.name, self.origin, self.max_pixels = name, "", MAX_PIXELS
        self._symbols: Derived[SymbolCoder] = Derived()
        self.codec = LayeredCodec(codec)
        features = self.codec.backbone.channels
        detail = self.codec.detail.spec if layer_count(neck_layers) == 2 else None
        self.neck = Neck(self.codec.semantic.spec, features, neck_hidden, detail)
        self.heads = Heads({task: self.new_head(task, **options) for task, options in heads.items()})
        self.counterparts = Heads()

    @torch.inference_mode(False)
    def read_layers(self, layers: Sequence[str]) -> None:
        """Let the neck, and so all heads, read these layers; its weights for the semantic layer are kept."""
        detail = self.codec.detail.spec if layer_count(layers) == 2 else None
        old, new = self.neck, Neck(self.codec.semantic.spec, self.codec.backbone.channels, self.neck.hidden, detail)
        new.load_state_dict(
            {**new.state_dict(), **{n: t for n, t in old.state_dict().items() if n in new.state_dict()}}
        )
        self.neck = new.to(self.device)

    @torch.inference_mode(False)
    def new_head(self, task: str, **options: Any) -> Head:
        """A head of a registered task, with random weights, that fits this model's pyramid.

        Raises:
            ValueError: if nobody registered a head for the task, or an option that its head does not have.
        """
        return made_head(HEADS, task, self.codec.backbone.channels, options)

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
            image: PIL image of any mode, the path of an image file, uint8 array (H, W, 3) or (H, W), or float tensor
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
        tensors = [self._checked(image) for image in images]
        if bpp is None and max_bytes is None:
            work = lambda group: self.writer(group, count, importance).at(levels)  # noqa: E731
            return grouped(tensors, lambda t: (t.shape, t.dtype), work)
        budgets = [budget_of(x[0].numel(), bpp, max_bytes) for x in tensors]
        return [self.writer([x], count, importance).within(b, bpp) for x, b in zip(tensors, budgets, strict=True)]

    def analyze(self, stream: StreamBytes, tasks: Sequence[str] | None = None) -> Result:
        """Predict from a stream's semantic layer. Never decodes the photograph.

        Args:
            stream: a stream, or the path of its file; it may have been stripped of, or cut before, its detail layer.
            tasks: tasks to run; by default all of the model's.

        Returns:
            predictions by task; boxes and masks are in pixels of the original photograph.

        Raises:
            StreamError: if the stream is bad, or was written by another model.
            ValueError: for a task the model has no head for.
        """
        return self.analyze_batch([stream], tasks)[0]

    def analyze_batch(self, streams: Sequence[StreamBytes], tasks: Sequence[str] | None = None) -> list[Result]:
        """`analyze` for a list; streams of one size and quality are processed as a batch."""
        tasks = self.tasks(tasks)
        return grouped(self._parsed(streams), same_kind, lambda group: self._analyze_group(group, tasks))

    def decode(self, stream: StreamBytes, preview: bool = False) -> Image.Image:
        """Reconstruct the photograph with the synthesis network.

        Args:
            stream: a stream with both layers, or the path of its file.
            preview: accept a stream without detail layer and return a rough picture.

        Returns:
            an RGB image of the original size.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
        """
        return self.decode_batch([stream], preview)[0]

    def decode_batch(self, streams: Sequence[StreamBytes], preview: bool = False) -> list[Image.Image]:
        """`decode` for a list; streams of one size and quality are processed as a batch."""

        def kind(stream: Stream) -> tuple:
            return (*same_kind(stream), preview and stream.layer("detail") is None)

        return grouped(self._parsed(streams), kind, lambda group: self._decode_group(group, preview))

    # -- between the verbs and the networks --------------------------------------------------

    def writer(
        self, images: Sequence[ImageLike], layers: int = 2, importance: Importance | None = None
    ) -> StreamWriter:
        """Images of one size, analyzed once and ready to be written at any quality: see `StreamWriter`."""
        if self.codec.settle():
            self._symbols.forget()
        group = [to_pixels(image) for image in images]
        if len({x.dtype for x in group}) > 1:
            group = [to_tensor(image) for image in images]
        quality_offsets = None if importance is None else quality_offsets_of(importance, group)
        x = group[0][None] if len(group) == 1 else torch.stack(group)  # a large one need not be there twice
        return StreamWriter(self.codec, self.symbols, self.fingerprint, x, layers, quality_offsets)

    @torch.inference_mode()
    def to_latents(self, streams: Sequence[StreamBytes], layers: Sequence[str] = LAYERS) -> Latents:
        """Entropy-decode streams of one size and quality into integer latents; these are the same on every machine.

        Raises:
            StreamError: if a stream is bad, was written by another model, or lacks a layer.
            ValueError: if there is no stream, or they differ in size or quality, or for layers that are not the first.
        """
        return self.symbols.read(self._parsed(streams), layer_count(layers))

    @property
    def symbols(self) -> SymbolCoder:
        """Entropy coder of latents, with CDF tables of the current weights."""
        codec = self.codec
        return self._symbols.get((codec.scale_tables, codec.detail.prior.table), lambda: SymbolCoder(codec))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the codec's current weights: streams carry it, and only these weights read them."""
        return self.codec.fingerprint

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the neck reads, and so all that `analyze` needs of a stream."""
        return LAYERS[: len(self.neck.specs)]

    def pyramid(self, latents: Latents, levels: int = 3) -> list[Tensor]:
        """Features at strides 8, 16 and 32, or the coarsest ``levels`` of them, from the layers that the neck reads."""
        quality = quality_plane(latents.quality[0], self.neck.to16.weight)
        return self.neck(self._dequantize(latents), quality, levels)

    @torch.inference_mode()
    def read_latents(self, stream: StreamBytes) -> tuple[list[Tensor], float, tuple[int, int]]:
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
    def estimated_bits(self, stream: StreamBytes) -> dict[str, float]:
        """Estimated bits of each layer in the stream by the entropy models, without the container."""
        return {name: float(bits.sum()) for name, bits in self.bit_maps(stream).items()}

    @torch.inference_mode()
    def bit_maps(self, stream: StreamBytes) -> dict[str, Tensor]:
        """Estimated bits of each layer per cell of 16x16 pixels, (h, w)."""
        parsed = self._unpack(stream)
        latents = self.symbols.read([parsed], layers=2 if parsed.layer("detail") else 1)
        return {name: bits[0] for name, bits in self.codec.bit_maps(latents).items()}

    @torch.inference_mode()
    def class_logits(self, streams: Sequence[StreamBytes]) -> Tensor:
        """Logits (N, classes) of the classification head, from the semantic layers of N streams."""
        head = self.heads["classification"]
        work = lambda group: list(head(self._pyramid(group, head.levels)))  # noqa: E731
        return torch.stack(grouped(self._parsed(streams), same_kind, work))

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

    def _checked(self, image: ImageLike) -> Tensor:
        """The photograph's pixels, unless there are so many that the stream could not be read."""
        pixels = to_pixels(image, self.max_pixels)
        height, width = pixels.shape[-2:]
        if padded_pixels(width, height) > self.max_pixels:
            raise ValueError(
                f"the photograph has {width}x{height} pixels, padded more than the {self.max_pixels} of max_pixels"
            )
        return pixels

    def _unpack(self, data: StreamBytes) -> Stream:
        return self._parsed([data])[0]

    def _parsed(self, streams: Sequence[StreamBytes]) -> list[Stream]:
        fingerprint, parsed = self.fingerprint, []
        for data in streams:
            parsed.append(unpack(data, self.max_pixels))
            if parsed[-1].fingerprint != fingerprint:
                dtype = str(next(self.codec.parameters()).dtype)
                raise foreign_stream(parsed[-1].fingerprint, fingerprint, self.name, self.origin, dtype)
        return parsed

    @property
    def device(self) -> torch.device:
        return self.codec.scale_tables.device
