"""The folder of a model: which files it has, what their heads say, and how all are written, or none.

``model.safetensors`` (weights in half precision; its metadata describes the network), ``teachers.safetensors`` (the
networks that look at images for the semantic layers; streams are read without them), ``config.yaml`` (the recipe it was
trained by), ``metrics.json`` and ``README.md``; and, for comparisons, ``counterparts.safetensors``: heads on what
teachers see in images themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import json_text

if TYPE_CHECKING:
    from torch import Tensor

    from .heads.base import Heads

WEIGHTS, COUNTERPARTS = "model.safetensors", "counterparts.safetensors"
TEACHERS = "teachers.safetensors"
NETWORK = "codec.safetensors"
"""The network of another library, in full precision, where it is the codec."""
RECIPE, METRICS, CARD = "config.yaml", "metrics.json", "README.md"
FILES = (WEIGHTS, TEACHERS, COUNTERPARTS, NETWORK, RECIPE, METRICS, CARD)
"""All that a model's folder may hold."""
LONGEST_HEAD = 100_000_000
"""Bytes of a weights file's head."""
DESCRIBED = {"name": str, "fingerprint": str, "teachers": str, "codec": dict, "heads": dict}
"""What the description of a model holds."""
ReadTensors = Callable[[str], "dict[str, Tensor]"]
"""The name of one of a folder's files to the tensors in it."""
Rebuilt = Callable[[dict[str, Any], ReadTensors], Any]
"""A description, as `describe` gives it, to a model of random weights."""


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


def write_model(
    model: Any,
    folder: str | Path,
    rebuilt: Rebuilt,
    recipe: Any | None = None,
    metrics: dict[str, Any] | None = None,
) -> None:
    """Write the folder of a model atomically: see `cdanalysis.model.Model.save`.

    Args:
        model: a `cdanalysis.model.Model`.
        folder: made where it does not exist.
        rebuilt: makes a model of random weights from a description, to see that the file can be read back.
        recipe: dataclass of the recipe that trained it, written to ``config.yaml``.
        metrics: what was measured of it, as JSON, written to ``metrics.json``.

    Raises:
        ValueError: if a weight is no finite number in half precision, or the description would not rebuild the network.
    """
    from .codec.derived import TEACHERS as TEACHER_NAMES
    from .codec.derived import fingerprint, saved_tensors

    folder, tensors = Path(folder), saved_tensors(model)
    check_finite(tensors)
    info, counterparts = _description(model), _heads(model.counterparts)
    files: dict[str, dict[str, Tensor]] = model.codec.files() if info["codec"].get("library") else {}
    _check_rebuilt(info, counterparts, tensors, lambda info: rebuilt(info, files.__getitem__))
    info["fingerprint"] = model.fingerprint if files else fingerprint(tensors, info["codec"])
    info["saved"] = tensors_digest(tensors)
    heads, teachers = (
        {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        for prefix in ("counterparts.", TEACHER_NAMES)
    )
    info["teachers"] = tensors_digest(teachers)
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
        if metrics is not None:
            (stage / METRICS).write_text(json_text(metrics, indent=2) + "\n")


def _description(model: Any) -> dict[str, Any]:
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
    """Refuse tensors that must not be saved.

    Args:
        tensors: by name, as they are to be saved.

    Raises:
        ValueError: where one holds NaN or infinity.
    """
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
    rebuilt: Callable[[dict[str, Any]], Any],
) -> None:
    """Whether what a description rebuilds has the tensors that are to be saved."""
    import torch

    from .codec.derived import ordinary_tensors

    with torch.random.fork_rng(devices=[]), ordinary_tensors():
        model = rebuilt(info)
        for task, options in counterparts.items():
            model.counterparts[task] = model.new_head(task, **options)
    shapes = [{name: tuple(t.shape) for name, t in found.items()} for found in (model.state_dict(), tensors)]
    for name in sorted({*shapes[0], *shapes[1]}):
        if shapes[0].get(name) != shapes[1].get(name):
            raise ValueError(
                f"the model is not saved: {name} is not what its description would rebuild. Undo what was put around "
                "or into its modules (parametrizations, quantization, adapters) first"
            )


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Twelve hexadecimal digits of all tensors: by them the files of one model know each other.

    Args:
        tensors: by name, on the CPU; their order does not count.
    """
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
        for name in {COUNTERPARTS, NETWORK} - staged:
            (folder / name).unlink(missing_ok=True)
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
    for name in FILES:
        if name in (WEIGHTS, TEACHERS, COUNTERPARTS, NETWORK) and before != "others":
            continue
        if before != saved and (folder / name).is_file() and (before or name in staged):
            numbers = itertools.chain([""], (f"-{i}" for i in itertools.count(1)))
            places = (folder / f"{name}.of-{before or 'others'}{number}" for number in numbers)
            os.replace(folder / name, next(place for place in places if not place.exists()))


def _write(path: Path, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"cdanalysis": json_text(info)})
    except SafetensorError as error:  # of a full disk, too
        raise OSError(f"the model cannot be written to {path.parent.parent}: {error}") from None
    path.chmod(0o644)  # safetensors makes files for the owner alone
