"""COCO annotation files: checked against their photographs, repaired where that is safe, otherwise refused.

Repaired silently: annotation ids that are missing, 0 or repeated (pycocotools reads 0 as "no match"), areas and crowd
flags that are missing or null, polygons of fewer than three points, image sizes that are missing. Repaired with a
warning: categories that share a name. All other errors raise a `ValueError` that names the file and the annotation.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from ..notices import notice
from ..photographs.read import header_of
from .images import ImageSet, note_turned

Content = dict[str, Any]


def read_coco(path: Path, photographs: ImageSet) -> Content:
    """Read, check and repair a COCO annotation file.

    Args:
        path: JSON file.
        photographs: the photographs that it annotates.

    Returns:
        the file's content; ``file_name``, ``width`` and ``height`` of its images are those of the upright photographs.

    Raises:
        ValueError: if it is not a COCO annotation file, or is inconsistent; the message names the annotation.
    """
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, list):
            raise ValueError(
                "it is a list, as COCO results files are, not an object with images, annotations and categories"
            )
        if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
            raise ValueError("it has no key 'images' or no key 'categories'")
    except (ValueError, RecursionError) as error:  # damaged text included
        raise ValueError(f"{path} is not a COCO annotation file: {error}") from None
    try:
        for part in ("images", "categories", "annotations"):
            rows = content.get(part)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError(f"{part!r} must be a list of objects")
        _check_images(content["images"])
        renamed = _check_categories(content, path)
        known = {category["id"] for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        titles = [_title(annotation, place, images) for place, annotation in enumerate(content["annotations"], 1)]
        for annotation, title in zip(content["annotations"], titles, strict=True):
            _check_annotation(annotation, title, images, known | set(renamed))
        _fit(content["images"], photographs, path)
        for place, annotation in enumerate(content["annotations"], 1):
            _check_segmentation(annotation, titles[place - 1], images[annotation["image_id"]])
            annotation["category_id"] = renamed.get(annotation["category_id"], annotation["category_id"])
            annotation["id"] = place
        _check_boxes(content["annotations"], images, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    content.setdefault("info", {})
    return content


def _check_images(images: list[Content]) -> None:
    for place, image in enumerate(images, 1):
        _need_id(image.get("id"), f"image number {place}", "id")
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise ValueError(f"image {image['id']} has no file_name")
        for side in ("width", "height"):
            value = image.get(side)
            if value is not None and not (_is_number(value) and value == int(value) > 0):
                name = f"image {image['id']}, {image['file_name']!r},"
                raise ValueError(f"{name} has the {side} {value!r}; it must be a positive integer")
    _same_type([image["id"] for image in images], "images")
    if repeated := _repeated([image["id"] for image in images]):
        raise ValueError(f"two images have the id {repeated[0]!r}")
    if repeated := _repeated([_plain_path(image["file_name"]) for image in images]):
        raise ValueError(f"two images have the file_name {repeated[0]!r}: give their annotations one image_id")


def _check_categories(content: Content, path: Path) -> dict[Any, Any]:
    """Leaves one category of every name; gives, for the ids of the others, its own."""
    first: dict[str, Any] = {}
    renamed: dict[Any, Any] = {}
    for place, category in enumerate(content["categories"], 1):
        _need_id(category.get("id"), f"category number {place}", "id")
        if not isinstance(category.get("name"), str) or not category["name"]:
            raise ValueError(f"category {category['id']!r} has no name")
    ids = [category["id"] for category in content["categories"]]
    if not ids:
        raise ValueError("'categories' is empty")
    _same_type(ids, "categories")
    if repeated := _repeated(ids):
        raise ValueError(f"two categories have the id {repeated[0]!r}")
    for category in content["categories"]:
        if (own := first.setdefault(category["name"], category["id"])) != category["id"]:
            renamed[category["id"]] = own
    if renamed:
        one, other = next(iter(renamed.items()))
        name = next(name for name, own in first.items() if own == other)
        notice(f"{path}: {len(renamed)} categories with repeated names were merged, for example {name!r}, id {one!r}")
        content["categories"] = [c for c in content["categories"] if c["id"] not in renamed]
    return renamed


def _title(annotation: Content, place: int, images: dict[Any, Content]) -> str:
    """What messages call an annotation."""
    number = annotation.get("id")
    title = f"annotation number {place}" if number is None else f"annotation {number}"
    image = annotation.get("image_id")
    name = images[image]["file_name"] if isinstance(image, (int, str)) and image in images else ""
    return f"{title} of {name!r}" if name else title


def _check_annotation(annotation: Content, title: str, images: dict[Any, Content], categories: set[Any]) -> None:
    for key in ("image_id", "category_id"):
        _need_id(annotation.get(key), title, key)
    if annotation["image_id"] not in images:
        raise ValueError(f"{title} has the image_id {annotation['image_id']!r}, but no image has this id")
    if annotation["category_id"] not in categories:
        raise ValueError(f"{title} has the category_id {annotation['category_id']!r}, but no category has this id")
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"{title} must have a bbox [x, y, width, height], got {box!r}")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"{title} has the bbox {box} of negative size; a bbox is [x, y, width, height]")
    area = annotation.get("area")
    if not _is_number(area) or not 0 < area <= 10**10:  # beyond these the evaluator ignores an object
        annotation["area"] = box[2] * box[3]
    annotation["iscrowd"] = int(annotation.get("iscrowd") in (1, "1"))


def _check_segmentation(annotation: Content, title: str, image: Content) -> None:
    """Leaves polygons of at least three points, a complete RLE mask, or no segmentation."""
    found = annotation.pop("segmentation", None)
    if isinstance(found, list):
        _check_polygons(found, title, image)
        found = [polygon for polygon in found if len(polygon) >= 6]
    elif isinstance(found, dict):
        _check_runs(found, title, image)
    elif found is not None:
        raise ValueError(f"{title} has a segmentation that is neither a list of polygons nor an RLE mask")
    if found:
        annotation["segmentation"] = found


def _check_polygons(polygons: list[Any], title: str, image: Content) -> None:
    if not all(isinstance(polygon, list) and all(map(_is_number, polygon)) for polygon in polygons):
        raise ValueError(f"{title} has a segmentation that is not a list of polygons [[x, y, x, y, ...], ...]")
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError(f"{title} has a polygon with an odd number of coordinates")
    far = 10 * max(image.get("width") or 0, image.get("height") or 0) + 1000  # drawing takes memory by length
    if any(abs(value) > far for polygon in polygons for value in polygon):
        raise ValueError(f"{title} has a polygon with points far outside its image")


def _check_runs(code: Content, title: str, image: Content) -> None:
    counts, size = code.get("counts"), code.get("size")
    sides = (image.get("height"), image.get("width"))
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, (list, str)):
        raise ValueError(f"{title} has an RLE mask without counts or size")
    if None not in sides and tuple(size) != sides:
        raise ValueError(
            f"{title} has an RLE mask of {size[1]}x{size[0]} pixels, but its image has {sides[1]}x{sides[0]}"
        )
    runs = runs_of(counts) if isinstance(counts, str) else counts
    if not all(isinstance(n, int) and n >= 0 for n in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(f"{title} has an RLE mask whose counts do not add up to its size")


def runs_of(text: str) -> list[int]:
    """The counts of a compressed run-length code, which pycocotools would read past its end: -1 among them for damage.

    Six bits a character from "0" on, of which one says that more follow; from the fourth on, differences to the count
    before the last.

    Args:
        text: the code, as COCO's files have it.

    Returns:
        the lengths of runs of pixels, outside and inside the mask in turn; [-1] for a code that is cut off, or has
        other characters.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return [-1] if shift else counts


