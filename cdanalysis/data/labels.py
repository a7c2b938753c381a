"""Folder names to class indices."""

from __future__ import annotations

from collections.abc import Sequence


def class_index(folder: str, classes: Sequence[str]) -> int | None:
    """The index of the class that a folder is named after, or None.

    A folder may carry the class's full name, one of the synonyms in it ("tench" of "tench, Tinca
    tinca"), or, for the 1000 ImageNet classes, its WordNet id ("n01440764") or its number ("0000").
    Case does not count, and an underscore counts as a space. A full name goes before a synonym.

    Args:
        folder: its name.
        classes: names of all classes; 1000 of them are taken for ImageNet's.

    Raises:
        ValueError: if several classes have this name, as "crane", which is a bird and a machine.

    >>> class_index("Tinca_tinca", ["goldfish", "tench, Tinca tinca"])
    1
    """
    wanted = plain_name(folder)
    found = [index for index, name in enumerate(classes) if wanted == plain_name(name)]
    if not found:
        found = [i for i, name in enumerate(classes) if wanted in (plain_name(part) for part in name.split(","))]
    if len(found) > 1:
        names = " and ".join(f"{classes[index]!r} (number {index})" for index in found)
        raise ValueError(f"{folder!r} means several classes, {names}: use a WordNet id, or an unambiguous name")
    if found:
        return found[0]
    if len(classes) == 1000 and folder.isdecimal():
        return int(folder) if int(folder) < 1000 else None
    if len(classes) == 1000 and folder.startswith("n") and folder[1:].isdigit():
        from timm.data import ImageNetInfo

        names = ImageNetInfo().label_names()
        return names.index(folder) if folder in names else None
    return None


def plain_name(name: str) -> str:
    """A class name as it is compared: lower case, underscores as spaces, stripped.

    Args:
        name: of a class, or one of its synonyms.

    >>> plain_name("Tinca_tinca ")
    'tinca tinca'
    """
    return name.replace("_", " ").strip().casefold()
