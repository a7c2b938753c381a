"""Heads trained on cached latents, and the calibration of their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.cached import cache_streams
from ..data.labels import class_index
from ..data.photographs import Photographs
from ..heads.classification import ClassificationHead, fit_temperature
from ..model import Model
from .objective import logit_divergence
from .recipe import CalibrationConfig, HeadConfig


def train_head(model: Model, config: HeadConfig, folder: Path, seed: int = 0) -> dict[str, float]:
    """Train the model's classification head on the streams of ``config.source``.

    The photographs are encoded once into ``folder``, at each quality; training then reads those
    streams alone. Every ``config.holdout``-th photograph is held out.

    Returns:
        ``streams``, how many were used, and ``holdout_top1``, accuracy among the folders' classes.

    Raises:
        ValueError: if there are fewer than two class folders, or a folder names no class of a head
            that is kept.
    """
    photographs = Photographs(config.source)
    folders = sorted({photographs.class_of(i) for i in range(len(photographs))})
    if len(folders) < 2:
        raise ValueError(f"a classifier needs two or more class folders; {config.source} has {len(folders)}")
    examples = _examples(model, photographs, config, folder)
    torch.manual_seed(seed)
    if config.classes == "keep":
        head = model.heads["classification"]
    elif config.classes == "folders":
        channels = model.codec.backbone.channels[-1]
        head = model.heads["classification"] = ClassificationHead(channels, folders, config.hidden)
    else:
        raise ValueError(f"classes must be 'folders' or 'keep', got {config.classes!r}")
    among = torch.tensor([_class(name, head.classes) for name in folders])
    trained = _fit(model, examples.kept(held=False), among, config, seed)
    for parameter in trained:
        parameter.requires_grad_(False)
    held, right = examples.kept(held=True), 0
    with torch.inference_mode():
        for rows in held.batches(config.batch):
            logits = _logits(model, held, rows)[:, among]
            right += int((logits.argmax(1) == held.targets[rows]).sum())
    return {"streams": len(examples.targets), "holdout_top1": right / max(1, len(held.targets))}


def calibrate(model: Model, config: CalibrationConfig) -> float:
    """Fit the temperature of the classification head on streams of labelled photographs; gives it."""
    photographs = Photographs(config.source).every(config.every)
    head = model.heads["classification"]
    targets = [_class(photographs.class_of(i), head.classes) for i in range(len(photographs))]
    logits = []
    for group in _groups(photographs):
        logits.append(model.class_logits(encode_base(model, [image for image, _ in group], config.quality)))
    temperature = fit_temperature(torch.cat(logits).clone().cpu(), torch.tensor(targets))
    head.temperature.fill_(temperature)
    return temperature


def _groups(photographs: Photographs, size: int = 32) -> Iterator[list]:
    """The photographs, with their classes, a few at a time."""
    for start in range(0, len(photographs), size):
        yield [photographs[i] for i in range(start, min(start + size, len(photographs)))]


def encode_base(model: Model, images: Sequence, quality: float) -> list[bytes]:
    """Streams of the semantic layer alone."""
    return model.encode_batch(images, quality, layers=("semantic",))


@dataclass
class _Examples:
    """Cached streams as what the neck reads: (C, h, w) latents, a quality, a target, a teacher's logits each."""

    latents: list[Tensor]
    qualities: Tensor
    targets: Tensor
    teacher: Tensor | None
    held: Tensor

    def kept(self, held: bool) -> _Examples:
        rows = (self.held == held).nonzero().flatten()
        teacher = None if self.teacher is None else self.teacher[rows]
        latents = [self.latents[i] for i in rows.tolist()]
        return _Examples(latents, self.qualities[rows], self.targets[rows], teacher, self.held[rows])

    def batches(self, size: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Row numbers in batches of one grid each; shuffled if there is a generator."""
        groups: dict[torch.Size, list[int]] = {}
        for index, latents in enumerate(self.latents):
            groups.setdefault(latents.shape, []).append(index)
        batches = []
        for rows in map(torch.tensor, groups.values()):
            order = torch.arange(len(rows)) if generator is None else torch.randperm(len(rows), generator=generator)
            batches += rows[order].split(size)
        if generator is not None:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
        return batches


@torch.no_grad()
def _examples(model: Model, photographs: Photographs, config: HeadConfig, folder: Path) -> _Examples:
    folders = sorted({photographs.class_of(i) for i in range(len(photographs))})
    latents, qualities, targets, held = [], [], [], []
    for quality in config.qualities:
        streams = cache_streams(photographs, folder / f"{quality:g}", lambda x, q=quality: encode_base(model, x, q))
        for index in range(len(streams)):
            data, label = streams[index]
            latents.append(model.read_semantic(data).half())
            qualities.append(quality)
            targets.append(folders.index(label))
            held.append(index % config.holdout == 0)
    teacher = None
    if config.distill:
        rows = [model.reference_logits([image for image, _ in group]) for group in _groups(photographs)]
        teacher = torch.cat(rows).repeat(len(config.qualities), 1).clone()
    return _Examples(latents, torch.tensor(qualities), torch.tensor(targets), teacher, torch.tensor(held))


def _logits(model: Model, examples: _Examples, rows: Tensor) -> Tensor:
    semantic = torch.stack([examples.latents[i] for i in rows.tolist()]).float()
    pyramid = model.neck(semantic, examples.qualities[rows][:, None, None, None].float())
    return model.heads["classification"](pyramid)


def _fit(model: Model, examples: _Examples, among: Tensor, config: HeadConfig, seed: int) -> list[torch.nn.Parameter]:
    """Train head and ``config.trains``; gives the parameters that moved."""
    prefixes = ("heads.classification.", *config.trains)
    trained = [p.requires_grad_() for n, p in model.named_parameters() if n.startswith(prefixes)]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(seed)
    steps = config.epochs * len(examples.batches(config.batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(config.epochs):
        for rows in examples.batches(config.batch, generator):
            logits = _logits(model, examples, rows)
            loss = F.cross_entropy(logits[:, among], examples.targets[rows])
            if examples.teacher is not None:
                loss = loss + config.distill * logit_divergence(logits, examples.teacher[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return trained


def _class(folder: str, classes: list[str]) -> int:
    index = class_index(folder, classes)
    if index is None:
        raise ValueError(f"the folder {folder!r} names none of the head's classes")
    return index
