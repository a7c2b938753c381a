"""The networks of a model as ONNX files, by torch's exporter (the extra ``onnx``).

What a stream's integers depend on, and the entropy coder, stay in Python: `write_streams` takes what exported encoders
give, and `Model.to_latents` gives what exported decoders read. Sizes and batches are dynamic.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

try:
    import onnx as _onnx  # noqa: F401
    import onnxscript as _onnxscript  # noqa: F401
except ImportError:
    raise ModuleNotFoundError("exporting to ONNX needs: pip install 'cdanalysis[onnx]'", name="onnx") from None

from ..codec.budget import packed
from ..codec.layered import AnalyzedImages, LayeredCodec, to_real
from ..codec.spatial_layer import analysis_inputs
from ..codec.tiles import grid_of
from ..faults import one_line
from ..files import json_text, json_value
from ..heads.base import Head
from ..heads.classification import ClassificationHead
from ..heads.detection import DetectionHead
from ..heads.nanodet import NanoDet
from ..heads.segmentation import SegmentationHead
from ..heads.torchvision_detectors import TorchvisionDetector
from ..model import Model
from ..notices import notice
from ..outputs import check_outputs, write_result
from ..structures.features import STRIDES, Features
from ..structures.latents import LAYERS, PAD, Quality, layer_count, quality_levels
from ..zoo import identity

DESCRIPTION = "model.json"
"""Beside the networks: what they take and give, classes, working sizes, and the fingerprint."""
PYRAMID = tuple(f"p{stride}" for stride in STRIDES)
GROUPS = ("encoder", "decoder", "head")
"""What parts' names begin with: each stands for all of its parts."""
BATCH, ROWS, COLUMNS = Dim("batch"), Dim("rows"), Dim("columns")
EXAMPLE = (2, 64, 96)
"""Batch, height and width by which graphs are traced; no size of them stays fixed."""


class NotExportable(ValueError):
    """A part that has no graph; the message says why, and what to do."""


@dataclass(frozen=True)
class Part:
    """A network that becomes one ONNX file.

    Attributes:
        network: takes the inputs by name.
        inputs: an example of each.
        dynamic: which of their axes are, as `torch.export` takes it.
        outputs: by name, what each is.
        takes: by name, what each input is.
    """

    network: nn.Module
    inputs: dict[str, Tensor]
    dynamic: dict[str, dict[int, Any]]
    outputs: dict[str, str]
    takes: dict[str, str]


def export_onnx(
    model: Model,
    folder: str | Path,
    parts: Sequence[str] | None = None,
    overwrite: bool = False,
    track: Callable[..., Any] = lambda items, total: items,
) -> list[Path]:
    """Write parts of a model as ONNX files, one each, and ``model.json``, which says what they take and give.

    ``encoder_global``: photographs, reduced to the layer's working size, to embeddings. ``encoder_spatial``: likewise,
    to latents before their gain. ``encoder_detail``: photographs to latents before their gain. ``decoder_global``,
    ``decoder_spatial``: integer latents to features. ``decoder_detail``: integer latents to photographs (synthesis).
    ``head_TASK``: features to predictions.

    Args:
        model: to export.
        folder: made where it does not exist.
        parts: names of parts, or of groups: "encoder", "decoder", "head"; by default all that can be exported.
        overwrite: also replace files that this library did not write.
        track: wraps the list of parts, and takes its length, to show progress.

    Returns:
        the paths of the ONNX files.

    Raises:
        ValueError: for an unknown part, one that cannot be exported (a two-stage detector), or a file that is not this
            library's to replace.
    """
    chosen = chosen_parts(model, parts)
    folder = Path(folder)
    files = {name: folder / f"{name}.onnx" for name in chosen}
    check_outputs([*files.values(), folder / DESCRIPTION], overwrite=overwrite)
    weights = identity(model)
    described = _described_before(weights, folder)
    written: list[Path] = []
    for name in track(list(chosen), len(chosen)):
        try:
            part = part_of(model, name)
        except NotExportable as error:
            if parts is not None:
                raise
            notice(f"{name} is left out: {error}")
            continue
        write_result(files[name], _graph(name, part))
        written.append(files[name])
        described[name] = {"file": files[name].name, "inputs": part.takes, "outputs": part.outputs}
    write_result(folder / DESCRIPTION, json_text(_description(model, weights, described), indent=2) + "\n")
    return written


