"""CompressAI's networks as codecs whose latents this library's heads read.

`CompressAIModel` is a `Model` around any of CompressAI's networks for photographs, from its zoo, from a file of weights
or as an instance. Heads are trained on it, saved and loaded by the same commands and recipes as on this library's codec
(``init: compressai:bmshj2018-hyperprior:3``). Begaint and others, "CompressAI: a PyTorch library and evaluation
platform for end-to-end compression research" (2020).

A photograph is resized to a working size, as for the spatial layer. The strings that the network writes are the spatial
layer of a stream whose global layer is empty; what the network's own entropy decoder makes of them, y_hat at stride 16,
is what heads read. The synthesis runs only in `decode`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..codec.derived import Derived, fingerprint
from ..codec.integer.exact import full_precision
from ..codec.layered import Seen, resized
from ..codecs.compressai import network_of, open_network
from ..data.samples import sample_images
from ..faults import named_line
from ..model import Model
from ..model_files import NETWORK
from ..notices import notice
from ..photographs.read import ImageLike, to_pixels
from ..roi.importance import Importance
from ..stream.container import Layer, Reader, Stream, StreamBytes, check_working, pack, varint
from ..stream.errors import StreamError
from ..structures.features import Features, FeatureSpec
from ..structures.latents import LAYERS, SEMANTIC, Quality, quality_level, working_size
from ..teachers.nanodet import DetectorFeatures

LIBRARY = "compressai"
STRIDE = 16
"""Of y_hat, in pixels of the working size; networks of another stride are refused."""
MULTIPLE = 64
"""Networks see pictures whose sides are multiples of this many pixels: working sizes, padded right and below."""
LEVEL = quality_level(0.5)
"""What streams say of their quality: a network has one rate."""
LEAST_DEVIATION = 0.5
"""In quantization steps. What varies less hardly ever shows in y_hat, and must not be blown up."""
TRIALS = ((MULTIPLE, 2 * MULTIPLE), (2 * MULTIPLE, MULTIPLE))
"""Heights and widths of the pictures on which a network is tried."""


@dataclass(frozen=True)
class NetworkConfig:
    """What a model's description says of a network, and its streams' fingerprint is of.

    Attributes:
        architecture: its name in CompressAI's registry, or that of its class.
        size: working size, the longer side in pixels, a multiple of 32.
        network: hexadecimal digits of its weights.
        library: this one.
    """

    architecture: str
    size: int
    network: str
    library: str = LIBRARY

    @property
    def fused(self) -> bool:
        """Whether there are previews without the last layer: never."""
        return False

    @property
    def realism(self) -> int:
        """Blocks of a branch that adds realism: none."""
        return 0

    def working_size(self, height: int, width: int, layers: int = 2) -> tuple[int, int]:
        """Height and width, multiples of 32, at which the network sees a photograph.

        Args:
            height: of the photograph in pixels.
            width: of the photograph in pixels.
            layers: does not count.
        """
        return working_size(height, width, longer=self.size)


class _Latents(Exception):
    def __init__(self, y_hat: Tensor):
        self.y_hat = y_hat


class CompressAICodec(nn.Module):
    """A network of CompressAI's between photographs and features: the codec of a `CompressAIModel`.

    The network is no part of the state dict, always in evaluation mode, and in one layout of memory: what its entropy
    decoder reads depends on its floating-point sums, which must be the encoder's.

    Args:
        net: a `compressai.models.CompressionModel` whose ``g_s`` makes pictures of y_hat at stride 16.
        size: working size: the longer side in pixels, a multiple of 32.

    Attributes:
        channels: of y_hat.
        mean, deviation: (1, channels, 1, 1), by which heads see y_hat standardized; see `standardize`.

    Raises:
        ValueError: if the network cannot serve, or the size is no working size.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, size: int = 448):
        super().__init__()
        check_working(size)
        self.size, self.architecture = size, _architecture(net)
        self._held = [net.eval().requires_grad_(False)]  # in a list, so that it is no submodule
        self._digest: Derived[str] = Derived()
        self._settle()
        self.strings, self.shapes, self.channels = _tried(net, self.architecture)
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, self.channels, 1, 1))

    @property
    def net(self) -> Any:
        """The network."""
        return self._held[0]

    def _settle(self) -> None:
        for parameter in self.net.parameters():
            parameter.data = parameter.data.contiguous()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CompressAICodec:
        super()._apply(fn, recurse)
        self.net._apply(fn)
        self._settle()
        return self

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.mean.device

    @property
    def config(self) -> NetworkConfig:
        """What describes it."""
        return NetworkConfig(self.architecture, self.size, self._digest.get(*self._weighed()))

    def _weighed(self) -> tuple[list[Tensor], Callable[[], str]]:
        state = self.net.state_dict()
        return list(state.values()), lambda: digest(state)

    @property
    def fingerprint(self) -> str:
        """Of the network and the working size: streams carry it, and no other network reads them."""
        return fingerprint({}, asdict(self.config))

    @property
    def feature_spec(self) -> FeatureSpec:
        """What `features` look like."""
        return FeatureSpec(2 * self.channels, (self.channels,) * 4, self.channels)

    @torch.no_grad()
    def standardize(self, images: Sequence[ImageLike]) -> None:
        """Measure mean and deviation of y's channels on photographs, so that heads see all of them alike.

        Args:
            images: photographs.
        """
        rows = torch.cat([self._analyzed(to_pixels(image)).flatten(2)[0] for image in images], 1)
        self.mean.copy_(rows.mean(1)[None, :, None, None])
        self.deviation.copy_(rows.std(1).clamp_min(LEAST_DEVIATION)[None, :, None, None])

    @torch.no_grad()
    @full_precision()
    def encode(self, pixels: Tensor) -> bytes:
        """The strings that the network writes for a photograph.

        Args:
            pixels: (3, H, W), uint8 or in [0, 1].

        Returns:
            the strings one after the other, each but the last after its length.
        """
        found = self.net.compress(self._seen(pixels))["strings"]
        strings = [bytes(string[0]) for string in found]
        return b"".join([*(varint(len(string)) + string for string in strings[:-1]), strings[-1]])

    @torch.no_grad()
    @full_precision()
    def latents(self, payload: bytes, size: tuple[int, int]) -> Tensor:
        """Decode strings; no synthesis runs.

        Args:
            payload: as `encode` wrote it.
            size: the working size's (height, width).

        Returns:
            y_hat (1, channels, h / 16, w / 16).

        Raises:
            StreamError: if the strings cannot be decoded.
        """
        try:
            with _stopped_at_synthesis(self.net):
                self._decompressed(payload, size)
        except _Latents as found:
            return found.y_hat[..., : size[0] // STRIDE, : size[1] // STRIDE].contiguous()
        raise AssertionError("a network that was tried reaches its synthesis")

    @torch.no_grad()
    @full_precision()
    def picture(self, payload: bytes, size: tuple[int, int]) -> Tensor:
        """The picture that the synthesis makes.

        Args:
            payload: as of `latents`.
            size: as of `latents`.

        Returns:
            uint8 (3, h, w), on the CPU.

        Raises:
            StreamError: as `latents`.
        """
        x_hat = self._decompressed(payload, size)["x_hat"][0, :, : size[0], : size[1]]
        return (x_hat.clamp(0, 1) * 255).round().byte().cpu()

    def _decompressed(self, payload: bytes, size: tuple[int, int]) -> dict[str, Tensor]:
        strings = [[string] for string in _split(payload, self.strings)]
        try:
            return self.net.decompress(strings, _shape(*self.shapes, *_padded(size)))
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise StreamError(f"damaged: {self.architecture} cannot decode the stream's strings ({error})") from None

    @torch.no_grad()
    @full_precision()
    def _analyzed(self, pixels: Tensor) -> Tensor:
        """y (1, channels, h / 16, w / 16) of a photograph (3, H, W), before it is quantized."""
        rows, columns = (side // STRIDE for side in working_size(pixels.shape[-2], pixels.shape[-1], longer=self.size))
        return self.net.g_a(self._seen(pixels))[..., :rows, :columns]

    def _seen(self, pixels: Tensor) -> Tensor:
        """What the network sees of a photograph (3, H, W): resized to its working size, and padded."""
        x = pixels if pixels.dtype == torch.uint8 else (pixels * 255).round().to(torch.uint8)
        height, width = size = working_size(x.shape[-2], x.shape[-1], longer=self.size)
        rows, columns = _padded(size)
        small = resized(x[None].to(self.device), size).float() / 255
        return F.pad(small, (0, columns - width, 0, rows - height), mode="replicate").contiguous()

    def features_of(self, y: Tensor, sizes: list[tuple[int, int]], layers: int = 2) -> Features:
        """What heads read of latents: a pyramid that is made of them by resampling alone, and their statistics.

        Args:
            y: y_hat, or y, (N, channels, h / 16, w / 16).
            sizes: true (height, width) of the photographs in pixels.
            layers: 3 for ``detail`` too, which is y_hat itself.

        Returns:
            embedding (N, 2 channels): mean and root mean square; pyramid: standardized, as wide at each stride.
        """
        x = (y - self.mean) / self.deviation
        embedding = torch.cat([x.mean((2, 3)), x.square().mean((2, 3)).sqrt()], 1)
        half = F.avg_pool2d(x, 2)
        quarter = F.avg_pool2d(half, 2, ceil_mode=True, count_include_pad=False)
        pyramid = [F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), x, half, quarter]
        return Features(sizes, embedding, pyramid, y if layers == len(LAYERS) else None)

    def teachers_see(self, x: Tensor, layers: int = 2) -> Seen:
        """What counterparts read in photographs: y before it is quantized, as `features_of` it.

        Args:
            x: (N, 3, H, W), uint8 or in [0, 1].
            layers: 1 for the embedding alone.

        Returns:
            the embedding (N, 2 channels); and the pyramid, None where ``layers`` is 1.
        """
        y = torch.cat([self._analyzed(pixels) for pixels in x])
        features = self.features_of(y, [])
        return Seen(features.embedding, DetectorFeatures(tuple(features.pyramid), ()) if layers > 1 else None)

    def files(self) -> dict[str, dict[str, Tensor]]:
        """What a model's folder holds of the network.

        Returns:
            tensors by name, on the CPU, by the file's name.

        Raises:
            ValueError: if it could not be rebuilt from them.
        """
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.net.state_dict().items()}
        try:
            rebuilt = network_of(self.architecture, state).state_dict()
        except ValueError as error:
            raise ValueError(
                f"the model is not saved: a file could not rebuild its network ({error}); register its class by "
                "compressai.registry.register_model, with a from_state_dict"
            ) from None
        if digest(rebuilt) != digest(state):
            raise ValueError(f"the model is not saved: {self.architecture} does not rebuild this network")
        return {NETWORK: state}


