"""Predictions: as data, as tables, in other libraries' formats, drawn on pictures, and in notebooks.

pandas and supervision are imported by the methods that need them: ``pip install 'cdanalysis[results]'``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from ..faults import optional
from ..files import json_text
from ..registry import HEADS

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..photographs.read import ImageLike

SURE = 0.35
"""Detections below this score are neither listed in one line nor drawn, unless another threshold is given."""


class Prediction(Protocol):
    """A head's prediction for one image.

    One that also has ``plot(image)``, which gives a picture, ``to_pandas()``, or ``_repr_html_()`` takes part in what
    `Result` makes by these names of all predictions.
    """

    def to_dict(self) -> Any:
        """The prediction as JSON."""
        ...

    def summary(self) -> str:
        """The prediction in one short line, for people."""
        ...


@dataclass(frozen=True)
class Classification:
    """The classes of one image.

    Attributes:
        label: the most probable class.
        score: its calibrated probability, in [0, 1].
        top5: the five (or fewer, where there are fewer classes) most probable (label, score).
        class_ids: indices of the classes in ``top5`` in the head's ``classes``, in the same order; empty where they
            are not known.
    """

    label: str
    score: float
    top5: list[tuple[str, float]]
    class_ids: list[int] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain data: label, score and top5."""
        return {"label": self.label, "score": self.score, "top5": self.top5}

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json_text(self.to_dict())

    def to_pandas(self) -> Any:
        """A data frame with a row for each of ``top5``: ``class_id`` (where it is known), ``label``, ``score``.

        Raises:
            ModuleNotFoundError: if pandas is not installed.
        """
        ids = {"class_id": self.class_ids} if self.class_ids else {}
        labels, scores = [label for label, _ in self.top5], [score for _, score in self.top5]
        return optional("pandas", "results").DataFrame({**ids, "label": labels, "score": scores})

    def to_supervision(self) -> Any:
        """``supervision.Classifications`` of ``top5``.

        Raises:
            ModuleNotFoundError: if supervision is not installed.
            ValueError: if class ids are not known.
        """
        if not self.class_ids:
            raise ValueError("supervision needs class ids, and this classification was made without class_ids")
        scores = np.array([score for _, score in self.top5], np.float32)
        classifications = optional("supervision", "results").Classifications
        return classifications(class_id=np.array(self.class_ids, np.int64), confidence=scores)

    def summary(self) -> str:
        """The most probable class, by its first name, and its score."""
        return f"{self.label.split(',')[0]} {self.score:.2f}"

    def plot(self, image: ImageLike | None = None) -> Image.Image:
        """A copy of an image with label and score in its lower left corner.

        Args:
            image: of any kind that `Model.encode` takes.

        Raises:
            ValueError: if there is no image.
            FileNotFoundError: if it is the path of a file that does not exist.
        """
        from .drawing import PALETTE, canvas_of, draw_label, font_of

        canvas = canvas_of(image, None)
        draw_label(canvas, (6, canvas.height - 2 * font_of(canvas).size), self.summary(), PALETTE[0])
        return canvas

    def _repr_html_(self) -> str:
        from .drawing import html_table

        return html_table("classification", ("label", "score"), self.top5)