def part_names(model: Model) -> list[str]:
    """Names of all parts of a model.

    Args:
        model: whose heads count.
    """
    return [f"{side}_{layer}" for side in GROUPS[:2] for layer in LAYERS] + [f"head_{task}" for task in model.heads]


def chosen_parts(model: Model, parts: Sequence[str] | None = None) -> list[str]:
    """The parts that names, or names of groups, stand for.

    Args:
        model: whose parts they are.
        parts: names of parts or of groups, see `export_onnx`; None for all.

    Returns:
        names of parts, each once.

    Raises:
        ValueError: for a name that is neither, or a model whose codec is another library's.
    """
    _check_layered(model)
    every = part_names(model)
    found: list[str] = []
    for name in every if parts is None else parts:
        named = [each for each in every if each == name or (name in GROUPS and each.startswith(f"{name}_"))]
        if not named:
            raise ValueError(f"{_unknown(model, name)}, and all of {', '.join(GROUPS)}")
        found += named
    return list(dict.fromkeys(found))


def _unknown(model: Model, name: str) -> str:
    return f"unknown part {name!r}; there are {', '.join(part_names(model))}"


def _check_layered(model: Model) -> None:
    if not isinstance(model.codec, LayeredCodec):
        raise ValueError(f"{model.name}'s codec is another library's network, which has no parts to export")


def part_of(model: Model, name: str) -> Part:
    """A part by its name.

    Args:
        model: whose part it is; its weights are shared.
        name: one of `part_names`.

    Raises:
        NotExportable: if there is no graph of it.
        ValueError: if the model has no such part.
    """
    _check_layered(model)
    if name not in part_names(model):
        raise ValueError(_unknown(model, name))
    group, _, which = name.partition("_")
    if group == "head":
        return _head(model, model.heads[which])
    return {"encoder": _encoder, "decoder": _decoder}[group](model.codec, which)


def write_streams(
    model: Model, size: tuple[int, int], latents: Mapping[str, np.ndarray], quality: Quality | None = None
) -> list[bytes]:
    """Streams of what exported encoders give: quantized, and entropy-coded.

    Args:
        model: whose encoders those are.
        size: true (height, width) of the photographs in pixels.
        latents: "global" (N, E): embeddings; and, for as many layers as are wanted, "spatial", "detail" (N, C, h, w).
        quality: in [0, 1], for all layers or for each; by default 0.5.

    Returns:
        N streams.

    Raises:
        ValueError: for latents that are not those of the first layers, or do not have the shapes that photographs of
            that size have; or a model whose codec is another library's.
    """
    _check_layered(model)
    names = [name for name in LAYERS if name in latents]
    count = layer_count(names)
    levels = quality_levels(0.5 if quality is None else quality, count)
    tensors = {name: torch.from_numpy(np.array(latents[name], np.float32)).to(model.device) for name in names}
    for name, tensor in tensors.items():
        expected = _shape(model.codec, name, size)
        if tuple(tensor.shape[1:]) != expected or len(tensor) != len(tensors[LAYERS[0]]):
            raise ValueError(
                f"the {name} latents of photographs of {size[1]}x{size[0]} pixels have the shape (N, "
                f"{', '.join(map(str, expected))}), not {tuple(tensor.shape)}"
            )
    model.settle()
    with torch.inference_mode():
        analyzed = AnalyzedImages(*(tensors.get(name) for name in LAYERS))  # type: ignore[arg-type]
        coded = model.symbols.write(model.codec.encode_at(analyzed, size, levels))
    return packed(model.codec.config.working_sizes, model.fingerprint, size, levels, coded)


def _shape(codec: LayeredCodec, layer: str, size: tuple[int, int]) -> tuple[int, ...]:
    """Of a layer's latents, without the batch axis."""
    if layer == "global":
        return (codec.classifier.embedding,)
    if layer == "spatial":
        return codec.spatial.spec.channels, *codec.spatial.spec.grid(*codec.config.working_size(*size, 2))
    return codec.detail.spec.channels, *grid_of(*size)


