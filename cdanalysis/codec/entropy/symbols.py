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
from ...structures.latents import LAYERS, Latents, working_size
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
        """Entropy-code latents.

        Args:
            encoded: latents of N photographs, and the passes that code each of their layers.

        Returns:
            for each photograph the bytes of each of its layers.
        """
        latents, passes = encoded
        layers: list[list[bytes]] = [[] for _ in range(len(latents))]
        for name, coded in zip(latents.layers, passes, strict=True):
            writers = [SymbolWriter() for _ in range(len(latents))]
            if name == "detail":
                self._push_side(writers, latents)
            self._push_passes(writers, coded)
            for image, writer in zip(layers, writers, strict=True):
                image.append(writer.finish())
        return layers

    def _push_side(self, writers: list[SymbolWriter], latents: Latents) -> None:
        """The detail layer's side information: a quality map, where there is one, and the hyper-latent."""
        if latents.quality_offsets is not None:
            for writer, quality_offsets in zip(writers, latents.quality_offsets, strict=True):
                push_map(writer, quality_offsets[0].cpu().numpy())
        assert latents.hyper is not None
        z = latents.hyper.flatten(1).cpu().numpy().astype(np.int64)
        for writer, *row in zip(writers, z, _hyper_indices(latents.hyper.shape), strict=True):
            writer.push(*row, self.hyper)

    def read(self, streams: Sequence[Stream], layers: int = 3) -> Latents:
        """Latents of streams of one size and quality.

        Args:
            streams: N of them, written by this codec.
            layers: how many to read, 1 to 3, from the first on.

        Returns:
            a batch of N photographs, on the codec's device.

        Raises:
            StreamError: if a layer is missing, or its symbols do not fit its model.
            ValueError: if there is no stream, or they are not of one size and quality.
        """
        _check_alike(streams, layers)
        first, vector = streams[0], self.codec.global_layer.context
        for name in LAYERS[:layers]:
            for stream in streams:
                stream.require(name)
        size, levels = (first.height, first.width), tuple(layer.level for layer in first.layers[:layers])
        readers = _readers(streams, "global")
        like = self.codec.scale_tables.new_empty((), dtype=torch.float32)
        embedding = vector.read(len(streams), levels[0], like, self._pop(readers, self.scales))
        _close(readers)
        latents = Latents(size, levels, embedding)
        latents = self._read_spatial(streams, latents) if layers > 1 else latents
        return self._read_detail(streams, latents) if layers > 2 else latents

    def _read_spatial(self, streams: Sequence[Stream], known: Latents) -> Latents:
        """Latents with those of the spatial layer beside those of the global one."""
        spatial, readers = self.codec.spatial, _readers(streams, "spatial")
        rows, columns = working_size(*known.size, longer=streams[0].require("spatial").working)
        grid = rows // STRIDE, columns // STRIDE
        base = spatial.exact_base(known.embedding, known.quality[1], grid)
        values = spatial.context.read(base, self._pop(readers, self.scales))
        _close(readers)
        return replace(known, spatial=values)

    def _read_detail(self, streams: Sequence[Stream], known: Latents) -> Latents:
        """Latents with those of the detail layer beside those of the semantic ones."""
        detail, grid, device = self.codec.detail, grid_of(*known.size), known.embedding.device
        readers = _readers(streams, "detail")
        if streams[0].require("detail").mapped:
            maps = np.stack([pop_map(reader, (grid[0] // 2, grid[1] // 2)) for reader in readers])
            known = replace(known, quality_offsets=torch.from_numpy(maps)[:, None].to(device, torch.int32))
        hyper_grid = detail.hyper_spec.grid(*(STRIDE * side for side in grid))
        shape = len(streams), detail.hyper_spec.channels, *hyper_grid
        symbols = pop_each(readers, _hyper_indices(shape), self.hyper)
        z = torch.from_numpy(symbols).reshape(shape).to(device)
        exact = detail.exact_base(z, known.detail_level, self.codec.condition(known.spatial, known.size), grid)
        values = detail.context.read(exact, self._pop(readers, self.scales))
        _close(readers)
        return replace(known, detail=values, hyper=z)

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


def _readers(streams: Sequence[Stream], layer: str) -> list[SymbolReader]:
    return [SymbolReader(stream.require(layer).data) for stream in streams]


def _close(readers: list[SymbolReader]) -> None:
    for reader in readers:
        reader.close()


def _check_alike(streams: Sequence[Stream], layers: int) -> None:
    """Raises `ValueError` unless there are streams, whose first ``layers`` layers can be read together."""
    if not streams:
        raise ValueError("there is no stream to read")
    kinds = [same_kind(stream, layers) for stream in streams]
    for number, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ValueError(
                "streams that are read together have one size, and one quality of each layer; stream 0 is "
                f"{_described(streams[0])}, and stream {number} is {_described(streams[number])}: read them apart"
            )


def _described(stream: Stream) -> str:
    layers = (
        f"{layer.name} {layer.level}{f' at {layer.working} px' * bool(layer.working)}{' with a map' * layer.mapped}"
        for layer in stream.layers
    )
    return f"{stream.width}x{stream.height} ({', '.join(layers)})"


def same_kind(stream: Stream, layers: int = len(LAYERS)) -> tuple:
    """What streams have alike that can be read together.

    Args:
        stream: any.
        layers: how many to read, from the first on.

    Returns:
        hashable, equal for such streams: height, width, and level, working size and map of each layer.
    """
    kinds = tuple((layer.level, layer.working, layer.mapped) for layer in stream.layers[:layers])
    return stream.height, stream.width, kinds
