"""A model: a codec and heads. `cdanalysis.load` returns one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from .codec.budget import StreamWriter, budget_of, check_one_rate, check_settings
from .codec.derived import Derived
from .codec.entropy.symbols import SymbolCoder, same_kind
from .codec.layered import CodecConfig, LayeredCodec
from .codec.realism import check_realism
from .data.cached import stream_files
from .faults import sentence
from .heads.base import Head, Heads, check_list, grouped, layers_of, made_head, predict, tasks_of
from .model_files import ReadTensors, write_model
from .notices import notice
from .photographs.limits import MAX_PIXELS
from .photographs.read import ImageLike, to_pixels, to_tensor
from .reference import Reference
from .registry import HEADS, HUBS, LIBRARIES
from .roi.importance import Importance, quality_offsets_of
from .stream.container import Stream, StreamBytes, named_stream, padded_pixels, unpack
from .stream.errors import StreamError, foreign_stream
from .structures.features import Features, FeatureSpec
from .structures.latents import LAYERS, Latents, Quality, layer_count, quality_levels, working_size
from .structures.predictions import Result

ERRORS = ("raise", "skip")
"""What is done about a bad file among many."""


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
            compared with. May be empty; see `counterpart`.
        origin: fingerprint of the file that the model was loaded from; empty for a new one.
        max_pixels: larger images, and streams whose headers claim more, padded, are refused before anything is
            allocated for them. Memory and time grow with the claim, however few bytes follow: lower it for streams
            from untrusted sources.
    """

    stream_layers = len(LAYERS)
    """How many layers a whole stream has."""

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

        Args:
            task: a name in `cdanalysis.registry.HEADS`.
            **options: arguments of the head, beside the features' shape.

        Raises:
            ValueError: if nobody registered a head for the task, or for an option that its head does not have, or
                cannot use.
        """
        return made_head(HEADS, task, self.codec.feature_spec, options)

    def counterpart(self, task: str) -> Head:
        """The head of a task that reads what teachers see in images: see `Reference.head`.

        Args:
            task: one of the model's.

        Raises:
            ValueError: if none was trained, and the model's head is not its teacher's own.
            KeyError: for a task that the model has no head for.
        """
        return self.reference.head(task)

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
        spatial_size: int | None = None,
        effort: int = 0,
        realism: float = 0.0,
    ) -> bytes:
        """Encode a photograph into a stream. Under torch's autocast the analysis of pixels is in its precision.

        Args:
            image: PIL image of any mode, the path of an image file, uint8 array (H, W, 3) or (H, W), or tensor
                (3, H, W), uint8 or float in [0, 1].
            quality: in [0, 1], for all layers, or for each of (global, spatial, detail); 0.5 where there is no budget.
            layers: the first one or more of ("global", "spatial", "detail").
            bpp: instead of a quality: the maximum bits per pixel of the whole stream, header and checksums included; or
                one for the symbols of each layer.
            max_bytes: the same in bytes.
            importance: where the detail layer's bits should go: a map (H, W) in [0, 1], a mask (image, or image file),
                boxes (x, y, width, height) in pixels, "saliency", or a callable that maps an image to a map. Places of
                importance 1 get the quality, others a lower one.
            spatial_size: longer side in pixels, a multiple of 32 up to 1,024, to which the photograph is resized for
                the spatial layer: fewer bytes, and boxes and masks of larger things alone, or the other way round; by
                default what the heads were trained for. With 32 the layer takes a few dozen bytes, and finds hardly
                anything.
            effort: steps, 0 to 10,000, by which the detail layer is fitted to the one photograph, after the analysis'
                first look: more picture for the bits, in much more time. A dozen or more pay; 0, the default, is none.
            realism: in [0, 1], at which pictures will be decoded, which effort then serves: what the model's classifier
                sees in the picture counts as much as its pixels, and nothing is different for decoders.

        Returns:
            the bytes of a ``.cda`` file.

        Raises:
            ValueError: for an image, quality, layer list, importance, size, effort or realism that is none of these, or
                is of a layer that is not written; for a realism without effort, or of a model that has none; for more
                than one of quality, bpp and max_bytes; and for a budget that the model cannot meet, or of which even
                the highest quality would use less than 95 %: the message gives the possible range.
            FileNotFoundError: if the image or the importance is the path of a file that is not there.
            ModuleNotFoundError: for a saliency model whose package is not installed (the extra ``saliency``).
        """
        streams = self.encode_batch(
            [image], quality, layers, bpp=bpp, max_bytes=max_bytes, importance=importance, spatial_size=spatial_size,
            effort=effort, realism=realism,
        )  # fmt: skip
        return streams[0]

    def encode_batch(
        self,
        images: Sequence[ImageLike],
        quality: Quality | None = None,
        layers: Sequence[str] = LAYERS,
        *,
        bpp: float | tuple[float, ...] | None = None,
        max_bytes: int | tuple[int, ...] | None = None,
        importance: Importance | None = None,
        spatial_size: int | None = None,
        effort: int = 0,
        realism: float = 0.0,
    ) -> list[bytes]:
        """`encode` for a list; images of one size are processed as a batch, where there is no budget.

        Args:
            images: each of any kind that `encode` takes; their sizes may differ.
            quality: as of `encode`.
            layers: as of `encode`.
            bpp: as of `encode`, for each photograph.
            max_bytes: as of `encode`, for each photograph.
            importance: as of `encode`; one for all, so that a map or mask fits images of its own size alone.
            spatial_size: as of `encode`.
            effort: as of `encode`.
            realism: as of `encode`.

        Returns:
            the bytes of a ``.cda`` file for each image, in the order of the images.

        Raises:
            ValueError: as `encode`, and for one image in place of a list.
            FileNotFoundError: as `encode`.
            ModuleNotFoundError: as `encode`.
        """
        check_list(images, "encode_batch", "encode")
        check_one_rate(quality, bpp, max_bytes)
        count = layer_count(layers)
        levels = quality_levels(0.5 if quality is None else quality, count)
        tensors = [self._checked(image) for image in images]
        writer = partial(
            self.writer, layers=count, importance=importance, spatial_size=spatial_size, effort=effort, realism=realism
        )
        if bpp is None and max_bytes is None:
            return grouped(tensors, lambda t: (t.shape, t.dtype), lambda group: writer(group).at(levels))
        budgets = [budget_of(x[0].numel(), bpp, max_bytes) for x in tensors]
        return [writer([x]).within(budget, bpp) for x, budget in zip(tensors, budgets, strict=True)]

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
            FileNotFoundError: if it is the path of a file that is not there.
        """
        return self.analyze_batch([stream], tasks)[0]

    def analyze_batch(self, streams: Sequence[StreamBytes], tasks: Sequence[str] | None = None) -> list[Result]:
        """`analyze` for a list; streams of one quality and working size are processed as a batch.

        Args:
            streams: streams, or the paths of their files.
            tasks: tasks to run; by default all of the model's.

        Returns:
            predictions by task for each stream, in the order of the streams.

        Raises:
            StreamError: as `analyze`; the file is named, where a path was given.
            FileNotFoundError: as `analyze`.
            ValueError: for a task the model has no head for, or one stream in place of a list.
        """
        heads = {task: self.heads[task] for task in self.tasks(tasks)}
        check_list(streams, "analyze_batch", "analyze")
        count = layers_of(heads.values())
        work = lambda group: predict(heads, self._features(group, count))  # noqa: E731
        return self._grouped(streams, count, work)

    def embed(self, stream: StreamBytes) -> Tensor:
        """The classifier's pooled embedding that a stream's global layer holds: a vector to search by.

        Args:
            stream: a stream, or the path of its file; layers after the global one are not read.

        Returns:
            (E,), on the model's device.

        Raises:
            StreamError: if the stream is bad, or was written by another model.
            FileNotFoundError: if it is the path of a file that is not there.
        """
        return self.embed_batch([stream])[0]

    def embed_batch(self, streams: Sequence[StreamBytes]) -> Tensor:
        """`embed` for a list; streams of one quality are processed as a batch.

        Args:
            streams: streams, or the paths of their files.

        Returns:
            (N, E), on the model's device, in the order of the streams.

        Raises:
            StreamError: as `embed`.
            FileNotFoundError: as `embed`.
            ValueError: for one stream in place of a list.
        """
        check_list(streams, "embed_batch", "embed")
        rows = self._grouped(streams, 1, lambda group: list(self._features(group, 1).embedding))
        return torch.stack(rows) if rows else torch.empty(0, self.feature_spec.embedding, device=self.device)

    def features(self, stream: StreamBytes, layers: Sequence[str] | None = None) -> Features:
        """What heads read of a stream: the input of heads of one's own, which may be trained on it.

        No pixel is decoded, and no gradients are kept. `feature_spec` has the numbers of channels, `Features` says
        where on the photograph each cell lies; `cdanalysis.StreamDataset` reads many streams for training.

        Args:
            stream: a stream, or the path of its file.
            layers: the first one or more of ("global", "spatial", "detail"); by default those that the model's heads
                read.

        Returns:
            a batch of one photograph, on the model's device: ``embedding`` (1, E); with the spatial layer ``pyramid``
            (1, C, h/s, w/s) at strides s of 8, 16, 32 and 64 pixels of the working size h x w (for the model `photo`
            the photograph at 480 pixels on its longer side, and E = 1280, C = 96); with the detail layer ``detail``
            (1, C', H/16, W/16).

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
            FileNotFoundError: if it is the path of a file that is not there.
        """
        count = layers_of(self.heads.values()) if layers is None else layer_count(layers)
        return self._features(self._parsed([stream], count), count).map(torch.clone)  # such as autograd may keep

    @property
    def feature_spec(self) -> FeatureSpec:
        """What features hold: numbers of the embedding, and channels of the pyramid's levels and the detail layer."""
        return self.codec.feature_spec

    def stream_predictions(
        self,
        streams: str | os.PathLike | Iterable[str | os.PathLike],
        tasks: Sequence[str] | None = None,
        batch_size: int = 16,
        errors: str = "raise",
        progress: bool = False,
    ) -> Iterator[tuple[Path, Result]]:
        """`analyze` for a folder of streams, or a list of their paths, one batch in memory at a time.

        Args:
            streams: a folder, whose ``.cda`` files are sorted by their names, or paths, which stay in their order.
            tasks: tasks to run; by default all of the model's.
            batch_size: streams that are read at once; of these, streams of one quality and working size are a batch.
            errors: "raise" ends at the first bad file, after the predictions for all files before it; "skip" leaves bad
                files out, with a warning (`cdanalysis.notices.InputWarning`) that names each.
            progress: show a progress bar on standard error.

        Returns:
            an iterator over (path, predictions), in the order of the files.

        Raises:
            StreamError: for a stream that is bad, of another model, or without a layer that a task needs; the file is
                named.
            FileNotFoundError: if the folder, or a file, does not exist.
            ValueError: for a task that the model has no head for, or an argument out of range. These are raised at
                once, errors of files only while iterating.
        """
        if errors not in ERRORS:
            raise ValueError(f"errors must be one of {', '.join(ERRORS)}, got {errors!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        return self._predictions(stream_files(streams), self.tasks(tasks), batch_size, errors == "skip", progress)

    def _predictions(
        self, paths: list[Path], tasks: tuple[str, ...], size: int, skip: bool, progress: bool
    ) -> Iterator[tuple[Path, Result]]:
        for start in _tracked(range(0, len(paths), size), progress):
            group = paths[start : start + size]
            try:
                results = self.analyze_batch(group, tasks)
            except (StreamError, OSError):  # one of them is bad
                yield from self._one_by_one(group, tasks, skip)
            else:
                yield from zip(group, results, strict=True)

    def _one_by_one(self, paths: list[Path], tasks: tuple[str, ...], skip: bool) -> Iterator[tuple[Path, Result]]:
        for path in paths:
            try:
                with named_stream(path):
                    result = self.analyze(path, tasks)
            except (StreamError, OSError) as error:
                if not skip:
                    raise
                notice(f"left out: {sentence(error)}")
            else:
                yield path, result

    def decode(self, stream: StreamBytes, preview: bool = False, realism: float = 0.0) -> Image.Image:
        """Reconstruct the photograph with the synthesis network.

        Args:
            stream: a stream with all layers, or the path of its file.
            preview: accept a stream without detail layer and return a rough picture, if the model's decoder was trained
                to make one of the spatial layer.
            realism: in [0, 1], from the picture of the least squared error to the one that looks most like a
                photograph: Agustsson, Minnen, Toderici, Mentzer, "Multi-realism image compression with a conditional
                generator" (CVPR 2023). What it adds was not in the photograph.

        Returns:
            an RGB image of the original size.

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
            ValueError: for a preview by a model that makes none; or for a realism outside of [0, 1], or above 0 of a
                model that was not trained for it.
            FileNotFoundError: if it is the path of a file that is not there.
        """
        return self.decode_batch([stream], preview, realism)[0]

    def decode_batch(
        self, streams: Sequence[StreamBytes], preview: bool = False, realism: float = 0.0
    ) -> list[Image.Image]:
        """`decode` for a list; streams of one size and quality are processed as a batch.

        Args:
            streams: streams, or the paths of their files.
            preview: as of `decode`, for those without detail layer.
            realism: as of `decode`, in [0, 1].

        Returns:
            RGB images of the original sizes, in the order of the streams.

        Raises:
            StreamError: as `decode`; the file is named, where a path was given.
            FileNotFoundError: as `decode`.
            ValueError: as `decode`, and for one stream in place of a list.
        """
        check_list(streams, "decode_batch", "decode")
        check_realism(realism)

        def kind(stream: Stream) -> tuple:
            return (*same_kind(stream), preview and stream.layer("detail") is None)

        parsed = self._parsed(streams, 0 if preview else self.stream_layers)
        return grouped(parsed, kind, lambda group: self._decode_group(group, preview, realism))

    @property
    def realistic(self) -> bool:
        """Whether `decode` takes a realism above 0."""
        return self.codec.config.realism > 0

    # -- keeping and passing on --------------------------------------------------------------

    def save(
        self, folder: str | os.PathLike[str], recipe: Any | None = None, metrics: dict[str, Any] | None = None
    ) -> None:
        """Write this model's folder atomically, all files or none; `cdanalysis.load` reads it.

        It replaces the files of a model that was there before, except its recipe, figures and card: those are renamed.

        Args:
            folder: made where it does not exist. Weights are stored in half precision.
            recipe: dataclass of the recipe that trained the model, written to ``config.yaml``.
            metrics: what was measured of it, as JSON, written to ``metrics.json``.

        Raises:
            ValueError: if a weight is no finite number in half precision, or if what was put around or into modules
                (parametrizations, adapters) could not be rebuilt from a file.
        """
        rebuilt = lambda info, tensors: Model.described(info, "the model", tensors)  # noqa: E731
        write_model(self, os.fspath(folder), rebuilt, recipe, metrics)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload this model to the Hugging Face Hub, with a model card; ``cda.load("hf-hub:owner/name")`` reads it.

        Args:
            repo_id: "owner/name"; made where it does not exist.
            **options: private, token, revision, commit_message, create_pr, license, tags: see
                `cdanalysis.integrations.huggingface.push_to_hub`.

        Returns:
            the address of the commit, or of the pull request.

        Raises:
            ModuleNotFoundError: if huggingface_hub is not installed (the extra ``hub``).
            ValueError: as `save`, and for a name that the hub does not allow.
            OSError: if the hub refuses, or cannot be reached.
        """
        return HUBS["hf-hub"].push(self, repo_id, **options)

    @staticmethod
    def described(info: dict[str, Any], source: str | os.PathLike[str], tensors: ReadTensors) -> Model:
        """A model of random weights, as `cdanalysis.model_files.describe` describes it.

        Args:
            info: the description.
            source: of the description, for error messages.
            tensors: reads one of the folder's files, by its name, for another library's network.

        Raises:
            ValueError: if this version of the library cannot make such a model.
        """
        if library := info["codec"].get("library"):
            try:
                return LIBRARIES[library].rebuilt(info, tensors)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(f"{source} cannot be used: {error}") from None
        if unknown := set(info["codec"]) - {field.name for field in fields(CodecConfig)}:
            raise ValueError(f"{source} was written by a newer version of this library: it has {min(unknown)!r}")
        try:
            return Model(CodecConfig(**info["codec"]), info["heads"], info["name"])
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{source} is damaged, or was written by another version of this library: {error}"
            ) from None

    # -- between the verbs and the networks --------------------------------------------------

    def settle(self) -> None:
        """Before streams are written: what is kept of the codec's weights must be of the weights as they are."""
        if self.codec.settle():
            self._symbols.forget()

    def writer(
        self,
        images: Sequence[ImageLike],
        layers: int = 3,
        importance: Importance | None = None,
        spatial_size: int | None = None,
        effort: int = 0,
        realism: float = 0.0,
    ) -> StreamWriter:
        """Images of one size, analyzed once and ready to be written at any quality: see `StreamWriter`.

        Args:
            images: of one size, each of any kind that `encode` takes. `max_pixels` is not applied.
            layers: how many to write, 1 to 3, from the first on.
            importance: as of `encode`, one for all images.
            spatial_size: as of `encode`.
            effort: as of `encode`.
            realism: as of `encode`.

        Raises:
            ValueError: for an image, importance, size, effort or realism that cannot be used.
            FileNotFoundError: if an image or the importance is the path of a file that is not there.
            ModuleNotFoundError: for a saliency model whose package is not installed (the extra ``saliency``).
        """
        check_settings(layers, importance, spatial_size, effort, realism)
        self.settle()
        group = [to_pixels(image) for image in images]
        if len({x.shape for x in group}) != 1:
            sizes = ", ".join(sorted({f"{x.shape[-1]}x{x.shape[-2]}" for x in group})) or "none"
            raise ValueError(f"a writer takes one or more photographs of one size, got {sizes}")
        if len({x.dtype for x in group}) > 1:
            group = [to_tensor(image) for image in images]
        quality_offsets = None if importance is None else quality_offsets_of(importance, group)
        x = torch.stack(group) if len(group) > 1 else group[0][None]  # one alone is not copied
        return StreamWriter(
            self.codec, self.symbols, self.fingerprint, x, layers, quality_offsets, spatial_size, effort, realism
        )

    @torch.inference_mode()
    def to_latents(self, streams: Sequence[StreamBytes], layers: Sequence[str] = LAYERS) -> Latents:
        """Entropy-decode streams of one size and quality into integer latents; these are the same on every machine.

        Args:
            streams: one or more streams, or the paths of their files.
            layers: the first one or more of ("global", "spatial", "detail").

        Returns:
            a batch of N photographs, int32, on the model's device: see `Latents`.

        Raises:
            StreamError: if a stream is bad, was written by another model, or lacks a layer.
            FileNotFoundError: if one is the path of a file that is not there.
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

        return grouped(self._parsed(streams, layers), kind, work)

    @torch.inference_mode()
    def estimated_bits(self, stream: StreamBytes) -> dict[str, float]:
        """Estimated bits of each layer in the stream by the entropy models, without the container and a quality map.

        Args:
            stream: a stream, or the path of its file.

        Returns:
            bits of a whole layer, by the name of each layer that the stream has.

        Raises:
            StreamError: if the stream is bad, or was written by another model.
            FileNotFoundError: if it is the path of a file that is not there.
        """
        return {name: float(bits.sum()) for name, bits in self.bit_maps(stream).items()}

    @torch.inference_mode()
    def bit_maps(self, stream: StreamBytes) -> dict[str, Tensor]:
        """Estimated bits of each layer per cell of its own grid.

        Args:
            stream: a stream, or the path of its file.

        Returns:
            (h, w) by the name of each layer that the stream has: (1, 1) for the global layer; for the spatial layer
            cells of 16 pixels of the working size, for the detail layer 16 pixels of the padded photograph.

        Raises:
            StreamError: as `estimated_bits`.
            FileNotFoundError: as `estimated_bits`.
        """
        parsed = self.header(stream)
        latents = self.symbols.read([parsed], sum(layer.data is not None for layer in parsed.layers))
        return {name: bits[0] for name, bits in self.codec.bit_maps(latents).items()}

    @torch.inference_mode()
    def class_logits(self, streams: Sequence[StreamBytes]) -> Tensor:
        """Logits of the classification head.

        Args:
            streams: N streams, or the paths of their files, with the layers that the head reads; at least one.

        Returns:
            (N, classes), in the order of the streams.

        Raises:
            StreamError: if a stream is bad, was written by another model, or lacks a layer.
            FileNotFoundError: if one is the path of a file that is not there.
            KeyError: if the model has no classification head.
        """
        head = self.heads["classification"]
        count = layers_of([head])
        return torch.stack(self._grouped(streams, count, lambda group: list(head(self._features(group, count)))))

    @property
    def reference(self) -> Reference:
        """The counterparts: predictions from photographs themselves."""
        return Reference(self.codec, self.heads, self.counterparts, self.name)

    def tasks(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        """The tasks of a list, each of which must have a head here.

        Args:
            tasks: names of tasks, or one name; None for all of the model's.

        Raises:
            ValueError: for a task that the model has no head for.
        """
        return tasks_of(self.heads, tasks, self.name)

    @torch.inference_mode()
    def _decode_group(self, streams: Sequence[Stream], preview: bool, realism: float) -> list[Image.Image]:
        layers = 2 if preview and streams[0].layer("detail") is None else 3
        x = self.codec.to_images(self.symbols.read(streams, layers), realism)
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

    def header(self, stream: StreamBytes, layers: Sequence[str] = LAYERS[:1]) -> Stream:
        """A stream, parsed and checked, but not decoded.

        Args:
            stream: a stream, or the path of its file.
            layers: those that it must have: the first one or more of ("global", "spatial", "detail").

        Raises:
            StreamError: if the stream is bad, was written by another model, or lacks a layer.
            FileNotFoundError: if it is the path of a file that is not there.
            ValueError: for any other list of layers.
        """
        return self._parsed([stream], layer_count(layers))[0]

    def _parsed(self, streams: Iterable[StreamBytes], layers: int = 0) -> list[Stream]:
        """Streams that this model wrote, and that have their first ``layers`` layers."""
        fingerprint, parsed = self.fingerprint, []
        for data in streams:
            with named_stream(data):
                parsed.append(unpack(data, self.max_pixels))
                if parsed[-1].fingerprint != fingerprint:
                    dtype = str(next(self.codec.parameters(), torch.empty(0)).dtype)
                    raise foreign_stream(parsed[-1].fingerprint, fingerprint, self.name, self.origin, dtype)
                for name in LAYERS[: min(layers, self.stream_layers)]:
                    parsed[-1].require(name)
        return parsed

    @property
    def device(self) -> torch.device:
        """Where the codec's weights are."""
        return self.codec.device


def _tracked(items: Sequence[int], progress: bool) -> Iterable[int]:
    """The items, with a progress bar on standard error if it is asked for."""
    if not progress:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description="", console=Console(stderr=True), transient=True)
