"""Photographs to streams: at a quality, or at the best one whose bytes stay within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from numbers import Integral, Real

import torch
from torch import Tensor

from ..stream.container import Layer, Stream, check_working, pack
from ..structures.latents import LAYERS, QUALITY_LEVELS, QUALITY_OFFSET_STEP, Levels
from .entropy.models import Quantized
from .entropy.symbols import SymbolCoder
from .layered import AnalyzedImages, LayeredCodec
from .realism import check_realism

Budget = int | tuple[int, ...]
"""Bytes of a whole stream, or of the symbols of each layer."""

MOST_EFFORT = 10_000
"""Steps; hundreds gain hardly more than dozens."""

WASTE = 0.95
"""A budget of which less than this share could be used is refused."""


class StreamWriter:
    """Writes photographs of one size; analyzes them once, however many qualities are tried.

    Args:
        codec, symbols, fingerprint: of the model.
        x: photographs (N, 3, H, W), in [0, 1] or uint8.
        layers: how many to write, from the first on.
        quality_offsets: how far the detail layer's quality lies below its level, place by place; see `Latents`.
        spatial_size: working size of the spatial layer, see `Model.encode`.
        effort: steps of the search for the detail layer's latents, see `Model.encode`.
        realism: which the search serves, see `Model.encode`.

    Raises:
        ValueError: if that is no working size, no number of steps, or no realism of the codec's decoder.
    """

    @torch.inference_mode()
    def __init__(
        self,
        codec: LayeredCodec,
        symbols: SymbolCoder,
        fingerprint: str,
        x: Tensor,
        layers: int,
        quality_offsets: Tensor | None = None,
        spatial_size: int | None = None,
        effort: int = 0,
        realism: float = 0.0,
    ):
        device = codec.device
        self.working = codec.config.working_sizes
        if spatial_size is not None:
            self.working = (self.working[0], check_working(spatial_size), 0)
        self.codec, self.symbols, self.fingerprint = codec, symbols, fingerprint
        self.quality_offsets = (
            quality_offsets.to(device) if quality_offsets is not None and quality_offsets.any() else None
        )
        self.size, self.layers = (x.shape[-2], x.shape[-1]), layers
        self.analyzed = codec.analyze(x.to(device), layers, self.working[1], check_effort(effort), realism)
        self._embeddings: dict[int, Quantized] = {}

    @torch.inference_mode()
    def at(self, levels: Levels, search: bool = True) -> list[bytes]:
        """The photographs' streams at given qualities.

        Args:
            levels: quality levels 0..120 of the first one or more of the layers, which are written.
            search: whether to use the search for the detail layer's latents, if there is one, which takes time.

        Returns:
            the bytes of a ``.cda`` file for each photograph.
        """
        return self._packed(levels, self._coded(levels, search))

    def _packed(self, levels: Levels, coded: list[list[bytes]]) -> list[bytes]:
        return packed(self.working, self.fingerprint, self.size, levels, coded, self.quality_offsets is not None)

    def _coded(self, levels: Levels, search: bool) -> list[list[bytes]]:
        """For each photograph the bytes of its first layers' symbols, of as many as there are levels."""
        y, count = self.analyzed, len(levels)
        spatial, detail = y.spatial if count > 1 else None, y.detail if count > 2 else None
        analyzed = AnalyzedImages(y.embedding, spatial, detail, y.search if search else None)
        quality_offsets = self.quality_offsets
        if quality_offsets is not None and len(levels) == len(
            LAYERS
        ):  # what would fall below level 0 need not be told apart
            quality_offsets = quality_offsets.clamp_max(-(-levels[2] // QUALITY_OFFSET_STEP))
        coded = self.codec.encode_at(analyzed, self.size, levels, quality_offsets, self._embedding(levels[0]))
        return self.symbols.write(coded)

    def _embedding(self, level: int) -> Quantized:
        """The global layer's symbols, which are searched for once a level, whatever the levels of other layers."""
        if level not in self._embeddings:
            self._embeddings[level] = self.codec.quantized_embedding(self.analyzed.embedding, level)
        return self._embeddings[level]

    @torch.inference_mode()
    def within(self, budget: Budget, bpp: float | tuple[float, ...] | None = None) -> bytes:
        """The stream of the only photograph at the best quality that ``budget`` allows.

        Args:
            budget: in bytes.
            bpp: the same in bits a pixel, where it was asked for, and is to be answered, in these.

        Returns:
            the bytes of a ``.cda`` file.

        Raises:
            ValueError: if the model cannot meet the budget, or even the highest quality would use less than 95 % of it;
                the message names what it can; or if budgets by layer are not one for each layer that is written.
        """
        pixels = self.size[0] * self.size[1]
        if isinstance(budget, int):
            in_bpp = None if bpp is None or isinstance(bpp, (tuple, list)) else (pixels, bpp)
            written = cache(lambda level, search: self.at((level,) * self.layers, search)[0])
            level, search = self._best(lambda *asked: len(written(*asked)), budget, "a stream", in_bpp)
            return written(level, search)
        if len(budget) != self.layers:
            names = ", ".join(LAYERS[: self.layers])
            given = budget if bpp is None else bpp
            raise ValueError(f"a budget is one number, or one for each layer that is written ({names}), got {given}")
        coded = cache(self._coded)
        levels: Levels = ()
        search = False
        for number, most in enumerate(budget):
            in_bpp = (pixels, bpp[number]) if isinstance(bpp, (tuple, list)) else None
            size = partial(lambda before, level, search: len(coded((*before, level), search)[0][-1]), levels)
            level, search = self._best(size, most, f"the {LAYERS[number]} layer", in_bpp, number == len(LAYERS) - 1)
            levels = (*levels, level)
        return self._packed(levels, coded(levels, search))[0]

    def _best(
        self,
        size_at: Callable[[int, bool], int],
        budget: int,
        what: str,
        in_bpp: tuple[int, float] | None,
        detail: bool = True,
    ) -> tuple[int, bool]:
        """The best level within a budget, and whether it is with the search; arguments as `best_level`'s.

        Args:
            detail: whether the budget is for what the search is for.
        """

        def plain_at(level: int) -> int:
            return size_at(level, False)

        rounded = best_level(plain_at, budget, what, in_bpp)
        if not detail or self.analyzed.search is None:
            return rounded, False
        level = searched_level(lambda level: size_at(level, True), plain_at, rounded, budget, QUALITY_LEVELS)
        return (rounded, False) if level < 0 else (level, True)


def packed(
    working: Sequence[int],
    fingerprint: str,
    size: tuple[int, int],
    levels: Levels,
    coded: list[list[bytes]],
    mapped: bool = False,
) -> list[bytes]:
    """Streams of coded photographs.

    Args:
        working: sizes of the layers, see `CodecConfig.working_sizes`.
        fingerprint: of the weights that coded them.
        size: (height, width) of the photographs in pixels.
        levels: 0..120 of the layers that are there.
        coded: for each photograph the bytes of each layer's symbols.
        mapped: whether the detail layer has a quality map.

    Returns:
        the bytes of a ``.cda`` file for each photograph.

    Raises:
        ValueError: for a size, level, working size or fingerprint that the format cannot represent.
    """

    def layers(parts: list[bytes]) -> tuple[Layer, ...]:
        rows = zip(LAYERS, levels, parts, working, strict=False)
        return tuple(
            Layer(name, level, len(data), data, working, mapped and name == LAYERS[-1])
            for name, level, data, working in rows
        )

    return [pack(Stream(fingerprint, size[1], size[0], layers(parts))) for parts in coded]


def check_effort(effort: int) -> int:
    """Check a number of steps.

    Args:
        effort: steps of the search for the detail layer's latents.

    Returns:
        the same.

    Raises:
        ValueError: if it is not an integer from 0 to ``MOST_EFFORT``.
    """
    if not isinstance(effort, Integral) or effort is True or not 0 <= effort <= MOST_EFFORT:
        raise ValueError(f"effort is a number of steps from 0 to {MOST_EFFORT:,}, got {effort!r}")
    return int(effort)


def check_one_rate(quality: object, bpp: object, max_bytes: object) -> None:
    """Refuse two answers to one question.

    Args:
        quality, bpp, max_bytes: see `Model.encode`; None where not given.

    Raises:
        ValueError: if more than one is given.
    """
    if sum(given is not None for given in (quality, bpp, max_bytes)) > 1:
        raise ValueError("give one of quality, bpp and max_bytes")


def check_settings(layers: int, importance: object, spatial_size: int | None, effort: int, realism: float) -> None:
    """Refuse what is asked of a layer that is not written.

    Args:
        layers: how many are written.
        importance, spatial_size, effort, realism: see `Model.encode`.

    Raises:
        ValueError: if one of them is given without its layer, or is no size, number of steps or realism; or for a
            realism without effort.
    """
    if spatial_size is not None:
        check_working(spatial_size)
        if layers < LAYERS.index("spatial") + 1:
            raise ValueError(
                "a size is given for the spatial layer, which is not written: drop it, or write that layer"
            )
    whole = layers == len(LAYERS)
    if importance is not None and not whole:
        raise ValueError(
            "importance affects only the detail layer, which is not written: drop importance, or write all layers"
        )
    if check_effort(effort) and not whole:
        raise ValueError("effort is spent on the detail layer, which is not written: drop effort, or write all layers")
    check_realism(realism)
    if realism and not effort:
        raise ValueError("streams are the same for every realism, unless effort serves one: give effort, or no realism")


def best_level(bytes_at: Callable[[int], int], budget: int, what: str, in_bpp: tuple[int, float] | None = None) -> int:
    """The highest quality level 0..120 whose bytes stay within ``budget``.

    Args:
        bytes_at: bytes at a level; grows with it, but for a few bytes.
        budget: in bytes.
        what: what the bytes are of, for the message.
        in_bpp: the photograph's pixels and the bits a pixel that were asked for, where the message shall speak of them.

    Raises:
        ValueError: if ``budget`` is too small, or so large that less than ``WASTE`` of it could be used.
    """
    sizes: dict[int, int] = {}

    def size_at(level: int) -> int:
        sizes[level] = bytes_at(level)
        return sizes[level]

    level = highest_level(size_at, budget, QUALITY_LEVELS)
    if level < 0 or (level == QUALITY_LEVELS and sizes[level] < WASTE * budget):
        least, most = (sizes.get(end) or bytes_at(end) for end in (0, QUALITY_LEVELS))
        if in_bpp is not None:
            pixels, asked = in_bpp
            low, high = math.ceil(8e4 * least / pixels) / 1e4, math.floor(8e4 * most / pixels) / 1e4
            raise ValueError(f"{what} of this photograph can have {low:g} to {high:g} bits a pixel, not {asked:g}")
        raise ValueError(f"{what} of this photograph can have {least} to {most} bytes, not {budget}")
    return level


def highest_level(size_at: Callable[[int], float], budget: float, max_level: int, straight: bool = True) -> int:
    """The highest level 0..``max_level`` whose size, which grows with it, is within ``budget``.

    By bisection. The level that is found, and the one above it, have been asked for.

    Args:
        size_at: the size at a level.
        budget: in the unit of the sizes.
        max_level: the last level there is.
        straight: whether sizes are nearly a straight line in the logarithm, so that interpolation helps.

    Returns:
        the level; -1 if the size at level 0 exceeds the budget.
    """
    low, high, sizes = -1, max_level + 1, {}  # within the budget; beyond it
    while high - low > 1:
        level = (low + high) // 2
        if (
            straight and low in sizes and high in sizes and sizes[low] and len(sizes) % 3
        ):  # now and then the middle, should they be no lines at all
            share = math.log(budget / sizes[low]) / math.log(sizes[high] / sizes[low])
            level = min(max(low + int(share * (high - low)), low + 1), high - 1)
        sizes[level] = size_at(level)
        low, high = (level, high) if sizes[level] <= budget else (low, level)
    return low


def searched_level(
    size_at: Callable[[int], float], plain_at: Callable[[int], float], plain: int, budget: float, max_level: int
) -> int:
    """A level whose size is within a budget, where sizes take long, and those of something simpler do not.

    A search for symbols takes a share of what rounding takes, about the same at neighboring levels. By that share the
    level is the highest one; whether the next would fit after all is not tried.

    Args:
        size_at: the size at a level; kept, because it is asked for again.
        plain_at: the size of the simpler at a level; kept, too.
        plain: the highest level within the budget for the simpler.
        budget: in the unit of the sizes.
        max_level: the last level there is.

    Returns:
        the level; -1 if even the size at level 0 exceeds the budget.
    """
    share, level = size_at(plain) / plain_at(plain), plain
    while level > 0 and share * plain_at(level) > budget:
        level -= 1
    while level < max_level and share * plain_at(level + 1) <= budget:
        level += 1
    while level >= 0 and size_at(level) > budget:
        level -= 1
    if level < 0:
        return level
    share = size_at(level) / plain_at(level)
    while level < max_level and share * plain_at(level + 1) <= budget and size_at(level + 1) <= budget:
        level += 1
    return level


def budget_of(pixels: int, bpp: float | tuple[float, ...] | None, max_bytes: Budget | None) -> Budget | None:
    """A budget in bytes, given in bits a pixel or in bytes.

    Args:
        pixels: of the photograph.
        bpp: bits a pixel of the whole stream, or for each layer; counts before ``max_bytes``.
        max_bytes: bytes of the whole stream, or for each layer.

    Returns:
        whole bytes, rounded down: one number, or one for each layer; None if neither is given.

    Raises:
        ValueError: for a budget that is neither a positive number nor one for each layer.
    """
    wanted = max_bytes if bpp is None else bpp
    if wanted is None:
        return None
    parts = tuple(wanted) if isinstance(wanted, (tuple, list)) else (wanted,)
    numbers = all(isinstance(part, Real) and part is not True and 0 < part < math.inf for part in parts)
    if not (numbers and 1 <= len(parts) <= len(LAYERS)):
        raise ValueError(f"a budget is one positive number, or one for each of {', '.join(LAYERS)}, got {wanted!r}")
    sizes = tuple(int(part if bpp is None else part * pixels / 8) for part in parts)
    return sizes if isinstance(wanted, (tuple, list)) else sizes[0]
