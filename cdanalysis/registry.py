"""Registries: heads, teachers, observers, codecs, metrics, evaluators, data-set readers and model hubs by name.

`Registry.register` adds a name within a program:

    from cdanalysis.registry import HEADS

    @HEADS.register("keypoints")
    class KeypointHead(Head): ...

An installed package adds one by an entry point in its ``pyproject.toml``, which is loaded when the name is first used:

    [project.entry-points."cdanalysis.heads"]
    keypoints = "my_package.heads:KeypointHead"
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

T = TypeVar("T")


class UnknownName(ValueError, KeyError):
    """No such name is registered; the message lists those that are."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class Registry(Mapping[str, Any]):
    """A mapping from names to classes or functions of one kind; modules are imported when a name is looked up.

    Args:
        kind: what is registered, for error messages.
        group: of the entry points by which other packages add names.
        builtin: this library's own, as ``module:attribute``, relative to this package.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]):
        self.kind, self.group = kind, group
        self._builtin, self._registered = dict(builtin), dict[str, Any]()

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers a class or function for as long as the program runs.

        Args:
            name: to register it under.

        Raises:
            ValueError: if the name is taken.
        """

        def add(value: T) -> T:
            if self._registered.get(name, value) is not value or name in self._builtin:
                raise ValueError(f"there is a {self.kind} {name!r} already")
            self._registered[name] = value
            return value

        return add

    def __getitem__(self, name: str) -> Any:
        """Look up a name.

        Raises:
            UnknownName: if it is not registered; a `ValueError` and a `KeyError`.
        """
        if name in self._registered:
            return self._registered[name]
        if name in self._builtin:
            module, attribute = self._builtin[name].split(":")
            return getattr(importlib.import_module(f".{module}", __package__), attribute)
        for entry in entry_points(group=self.group, name=name):
            return entry.load()
        raise UnknownName(f"unknown {self.kind} {name!r}; there are {', '.join(self)}")

    def __contains__(self, name: object) -> bool:
        own = name in self._builtin or name in self._registered  # asked first: the rest reads every package's files
        return own or any(name == entry.name for entry in entry_points(group=self.group))

    def __iter__(self) -> Iterator[str]:
        others = [entry.name for entry in entry_points(group=self.group)]
        return iter(dict.fromkeys([*self._builtin, *self._registered, *sorted(others)]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


HEADS = Registry(
    "head",
    "cdanalysis.heads",
    {
        "classification": "heads.classification:ClassificationHead",
        "detection": "heads.detection:DetectionHead",
        "segmentation": "heads.segmentation:SegmentationHead",
    },
)
"""Tasks to subclasses of `cdanalysis.heads.base.Head`."""

TEACHERS = Registry(
    "teacher",
    "cdanalysis.teachers",
    {
        "classifier": "teachers.classifier:Classifier",
        "nanodet_plus": "teachers.nanodet:NanoDetPlus",
        "deeplab": "teachers.deeplab:DeepLab",
        "tf_efficientnet_lite0": "teachers.imagenet:efficientnet_lite0",
    },
)
"""Names of frozen, pre-trained networks to what makes them; classifiers under timm's names need no entry."""

OBSERVERS = Registry(
    "observer",
    "cdanalysis.observers",
    {
        "mse": "training.distortion:squared_error",
        "ms_ssim": "training.distortion:ms_ssim",
        "lpips": "training.distortion:lpips",
        "lpips_comp": "training.distortion:lpips_comp",
        "features": "training.distortion:features",
        "unit_features": "training.distortion:unit_features",
        "wasserstein": "training.distortion:wasserstein",
        "low_pass": "training.distortion:low_pass",
        "texture": "training.distortion:texture",
        "checkerboard": "training.distortion:checkerboard",
        "adversarial": "training.distortion:adversarial",
    },
)
"""Kinds to functions of an `ObserverConfig` and the spatial layer's channels to an `Observer` or an `Adversary`."""

CODECS = Registry(
    "codec",
    "cdanalysis.codecs",
    {
        "JPEG": "codecs.pillow:JPEG",
        "WebP": "codecs.pillow:WEBP",
        "AVIF": "codecs.pillow:AVIF",
        "AVIF (PSNR)": "codecs.pillow:AVIF_PSNR",
        "JPEG 2000": "codecs.pillow:JPEG2000",
        "HEIC": "codecs.pillow:HEIC",
        "JPEG XL": "codecs.pillow:JPEG_XL",
        "bmshj2018-hyperprior": "codecs.compressai:hyperprior",
        "mbt2018-mean": "codecs.compressai:mean_scale",
    },
)
"""Names to a `cdanalysis.codecs.base.Codec`, or to a function of a folder of weights ("" for none) that returns one."""

METRICS = Registry(
    "metric",
    "cdanalysis.metrics",
    {
        "classification": "metrics.tasks:ClassificationScorer",
        "detection": "metrics.tasks:DetectionScorer",
        "segmentation": "metrics.tasks:SegmentationScorer",
    },
)
"""Tasks to functions of a labeled set and class names that return a `cdanalysis.metrics.tasks.Scorer`."""

EVALUATORS = Registry(
    "evaluator",
    "cdanalysis.evaluators",
    {
        "psnr": "evaluation.evaluators:psnr",
        "ms_ssim": "evaluation.evaluators:ms_ssim",
        "lpips": "evaluation.evaluators:lpips",
        "weave": "evaluation.evaluators:weave",
        "salient": "evaluation.evaluators:salient",
        "fid": "evaluation.evaluators:fid",
        "judges": "evaluation.evaluators:judges",
        "accuracy": "evaluation.evaluators:accuracy",
        "accuracy_squeezenet": "evaluation.evaluators:accuracy_squeezenet",
        "detection": "evaluation.evaluators:detection",
        "head": "evaluation.evaluators:head",
    },
)
"""Names to functions (`cdanalysis.evaluation.evaluators.Context`) to an `Evaluator`, several in a list, or None."""

DATASETS = Registry(
    "data-set reader",
    "cdanalysis.datasets",
    {
        "classification": "data.labeled:class_folders",
        "detection": "data.labeled:coco",
        "segmentation": "data.labeled:labeled_pixels",
        "coco_voc": "data.labeled:coco_voc",
        "coco_masks": "data.labeled:coco_masks",
    },
)
"""Tasks, or names that a source's ``reader`` gives, to functions of a `LabeledSource` that return a `LabeledSet`."""

HUBS = Registry("model hub", "cdanalysis.hubs", {"hf-hub": "integrations.huggingface:HUB"})
"""What is before the colon of a model's name, as in ``hf-hub:owner/name``, to an object with two methods: ``download``
takes what follows the colon and returns the model's folder; ``push`` uploads a model and returns an address."""
LIBRARIES = Registry(
    "library of codecs",
    "cdanalysis.libraries",
    {"compressai": "integrations.compressai:CompressAIModel"},
)
"""Names of other libraries to the kind of model that makes a codec of one of their networks: `load("NAME:...")`."""
