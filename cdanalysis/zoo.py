"""Names to models: safetensors, what is needed to rebuild the network, and a fingerprint.

A model is a folder: ``model.safetensors`` (weights in half precision; its metadata describes the
network), ``config.yaml`` (the recipe it was trained by), ``metrics.json`` and ``README.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .model import Model
    from .training.recipe import Recipe

WEIGHTS, RECIPE, METRICS, CARD = "model.safetensors", "config.yaml", "metrics.json", "README.md"


def zoo_folder() -> Path:
    """Where the models that ship with the library lie: inside the package, or beside it in a checkout."""
    inside = Path(__file__).parent / "model_zoo"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "model_zoo"


def names() -> list[str]:
    """Names of the models that ship with the library."""
    return sorted(folder.parent.name for folder in zoo_folder().glob(f"*/{WEIGHTS}"))


def find(name: str | Path) -> Path:
    """The folder of a model: a zoo name, or a folder that holds one.

    Raises:
        FileNotFoundError: if it is neither; the message lists the names there are.
    """
    for folder in (zoo_folder() / str(name), Path(name)):
        if (folder / WEIGHTS).is_file():
            return folder
    known = ", ".join(names()) or "none"
    raise FileNotFoundError(f"no model {str(name)!r}: neither a folder with {WEIGHTS} nor in the zoo ({known})")


def describe(folder: Path) -> dict[str, Any]:
    """A model's description (name, fingerprint, shape, classes), read from the head of its weights file.

    Raises:
        ValueError: if the file is not one of this library's.
    """
    path = folder / WEIGHTS
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 100_000_000:
                raise ValueError
            return json.loads(json.loads(file.read(length))["__metadata__"]["cdanalysis"])
    except (ValueError, KeyError, UnicodeDecodeError):
        raise ValueError(f"{path} is not a model of this library") from None


def name_of(fingerprint: str) -> str | None:
    """The zoo's name for the model with that fingerprint, if it has one."""
    return next((info["name"] for info in map(describe, _folders()) if info["fingerprint"] == fingerprint), None)


def _folders() -> Iterator[Path]:
    return (zoo_folder() / name for name in names())


def load(name: str | Path = "photo", device: str = "cpu") -> Model:
    """Load a model.

    Args:
        name: a zoo name, or a folder that training or `save_model` wrote.
        device: where it shall run, as torch names devices.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if its weights do not fit its description.
    """
    import torch
    from safetensors.torch import load_file

    from .codec.layered import CodecConfig
    from .model import Model

    folder = find(name)
    info = describe(folder)
    tensors = load_file(folder / WEIGHTS)
    if fingerprint(tensors, info["codec"]) != info["fingerprint"]:
        raise ValueError(f"{folder / WEIGHTS} is damaged: its codec's weights do not have their fingerprint")
    shape = {key: info[key] for key in ("neck_hidden", "classes", "name", "head_hidden")}
    model = Model(CodecConfig(**info["codec"]), **shape)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit its description: {error}") from None
    model.fingerprint = info["fingerprint"]
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def save_model(model: Model, folder: str | Path, recipe: Recipe | None = None) -> None:
    """Write a model's folder: weights, description and, if given, the recipe. Each file whole or not at all."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    codec = asdict(model.codec.config)
    info = {
        "name": model.name,
        "fingerprint": fingerprint(tensors, codec),
        "codec": codec,
        "neck_hidden": model.neck.hidden,
        "head_hidden": model.heads["classification"].expand.out_channels,
        "classes": model.heads["classification"].classes,
    }
    part = folder / (WEIGHTS + ".part")
    save_file(tensors, part, metadata={"cdanalysis": json.dumps(info)})
    os.replace(part, folder / WEIGHTS)
    if recipe is not None:
        from omegaconf import OmegaConf

        (folder / RECIPE).write_text(OmegaConf.to_yaml(OmegaConf.structured(recipe)))


def fingerprint(tensors: dict[str, Tensor], codec: dict[str, Any]) -> str:
    """Six hexadecimal digits of the codec's shape and weights, as saved; heads do not count.

    Streams carry it, so that they are never read with other weights than they were written with.
    """
    digest = hashlib.sha256(json.dumps(codec, sort_keys=True).encode())
    for name in sorted(n for n in tensors if n.startswith("codec.")):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:6]
