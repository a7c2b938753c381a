"""Names to models: what ships with the library, folders, and names on a hub such as ``hf-hub:owner/name``.

`cdanalysis.model_files` says what the folder of a model holds, and writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model_files import CARD, COUNTERPARTS, METRICS, RECIPE, TEACHERS, WEIGHTS, check_finite, describe, tensors_digest
from .registry import HUBS, LIBRARIES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .model import Model

__all__ = [
    "CARD",
    "COUNTERPARTS",
    "METRICS",
    "RECIPE",
    "TEACHERS",
    "WEIGHTS",
    "check_finite",
    "describe",
    "files_of",
    "find",
    "identity",
    "load",
    "name_of",
    "names",
    "round_weights",
    "zoo_folder",
]


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
        name: a zoo name, a folder with ``model.safetensors``, or ``hf-hub:owner/name``, with ``@revision`` where it is
            not the newest: the folder is then that of the download, which is kept.

    Returns:
        a folder that holds ``model.safetensors``.

    Raises:
        FileNotFoundError: if it is none of these, or another library's network; the message says what there is.
    """
    hub, colon, there = str(name).partition(":")
    if library := _library(name):
        raise FileNotFoundError(
            f"{name} is a network of {library}'s and has no folder; cda.load({str(name)!r}).save(FOLDER) makes one"
        )
    if colon and hub in HUBS:
        return HUBS[hub].download(there)
    in_zoo = [zoo_folder() / str(name)] if Path(name).name == str(name) else []  # "./photo" is a folder here
    for folder in (*in_zoo, Path(name)):
        if (folder / WEIGHTS).is_file():
            return folder
    known = ", ".join(names()) or "none"
    raise FileNotFoundError(f"no model {str(name)!r}: neither a folder with {WEIGHTS} nor in the zoo ({known})")


def name_of(fingerprint: str) -> str | None:
    """The zoo name of a model.

    Args:
        fingerprint: of its codec, six hexadecimal digits.

    Returns:
        the name that the first such model's file holds; None if no model of the zoo has that fingerprint.

    Raises:
        ValueError: if a file of the zoo is damaged.
    """
    return next((info["name"] for info in map(describe, _folders()) if info["fingerprint"] == fingerprint), None)


def _folders() -> Iterator[Path]:
    return (zoo_folder() / name for name in names())


def files_of(name: str | Path) -> list[Path]:
    """The files of a model's folder, in no order; none where the name is of another library's network, see `load`.

    Args:
        name: as of `load`.

    Raises:
        FileNotFoundError: if there is no such model.
    """
    return [] if _library(name) else [path for path in find(name).iterdir() if path.is_file()]


def _library(name: str | Path) -> str:
    """The library whose network a model's name is of; empty for models of this one."""
    library, colon, _ = str(name).partition(":")
    return library if colon and library in LIBRARIES else ""


def load(name: str | Path = "photo", device: str = "cpu", counterparts: bool = False) -> Model:
    """Load a model.

    Args:
        name: a zoo name, a folder that training or `Model.save` wrote, or ``hf-hub:owner/name[@revision]``, which is
            downloaded once; or ``LIBRARY:...`` for another library's network, without heads
            (`cdanalysis.registry.LIBRARIES`), such as ``compressai:bmshj2018-hyperprior:3``.
        device: torch device.
        counterparts: also load the heads on photographs' own features, where the folder has them.

    Returns:
        the model, in evaluation mode, with frozen parameters.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if a file of it is damaged, holds what is no number, or does not belong to the others; or if torch
            has no such device here.
    """
    from .codec.derived import ordinary_tensors
    from .memory import keep
    from .model import Model

    keep()
    if library := _library(name):
        with ordinary_tensors():
            return _placed(LIBRARIES[library].opened(str(name).partition(":")[2]).eval().requires_grad_(False), device)
    folder = find(name)
    info = describe(folder)
    with ordinary_tensors():
        model = Model.described(info, folder / WEIGHTS, lambda file: _tensors(folder / file))
        _fill(model, {**_tensors(folder / WEIGHTS), **_teachers(folder, info)}, folder / WEIGHTS)
        if counterparts and (folder / COUNTERPARTS).is_file():
            _load_counterparts(model, folder, info)
        model = _placed(model.eval().requires_grad_(False), device)
    model.origin = info["fingerprint"]
    if model.fingerprint != model.origin:
        raise ValueError(f"{folder / WEIGHTS} is damaged: its codec's weights do not have their fingerprint")
    return model


def _placed(model: Model, device: str) -> Model:
    import torch

    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no numbers")
        return model.to(torch.device(device), memory_format=torch.channels_last)
    except (RuntimeError, AssertionError) as error:  # torch raises both of devices that are not here
        raise ValueError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None


def _tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """A file's weights by name, without the ``prefix`` that stands before the names."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = {name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path} is damaged: {name} holds what is no number; a training that went astray wrote it")
    return tensors


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: it does not fit its description: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[1:2]).strip() or str(error)


def _teachers(folder: Path, info: dict[str, Any]) -> dict[str, Tensor]:
    """The teachers' weights: networks that never learn, and so in one file that many models may have alike."""
    path = folder / TEACHERS
    if not path.is_file():
        raise ValueError(f"{folder} is damaged: it lacks {TEACHERS}, by which images are encoded")
    if describe(folder, TEACHERS)["digest"] != info["teachers"]:
        raise ValueError(f"{path} holds other teachers than those of {WEIGHTS} beside it: save the model again")
    return _tensors(path)


def _load_counterparts(model: Model, folder: Path, info: dict[str, Any]) -> None:
    path, described = folder / COUNTERPARTS, describe(folder, COUNTERPARTS)
    if described.get("saved") != info.get("saved"):
        raise ValueError(
            f"{path} belongs to another model than {WEIGHTS} beside it: save the model again, or remove it"
        )
    try:
        for task, options in described["heads"].items():
            model.counterparts[task] = model.new_head(task, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or was written by another version of this library: {error}") from None
    _fill(model.counterparts, _tensors(path, "counterparts."), path)


def identity(model: Model) -> str:
    """By what a model is known again, heads and counterparts too.

    Args:
        model: is not changed.

    Returns:
        twelve hexadecimal digits of all of its weights, as they would be saved: in half precision.
    """
    from .codec.derived import saved_tensors

    return tensors_digest(saved_tensors(model))


def round_weights(model: Model) -> None:
    """Let a model hold the very weights that its file will, so that both read each other's streams.

    Args:
        model: whose weights are rounded to half precision, in place.
    """
    import torch

    from .codec.derived import saved_tensors

    with torch.no_grad():
        for tensor, saved in zip(model.state_dict().values(), saved_tensors(model).values(), strict=True):
            tensor.copy_(saved)
