"""Streams as a PyTorch data set: features or latents, each with its target, to train networks of one's own on."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from .codec.entropy.symbols import same_kind
from .data.cached import CachedStreams, stream_files
from .data.labeled import SPLITS
from .faults import sentence
from .files import read_tensors, write_whole
from .heads.base import layers_of
from .model import ERRORS, Model
from .notices import notice
from .stream.container import Stream, StreamBytes, named_stream, stream_bytes
from .stream.errors import StreamError
from .structures.features import Features, FeatureSpec
from .structures.latents import LAYERS, PAD, Latents, layer_count, working_size
from .structures.targets import Target
from .version import __version__
from .zoo import load

FOLDERS = "folders"
"""Targets that are the classes which folders are named after."""

Targets = Sequence[Any] | Mapping[str, Any] | Callable[[str], Any] | str | None


class StreamDataset(Dataset):
    """Features, or latents, of streams, each with its target.

    An item is ``(features, target)``, or ``features`` alone where there are no targets; features are a batch of one
    photograph, on the CPU: see `cdanalysis.structures.Features`. `collate` makes a batch of items:

        dataset = cda.StreamDataset("streams/", "photo", targets="folders", layers=("global",))
        loader = DataLoader(dataset, batch_size=32, shuffle=True, collate_fn=dataset.collate, num_workers=2)
        for features, labels in loader:
            loss = cross_entropy(probe(features.embedding), labels)

    Photographs of different shapes have features of different sizes. `collate` pads these with zeros; `batches` makes
    batches of equal sizes instead, in which nothing is padded, and which this library's heads can read:

        loader = DataLoader(dataset, batch_sampler=dataset.batches(16), collate_fn=dataset.collate)

    The data set can be sent to other processes, so that workers may be forked or spawned; a spawned worker gets a copy
    of the model, or loads it where it is given by its name.

    Args:
        streams: a folder, whose ``.cda`` files are sorted by their names; or a list of paths, or of the bytes of
            streams.
        model: that wrote the streams, or its zoo name or folder. It must be on the CPU where workers are forked.
        targets: one for each stream: a sequence in the order of the streams; a mapping from their ``names``, with or
            without the suffix and the folders before it; a function of a name; or "folders", for the index in
            ``classes`` of the folder in which a stream lies (the top one of those in a folder of streams). A `Target`,
            whose coordinates are in pixels of the photograph, is scaled to the working size, where heads are trained.
        layers: the first one or more of ("global", "spatial", "detail"); by default those that the model's heads read.
        latents: give integer `Latents` instead of features.
        transform: is called with features and target, or with features alone where there are no targets, and gives
            the item.
        cache: a folder to keep features in, which several processes may share; files are named by all that their
            content depends on. A stream of the model `photo` takes some 1.2 MB with its pyramid in single precision.
        memory: keep features in memory, in each process apart; `preload` fills it before workers are forked.
        dtype: of features, also in the cache.
        errors: "raise" refuses a bad stream when the data set is made; "skip" leaves it out, with a warning
            (`cdanalysis.notices.InputWarning`) that names it. Headers and checksums of all streams are read for this.

    Attributes:
        names: of the streams: paths relative to the folder, paths as they were given, or positions in a list of bytes.
        classes: class names, where targets are "folders"; otherwise None.
        targets: one for each stream, before scaling; None where there are none.
        layers: those that are read.

    Raises:
        FileNotFoundError: if a stream, or the model, does not exist.
        StreamError: for a bad stream, one of another model, or without one of the layers.
        ValueError: if there are no streams, or targets do not fit them.
    """

    def __init__(
        self,
        streams: str | os.PathLike | CachedStreams | Sequence[StreamBytes],
        model: Model | str | os.PathLike = "photo",
        targets: Targets = None,
        layers: Sequence[str] | None = None,
        *,
        latents: bool = False,
        transform: Callable[..., Any] | None = None,
        cache: str | os.PathLike | None = None,
        memory: bool = False,
        dtype: torch.dtype = torch.float32,
        errors: str = "raise",
    ):
        if errors not in ERRORS:
            raise ValueError(f"errors must be one of {', '.join(ERRORS)}, got {errors!r}")
        self._name = "" if isinstance(model, Model) else os.fspath(model)
        self._model = model if isinstance(model, Model) else None
        heads = self.model.heads.values()
        self.layers = LAYERS[: layers_of(heads) if layers is None else layer_count(layers)]
        self.latents, self.transform, self.dtype = latents, transform, dtype
        self._cache = None if cache is None else Path(cache)
        self._memory: dict[int, Features | Latents] | None = {} if memory else None
        self._sources, self.names, tops = _listed(streams)
        self.classes, self.targets = _targets_of(targets, self.names, tops)
        self._kinds = self._checked(errors == "skip")

    @property
    def model(self) -> Model:
        """The model that reads the streams; one that is given by its name is loaded once in every process."""
        if self._model is None:
            self._model = load(self._name)
        return self._model

    @property
    def spec(self) -> FeatureSpec:
        """What features hold: numbers of the embedding, and channels of the pyramid's levels and the detail layer."""
        return self.model.feature_spec

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        """The item of a stream.

        Raises:
            IndexError: if there is none of that index.
            StreamError: if the stream has become bad; it is named.
        """
        index = range(len(self))[index]
        record = self._record(index)
        if self.targets is None:
            return record if self.transform is None else self.transform(record)
        target = self.targets[index]
        if isinstance(target, Target) and isinstance(record, Features) and record.pyramid:
            across, down = record.scales()[0]
            target = target.scaled(1 / across, 1 / down)
        return (record, target) if self.transform is None else self.transform(record, target)

    def preload(self, track: Callable[[Iterable[int]], Iterable[int]] = lambda items: items) -> StreamDataset:
        """Read all streams, so that their features are in the cache or in memory.

        Args:
            track: wraps an iterable to show progress, such as ``tqdm.tqdm`` or ``rich.progress.track``.

        Returns:
            the data set itself.

        Raises:
            StreamError: if a stream has become bad; it is named.
        """
        for index in track(range(len(self))):
            self._record(index)
        return self

    def batches(self, batch_size: int, shuffle: bool = True, seed: int = 0) -> SameSizeBatches:
        """A ``batch_sampler`` for a ``DataLoader``, of batches that can be made without padding.

        Args:
            batch_size: at most so many streams are in a batch.
            shuffle: in an order that differs from epoch to epoch.
            seed: of the orders.

        Raises:
            ValueError: if ``batch_size`` is below 1.
        """
        return SameSizeBatches(self._kinds, batch_size, shuffle, seed)

    @staticmethod
    def collate(items: Sequence[Any]) -> Any:
        """A batch of items, for ``DataLoader(collate_fn=…)``: features or latents, and targets if there are any.

        Args:
            items: of the data set, at least one.

        Returns:
            features or latents of all items, or a pair of these and the targets. Features whose sizes differ are
            padded: see `Features.padded`. Targets that are numbers, or tensors or arrays of one shape, become one
            tensor; all others stay a list. Items that a transform gave without features are handed to torch's
            ``default_collate``.

        Raises:
            ValueError: for latents of different sizes or qualities, which cannot be padded: use `batches`.
        """
        paired = isinstance(items[0], tuple) and len(items[0]) == 2
        records: list[Any] = [item[0] for item in items] if paired else list(items)
        if not isinstance(records[0], (Features, Latents)):
            return default_collate(list(items))
        joined = Features.padded(records) if isinstance(records[0], Features) else _joined_latents(records)
        return (joined, _joined_targets([item[1] for item in items])) if paired else joined

    # -- reading -----------------------------------------------------------------------------

    def _record(self, index: int) -> Features | Latents:
        """Features or latents of a stream, from memory, from the cache, or decoded."""
        if self._memory is None:
            return self._cached(index)
        if index not in self._memory:
            self._memory[index] = self._cached(index)
        return self._memory[index].map(torch.clone)  # so that nobody changes what is kept

    def _cached(self, index: int) -> Features | Latents:
        source = self._sources[index]
        if self._cache is None:
            return self._decoded(source)
        data = stream_bytes(source)
        about = (__version__, len(self.layers), self.latents, str(self.dtype))  # data names the codec's weights
        digest = hashlib.blake2b(repr(about).encode() + data, digest_size=16).hexdigest()
        path = self._cache / digest[:2] / f"{digest}.pt"
        try:
            return (Latents if self.latents else Features)(**read_tensors(path))
        except (OSError, ValueError, TypeError):  # none, or a damaged one
            record, buffer = self._decoded(source), io.BytesIO()
            torch.save(vars(record), buffer)
            write_whole(path, buffer.getvalue())
            return record

    def _decoded(self, source: StreamBytes) -> Features | Latents:
        with named_stream(source):
            if self.latents:
                return self.model.to_latents([source], self.layers).map(lambda t: t.cpu().clone())
            return self.model.features(source, self.layers).to("cpu", self.dtype)

    def _checked(self, skip: bool) -> list[tuple]:
        """Leave bad streams out, or raise for the first; what those of one batch must have in common."""
        kinds, kept = [], []
        for index, source in enumerate(self._sources):
            try:
                kinds.append(self._kind(self.model.header(source, self.layers)))
                kept.append(index)
            except (StreamError, OSError) as error:
                if not skip:
                    raise
                notice(f"left out: {sentence(error)}")
        if not kept:
            raise ValueError("none of the streams can be read")
        self.names, self._sources = [self.names[i] for i in kept], [self._sources[i] for i in kept]
        self.targets = None if self.targets is None else [self.targets[i] for i in kept]
        return kinds

    def _kind(self, stream: Stream) -> tuple:
        size, count = (stream.height, stream.width), len(self.layers)
        if self.latents:
            return same_kind(stream, count)
        grids = [working_size(*size, longer=layer.working) for layer in stream.layers[1:2] if count > 1]
        return (*grids, *(-(-side // PAD) for side in size if count == len(LAYERS)))

    def __getstate__(self) -> dict[str, Any]:
        state = copy.copy(self.__dict__)
        state["_memory"] = None if self._memory is None else {}  # other processes have memory of their own
        state["_model"] = None if self._name else self._model
        return state


class SameSizeBatches(Sampler[list[int]]):
    """Lists of indices of streams whose features are of one size.

    Args:
        kinds: for each stream what those of one batch must have in common.
        batch_size: at most so many are in a batch.
        shuffle: in an order that differs from epoch to epoch.
        seed: of the orders.

    Raises:
        ValueError: if ``batch_size`` is below 1.
    """

    def __init__(self, kinds: Sequence[tuple], batch_size: int, shuffle: bool = True, seed: int = 0):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0
        self.groups: dict[tuple, list[int]] = {}
        for index, kind in enumerate(kinds):
            self.groups.setdefault(kind, []).append(index)

    def __len__(self) -> int:
        return sum(-(-len(group) // self.batch_size) for group in self.groups.values())

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        order = rng.permutation if self.shuffle else np.array
        batches = []
        for group in self.groups.values():
            indices = order(group).tolist()
            batches += [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        return iter([batches[i] for i in order(range(len(batches)))])


def _listed(
    streams: str | os.PathLike | CachedStreams | Sequence[StreamBytes],
) -> tuple[list[StreamBytes], list[str], list[str]]:
    """Streams, their names, and for each the name of the folder that is its class, "" where there is none."""
    if isinstance(streams, CachedStreams):
        paths, names = [streams.folder / name for name in streams.names], list(streams.names)
    elif isinstance(streams, (str, os.PathLike)):
        paths, root = stream_files(streams), Path(streams)
        names = [path.relative_to(root if root.is_dir() else root.parent).as_posix() for path in paths]
    else:
        sources = list(streams)
        if not sources:
            raise ValueError("the list of streams is empty")
        names = [
            Path(source).as_posix() if isinstance(source, (str, os.PathLike)) else str(number)
            for number, source in enumerate(sources)
        ]
        return sources, names, [PurePath(name).parent.name for name in names]
    tops = [PurePath(name).parts[0] if len(PurePath(name).parts) > 1 else "" for name in names]
    return list[StreamBytes](paths), names, tops


def _targets_of(targets: Targets, names: list[str], tops: list[str]) -> tuple[list[str] | None, list[Any] | None]:
    """Class names, if folders are classes, and a target for each stream."""
    if targets is None:
        return None, None
    if isinstance(targets, str):
        if targets != FOLDERS:
            raise ValueError(f'targets are a sequence, a mapping, a function or "{FOLDERS}", got {targets!r}')
        classes = _class_folders(names, tops)
        numbers = {name: number for number, name in enumerate(classes)}
        return classes, [numbers[top] for top in tops]
    if isinstance(targets, Mapping):
        return None, _looked_up(targets, names)
    if callable(targets):
        return None, [targets(name) for name in names]
    if len(targets) != len(names):
        raise ValueError(
            f"there are {len(names)} streams and {len(targets)} targets: give one for each, in their order"
        )
    return None, list(targets)


def _class_folders(names: list[str], tops: list[str]) -> list[str]:
    classes = sorted(set(tops) - {""})
    if stray := next((name for name, top in zip(names, tops, strict=True) if not top), None):
        raise ValueError(f"the stream {stray} is in no class folder: put it into one, or give other targets")
    if len(classes) < 2:
        raise ValueError(f"classification needs two or more class folders; the streams are in {len(classes)}")
    if SPLITS.issuperset(name.lower() for name in classes):
        raise ValueError(
            f"the folders of the streams are splits, {' and '.join(classes)}, not classes: use one of them"
        )
    return classes


def _looked_up(targets: Mapping[str, Any], names: list[str]) -> list[Any]:
    """Targets by a stream's name, with or without its suffix and the first of its folders; the longest name counts."""
    found, missing = [], []
    for name in names:
        parts = PurePath(name).parts
        tails = [PurePath(*parts[start:]) for start in range(len(parts))]
        keys = [key for tail in tails for key in (tail.as_posix(), tail.with_suffix("").as_posix())]
        key = next((key for key in keys if key in targets), None)
        found.append(None if key is None else targets[key])
        missing += [name] if key is None else []
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} streams have no target, for example {missing[0]!r}")
    return found


def _joined_latents(parts: list[Latents]) -> Latents:
    """Latents of photographs of one size and quality as a batch."""
    first = parts[0]
    for part in parts:
        same = (part.size, part.quality, part.layers) == (first.size, first.quality, first.layers)
        if not same or (part.quality_offsets is None) != (first.quality_offsets is None):
            raise ValueError(
                "latents of different sizes or qualities cannot be one batch: use batches() as the batch_sampler"
            )
    names = [name for name, value in vars(first).items() if isinstance(value, Tensor)]
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return replace(first, **joined)


def _joined_targets(targets: list[Any]) -> Any:
    if all(isinstance(target, (int, np.integer)) for target in targets):
        return torch.tensor([int(target) for target in targets])
    if all(isinstance(target, (int, float, np.number)) for target in targets):
        return torch.tensor([float(target) for target in targets])
    tensors = [torch.as_tensor(target) for target in targets if isinstance(target, (Tensor, np.ndarray))]
    if len(tensors) == len(targets) and len({(tensor.shape, tensor.dtype) for tensor in tensors}) == 1:
        return torch.stack(tensors)
    return targets
