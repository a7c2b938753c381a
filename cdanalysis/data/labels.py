"""Folder names to class indices."""

from __future__ import annotations

from collections.abc import Sequence


def class_index(folder: str, classes: Sequence[str]) -> int | None:
    """The index of the class that a folder name means, or None.

    A folder may carry the class's full name, one of the synonyms in it ("tench" of "tench, Tinca
    tinca"), or, for the 1000 ImageNet classes, its WordNet id ("n01440764"). Case does not count,
    and an underscore counts as a space.
    """
    wanted = _plain(folder)
    for index, name in enumerate(classes):
        if wanted == _plain(name) or wanted in (_plain(part) for part in name.split(",")):
            return index
    if len(classes) == 1000 and folder.startswith("n") and folder[1:].isdigit():
        from timm.data import ImageNetInfo

        names = ImageNetInfo().label_names()
        return names.index(folder) if folder in names else None
    return None


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()
