"""A model whose pixel layers have a lighter shape, as a start for training; some thousand steps make it see again.

    python tools/lighter.py runs/lighter
    cdanalysis train configs/pixels.yaml init=runs/lighter -o runs/light

Kernels next to pixels and latents keep their middle alone, half of the blocks at stride 8 go, and the entropy model's
four passes start as the two that there were (docs/experiments/architecture.md says why). The semantic layers, the heads
and the branch for realism stay what they are. Pixel layers that have been trained since are written by ``--keep``, and
taken by ``--weights``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cdanalysis.codec.derived import REALISM
from cdanalysis.codec.layered import LayeredCodec
from cdanalysis.model import Model
from cdanalysis.zoo import WEIGHTS, load

KEPT = {"detail.g_a.fine": (1, 2), "synthesis.body": (2, 3)}
"""Blocks at stride 8 that stay."""
PIXEL_LAYERS = ("detail.", "synthesis.")


def lighter(model: Model, weights: dict[str, Tensor] | None = None) -> Model:
    """Give a model lighter pixel layers: made of its own, or of weights that were trained in that shape."""
    old = model.codec
    light = LayeredCodec(replace(old.config, analysis_depth=2, synthesis_depth=2, ends=1, detail_passes=4))
    for part in ("classifier", "detector", "global_layer", "spatial"):
        setattr(light, part, getattr(old, part))
    state, known = light.state_dict(), old.state_dict()
    for name, value in state.items():
        if name.startswith(PIXEL_LAYERS):
            found = weights.get(f"codec.{name}") if weights else None
            value.copy_(_kept(known[_source(name)], value, name) if found is None else found)
    light.load_state_dict(state)
    model.codec = light
    return model


def pixel_layers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The detail layer and the decoder of a model's tensors, without the branch for realism."""
    owners = tuple(f"codec.{name}" for name in PIXEL_LAYERS)
    return {name: value for name, value in state.items() if name.startswith(owners) and REALISM not in name}


def _source(name: str) -> str:
    """Where a tensor comes from."""
    for owner, blocks in KEPT.items():
        if name.startswith(f"{owner}."):
            number, rest = name.removeprefix(f"{owner}.").split(".", 1)
            return f"{owner}.{blocks[int(number)]}.{rest}"
    owner, part, *rest = name.removeprefix("detail.context.").split(".", 2)
    if name.startswith("detail.context.") and part.isdigit():
        return ".".join(["detail.context", owner, str(0 if owner == "contexts" else min(1, int(part))), *rest])
    return name


def _kept(old: Tensor, like: Tensor, name: str) -> Tensor:
    """A kernel of one cell of one of nine: what it does to a plane, where the plane is a quality, else its middle."""
    if old.shape == like.shape:
        return old
    return old.sum((2, 3), keepdim=True) if name.startswith("synthesis.condition") else old[:, :, 1:2, 1:2]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder of the model to write; with --keep a file")
    parser.add_argument("--model", default="photo", help="zoo name or folder of the model to start from")
    parser.add_argument("--weights", type=Path, help="safetensors of pixel layers in this shape")
    parser.add_argument("--keep", type=Path, help="write the pixel layers of this model's folder, and nothing else")
    options = parser.parse_args()
    if options.keep:
        save_file(pixel_layers(load_file(options.keep / WEIGHTS)), options.output)
        return
    weights = load_file(options.weights) if options.weights else None
    model = lighter(load(options.model, counterparts=True), weights)
    model.codec.freeze_tables()
    model.save(options.output)


if __name__ == "__main__":
    main()
