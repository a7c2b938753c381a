"""A model: a codec and heads. `cdanalysis.load` returns one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from .codec.budget import StreamWriter, budget_of
from .codec.derived import Derived
from .codec.entropy.symbols import SymbolCoder, same_kind
from .codec.layered import CodecConfig, LayeredCodec
from .data.images import ImageLike, to_pixels, to_tensor
from .heads.base import Head, Heads, grouped, layers_of, made_head, predict, tasks_of
from .reference import Reference
from .registry import HEADS
from .roi.importance import Importance, quality_offsets_of
from .stream.container import Stream, StreamBytes, padded_pixels, unpack
from .stream.errors import foreign_stream
from .structures.features import Features
from .structures.latents import LAYERS, MAX_PIXELS, Latents, Quality, layer_count, quality_levels, working_size
from .structures.predictions import Result


class Model(nn.Module):
    """A layered codec and the heads that read its latents.

    Args:
        codec: shape of the codec; or a codec with the interface of `LayeredCodec` that heads need, see
            `cdanalysis.integrations.compressai`.
        heads: for each task the arguments of its head (`cdanalysis.registry.HEADS`), beside the features' shape.
        name: what error messages call it.

    Attributes:
        heads: by task; they read features that the codec decodes from latents.
        counterparts: heads for what the codec's teachers see in images themselves: the RGB reference that ``heads`` are
            compared with. May be empty; a task without one has its head as its own counterpart.
        origin: fingerprint of the file that the model was loaded from; empty for a new one.
        max_pixels: larger images, and streams whose headers claim more, padded, are refused before anything is
            allocated for them. Memory and time grow with the claim, however few bytes follow: lower it for streams
            from untrusted sources.
    """

    @torch.inference_mode(False)  # weights are ordinary tensors, wherever a model is made
    def __init__(self, codec: CodecConfig | nn.Module, heads: Mapping[str, Mapping[str, Any]], name: str = "model"):
        super().__init__()
        self.name, self.origin, self.max_pixels = name, "", MAX_PIXELS
        self._symbols: Derived[SymbolCoder] = Derived()
        self.codec = LayeredCodec(codec) if isinstance(codec, CodecConfig) else cast(LayeredCodec, codec)
        self.heads = Heads({task: self.new_head(task, **options) for task, options in heads.items()})
        self.counterparts = Heads()

    @torch.inference_mode(False)
    def new_head(self, task: str, **options: Any) -> Head:
        """A head of a registered task, with random weights, that fits this model's features.

        Raises:
            ValueError: if nobody registered a head for the task, or an option that its head does not have.
        """
        return made_head(HEADS, task, self.codec.feature_spec, options)

    def counterpart(self, task: str) -> Head:
        """The head of a task that reads what teachers see in images."""
        return self.counterparts[task] if task in self.counterparts else self.heads[task]

    # -- the verbs ---------------------------------------------------------------------------

    def encode(
        self,
        image: ImageLike,
        quality: Quality | None = None,
        layers: Sequence[str] = LAYERS,
        *,
        bpp: float | tuple[float, ...] | None = None,
        max_bytes: int | tuple[int, ...] | None = None,
        importance: Importance | None = None,
    ) -> bytes:
        """Encode a photograph into a stream.

        Args:
            image: PIL image of any mode, the path of an image file, uint8 array (H, W, 3) or (H, W), or float tensor
                (3, H, W) in [0, 1].
            quality: in [0, 1], for all layers, or for each of (global, spatial, detail); 0.5 where there is no budget.
            layers: the first one or more of ("global", "spatial", "detail").
            bpp: instead of a quality: the maximum bits per pixel of the whole stream, header and checksums included; or
                one for the symbols of each layer.
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
        bpp: float | tuple[float, ...] | None = None,
        max_bytes: int | tuple[int, ...] | None = None,
        importance: Importance | None = None,
    ) -> list[bytes]:
        """`encode` for a list, with one ``importance`` for all; images of one size are processed as a batch."""
        if sum(given is not None for given in (quality, bpp, max_bytes)) > 1:
            raise ValueError("give one of quality, bpp and max_bytes")
        count = layer_count(layers)
        levels = quality_levels(0.5 if quality is None else quality, count)
        tensors = [self._checked(image) for image in images]
        if bpp is None and max_bytes is None:
            work = lambda group: self.writer(group, count, importance).at(levels)  # noqa: E731
            return grouped(tensors, lambda t: (t.shape, t.dtype), work)
        budgets = [budget_of(x[0].numel(), bpp, max_bytes) for x in tensors]
        return [self.writer([x], count, importance).within(b, bpp) for x, b in zip(tensors, budgets, strict=True)]

    def analyze(self, stream: StreamBytes, tasks: Sequence[str] | None = None) -> Result:
        """Predict from a stream's latents. Never decodes the image.

        Args:
            stream: a stream, or the path of its file; it may have been stripped of, or cut before, layers that the
                tasks do not need: the shipped classification head reads the global layer, the others that and the
                spatial layer.
            tasks: tasks to run; by default all of the model's.

        Returns:
            predictions by task; boxes and masks are in pixels of the original photograph.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer that a task needs.
            ValueError: for a task the model has no head for.
        """
        return self.analyze_batch([stream], tasks)[0]

    def analyze_batch(self, streams: Sequence[StreamBytes], tasks: Sequence[str] | None = None) -> list[Result]:
        """`analyze` for a list; streams of one quality and working size are processed as a batch."""
        heads = {task: self.heads[task] for task in self.tasks(tasks)}
        count = layers_of(heads.values())
        work = lambda group: predict(heads, self._features(group, count))  # noqa: E731
        return self._grouped(streams, count, work)

    def embed(self, stream: StreamBytes) -> Tensor:
        """The classifier's pooled embedding (E,) that a stream's global layer holds: a vector to search by.

        Args:
            stream: a stream, or the path of its file; layers after the global one are not read.

        Raises:
            StreamError: if the stream is bad, or was written by another model.
        """
        return self.embed_batch([stream])[0]

    def embed_batch(self, streams: Sequence[StreamBytes]) -> Tensor:
        """`embed` for a list: (N, E)."""
        return torch.stack(self._grouped(streams, 1, lambda group: list(self._features(group, 1).embedding)))

    def features(self, stream: StreamBytes, layers: Sequence[str] | None = None) -> Features:
        """What heads read of a stream: the input of heads of one's own.

        Args:
            stream: a stream, or the path of its file.
            layers: the first one or more of ("global", "spatial", "detail"); by default those that the model's heads
                read.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
        """
        count = layers_of(self.heads.values()) if layers is None else layer_count(layers)
        return self._features(self._parsed([stream]), count)

    def decode(self, stream: StreamBytes, preview: bool = False) -> Image.Image:
        """Reconstruct the photograph with the synthesis network.

        Args:
            stream: a stream with all layers, or the path of its file.
            preview: accept a stream without detail layer and return a rough picture, if the model's decoder was trained
                to make one of the spatial layer.

        Returns:
            an RGB image of the original size.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
            ValueError: for a preview by a model that makes none.
        """
        return self.decode_batch([stream], preview)[0]

    def decode_batch(self, streams: Sequence[StreamBytes], preview: bool = False) -> list[Image.Image]:
        """`decode` for a list; streams of one size and quality are processed as a batch."""

        def kind(stream: Stream) -> tuple:
            return (*same_kind(stream), preview and stream.layer("detail") is None)

        return grouped(self._parsed(streams), kind, lambda group: self._decode_group(group, preview))

    # -- between the verbs and the networks --------------------------------------------------

    def writer(
        self, images: Sequence[ImageLike], layers: int = 3, importance: Importance | None = None
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

    @torch.inference_mode()
    def _features(self, streams: Sequence[Stream], layers: int) -> Features:
        """Features of streams whose first layers are of one kind, and on grids of one size."""
        sizes = [(stream.height, stream.width) for stream in streams]
        if layers < len(LAYERS):  # semantic layers know the image's size by their grid alone
            streams = [replace(stream, height=sizes[0][0], width=sizes[0][1]) for stream in streams]
        features = self.codec.features(self.symbols.read(streams, layers))
        return replace(features, sizes=sizes)

    def _grouped(self, streams: Sequence[StreamBytes], layers: int, work: Any) -> list[Any]:
        """Apply ``work`` to batches of streams whose first layers can be read together."""

        def kind(stream: Stream) -> tuple:
            if layers == len(LAYERS):
                return same_kind(stream)
            grids = [working_size(stream.height, stream.width, longer=part.working) for part in stream.layers[1:layers]]
            return same_kind(stream, layers)[2], tuple(grids)

        return grouped(self._parsed(streams), kind, work)

    @torch.inference_mode()
    def estimated_bits(self, stream: StreamBytes) -> dict[str, float]:
        """Estimated bits of each layer in the stream by the entropy models, without the container."""
        return {name: float(bits.sum()) for name, bits in self.bit_maps(stream).items()}

    @torch.inference_mode()
    def bit_maps(self, stream: StreamBytes) -> dict[str, Tensor]:
        """Estimated bits of each layer per cell of its own grid, (h, w)."""
        parsed = self._unpack(stream)
        latents = self.symbols.read([parsed], sum(layer.data is not None for layer in parsed.layers))
        return {name: bits[0] for name, bits in self.codec.bit_maps(latents).items()}

    @torch.inference_mode()
    def class_logits(self, streams: Sequence[StreamBytes]) -> Tensor:
        """Logits (N, classes) of the classification head, from N streams."""
        head = self.heads["classification"]
        count = layers_of([head])
        return torch.stack(self._grouped(streams, count, lambda group: list(head(self._features(group, count)))))

    @property
    def reference(self) -> Reference:
        """The counterparts: predictions from photographs themselves."""
        heads = {task: self.counterpart(task) for task in self.heads}
        return Reference(self.codec, heads, self.name)

    def tasks(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        """The tasks of that list, which must be known here; all of them for None."""
        return tasks_of(self.heads, tasks, self.name)

    @torch.inference_mode()
    def _decode_group(self, streams: Sequence[Stream], preview: bool) -> list[Image.Image]:
        layers = 2 if preview and streams[0].layer("detail") is None else 3
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
                dtype = str(next(self.codec.parameters(), torch.empty(0)).dtype)
                raise foreign_stream(parsed[-1].fingerprint, fingerprint, self.name, self.origin, dtype)
        return parsed

    @property
    def device(self) -> torch.device:
        return self.codec.device