# -- graphs ------------------------------------------------------------------------------------------------------------


def _encoder(codec: LayeredCodec, layer: str) -> Part:
    networks = {"global": GlobalEncoder, "spatial": SpatialEncoder, "detail": DetailEncoder}
    seen = {
        "global": f"reduced to {codec.config.global_size} pixels on the shorter side",
        "spatial": f"reduced to {codec.config.spatial_size} pixels on the longer side",
        "detail": "at full size, the right and bottom edges repeated",
    }[layer]
    shape = "(N, E)" if layer == "global" else "(N, C, h/16, w/16)"
    what = ", embeddings" if layer == "global" else ", before gain and quantization"
    batch, height, width = EXAMPLE
    pixels = torch.randint(0, 256, (batch, 3, height, width), generator=_seeded(), dtype=torch.uint8)
    return Part(
        networks[layer](codec),
        {"pixels": pixels},
        {"pixels": {0: BATCH, 2: PAD * ROWS, 3: PAD * COLUMNS}},
        {"latents": f"{shape} float32{what}: write_streams makes streams of them"},
        {"pixels": f"(N, 3, h, w) uint8, RGB, {seen}; h and w multiples of {PAD}"},
    )


class GlobalEncoder(nn.Module):
    """Pixels at the global layer's working size to the embedding of which `write_streams` makes symbols.

    Args:
        codec: whose teacher looks.
    """

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.teacher = with_fixed_padding(codec.classifier)

    def forward(self, pixels: Tensor) -> Tensor:
        """The embeddings of photographs.

        Args:
            pixels: RGB, uint8 (N, 3, h, w), sides multiples of 32.

        Returns:
            (N, E).
        """
        return self.teacher(pixels)


