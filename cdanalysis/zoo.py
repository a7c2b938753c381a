"""Names to models: safetensors, what is needed to rebuild the network, and a fingerprint.

A model is a folder: ``model.safetensors`` (weights in half precision; its metadata describes the
network), ``config.yaml`` (the recipe it was trained by), ``metrics.json`` and ``README.md``; and, for
comparisons, ``counterparts.safetensors``: heads on the backbone's features of photographs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .model import Model

WEIGHTS, COUNTERPARTS = "model.safetensors", "counterparts.safetensors"
RECIPE, METRICS, CARD = "config.yaml", "metrics.json", "README.md"


def zoo_folder() -> Path:
    """Folder of the models that ship with the library: inside the package, or beside it in a checkout."""
    inside = Path(__file__).parent / "model_zoo"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "model_zoo"


def names() -> list[str]:
    """Names of the models that ship with the library."""
    return sorted(folder.parent.name for folder in zoo_folder().glob(f"*/{WEIGHTS}"))


def find(name: str | Path) -> Path:
    """The folder of a model.

    Args:
        name: a zoo name, or a folder with ``model.safetensors``.

    Raises:
        FileNotFoundError: if it is neither; the message lists the known names.
    """
    for folder in (zoo_folder() / str(name), Path(name)):
        if (folder / WEIGHTS).is_file():
            return folder
    known = ", ".join(names()) or "none"
    raise FileNotFoundError(f"no model {str(name)!r}: neither a folder with {WEIGHTS} nor in the zoo ({known})")


def describe(folder: Path, file: str = WEIGHTS) -> dict[str, Any]:
    """A model's description (name, fingerprint, shape, heads), read from the header of its weights file.

    Args:
        folder: as `find` returns it.
        file: the weights file in it.

    Raises:
        ValueError: if the file was not written by this library.
    """
    path = folder / file
    try:
        with open(path, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > 100_000_000:
                raise ValueError
            return json.loads(json.loads(opened.read(length))["__metadata__"]["cdanalysis"])
    except (ValueError, KeyError, UnicodeDecodeError):
        raise ValueError(f"{path} is not a model of this library") from None


def name_of(fingerprint: str) -> str | None:
    """The zoo name of the model with that fingerprint; None if no model has it."""
    return next((info["name"] for info in map(describe, _folders()) if info["fingerprint"] == fingerprint), None)


def _folders() -> Iterator[Path]:
    return (zoo_folder() / name for name in names())


def load(name: str | Path = "photo", device: str = "cpu", counterparts: bool = False) -> Model:
    """Load a model.

    Args:
        name: a zoo name, or a folder that training or `save_model` wrote.
        device: torch device.
        counterparts: also load the heads on photographs' own features, where the folder has them.

    Returns:
        the model, in evaluation mode, with frozen parameters.

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
    unknown = set(info["codec"]) - {field.name for field in fields(CodecConfig)}
    if unknown:
        raise ValueError(f"{folder / WEIGHTS} was written by a newer version of this library: it has {min(unknown)!r}")
    model = Model(
        CodecConfig(**info["codec"]), **{key: info[key] for key in ("neck_hidden", "neck_layers", "heads", "name")}
    )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit its description: {error}") from None
    model.fingerprint = info["fingerprint"]
    if counterparts and (folder / COUNTERPARTS).is_file():
        _load_counterparts(model, folder)
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def save_model(model: Model, folder: str | Path, recipe: Any | None = None) -> None:
    """Write a model's folder, each file atomically.

    Args:
        model: its weights are stored in half precision.
        folder: made where it does not exist.
        recipe: dataclass of the recipe that trained it, written to ``config.yaml``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _halved(model.state_dict())
    counterparts = {name: tensors.pop(name) for name in list(tensors) if name.startswith("counterparts.")}
    codec = asdict(model.codec.config)
    info = {
        "name": model.name,
        "fingerprint": fingerprint(tensors, codec),
        "codec": codec,
        "neck_hidden": model.neck.hidden,
        "neck_layers": model.layers,
        "heads": {task: head.describe() for task, head in model.heads.items()},
    }
    _write(folder / WEIGHTS, tensors, info)
    if counterparts:
        described = {task: head.describe() for task, head in model.counterparts.items()}
        _write(folder / COUNTERPARTS, counterparts, {"name": model.name, "heads": described})
    if recipe is not None:
        from omegaconf import OmegaConf

        (folder / RECIPE).write_text(OmegaConf.to_yaml(OmegaConf.structured(recipe)))


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: (t.half() if t.is_floating_point() else t).contiguous().cpu() for n, t in tensors.items()}


def _write(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"cdanalysis": json.dumps(info)})
    part.chmod(0o644)  # safetensors makes files for the owner alone
    os.replace(part, path)


def _load_counterparts(model: Model, folder: Path) -> None:
    from safetensors.torch import load_file

    for task, options in describe(folder, COUNTERPARTS)["heads"].items():
        model.counterparts[task] = model.new_head(task, **options)
    prefix = "counterparts."
    tensors = {name.removeprefix(prefix): t for name, t in load_file(folder / COUNTERPARTS).items()}
    model.counterparts.load_state_dict(tensors)


HASHED = frozenset(
    {"backbone", "semantic_channels", "semantic_hidden", "detail_channels", "hyper_channels", "width", "analysis_depth",
     "synthesis_depth", "fused"}
)  # fmt: skip
"""Fields of `CodecConfig` that are hashed whatever their value. Frozen: part of the format, see docs/format.md."""


def hashed_shape(codec: dict[str, Any]) -> dict[str, Any]:
    """What a fingerprint hashes of a codec's shape: ``HASHED``, and later fields that are not at their default.

    So a field may be added without a stream that was written before becoming unreadable.
    """
    from .codec.layered import CodecConfig

    later = {field.name: field.default for field in fields(CodecConfig) if field.name not in HASHED}
    return {name: value for name, value in codec.items() if name in HASHED or value != later.get(name)}


def fingerprint(tensors: dict[str, Tensor], codec: dict[str, Any]) -> str:
    """Six hexadecimal digits that identify the codec's shape and weights, as saved; heads do not count.

    Streams carry it, so that they are only read with the weights that wrote them.
    """
    digest = hashlib.sha256(json.dumps(hashed_shape(codec), sort_keys=True).encode())
    for name in sorted(n for n in tensors if n.startswith("codec.")):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:6]