class _Writer:
    """A photograph's stream at any level: they are all the same. As `cdanalysis.codec.budget.StreamWriter`."""

    def __init__(self, model: CompressAIModel, images: Sequence[ImageLike]):
        self.model, self.images = model, [to_pixels(image) for image in images]

    def at(self, levels: Sequence[int] = ()) -> list[bytes]:
        """Streams, whatever the levels."""
        return list(self._streams)

    @cached_property
    def _streams(self) -> list[bytes]:
        return [self._stream(image) for image in self.images]

    def _stream(self, pixels: Tensor) -> bytes:
        codec, data = self.model.codec, self.model.codec.encode(pixels)
        first = Layer(LAYERS[0], LEVEL, 0, b"", codec.size)
        second = Layer(LAYERS[1], LEVEL, len(data), data, codec.size)
        return pack(Stream(self.model.fingerprint, pixels.shape[-1], pixels.shape[-2], (first, second)))

    def within(self, budget: object, bpp: object = None) -> bytes:
        """Raises `ValueError`: there is nothing to choose from."""
        raise ValueError(f"{self.model.name} has one rate, so it meets no budget: choose a network of another quality")


class CompressAIModel(Model):
    """A network of CompressAI's and heads that read its y_hat; all else is as of `Model`.

    Streams are ``.cda`` files. Decoding them takes CompressAI, and the floating-point sums of the encoder: the same
    kind of machine, with as many threads.

    Args:
        codec: the network.
        heads: as of `Model`; by default none.
        name: what error messages call it.
    """

    codec: CompressAICodec  # type: ignore[assignment]

    stream_layers = len(SEMANTIC)

    def __init__(self, codec: CompressAICodec, heads: Mapping[str, Mapping[str, Any]] | None = None, name: str = ""):
        super().__init__(codec, heads or {}, name or codec.architecture)
        self.eval()

    @classmethod
    def of(
        cls, network: str | nn.Module, quality: int = 3, weights: str | Path = "", size: int = 448, name: str = ""
    ) -> CompressAIModel:
        """A model without heads.

        Args:
            network: a name of CompressAI's zoo or, where ``weights`` is a file, of its registry; or an instance.
            quality: CompressAI's, 1 to 8, of a named network.
            weights: file of a state dict, or folder of ``NAME-QUALITY.pth``; by default CompressAI downloads its own;
                ``"random"`` for none.
            size: working size: the longer side, in pixels, to which photographs are resized; a multiple of 32.
            name: what error messages call it.

        Raises:
            FileNotFoundError: if there are no weights.
            ModuleNotFoundError: if CompressAI is not installed.
            ValueError: if there is no such network, or it cannot serve.

        >>> CompressAIModel.of("bmshj2018-hyperprior", weights="hyperprior.pth")  # doctest: +SKIP
        """
        net = open_network(network, quality, str(weights)) if isinstance(network, str) else network
        codec = CompressAICodec(net, size)
        codec.standardize(list(sample_images().values()))
        return cls(codec, name=name)

    @classmethod
    def opened(cls, words: str) -> CompressAIModel:
        """A model without heads by what follows ``compressai:`` in the name that `load` takes.

        Args:
            words: ``NAME``, ``NAME:QUALITY`` or ``NAME:QUALITY:WEIGHTS``, see `of`.

        Raises:
            FileNotFoundError: if there are no weights.
            ModuleNotFoundError: if CompressAI is not installed.
            ValueError: for other words, if there is no such network, or it cannot serve.
        """
        network, _, rest = words.partition(":")
        quality, _, weights = rest.partition(":")
        if not (quality or "3").isdigit():
            raise ValueError(f"'{LIBRARY}:{words}' is not {LIBRARY}:NAME:QUALITY or {LIBRARY}:NAME:QUALITY:WEIGHTS")
        return cls.of(network, int(quality or 3), weights)

    @classmethod
    def rebuilt(cls, info: Mapping[str, Any], tensors: Callable[[str], dict[str, Tensor]]) -> CompressAIModel:
        """A model as its file describes it, its heads not yet filled.

        Args:
            info: the description.
            tensors: reads a file of the model's folder.

        Raises:
            ValueError: if the network's file is not the one that is described.
        """
        described = NetworkConfig(**info["codec"])
        codec = CompressAICodec(network_of(described.architecture, tensors(NETWORK)), described.size)
        if codec.config != described:
            raise ValueError(f"{NETWORK} does not hold the network that the model was saved with")
        return cls(codec, info["heads"], info["name"])

    def encode_batch(
        self,
        images: Sequence[ImageLike],
        quality: Quality | None = None,
        layers: Sequence[str] = LAYERS,
        **settings: Any,
    ) -> list[bytes]:
        """As `Model.encode_batch`; the network's own rate is the only quality, and the strings the only layer."""
        if quality not in (None, 0.5):
            notice(f"{self.name} has one rate, which no quality changes")
        return super().encode_batch(images, None, SEMANTIC, **settings)

    def writer(  # type: ignore[override]
        self,
        images: Sequence[ImageLike],
        layers: int = 2,
        importance: Importance | None = None,
        spatial_size: int | None = None,
        effort: int = 0,
        realism: float = 0.0,
    ) -> _Writer:
        """As `Model.writer`.

        Raises:
            ValueError: for an importance, a size of the spatial layer, effort, or a realism.
        """
        asked = {"importance": importance, "spatial_size": spatial_size, "effort": effort or None}
        for name, given in (asked | {"realism": realism or None}).items():
            if given is not None:
                raise ValueError(f"{self.name} spends bits as its network has learned: leave out {name}")
        return _Writer(self, images)

    @property
    def symbols(self) -> Any:
        """Raises `ValueError`: symbols are coded inside CompressAI."""
        raise ValueError(f"{self.name}'s symbols are coded inside CompressAI: read features, or codec.latents")

    @torch.inference_mode()
    def _features(self, streams: Sequence[Stream], layers: int) -> Features:
        y_hat = torch.cat([self.codec.latents(*_payload(stream)) for stream in streams])
        return self.codec.features_of(y_hat, [(stream.height, stream.width) for stream in streams], layers)

    def _grouped(self, streams: Sequence[StreamBytes], layers: int, work: Any) -> list[Any]:
        return super()._grouped(streams, len(SEMANTIC), work)

    @torch.inference_mode()
    def _decode_group(self, streams: Sequence[Stream], preview: bool, realism: float) -> list[Image.Image]:
        if realism:
            raise ValueError(f"{self.name}'s decoder knows no realism: it decodes with realism 0 alone")
        pictures = [self.codec.picture(*_payload(stream)).permute(1, 2, 0).numpy() for stream in streams]
        sizes = [(stream.width, stream.height) for stream in streams]
        return [Image.fromarray(p).resize(s, Image.Resampling.BICUBIC) for p, s in zip(pictures, sizes, strict=True)]


