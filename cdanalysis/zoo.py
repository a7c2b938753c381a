"""Names to models: safetensors, what is needed to rebuild the network, and a fingerprint.

A model is a folder: ``model.safetensors`` (weights in half precision; its metadata describes the
network), ``teachers.safetensors`` (the networks that look at images for the semantic layers; streams are read without
them), ``config.yaml`` (the recipe it was trained by), ``metrics.json`` and ``README.md``; and, for
comparisons, ``counterparts.safetensors``: heads on what teachers see in images themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import json_text
from .registry import LIBRARIES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .heads.base import Heads
    from .model import Model

WEIGHTS, COUNTERPARTS = "model.safetensors", "counterparts.safetensors"
TEACHERS = "teachers.safetensors"
RECIPE, METRICS, CARD = "config.yaml", "metrics.json", "README.md"
LONGEST_HEAD = 100_000_000
"""Bytes of a weights file's head."""
DESCRIBED = {"name": str, "fingerprint": str, "teachers": str, "codec": dict, "heads": dict}
"""What the description of a model holds."""


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
    in_zoo = [zoo_folder() / str(name)] if Path(name).name == str(name) else []  # "./photo" is a folder here
    for folder in (*in_zoo, Path(name)):
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
        FileNotFoundError: if there is no such file.
        ValueError: if the file was not written by this library, or is damaged.
    """
    path = folder / file
    with open(path, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        head = opened.read(length) if length <= LONGEST_HEAD else b""
    try:
        info = json.loads(json.loads(head)["__metadata__"]["cdanalysis"])
    except (ValueError, KeyError, TypeError):
        cut = path.stat().st_size < 8 + length <= 8 + LONGEST_HEAD
        raise ValueError(
            f"{path} is {'damaged: it ends too early' if cut else 'not a model of this library'}"
        ) from None
    if isinstance(info, dict) and "neck_hidden" in info:
        raise ValueError(
            f"{path} was written by an edition before 0.2 of this library, whose models this one cannot use"
        )
    wanted = {WEIGHTS: DESCRIBED, COUNTERPARTS: {"name": str, "heads": dict}}.get(file, {"digest": str})
    for key, kind in wanted.items():
        if not isinstance(info, dict) or not isinstance(info.get(key), kind):
            raise ValueError(f"{path} is damaged: its description lacks {key!r}")
    return info


def name_of(fingerprint: str) -> str | None:
    """The zoo name of the model with that fingerprint; None if no model has it."""
    return next((info["name"] for info in map(describe, _folders()) if info["fingerprint"] == fingerprint), None)


def _folders() -> Iterator[Path]:
    return (zoo_folder() / name for name in names())


def files_of(name: str | Path) -> list[Path]:
    """The files of a model's folder; none where the name is of another library's network, see `load`.

    Args:
        name: as of `load`.

    Raises:
        FileNotFoundError: if there is no such model.
    """
    return [] if _library(name) else list(find(name).iterdir())


def _library(name: str | Path) -> str:
    """The library whose network a model's name is of; empty for models of this one."""
    library, colon, _ = str(name).partition(":")
    return library if colon and library in LIBRARIES else ""


