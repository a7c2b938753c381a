"""Latents to the bytes of their layers and back, by the exact entropy models and the stream's coder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...stream.coder import CdfTables, SymbolReader, SymbolWriter, pop_each
from ...stream.container import Stream
from ...stream.quality_map import pop_map, push_map
from ...structures.latents import Latents
from ..layered import CodedLatents, LayeredCodec
from ..tiles import STRIDE, grid_of
from .models import Pass


class SymbolCoder:
    """Writes and reads the layers of one codec's latents.

    Args:
        codec: whose entropy models to use; its tables must be frozen.
    """

    def __init__(self, codec: LayeredCodec):
        self.codec = codec
        self.scales = CdfTables(codec.scale_tables.cpu().numpy())
        self.hyper = CdfTables(codec.detail.prior.table.cpu().numpy())

    def write(self, encoded: CodedLatents) -> list[list[bytes]]:
        """For each photograph the bytes of each of its layers."""
        latents, (semantic, *detail) = encoded
        writers = [SymbolWriter() for _ in range(len(latents))]
        self._push_passes(writers, semantic)
        layers = [[writer.finish()] for writer in writers]
        if latents.detail is None:
            return layers
        writers = [SymbolWriter() for _ in range(len(latents))]
        if latents.quality_offsets is not None:
            for writer, quality_offsets in zip(writers, latents.quality_offsets, strict=True):
                push_map(writer, quality_offsets[0].cpu().numpy())
        z = latents.hyper.flatten(1).cpu().numpy().astype(np.int64)
        for writer, *row in zip(writers, z, _hyper_indices(latents.hyper.shape), strict=True):
            writer.push(*row, self.hyper)
        self._push_passes(writers, *detail)
        for image, writer in zip(layers, writers, strict=True):
            image.append(writer.finish())
        return layers

    def read(self, streams: Sequence[Stream], layers: int = 2) -> Latents:
        """Latents of streams of one size and quality.

        Args:
            layers: 1 to read the semantic layer alone, 2 for both.

        Raises:
            StreamError: if a layer is missing, or its symbols do not fit its model.
            ValueError: if there is no stream, or they are not of one size and quality.
        """
        _check_alike(streams, layers)
        codec, first = self.codec, streams[0]
        device = codec.scale_tables.device
        size, levels = (first.height, first.width), tuple(layer.level for layer in first.layers)
        levels = levels if len(levels) == 2 else (levels[0], levels[0])
        grid = grid_of(*size)
        readers = [SymbolReader(stream.require("semantic").data) for stream in streams]
        base = codec.semantic.exact_base(levels[0], grid, device, len(streams))
        semantic = codec.semantic.context.read(grid, base, self._pop(readers, self.scales))
        _close(readers)
        if layers == 1:
            return Latents(size, levels, semantic)
        return self._read_detail(streams, Latents(size, levels, semantic))

    def _read_detail(self, streams: Sequence[Stream], base: Latents) -> Latents:
        """The latents of the detail layer beside those of the semantic one."""
        detail, grid, device = self.codec.detail, base.semantic.shape[-2:], base.semantic.device
        readers = [SymbolReader(stream.require("detail").data) for stream in streams]
        if streams[0].require("detail").mapped:
            maps = np.stack([pop_map(reader, (grid[0] // 2, grid[1] // 2)) for reader in readers])
            base = replace(base, quality_offsets=torch.from_numpy(maps)[:, None].to(device, torch.int32))
        hyper_grid = detail.hyper_spec.grid(*(STRIDE * side for side in grid))
        shape = len(streams), detail.hyper_spec.channels, *hyper_grid
        symbols = pop_each(readers, _hyper_indices(shape), self.hyper)
        z = torch.from_numpy(symbols).reshape(shape).to(device)
        exact = detail.exact_base(z, base.semantic, base.levels)
        values = detail.context.read(grid, exact, self._pop(readers, self.scales))
        _close(readers)
        return replace(base, detail=values, hyper=z)

    def _push_passes(self, writers: list[SymbolWriter], passes: list[Pass]) -> None:
        for each in passes:
            symbols, indices = (t.cpu().numpy() for t in each)
            for writer, row, row_indices in zip(writers, symbols, indices, strict=True):
                writer.push(row, row_indices, self.scales)

    @staticmethod
    def _pop(readers: list[SymbolReader], tables: CdfTables):
        def pop(indices: Tensor) -> Tensor:
            return torch.from_numpy(pop_each(readers, indices.cpu().numpy(), tables)).to(indices.device)

        return pop


def _hyper_indices(shape: Sequence[int]) -> np.ndarray:
    """(N, n) of hyper symbols (N, C, h, w): each one's table is its channel's."""
    count, channels, height, width = shape
    return np.tile(np.repeat(np.arange(channels), height * width), (count, 1))


def _close(readers: list[SymbolReader]) -> None:
    for reader in readers:
        reader.close()


def _check_alike(streams: Sequence[Stream], layers: int) -> None:
    """Raises `ValueError` unless there are streams, whose first ``layers`` layers can be read together."""
    if not streams:
        raise ValueError("there is no stream to read")
    kinds = [(*same_kind(stream)[:2], same_kind(stream)[2][:layers]) for stream in streams]
    for number, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ValueError(
                "streams that are read together have one size, and one quality of each layer; stream 0 is "
                f"{_described(streams[0])}, and stream {number} is {_described(streams[number])}: read them apart"
            )


def _described(stream: Stream) -> str:
    layers = (f"{layer.name} {layer.level}{' with a map' if layer.mapped else ''}" for layer in stream.layers)
    return f"{stream.width}x{stream.height} ({', '.join(layers)})"


def same_kind(stream: Stream) -> tuple:
    """Streams of equal kind can be read together."""
    return stream.height, stream.width, tuple((layer.level, layer.mapped) for layer in stream.layers)