@dataclass(frozen=True, eq=False)
class Detection:
    """Objects in one image, by descending score.

    ``len`` gives their number, and indexing, by a slice or an array of indices or of booleans, the chosen ones:
    ``detection[detection.scores >= 0.5]``.

    Attributes:
        boxes: (N, 4) float32: x, y, width, height in pixels of the photograph.
        labels: N class names.
        scores: (N,) float32 in [0, 1].
        masks: (N, H, W) bool, or None where the head gives none.
        class_ids: (N,) int64 indices into ``classes``; by default those of the first class of that name.
        classes: names of all classes that the head knows; by default the names in ``labels``, as they come.
        size: (height, width) of the photograph in pixels; None where it is not known.

    Raises:
        ValueError: if the arrays do not fit each other, or a label is not the name of its class.
    """

    boxes: np.ndarray
    labels: list[str]
    scores: np.ndarray
    masks: np.ndarray | None = None
    class_ids: np.ndarray = field(default=cast(np.ndarray, None))
    classes: list[str] = field(default=cast("list[str]", None))
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        count, masks = len(self.labels), self.masks
        if self.boxes.shape != (count, 4) or self.scores.shape != (count,):
            shapes = f"boxes {self.boxes.shape} and scores {self.scores.shape}"
            raise ValueError(f"{count} objects have boxes (N, 4) and scores (N,), got {shapes}")
        if masks is not None and (masks.ndim != 3 or len(masks) != count):
            raise ValueError(f"the masks of {count} objects are an array (N, H, W), got {masks.shape}")
        set_ = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (the class is frozen)
        if self.classes is None:
            set_("classes", list(dict.fromkeys(self.labels)))
        if unknown := set(self.labels) - set(self.classes):
            raise ValueError(f"the label {min(unknown)!r} is not among the classes")
        if self.class_ids is None:
            first = {name: index for index, name in reversed(list(enumerate(self.classes)))}
            set_("class_ids", np.array([first[label] for label in self.labels], np.int64))
        ids = self.class_ids.tolist()
        if len(ids) != count or [self.classes[i] if 0 <= i < len(self.classes) else None for i in ids] != self.labels:
            raise ValueError("labels must be the names of the classes that class_ids are the indices of")
        if self.size is None and masks is not None:
            set_("size", masks.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Detection:
        chosen = np.atleast_1d(np.arange(len(self))[index])
        labels = [self.labels[i] for i in chosen]
        masks = None if self.masks is None else self.masks[chosen]
        arrays = self.boxes[chosen], labels, self.scores[chosen], masks, self.class_ids[chosen]
        return Detection(*arrays, self.classes, self.size)

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    @property
    def xywh(self) -> Tensor:
        """Boxes (N, 4) float32: left, top, width, height in pixels of the photograph."""
        import torch

        return torch.tensor(self.boxes, dtype=torch.float32)

    @property
    def xyxy(self) -> Tensor:
        """Boxes (N, 4) float32: left, top, right, bottom in pixels of the photograph."""
        boxes = self.xywh
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    def above(self, threshold: float) -> Detection:
        """The objects with a score of at least a threshold.

        Args:
            threshold: in [0, 1].

        Returns:
            a detection of the same classes and size, in the same order.
        """
        return self[self.scores >= threshold]

    def to_dict(self) -> list[dict[str, Any]]:
        """One entry an object: label, class id, score, and box (x, y, width, height)."""
        found = zip(self.labels, self.class_ids.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        return [{"label": label, "class_id": i, "score": score, "box": box} for label, i, score, box in found]

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json_text(self.to_dict())

    def to_coco(self, image_id: int | str, categories: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """The objects in COCO's format of results, as pycocotools' ``COCO.loadRes`` takes them, as plain data.

        Args:
            image_id: of the photograph in the data set.
            categories: category ids of the data set by class name, such as
                ``{c["name"]: c["id"] for c in coco.dataset["categories"]}``; objects of other classes are left out.
                By default class ids plus 1, because COCO's files number categories from 1.

        Returns:
            for each object ``image_id``, ``category_id``, ``bbox`` (x, y, width, height), ``score`` and, where there
            are masks, ``segmentation`` (compressed run lengths).
        """
        found = []
        for place, entry in enumerate(self.to_dict()):
            category = entry["class_id"] + 1 if categories is None else categories.get(entry["label"])
            if category is None:
                continue
            kind = {"image_id": image_id, "category_id": category}
            mask = {} if self.masks is None else {"segmentation": _run_lengths(self.masks[place])}
            found.append({**kind, "bbox": entry["box"], "score": entry["score"], **mask})
        return found

    def to_pandas(self) -> Any:
        """A data frame with a row for each object: class_id, label, score, x, y, width, height (in pixels).

        Raises:
            ModuleNotFoundError: if pandas is not installed.
        """
        sides = dict(zip(("x", "y", "width", "height"), self.boxes.T, strict=True))
        ids = {"class_id": self.class_ids, "label": np.array(self.labels, object)}
        return optional("pandas", "results").DataFrame({**ids, "score": self.scores, **sides})

    def to_supervision(self) -> Any:
        """``supervision.Detections``, with class names as ``data["class_name"]``.

        Raises:
            ModuleNotFoundError: if supervision is not installed.
        """
        return optional("supervision", "results").Detections(
            xyxy=self.xyxy.numpy(),
            mask=self.masks,
            confidence=np.asarray(self.scores, np.float32),
            class_id=self.class_ids,
            data={"class_name": np.array(self.labels, str)},
        )

    def summary(self) -> str:
        """Number of objects per class, of those with a score of at least ``SURE``."""
        return ", ".join(f"{n} {label}" for label, n in Counter(self.above(SURE).labels).most_common()) or "-"

    def plot(self, image: ImageLike | None = None, threshold: float = SURE) -> Image.Image:
        """A copy of an image with boxes, masks, labels and scores; the surest objects are on top.

        Args:
            image: of any kind that `Model.encode` takes, of the photograph's size; by default a
                gray picture.
            threshold: objects of a lower score are not drawn.

        Raises:
            ValueError: if the image has another size than the photograph, or there is none and no size is known.
            FileNotFoundError: if it is the path of a file that does not exist.
        """
        from .drawing import canvas_of, draw_objects

        # Every class that was found has a color of its own, as far as colors go, whatever is drawn.
        names, shown = sorted(set(self.labels)), self.above(threshold)
        captions = [f"{label} {score:.2f}" for label, score in zip(shown.labels, shown.scores, strict=True)]
        colors = [names.index(label) for label in shown.labels]
        return draw_objects(canvas_of(image, self.size), shown.boxes, captions, colors, shown.masks)

    def _repr_html_(self) -> str:
        from .drawing import html_picture, html_table

        columns = ("label", "score", "x", "y", "width", "height")
        rows = [(row["label"], row["score"], *(f"{side:.1f}" for side in row["box"])) for row in self.to_dict()]
        picture = "" if self.size is None else html_picture(self.plot())
        return picture + html_table(f"{len(self)} objects", columns, rows)


def _most_first(counts: np.ndarray) -> np.ndarray:
    """Indices of the counts above 0, the largest first."""
    order = np.argsort(-counts, kind="stable")
    return order[counts[order] > 0]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of one image.

    Attributes:
        mask: (H, W) uint8 class indices.
        classes: names in the order of the indices.
    """

    mask: np.ndarray
    classes: list[str]

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the photograph in pixels."""
        return self.mask.shape[0], self.mask.shape[1]

    @property
    def class_ids(self) -> np.ndarray:
        """(C,) int64 indices of the classes that occur, those of the most pixels first."""
        return _most_first(self._counts())

    def shares(self) -> dict[str, float]:
        """Share of the photograph's pixels by class, the largest first; classes without a pixel are left out."""
        counts = self._counts()
        return {self.classes[i]: float(counts[i] / self.mask.size) for i in _most_first(counts)}

    def _counts(self) -> np.ndarray:
        return np.bincount(self.mask.ravel(), minlength=len(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """As plain data: the shares of the classes. The mask is an image: ``PIL.Image.fromarray(mask)``."""
        return {"classes": self.shares()}

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json_text(self.to_dict())

    def to_coco(self, image_id: int | str, categories: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """One entry for each class that occurs, in the format of results of COCO's stuff segmentation, as plain data.

        Args:
            image_id: of the photograph in the data set.
            categories: category ids of the data set by class name; other classes are left out. By default class ids
                plus 1.

        Returns:
            for each class ``image_id``, ``category_id`` and ``segmentation`` (compressed run lengths).
        """
        found = []
        for index in self.class_ids.tolist():
            category = index + 1 if categories is None else categories.get(self.classes[index])
            if category is not None:
                mask = _run_lengths(self.mask == index)
                found.append({"image_id": image_id, "category_id": category, "segmentation": mask})
        return found

    def to_pandas(self) -> Any:
        """A data frame with a row for each class that occurs: class_id, label, pixels, share.

        Raises:
            ModuleNotFoundError: if pandas is not installed.
        """
        counts = self._counts()
        ids = _most_first(counts)
        pixels = counts[ids]
        labels = np.array([self.classes[i] for i in ids], object)
        columns = {"class_id": ids, "label": labels, "pixels": pixels, "share": pixels / self.mask.size}
        return optional("pandas", "results").DataFrame(columns)

    def to_supervision(self) -> Any:
        """``supervision.Detections`` with one entry for each class that occurs: its mask, and the box around it.

        Raises:
            ModuleNotFoundError: if supervision is not installed.
        """
        supervision, ids = optional("supervision", "results"), self.class_ids
        masks = self.mask == ids[:, None, None]
        names = np.array([self.classes[i] for i in ids], str)
        boxes = supervision.mask_to_xyxy(masks).astype(np.float32)
        return supervision.Detections(xyxy=boxes, mask=masks, class_id=ids, data={"class_name": names})

    def summary(self) -> str:
        """The four largest classes."""
        return ", ".join(f"{name} {share:.0%}" for name, share in list(self.shares().items())[:4])

    def plot(self, image: ImageLike | None = None) -> Image.Image:
        """A copy of an image under the colors of the classes, but for the background, with names of the large ones.

        Args:
            image: of any kind that `Model.encode` takes, of the photograph's size; by default a
                gray picture.

        Raises:
            ValueError: if the image has another size than the photograph.
            FileNotFoundError: if it is the path of a file that does not exist.
        """
        from .drawing import BACKGROUND, canvas_of, draw_classes

        names = [name for name in self.shares() if name != BACKGROUND][:6]
        return draw_classes(canvas_of(image, self.size), self.mask, self.classes, names)

    def _repr_html_(self) -> str:
        from .drawing import html_picture, html_table

        rows = list(self.shares().items())
        return html_picture(self.plot()) + html_table("classes of pixels", ("class", "share"), rows)


def _equal(one: Any, other: Any) -> bool:
    """Whether two predictions are of one kind and say the same; arrays cannot be compared as dataclasses do it."""
    if type(one) is not type(other):
        return False
    pairs = ((getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a is b or a == b for a, b in pairs)


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed run lengths, as plain data."""
    from pycocotools import mask as coder

    coded = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(coded["size"]), "counts": coded["counts"].decode()}


class Result(Mapping[str, Any]):
    """Predictions of one image by task, as items and as attributes: ``result["detection"]``, ``result.detection``.

    As an attribute, a task that was not requested is None. Tasks are in the order of the model's heads.

    Args:
        **predictions: by task.

    >>> result = Result(classification=Classification("cat", 0.9, [("cat", 0.9)]))
    >>> result.classification.label, result["classification"].score, result.detection, list(result)
    ('cat', 0.9, None, ['classification'])
    """

    def __init__(self, **predictions: Any):
        self._predictions = predictions

    @property
    def classification(self) -> Classification | None:
        """The classes of the image; None if they were not asked for."""
        return self._predictions.get("classification")

    @property
    def detection(self) -> Detection | None:
        """The objects in the image; None if they were not asked for."""
        return self._predictions.get("detection")

    @property
    def segmentation(self) -> Segmentation | None:
        """The classes of the image's pixels; None if they were not asked for."""
        return self._predictions.get("segmentation")

    def __getattr__(self, task: str) -> Any:
        if task.startswith("_"):  # asked for by those who copy or send it, before it holds anything
            raise AttributeError(task)
        if task in self._predictions:
            return self._predictions[task]
        if task in HEADS:
            return None
        raise AttributeError(f"there is no task {task!r}; there are predictions of: {', '.join(self) or 'none'}")

    def __getitem__(self, task: str) -> Any:
        return self._predictions[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._predictions)

    def __len__(self) -> int:
        return len(self._predictions)

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{task}={prediction!r}' for task, prediction in self.items())})"

    def above(self, threshold: float) -> Result:
        """The same predictions, but of detections only the objects with a score of at least a threshold.

        Args:
            threshold: in [0, 1].
        """
        kept = {task: p.above(threshold) if isinstance(p, Detection) else p for task, p in self.items()}
        return Result(**kept)

    def to_dict(self) -> dict[str, Any]:
        """Every task's prediction as plain data."""
        return {task: prediction.to_dict() for task, prediction in self.items()}

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json_text(self.to_dict())

    def to_pandas(self) -> Any:
        """One data frame of all predictions that have one, with the task in the first column.

        Columns that a task does not have are empty (NaN) in its rows.

        Raises:
            ModuleNotFoundError: if pandas is not installed.
        """
        pandas = optional("pandas", "results")
        frames = {task: p.to_pandas() for task, p in self.items() if hasattr(p, "to_pandas")}
        for task, frame in frames.items():
            frame.insert(0, "task", task)
        return pandas.concat(list(frames.values()), ignore_index=True) if frames else pandas.DataFrame({"task": []})

    def summary(self) -> dict[str, str]:
        """Every task's prediction in one short line."""
        return {task: prediction.summary() for task, prediction in self.items()}

    def plot(self, image: ImageLike | None = None, threshold: float = SURE) -> Image.Image:
        """A copy of an image with all predictions that can be drawn: classes of pixels below, then the others.

        Args:
            image: of any kind that `Model.encode` takes, of the photograph's size; by default a
                gray picture.
            threshold: objects of a lower score are not drawn.

        Raises:
            ValueError: if the image has another size than the photograph, or there is none and no prediction knows
                the size.
            FileNotFoundError: if it is the path of a file that does not exist.
        """
        from .drawing import canvas_of

        sizes = [prediction.size for prediction in self.values() if getattr(prediction, "size", None) is not None]
        canvas = canvas_of(image, sizes[0] if sizes else None)
        for prediction in sorted(self.values(), key=lambda p: not isinstance(p, Segmentation)):
            if isinstance(prediction, Detection):
                canvas = prediction.plot(canvas, threshold)
            elif hasattr(prediction, "plot"):
                canvas = prediction.plot(canvas)
        return canvas

    def _repr_html_(self) -> str:
        from .drawing import html_table

        lines = html_table("predictions", ("task", "summary"), list(self.summary().items()))
        parts = (p._repr_html_() for p in self.values() if hasattr(p, "_repr_html_"))
        return "".join((lines, *parts))
