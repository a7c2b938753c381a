"""Large photographs: tile by tile, in bounded memory, without seams."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import LIGHT, new_small_model
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

import cdanalysis as cda
from cdanalysis.codec import tiles
from cdanalysis.codec.tiles import STRIDE, grid_of, padded, tiled, window
from cdanalysis.photographs.read import to_tensor
from cdanalysis.structures.latents import LAYERS


@pytest.fixture
def tiny_tiles(monkeypatch):
    """Tiles of eight cells, so that small photographs have many."""
    monkeypatch.setattr(tiles, "CORE", 8)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 20))
def test_tiles_cover_every_cell_once(height, width, halo):
    grid = grid_of(height, width)
    count = np.zeros(grid, int)
    for tile in tiles.tiles(grid, halo):
        count[tile.core] += 1
        for core, seen, inner, length in zip(*tile, grid, strict=True):
            assert (
                seen.start % 2 == seen.stop % 2 == 0
                and 0 <= seen.start <= core.start < core.stop <= seen.stop <= length
            )
            assert (core.start, core.stop) == (seen.start + inner.start, seen.start + inner.stop)
            assert core.start - seen.start >= min(halo, core.start) and seen.stop - core.stop >= min(
                halo, length - core.stop
            )
            assert seen.stop - seen.start <= tiles.CORE + 2 * (halo + 1)
    assert (count == 1).all()


@given(st.integers(1, 100), st.integers(1, 100))
def test_windows_are_parts_of_the_padded_photograph(height, width):
    x = torch.rand(1, 3, height, width)
    whole, (rows, columns) = padded(x), grid_of(height, width)
    assert whole.shape[-2:] == (STRIDE * rows, STRIDE * columns) and torch.equal(whole[..., :height, :width], x)
    place = slice(rows // 4 * 2, rows), slice(columns // 4 * 2, columns)
    pixels = tuple(slice(STRIDE * s.start, STRIDE * s.stop) for s in place)
    assert torch.equal(window(x, place), whole[..., pixels[0], pixels[1]])


@pytest.mark.parametrize("shape", [{}, LIGHT])
@pytest.mark.parametrize("fused", [False, True])
def test_what_reaches_no_farther_than_the_halo_is_the_same(tiny_tiles, fused, shape):
    """The detail layer's analysis, and the decoder, in tiles; also where the decoder sees the spatial layer."""
    codec = new_small_model(seed=2, **shape).eval().requires_grad_(False).codec
    codec.set_fused(fused)
    if fused:
        torch.nn.init.normal_(codec.synthesis.condition[0].weight, std=0.2)
    x, network = to_tensor(data.astronaut()[:480, :500])[None], codec.detail.g_a
    with torch.inference_mode():
        whole, parts = network(padded(x)), tiled(network, x, network.receptive_radius)
        assert len(list(tiles.tiles(whole.shape[-2:], network.receptive_radius))) > 4
        close = 1e-4 * float(whole.abs().max())
        assert torch.allclose(whole, parts, atol=close)
        assert not torch.allclose(whole, tiled(network, x, network.receptive_radius - 3), atol=close)
        latents = codec.to_latents(x, (40, 50, 60))
        assert len(list(tiles.tiles(latents.detail.shape[-2:], codec.synthesis.receptive_radius))) > 4
        decoded = codec.to_images(latents).int()
        tiles.CORE = 10**6
        assert (decoded - codec.to_images(latents).int()).abs().max() <= 1


@pytest.mark.parametrize("layers", [2, 3])
def test_bands_of_rows_are_the_same(small, monkeypatch, layers):
    image, levels = data.astronaut()[:200, :300], (20, 40, 60)[:layers]
    writer = small.writer([image], layers)
    with torch.inference_mode():
        expected, passes = small.codec.encode_at(writer.analyzed, (200, 300), levels)
        monkeypatch.setattr(tiles, "BAND", 40)  # three rows at a time
        again, its_passes = small.codec.encode_at(writer.analyzed, (200, 300), levels)
    assert again.equals(expected)
    for layer, its_layer in zip(passes, its_passes, strict=True):
        for one, other in zip(layer, its_layer, strict=True):
            assert torch.equal(one.symbols, other.symbols) and torch.equal(one.tables, other.tables)
    assert small.to_latents(writer.at(levels), LAYERS[:layers]).equals(expected)


def test_there_are_no_seams(photo, tiny_tiles):
    """Beside tile borders the error is what it is there without tiles; other layers than the last see no tiles."""
    image = data.astronaut()[:416, :416]
    beside = np.zeros(image.shape[:2], bool)
    for tile in tiles.tiles((26, 26), photo.codec.synthesis.receptive_radius):
        for border in (STRIDE * s.start for s in tile.core if s.start):
            beside[border - 2 : border + 2] = beside[:, border - 2 : border + 2] = True
    streams, errors = [], []
    for core in (8, 10**6):
        tiles.CORE = core
        streams.append(photo.encode(image, 0.3))
        decoded = np.asarray(photo.decode(streams[-1]))
        errors.append(((decoded.astype(float) - image) ** 2).mean(-1))
    assert 0.04 < beside.mean() < 0.1
    assert errors[0][beside].mean() < 1.02 * errors[1][beside].mean()
    assert errors[0].mean() < 1.01 * errors[1].mean()
    assert abs(len(streams[0]) / len(streams[1]) - 1) < 0.02
    assert cda.strip(streams[0]) == cda.strip(streams[1])


LARGE = """
import resource, sys, numpy as np, torch
torch.set_num_threads(2)
import cdanalysis as cda
from skimage import data
height, width = int(sys.argv[1]), int(sys.argv[2])
image = np.tile(data.astronaut(), (-(-height // 512), -(-width // 512), 1))[:height, :width].copy()
model = cda.load("photo")
stream = model.encode(image, 0.4)
decoded = np.asarray(model.decode(stream))
error = 0.0
for top in range(0, height, 512):
    error += ((decoded[top:top + 512].astype(np.float32) - image[top:top + 512]) ** 2).sum()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(stream), 10 * np.log10(255**2 / (error / image.size)), peak / 2**20)
"""


SEMANTIC = """
import resource, sys, torch
torch.set_num_threads(2)
import cdanalysis as cda
from PIL import Image
from skimage import data
Image.fromarray(data.astronaut()).resize((6000, 4000), Image.Resampling.BILINEAR).save(sys.argv[1], quality=90)
stream = cda.load("photo").encode(sys.argv[1], 0.5, layers=("global", "spatial"))
print(len(stream), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_semantic_layers_of_a_large_file_take_little_memory(tmp_path):
    """24 megapixels, from the file to the stream, torch and all: 1.3 GiB; and no more bytes than of a small one."""
    command = [sys.executable, "-c", SEMANTIC, str(tmp_path / "large.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, gibibytes = map(float, done.stdout.split())
    assert 200 < size < 4000 and gibibytes < 1.3


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "most"), [(4000, 6000, 2.0), (8000, 12500, None)])
def test_large_photographs_take_bounded_memory(height, width, most):
    """24 megapixels within 2 GiB, all told; 100 megapixels finish."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(height), str(width)], capture_output=True, text=True, check=True
    )
    size, quality, gibibytes = map(float, done.stdout.split())
    assert size > 10**5 and quality > 26
    assert most is None or gibibytes < most