def _fit(images: list[Content], photographs: ImageSet, path: Path) -> None:
    """Gives images the names that the photographs have, and their upright sides; refuses those that contradict them."""
    names = {_plain_path(name): name for name in photographs.names}
    missing = [image["file_name"] for image in images if _plain_path(image["file_name"]) not in names]
    if missing:
        raise ValueError(
            f"{len(missing)} of its images are missing from {photographs.root}, for example {missing[0]!r}"
        )
    listed = {_plain_path(image["file_name"]) for image in images}
    if others := [name for plain, name in names.items() if plain not in listed]:
        notice(
            f"{path} does not list {len(others)} of {len(names)} photographs, which are left out, "
            f"for example {others[0]!r}"
        )
    wrong, turned = [], []
    for image in images:
        image["file_name"] = names[_plain_path(image["file_name"])]
        header = header_of(photographs.read_named(image["file_name"]))
        if header is None:  # reading it will say why
            continue
        stored, orientation = header
        upright = stored[::-1] if orientation > 4 else stored
        told = (image.get("width") or upright[0], image.get("height") or upright[1])
        if told != upright:
            wrong.append(_contradiction(image, told, stored, upright, orientation))
        elif orientation > 1 and (orientation < 5 or stored[0] == stored[1] or image.get("width") is None):
            turned.append(image["file_name"])
        image["width"], image["height"] = upright
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(images)} images differ in size from their files; {wrong[0]}")
    note_turned(turned, f"the annotations in {path}")


