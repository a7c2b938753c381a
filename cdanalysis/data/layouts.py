"""Where the photographs and the targets of a task are in a folder, archive or file that somebody names.

``docs/layouts.md`` draws the layouts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .archives import Archive, is_archive
from .images import data_path
from .labeled import SPLITS, LabeledSource

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MASKS = "coco_masks"
"""The reader of COCO's masks."""


@dataclass(frozen=True)
class Layout:
    """What was found.

    Attributes:
        train: to learn from.
        val: to validate on; None where the data say nothing of it.
    """

    train: LabeledSource
    val: LabeledSource | None = None


def find_layout(task: str, data: str, annotations: str = "") -> Layout:
    """Find photographs and targets of a task.

    Args:
        task: classification, detection or segmentation.
        data: folder or tar archive of photographs; a COCO file, beside which its photographs lie; or a folder of
            ``train`` and ``val``, each of which is one of these. Absolute, or below ``CDANALYSIS_DATA``.
        annotations: COCO file of the photographs, for detection and for segmentation by masks.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is in no layout of the task; the message says what is missing.
    """
    path = data_path(data)
    if annotations:
        if task == "classification":
            raise ValueError("--annotations is for detection and segmentation: classes are named by folders")
        return Layout(_coco_source(task, path, data_path(annotations)))
    if task == "classification" or (task == "segmentation" and path.suffix != ".json"):
        found = _folders(task, path)
        if found is not None:
            return found
    return _coco(task, path)


def _folders(task: str, path: Path) -> Layout | None:
    """A folder or archive of photographs in class folders, or with label maps; perhaps one for each split."""
    split = task != "classification" or _only_splits(path)
    train, val = (_place(path, names) if split else None for names in (TRAIN, VAL))
    if task == "segmentation" and not _has_label_maps(path if train is None else train):
        return None
    if train is None:
        return Layout(LabeledSource(str(path)))
    return Layout(LabeledSource(str(train)), None if val is None else LabeledSource(str(val)))


def _has_label_maps(path: Path) -> bool:
    """Whether a folder or archive has a folder of labels."""
    if path.is_dir():
        return any(path.glob("**/labels"))
    return is_archive(path) and any("labels" in PurePosixPath(name).parts for name in Archive(path).names)


def _only_splits(folder: Path) -> bool:
    """Whether all folders and archives of a folder are splits: "train" may be a class, beside "bus"."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    return all(entry.name.partition(".")[0] in SPLITS for entry in entries if entry.is_dir() or is_archive(entry))


def _place(folder: Path, names: Sequence[str]) -> Path | None:
    """The first folder or archive of some names in a folder."""
    places = [folder / f"{name}{end}" for name in names for end in ("", *ARCHIVES)]
    return next((place for place in places if place.is_dir() or is_archive(place)), None)


def _coco(task: str, path: Path) -> Layout:
    """COCO files and their photographs, of one split or two."""
    if path.suffix == ".json":
        return Layout(_coco_source(task, _photographs(path), path))
    files = _coco_files(path) if path.is_dir() else []
    train = files[0] if len(files) == 1 else _of_split(files, TRAIN)
    val = _of_split([file for file in files if file != train], VAL)
    if train is None:
        raise ValueError(_nothing_found(task, path, files))
    return Layout(*(_coco_source(task, _photographs(file), file) for file in (train, val) if file is not None))


def _coco_source(task: str, photographs: Path, annotations: Path) -> LabeledSource:
    return LabeledSource(str(photographs), str(annotations), MASKS if task == "segmentation" else "")


def _coco_files(folder: Path) -> list[Path]:
    """COCO files of a folder, its ``annotations``, and the folders of its splits; of several kinds the instances."""
    places = [folder, folder / "annotations", *(folder / name for name in (*TRAIN, *VAL))]
    files = [file for place in places for file in sorted(place.glob("*.json"))]
    instances = [file for file in files if file.name.startswith("instances")]
    return list(filter(_is_coco, instances)) or list(filter(_is_coco, files))


def _is_coco(file: Path) -> bool:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"images", "annotations", "categories"} <= set(found)


def _of_split(files: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The file that a split's name is in, or whose folder has that name."""
    return next((f for f in files if f.parent.name in names or any(name in f.stem for name in names)), None)


def _photographs(file: Path) -> Path:
    """The photographs of a COCO file: a folder or archive named like it, or ``images``, or the file's own folder."""
    folder = file.parent.parent if file.parent.name == "annotations" else file.parent
    own = [file.stem, file.stem.rpartition("_")[2], *(n for n in (*TRAIN, *VAL) if n in file.stem)]
    names = [*(f"images/{name}" for name in own), *own, "images"]
    return _place(folder, list(dict.fromkeys(names))) or folder


def _nothing_found(task: str, path: Path, files: Sequence[Path]) -> str:
    if files:
        names = ", ".join(file.name for file in files[:4])
        return f"{path} has several COCO files ({names}), none of which is named train: name one of them in place of it"
    maps = ", or label maps (images/, labels/ and classes.json)" if task == "segmentation" else ""
    return (
        f"{path} has no COCO file{maps} that says what {task} learns: put annotations.json beside the photographs, or "
        "name the file by --annotations"
    )