def load(name: str | Path = "photo", device: str = "cpu", counterparts: bool = False) -> Model:
    """Load a model.

    Args:
        name: a zoo name, or a folder that training or `save_model` wrote; or ``LIBRARY:...`` for another library's
            network, without heads (`cdanalysis.registry.LIBRARIES`), such as ``compressai:bmshj2018-hyperprior:3``.
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

    if library := _library(name):
        with ordinary_tensors():
            return _placed(LIBRARIES[library].opened(str(name).partition(":")[2]).eval().requires_grad_(False), device)
    folder = find(name)
    info = describe(folder)
    with ordinary_tensors():
        model = _described_model(info, folder / WEIGHTS)
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


def _described_model(
    info: dict[str, Any], path: Path | str, tensors: Callable[[str], dict[str, Tensor]] | None = None
) -> Model:
    """A model of random weights, as a description has it; ``tensors`` reads files of another library's network."""
    from .codec.layered import CodecConfig
    from .model import Model

    if library := info["codec"].get("library"):
        try:
            return LIBRARIES[library].rebuilt(info, tensors or (lambda file: _tensors(Path(path).parent / file)))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} cannot be used: {error}") from None
    if unknown := set(info["codec"]) - {field.name for field in fields(CodecConfig)}:
        raise ValueError(f"{path} was written by a newer version of this library: it has {min(unknown)!r}")
    try:
        codec = CodecConfig(**info["codec"])
        return Model(codec, info["heads"], info["name"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged, or was written by another version of this library: {error}") from None


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


def save_model(model: Model, folder: str | Path, recipe: Any | None = None) -> None:
    """Write a model's folder atomically: all files, or none.

    It replaces the files of a model that was there before, except its recipe, figures and card: those are renamed.

    Args:
        model: its weights are stored in half precision.
        folder: made where it does not exist.
        recipe: dataclass of the recipe that trained it, written to ``config.yaml``.

    Raises:
        ValueError: if a weight is no finite number in half precision, or the description would not rebuild the network.
    """
    from .codec.derived import TEACHERS as TEACHER_NAMES
    from .codec.derived import fingerprint, saved_tensors

    folder, tensors = Path(folder), saved_tensors(model)
    check_finite(tensors)
    info, counterparts = _description(model), _heads(model.counterparts)
    codec: Any = model.codec
    files: dict[str, dict[str, Tensor]] = codec.files() if info["codec"].get("library") else {}
    _check_rebuilt(info, counterparts, tensors, files)
    info["fingerprint"] = model.fingerprint if files else fingerprint(tensors, info["codec"])
    info["saved"] = _digest(tensors)
    heads, teachers = (
        {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        for prefix in ("counterparts.", TEACHER_NAMES)
    )
    info["teachers"] = _digest(teachers)
    with _staged(folder, info["saved"]) as stage:
        _write(stage / WEIGHTS, tensors, info)
        _write(stage / TEACHERS, teachers, {"digest": info["teachers"]})
        if heads:
            _write(stage / COUNTERPARTS, heads, {"name": model.name, "heads": counterparts, "saved": info["saved"]})
        for file, held in files.items():
            _write(stage / file, held, {})
        if recipe is not None:
            from omegaconf import OmegaConf

            (stage / RECIPE).write_text(OmegaConf.to_yaml(OmegaConf.structured(recipe)))


def _description(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "codec": asdict(model.codec.config),
        "heads": _heads(model.heads),
    }


def _heads(heads: Heads) -> dict[str, dict[str, Any]]:
    for task, head in heads.items():
        if not hasattr(head, "describe"):
            raise ValueError(
                f"the {task} head is wrapped in a {type(head).__name__}, which a file cannot tell: unwrap it"
            )
    return {task: head.describe() for task, head in heads.items()}


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Raises `ValueError` where a tensor that is to be saved holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"the model is not saved: {name} holds what is no finite number in half precision. Its training went "
                "astray: a lower learning rate may help"
            )


def _check_rebuilt(
    info: dict[str, Any],
    counterparts: dict[str, dict[str, Any]],
    tensors: dict[str, Tensor],
    files: dict[str, dict[str, Tensor]],
) -> None:
    """Whether what a description rebuilds has the tensors that are to be saved."""
    import torch

    from .codec.derived import ordinary_tensors

    with torch.random.fork_rng(devices=[]), ordinary_tensors():
        model = _described_model(info, "the model", files.__getitem__)
        for task, options in counterparts.items():
            model.counterparts[task] = model.new_head(task, **options)
    shapes = [{name: tuple(t.shape) for name, t in found.items()} for found in (model.state_dict(), tensors)]
    for name in sorted({*shapes[0], *shapes[1]}):
        if shapes[0].get(name) != shapes[1].get(name):
            raise ValueError(
                f"the model is not saved: {name} is not what its description would rebuild. Undo what was put around "
                "or into its modules (parametrizations, quantization, adapters) first"
            )


def _digest(tensors: dict[str, Tensor]) -> str:
    """Twelve hexadecimal digits of all tensors: by them the files of one model know each other."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _staged(folder: Path, saved: str) -> Iterator[Path]:
    """A folder to write a model's files to; when all are there, they take the place of those of ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving.") as stage:
        yield Path(stage)
        staged = {file.name for file in Path(stage).iterdir()}
        _set_aside(folder, saved, staged)
        if COUNTERPARTS not in staged:
            (folder / COUNTERPARTS).unlink(missing_ok=True)
        for name in sorted(staged, key=lambda name: name == WEIGHTS):  # these last: they say what else there is
            os.replace(Path(stage) / name, folder / name)


def _set_aside(folder: Path, saved: str, staged: set[str]) -> None:
    """Rename what the folder holds of another model, or of somebody else, and is not overwritten for good."""
    try:
        info = describe(folder)
        before = info.get("saved") or info["fingerprint"]
    except FileNotFoundError:
        before = ""
    except ValueError:
        before = "others"
    for name in (WEIGHTS, TEACHERS, COUNTERPARTS, RECIPE, METRICS, CARD):
        if name in (WEIGHTS, TEACHERS, COUNTERPARTS) and before != "others":
            continue
        if before != saved and (folder / name).is_file() and (before or name in staged):
            places = (folder / f"{name}.of-{before or 'others'}{n}" for n in ("", *(f"-{i}" for i in range(1, 10**6))))
            os.replace(folder / name, next(place for place in places if not place.exists()))


def identity(model: Model) -> str:
    """Twelve hexadecimal digits of all of a model's weights, heads and counterparts too, as they would be saved."""
    from .codec.derived import saved_tensors

    return _digest(saved_tensors(model))


def round_weights(model: Model) -> None:
    """Let a model hold the very weights that its file will, so that both read each other's streams."""
    import torch

    from .codec.derived import saved_tensors

    with torch.no_grad():
        for tensor, saved in zip(model.state_dict().values(), saved_tensors(model).values(), strict=True):
            tensor.copy_(saved)


def _write(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"cdanalysis": json_text(info)})
    except SafetensorError as error:  # of a full disk, too
        raise OSError(f"the model cannot be written to {path.parent.parent}: {error}") from None
    path.chmod(0o644)  # safetensors makes files for the owner alone