def _contradiction(
    image: Content, told: tuple[int, int], stored: tuple[int, int], upright: tuple[int, int], orientation: int
) -> str:
    text = (
        f"image {image['id']}, {image['file_name']!r}, is annotated as {told[0]}x{told[1]}, and its file has "
        f"{upright[0]}x{upright[1]} pixels"
    )
    if told == stored:
        return f"{text} once its EXIF orientation {orientation} is applied: annotate it upright, or store it upright"
    return f"{text}, so its boxes would be misplaced: use the photographs that were annotated, or scale the boxes"


def _check_boxes(annotations: list[Content], images: dict[Any, Content], path: Path) -> None:
    """Refuses boxes that cannot be in pixels; warns of those that are clipped, left out, or duplicates."""
    if not annotations:
        return
    if all(max(a["bbox"]) <= 1 for a in annotations):
        raise ValueError("its boxes are relative coordinates in [0, 1]; COCO boxes are in pixels")
    lost, cut = [], []
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        image = images[annotation["image_id"]]
        if image.get("width") is None:
            continue
        right, bottom = min(x + width, image["width"]), min(y + height, image["height"])
        if right - max(x, 0) < 1 or bottom - max(y, 0) < 1:
            lost.append(annotation)
        elif max(-x, -y, x + width - right, y + height - bottom) > 1:
            cut.append(annotation)
    if len(lost) == len(annotations):
        raise ValueError(f"none of its {len(annotations)} boxes overlaps its image")
    seen = Counter((a["image_id"], a["category_id"], *a["bbox"]) for a in annotations)
    twice = [a for a in annotations if seen[(a["image_id"], a["category_id"], *a["bbox"])] > 1]
    for found, what in (
        (lost, "cover less than a pixel of their image and are left out of training"),
        (cut, "extend beyond their image and are clipped"),
        (twice, "are duplicates, of the same category and box, and are all kept"),
    ):
        if found:
            name = images[found[0]["image_id"]]["file_name"]
            notice(
                f"{path}: {len(found)} of {len(annotations)} boxes {what}, for example {found[0]['bbox']} of {name!r}"
            )


def _plain_path(name: str) -> str:
    """A file name without what does not count: a leading ``./``, and backslashes for slashes."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _need_id(value: Any, title: str, key: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ValueError(f"{title} has no {key}" if value is None else f"{title} has the {key} {value!r}")


def _same_type(ids: list[Any], what: str) -> None:
    if len({type(value) for value in ids}) > 1:
        raise ValueError(f"the ids of its {what} must be all numbers or all strings")


def _repeated(values: list[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that pixels can have; Python's JSON also holds NaN, and integers of any length."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53