def _payload(stream: Stream) -> tuple[bytes, tuple[int, int]]:
    """The strings of a stream, and the working size's (height, width)."""
    layer = stream.require(SEMANTIC[1])
    assert layer.data is not None, "a layer that is required has data"
    return layer.data, working_size(stream.height, stream.width, longer=layer.working)


def digest(state: Mapping[str, Tensor]) -> str:
    """A digest of all tensors of a network, by name, type and shape.

    Args:
        state: tensors by name.

    Returns:
        sixteen hexadecimal digits.
    """
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return found.hexdigest()[:16]


def _architecture(net: nn.Module) -> str:
    """The name of a network's class in CompressAI's registry; that of the class, where it is not in there."""
    from compressai.registry.torch import MODELS

    return next((name for name, kind in MODELS.items() if kind is type(net)), type(net).__name__)


def _tried(net: Any, name: str) -> tuple[int, tuple[Any, Any], int]:
    """How many strings a network writes, their shapes for each of ``TRIALS``, and the channels of its y_hat.

    Raises:
        ValueError: if it cannot serve.
    """
    if not all(isinstance(getattr(net, part, None), nn.Module) for part in ("g_a", "g_s")):
        raise ValueError(f"{name} cannot serve as a codec for heads: it has no transforms g_a and g_s")
    counts, shapes, channels = set(), [], set()
    for height, width in TRIALS:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(1, 3, height, width, generator=generator).to(next(net.parameters()).device)
        try:
            y_hat, coded = _trial(net, x)
        except Exception as error:  # whatever a network of somebody's raises
            raise ValueError(
                f"{name} cannot serve as a codec for heads: it cannot code a picture ({named_line(error)})"
            ) from None
        if tuple(y_hat.shape[2:]) != (height // STRIDE, width // STRIDE):
            stride = height / y_hat.shape[2]
            raise ValueError(f"{name} cannot serve as a codec for heads: y_hat has stride {stride:g}, not {STRIDE}")
        counts.add(len(coded["strings"]))
        shapes.append(coded["shape"])
        channels.add(y_hat.shape[1])
    return counts.pop(), (shapes[0], shapes[1]), channels.pop()


@torch.no_grad()
@full_precision()
def _trial(net: Any, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """y_hat of a picture (1, 3, H, W), by way of its strings, and what the network wrote."""
    net.update()
    coded = net.compress(x)
    strings = [[bytes(string[0])] for string in coded["strings"]]
    try:
        with _stopped_at_synthesis(net):
            net.decompress(strings, coded["shape"])
    except _Latents as found:
        return found.y_hat, coded
    raise ValueError("it decodes without its g_s")


@contextmanager
def _stopped_at_synthesis(net: Any) -> Iterator[None]:
    """In here a network's decoder raises `_Latents` where it would run its synthesis."""

    def stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Latents(inputs[0])

    hook = net.g_s.register_forward_pre_hook(stop)
    try:
        yield
    finally:
        hook.remove()


def _shape(one: Any, other: Any, height: int, width: int) -> Any:
    """The ``shape`` that a network's decoder takes for a picture of that size, from those for ``TRIALS``.

    Numbers are rows if the first trial, which is wide, has fewer of them, columns if it has more, else neither.

    >>> _shape((1, 2), (2, 1), 448, 320)
    (7, 5)
    """
    if isinstance(one, Mapping):
        return {key: _shape(one[key], other[key], height, width) for key in one}
    if isinstance(one, (list, tuple)):
        parts = [_shape(a, b, height, width) for a, b in zip(one, other, strict=True)]
        return parts if isinstance(one, list) else tuple(parts)
    if one == other:
        return one
    (rows, columns), _ = TRIALS
    return one * height // rows if one < other else one * width // columns


def _padded(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width rounded up to what networks take."""
    rows, columns = (-(-side // MULTIPLE) * MULTIPLE for side in size)
    return rows, columns


def _split(payload: bytes, count: int) -> list[bytes]:
    """The strings of a payload.

    Raises:
        StreamError: if it ends too early.
    """
    reader = Reader(payload)
    try:
        strings = [reader.take(reader.varint()) for _ in range(count - 1)]
    except StreamError:
        raise StreamError("damaged: the strings end too early") from None
    return [*strings, payload[reader.position :]]