class PaddedConv2d(nn.Module):
    """A convolution of stride 2 with TensorFlow's "same" padding, of images with even sides.

    timm computes this padding from the size; with five of these convolutions and a dynamic size, torch's exporter had
    not finished after minutes of CPU time. For even sides the padding is always the same.

    Args:
        conv: timm's, whose weights these are.
    """

    def __init__(self, conv: Conv2dSame):
        super().__init__()
        self.weight, self.bias, self.groups = conv.weight, conv.bias, conv.groups
        missing = [side - 2 for side in reversed(conv.kernel_size)]
        self.padding = [part for total in missing for part in (total // 2, total - total // 2)]

    def forward(self, x: Tensor) -> Tensor:
        """The convolution.

        Args:
            x: (N, C, h, w), h and w even.

        Returns:
            (N, C', h/2, w/2).
        """
        return F.conv2d(F.pad(x, self.padding), self.weight, self.bias, stride=2, groups=self.groups)


def with_fixed_padding(network: nn.Module) -> nn.Module:
    """A network whose padding does not depend on the size, for sides that are multiples of 32: itself, or a copy.

    Args:
        network: reduces its input at most to a 32nd.
    """

    def fits(module: nn.Module) -> bool:
        if not isinstance(module, Conv2dSame):
            return False
        return module.stride == (2, 2) and module.dilation == (1, 1) and min(module.kernel_size) >= 2

    if not any(map(fits, network.modules())):
        return network
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if fits(child):
                setattr(parent, name, PaddedConv2d(cast(Conv2dSame, child)))
    return network


class SpatialEncoder(nn.Module):
    """Pixels at the spatial layer's working size to its latents: the detector, and the layer's analysis.

    Args:
        codec: whose detector and analysis these are.
    """

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.teacher, self.g_a = codec.detector, codec.spatial.g_a

    def forward(self, pixels: Tensor) -> Tensor:
        """The latents of photographs, before their gain.

        Args:
            pixels: RGB, uint8 (N, 3, h, w), sides multiples of 32.

        Returns:
            (N, C, h/16, w/16).
        """
        return self.g_a(analysis_inputs(self.teacher(pixels)))


class DetailEncoder(nn.Module):
    """Pixels to the detail layer's latents.

    Args:
        codec: whose analysis this is.
    """

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.g_a = codec.detail.g_a

    def forward(self, pixels: Tensor) -> Tensor:
        """The latents of photographs, before their gain.

        Args:
            pixels: RGB, uint8 (N, 3, h, w), sides multiples of 32.

        Returns:
            (N, C, h/16, w/16).
        """
        return self.g_a(pixels.float() / 255)


SYMBOLS = "int32, sixteenths of a quantization step, as Model.to_latents gives them"
NUMBER = "(N,) float32 in [0, 1]: the layer's level in the stream, divided by 120"


def _decoder(codec: LayeredCodec, layer: str) -> Part:
    batch, height, width = EXAMPLE
    grid = (height // 16, width // 16)
    numbers = torch.linspace(0.2, 0.7, batch)
    whole = {0: BATCH, 2: 2 * ROWS, 3: 2 * COLUMNS}
    vector = _symbols(batch, codec.global_layer.channels, (1, 1))
    spatial = _symbols(batch, codec.spatial.spec.channels, grid)
    if layer == "global":
        return Part(
            GlobalDecoder(codec),
            {"global": vector, "quality": numbers},
            {"global": {0: BATCH}, "quality": {0: BATCH}},
            {"embedding": "(N, E) float32"},
            {"global": f"(N, C, 1, 1) {SYMBOLS}", "quality": NUMBER},
        )
    if layer == "spatial":
        return Part(
            SpatialDecoder(codec),
            {"global": vector, "spatial": spatial, "global_quality": numbers, "quality": numbers.flip(0)},
            {"global": {0: BATCH}, "spatial": whole, "global_quality": {0: BATCH}, "quality": {0: BATCH}},
            {name: f"(N, C, h/{s}, w/{s}) float32" for name, s in zip(PYRAMID, STRIDES, strict=True)},
            {
                "global": f"(N, C, 1, 1) {SYMBOLS}",
                "spatial": f"(N, C, h/16, w/16) {SYMBOLS}",
                "global_quality": NUMBER,
                "quality": NUMBER,
            },
        )
    inputs = {
        "detail": _symbols(batch, codec.detail.spec.channels, grid),
        "quality": torch.rand(batch, 1, *grid, generator=_seeded()),
    }
    takes = {
        "detail": f"(N, C, h/16, w/16) {SYMBOLS}",
        "quality": "(N, 1, h/16, w/16) float32 in [0, 1]: the layer's level at each place, divided by 120",
    }
    if codec.config.fused:
        inputs["spatial"] = spatial
        takes["spatial"] = f"(N, C, h/16, w/16) {SYMBOLS}, brought to that grid by cdanalysis.codec.layered.resampled"
    return Part(
        DetailDecoder(codec),
        inputs,
        {name: dict(whole) for name in inputs},
        {"pixels": "(N, 3, h, w) uint8, RGB, padded on the right and at the bottom to multiples of 32: crop it"},
        takes,
    )


class GlobalDecoder(nn.Module):
    """Integers of the global layer to the embedding.

    Args:
        codec: whose synthesis this is.
    """

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.inverse_gain, self.g_s = codec.global_layer.inverse_gain, codec.global_layer.g_s

    def forward(self, vector: Tensor, quality: Tensor) -> Tensor:
        """The embeddings that latents hold.

        Args:
            vector: int32 (N, C, 1, 1), in sixteenths of a step.
            quality: (N,) in [0, 1].

        Returns:
            (N, E).
        """
        return self.g_s((to_real(vector) * self.inverse_gain(_plane(quality))).flatten(1))


class SpatialDecoder(nn.Module):
    """Integers of the semantic layers to the feature pyramid.

    Args:
        codec: whose synthesis this is.
    """

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.context_gain = codec.global_layer.inverse_gain
        self.inverse_gain, self.g_s = codec.spatial.inverse_gain, codec.spatial.g_s

    def forward(self, vector: Tensor, spatial: Tensor, vector_quality: Tensor, quality: Tensor) -> tuple[Tensor, ...]:
        """The feature pyramid of latents.

        Args:
            vector: of the global layer, int32 (N, C, 1, 1), in sixteenths of a step.
            spatial: int32 (N, C, h/16, w/16), in sixteenths of a step.
            vector_quality: of the global layer, (N,) in [0, 1].
            quality: of the spatial layer, (N,) in [0, 1].

        Returns:
            (N, C, h/s, w/s), s = 8, 16, 32, 64, sides rounded up.
        """
        plane = _plane(quality)
        context = to_real(vector) * self.context_gain(_plane(vector_quality))
        return tuple(self.g_s(to_real(spatial) * self.inverse_gain(plane), plane, context))


class DetailDecoder(nn.Module):
    """Integers of the detail layer to pixels: the synthesis.

    Args:
        codec: whose synthesis this is.
    """

    def __init__(self, codec: LayeredCodec):
        super().__init__()
        self.inverse_gain, self.synthesis = codec.detail.inverse_gain, codec.synthesis

    def forward(self, detail: Tensor, quality: Tensor, spatial: Tensor | None = None) -> Tensor:
        """The photographs, padded to multiples of 32 pixels.

        Args:
            detail: int32 (N, C, h/16, w/16), in sixteenths of a step.
            quality: (N, 1, h/16, w/16) in [0, 1].
            spatial: int32 (N, C, h/16, w/16) on the same grid, where the codec is fused.

        Returns:
            RGB, uint8 (N, 3, h, w).
        """
        condition = None if spatial is None else to_real(spatial)
        x = self.synthesis(to_real(detail) * self.inverse_gain(quality), quality, condition)
        return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def _plane(quality: Tensor) -> Tensor:
    return quality.reshape(-1, 1, 1, 1)


def _symbols(batch: int, channels: int, grid: tuple[int, int]) -> Tensor:
    return torch.randint(-64, 65, (batch, channels, *grid), generator=_seeded(), dtype=torch.int32)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# -- heads -------------------------------------------------------------------------------------------------------------


class HeadNetwork(nn.Module):
    """A head as a function of named features.

    Args:
        head: runs.
        run: the head and its features to tensors, in the order of the outputs.
        names: of the features, in the order of the inputs.
    """

    def __init__(self, head: Head, run: Callable[[Any, Features], Any], names: tuple[str, ...]):
        super().__init__()
        self.head, self.run, self.names = head, run, names

    def forward(self, *features: Tensor) -> Any:
        """What the head makes of features.

        Args:
            *features: in the order of ``names``.

        Returns:
            what ``run`` gives: a tensor, or several in the order of the outputs.
        """
        named = dict(zip(self.names, features, strict=True))
        levels = [named[name] for name in PYRAMID if name in named]
        embedding = named["embedding"] if "embedding" in named else features[0].new_zeros(features[0].shape[0], 0)
        return self.run(self.head, Features([], embedding, levels, named.get("detail")))


def _head(model: Model, head: Head) -> Part:
    run, outputs, read = _graph_of_head(head)
    inputs, dynamic, takes = _features(model, read)
    return Part(HeadNetwork(head, run, read), inputs, dynamic, outputs, takes)


def _graph_of_head(head: Head) -> tuple[Callable[[Any, Features], Any], dict[str, str], tuple[str, ...]]:
    """(what runs, what it gives, the features that it reads)."""
    if isinstance(head, ClassificationHead):
        scores = {"scores": "(N, classes) float32: probabilities, calibrated; they add up to 1"}
        return lambda h, f: (h(f).float() / h.temperature).softmax(1), scores, ("embedding",)
    if isinstance(head, SegmentationHead):
        logits = {"logits": "(N, classes, h/8, w/8) float32; enlarge them eightfold, bilinearly, and take the largest"}
        return lambda h, f: h(f), logits, ("embedding", *PYRAMID[:3])
    if isinstance(head, DetectionHead):
        return _graph_of_detector(head)
    names = ("embedding", *(PYRAMID if len(head.layers) > 1 else ()), *(("detail",) if len(head.layers) > 2 else ()))
    return lambda h, f: h(f), {"output": f"what {type(head).__name__}.forward returns"}, names


def _graph_of_detector(head: DetectionHead) -> tuple[Callable[[Any, Features], Any], dict[str, str], tuple[str, ...]]:
    if isinstance(head.detector, NanoDet):
        outputs = {
            "boxes": "(N, A, 4) float32: left, top, right, bottom in pixels of the working size, not clipped",
            "scores": "(N, A, classes) float32 in [0, 1], before non-maximum suppression",
        }
        return _cells, outputs, PYRAMID
    detector = head.detector
    assert isinstance(detector, TorchvisionDetector)
    if detector.first_label:
        raise NotExportable(
            f"a {detector.kind} looks again at the boxes that it found, which has no graph of fixed shape; train a "
            "nanodet, fcos or retinanet head to export, or name the other parts"
        )
    names = ("cls_logits", "bbox_regression", *(("bbox_ctrness",) if detector.kind == "fcos" else ()))
    raw = dict.fromkeys(names, f"raw, as the head of torchvision's {detector.kind} gives it at all places")
    return lambda h, f: tuple(h.detector(f.pyramid)[name] for name in names), raw, PYRAMID[:3]


def _cells(head: DetectionHead, features: Features) -> tuple[Tensor, Tensor]:
    cells = cast(NanoDet, head.detector).cells(features.pyramid)
    return cells.boxes(), cells.logits.sigmoid()


def _features(
    model: Model, names: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, dict[int, Any]], dict[str, str]]:
    """Examples of features, their dynamic axes, and what they are."""
    (batch, height, width), spec = EXAMPLE, model.codec.feature_spec
    draw = lambda *shape: torch.randn(batch, *shape, generator=_seeded())  # noqa: E731
    inputs, dynamic = {"embedding": draw(spec.embedding)}, {"embedding": {0: BATCH}}
    takes = {"embedding": "(N, E) float32, of decoder_global"}
    for name, stride, channels in zip(PYRAMID, STRIDES, spec.pyramid, strict=True):
        inputs[name] = draw(channels, -(-height // stride), -(-width // stride))
        dynamic[name] = {0: BATCH, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
        takes[name] = f"(N, C, h/{stride}, w/{stride}) float32, of decoder_spatial"
    inputs["detail"] = draw(spec.detail, height // 16, width // 16)
    dynamic["detail"] = {0: BATCH, 2: 2 * ROWS, 3: 2 * COLUMNS}
    takes["detail"] = "(N, C, h/16, w/16) float32, the dequantized detail layer"
    return tuple({name: table[name] for name in names} for table in (inputs, dynamic, takes))  # type: ignore[return-value]


# -- files -------------------------------------------------------------------------------------------------------------


def _graph(name: str, part: Part) -> bytes:
    """An ONNX file."""
    network, shapes = part.network, tuple(part.dynamic.values())
    device = next(network.parameters()).device
    try:
        with torch.no_grad(), _quiet(), _evaluating(network):
            program = torch.onnx.export(
                network,
                tuple(example.to(device) for example in part.inputs.values()),
                dynamic_shapes={"features": shapes} if isinstance(network, HeadNetwork) else shapes,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # of a hundred kinds, by a network that somebody registered
        raise NotExportable(f"torch cannot export {name}: {one_line(error)[:300]}") from error
    assert program is not None, "the exporter gives a program, or raises"
    return program.model_proto.SerializeToString()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """In evaluation mode in here; afterwards as before, for the modules are the model's own."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of its own insides is nobody's business here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _described_before(weights: str, folder: Path) -> dict[str, Any]:
    """The parts of the very model of this `identity` that were exported to a folder before."""
    try:
        before = json_value((folder / DESCRIPTION).read_text(encoding="utf-8"))
        parts = before["parts"] if before["weights"] == weights else {}
        return {name: part for name, part in parts.items() if (folder / part["file"]).is_file()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _description(model: Model, weights: str, parts: dict[str, Any]) -> dict[str, Any]:
    config = model.codec.config
    return {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "weights": weights,
        "working_sizes": {"global": config.global_size, "spatial": config.spatial_size},
        "classes": {task: getattr(head, "classes", None) for task, head in model.heads.items()},
        "parts": parts,
    }
