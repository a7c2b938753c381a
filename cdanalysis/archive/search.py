"""`Archive`: what is nearest to a photograph, a stream or a vector; what has a label or holds objects."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..structures.predictions import SURE
from .store import LEAST, Manifest, Store
from .vectors import directions, largest, nearest

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..model import Model

    Query = bytes | str | Path | Image.Image | np.ndarray | Tensor

MANY = 1_000_000
"""Vectors that are compared one by one in a second or two."""


@dataclass(frozen=True)
class Match:
    """A stream that was found.

    Attributes:
        file: its path.
        score: cosine between what its embedding and the query's say, in [-1, 1]; without a query, the lowest of the
            scores that it was chosen by: the label's probability, and the objects' scores.
        width: of the photograph in pixels.
        height: of the photograph in pixels.
        labels: the most probable (class, probability); empty where the archive has none.
        objects: (class, score, (x, y, width, height) in pixels); empty where the archive has none.
    """

    file: str
    score: float
    width: int
    height: int
    labels: list[tuple[str, float]]
    objects: list[tuple[str, float, tuple[float, ...]]]

    def to_dict(self) -> dict[str, Any]:
        """The match as JSON; objects as `Detection.to_dict` has them."""
        objects = [{"label": label, "score": score, "box": list(box)} for label, score, box in self.objects]
        return {**vars(self), "labels": [list(label) for label in self.labels], "objects": objects}

    def row(self) -> dict[str, Any]:
        """The match as a row of a table: score, first label, number of objects by class, file."""
        label = f"{self.labels[0][0].split(',')[0]} {self.labels[0][1]:.2f}" if self.labels else "-"
        counts = Counter(name for name, score, _ in self.objects if score >= SURE)
        objects = ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "-"
        return {"score": round(self.score, 3), "label": label, "objects": objects, "file": self.file}


class Archive:
    """An archive of streams, which ``cdanalysis index`` or `cdanalysis.batch.index.index_streams` has written.

    >>> archive = Archive("archive.index")  # doctest: +SKIP
    >>> archive.search("query.jpg", k=3)[0].file  # doctest: +SKIP
    'streams/dog/4.cda'

    Args:
        folder: of the archive.
        model: the model that wrote its streams, or its name; by default the one that the archive names. It is loaded
            when a photograph or a stream is searched by.
        device: torch device of a model that is loaded.

    Raises:
        FileNotFoundError: if there is no such archive.
        ValueError: if it is none, or is damaged; or for another model than its streams'.
    """

    def __init__(self, folder: str | Path, model: Model | str | Path | None = None, device: str = "cpu"):
        self.store, self.device = Store(folder), device
        self._named = str(model) if isinstance(model, (str, Path)) else ""
        self._model: Model | None = None if isinstance(model, (str, Path)) else model
        if self._model is not None:
            self._check(self._model)

    def __len__(self) -> int:
        return len(self.store)

    @property
    def manifest(self) -> Manifest:
        """The model, the tasks and their classes."""
        return self.store.manifest

    @property
    def model(self) -> Model:
        """The model that wrote the streams.

        Raises:
            FileNotFoundError: if it is not there any more.
            ValueError: if what has its name now is another one.
        """
        if self._model is None:
            from ..zoo import load

            model = load(self._named or self.manifest.model, self.device)
            self._check(model)
            self._model = model
        return self._model

    def _check(self, model: Model) -> None:
        if model.fingerprint != self.manifest.fingerprint:
            raise ValueError(
                f"the archive {self.store.folder} is of streams of model {self.manifest.fingerprint} and model "
                f"{model.name!r} is {model.fingerprint}: name the model that wrote them, or index other streams"
            )

    def search(
        self,
        query: Query | None = None,
        k: int = 10,
        *,
        label: str | None = None,
        objects: str | Sequence[str] = (),
        min_score: float | None = None,
        exact: bool = False,
    ) -> list[Match]:
        """The streams that are nearest to a query, among those that have a label and hold objects.

        Args:
            query: a photograph (PIL image, uint8 array, or the path of an image file), a stream (its bytes or its
                path), or a vector (E,), as `Model.embed` gives it; None to filter alone.
            k: how many to find.
            label: a class, or words of its name ("retriever"): the first label must be one of those.
            objects: one or several classes; one object of each must be there.
            min_score: the lowest probability of the label, and score of the objects, that counts, in [0, 1], for
                objects at least `LEAST`; by default any label, and objects from `SURE` on.
            exact: compare all vectors, also where the archive has an index of FAISS's.

        Returns:
            at most ``k`` matches, the best first.

        Raises:
            ValueError: for a query, a class or a number that cannot be used, and for filters by what the archive does
                not hold; if a file of the archive is damaged.
            StreamError: for a stream that is bad, or of another model.
            FileNotFoundError: if the query's file, or the model that is to read the query, does not exist.
            ModuleNotFoundError: if the archive has an index of FAISS's that is to be used, and FAISS is not installed.
        """
        objects = (objects,) if isinstance(objects, str) else tuple(objects)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score lies in [0, 1], got {min_score}")
        scores = self._filter_scores(label, objects, min_score) if label is not None or objects else None
        if query is not None:
            chosen = None if scores is None else scores >= 0
            numbers, found = self.nearest(self.embedding(query)[None], k, chosen, exact)
            return self._matches(numbers[0], found[0])
        if scores is None:
            raise ValueError("nothing to search by: give a query, a label, or objects")
        best = largest(scores, k)
        best = best[scores[best] >= 0]
        return self._matches(best, scores[best])

    def nearest(
        self, vectors: np.ndarray, k: int = 10, chosen: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are nearest to each of several vectors.

        Args:
            vectors: (Q, E), as `Model.embed` gives them.
            k: how many to find for each.
            chosen: (N,) bool, the rows among which to look; by default all.
            exact: compare all vectors, also where the archive has an index of FAISS's.

        Returns:
            numbers of rows, int64 (Q, K), and cosines, float32 (Q, K), the largest first; K is k, or the number of
            rows among which to look if there are fewer; by an index of FAISS's it may be smaller still.

        Raises:
            ValueError: for vectors of another length, or with values that are no finite numbers; if a file of the
                archive is damaged, or was replaced since it was opened.
            ModuleNotFoundError: if the archive has an index of FAISS's that is to be used, and FAISS is not installed.
        """
        vectors, size = np.asarray(vectors, np.float32), len(self.manifest.center)
        if vectors.ndim != 2 or vectors.shape[1] != size or not np.isfinite(vectors).all():
            raise ValueError(f"a vector must be {size} finite numbers, got {vectors.shape[1:]}")
        queries = directions(vectors, np.asarray(self.manifest.center, np.float32))
        if self.manifest.faiss and chosen is None and not exact:
            from .approximate import nearest as approximately

            return approximately(self.store, queries, k)
        return nearest(self.store.blocks, queries, k, chosen)

    def embedding(self, query: Query) -> np.ndarray:
        """The vector (E,) to search by: of a photograph, what the global layer's teacher sees in it.

        Args:
            query: as of `search`.

        Raises:
            ValueError: for a photograph that cannot be used.
            StreamError: for a stream that is bad, or of another model.
            FileNotFoundError: if the query's file does not exist.
        """
        if isinstance(query, np.ndarray) and query.ndim == 1:
            return query  # without torch, which takes a second to import
        from torch import Tensor

        if isinstance(query, Tensor) and query.ndim == 1:
            return query.detach().float().cpu().numpy()
        if isinstance(query, (str, Path)) and Path(query).suffix.lower() != ".cda":
            from ..photographs.read import open_image

            query = open_image(query, self.model.max_pixels)
        if isinstance(query, (bytes, str, Path)):
            return self.model.embed(query).float().cpu().numpy()
        found = self.model.reference.features([query], 1).embedding
        return found[0].float().cpu().numpy()

    # -- filters -----------------------------------------------------------------------------

    def _filter_scores(self, label: str | None, objects: Sequence[str], min_score: float | None) -> np.ndarray:
        """Of each row the lowest of the scores that it was chosen by, (N,) float32; below 0 where it was not."""
        scores = np.ones(len(self), np.float32)
        if label is not None:
            wanted = self._classes("classification", label)
            own, least = self.store.column("label_scores"), min_score or 0.0
            fits = np.isin(self.store.column("labels"), wanted) & (own >= least)
            scores = np.where(fits, np.minimum(scores, own), -1)
        if objects and min_score is not None and min_score < LEAST:
            raise ValueError(f"an archive keeps no objects of a score below {LEAST}, got min_score {min_score}")
        if objects:
            rows = np.repeat(np.arange(len(self)), self.store.column("objects").astype(np.int64))
            kinds, own = self.store.column("object_classes"), self.store.column("object_scores")
            for name in objects:
                fits = np.isin(kinds, self._classes("detection", name))
                fits &= own >= (SURE if min_score is None else min_score)
                best = np.full(len(self), -1, np.float32)
                np.maximum.at(best, rows[fits], own[fits])
                scores = np.minimum(scores, best)
        return scores

    def _classes(self, task: str, words: str) -> list[int]:
        """Indices of the classes that have these words in their names."""
        if task not in self.manifest.tasks:
            raise ValueError(
                f"the archive {self.store.folder} holds no {task}: index its streams with --tasks "
                f"{' '.join([*self.manifest.tasks, task])}"
            )
        names = self.manifest.classes[task]
        same = [n for n, name in enumerate(names) if name.casefold() == words.casefold()]
        pattern = re.compile(rf"(?<!\w){re.escape(words.strip())}(?!\w)", re.IGNORECASE)
        found = same or [n for n, name in enumerate(names) if words.strip() and pattern.search(name)]
        if not found:
            known = [word for name in names for word in name.split(", ")]
            near = difflib.get_close_matches(words, known, 3, 0.6) or known[:5]
            raise ValueError(f"{task} knows no class {words!r}; it knows {', '.join(near)} and others")
        return found

    def _matches(self, numbers: np.ndarray, scores: np.ndarray) -> list[Match]:
        lines, classes = self.store.lines(numbers.tolist()), self.manifest.classes
        return [
            Match(
                line["file"],
                float(score),
                line["width"],
                line["height"],
                [(classes["classification"][number], probability) for number, probability in line["labels"]],
                [(classes["detection"][number], sure, tuple(box)) for number, sure, box in line["objects"]],
            )
            for line, score in zip(lines, scores, strict=True)
        ]
