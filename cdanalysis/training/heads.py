"""Heads trained on cached latents, and the calibration of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.cached import CachedStreams, cache_streams
from ..data.labels import class_index
from ..data.photographs import Photographs
from ..heads.classification import ClassificationHead, fit_temperature
from ..model import Model
from .recipe import CalibrationConfig, HeadConfig


def train_head(model: Model, config: HeadConfig, folder: Path, seed: int = 0) -> dict[str, float]:
    """Replace the model's classification head by one for the classes of ``config.source``.

    The photographs are encoded once into ``folder``; the head then learns from those streams
    alone, codec and neck standing still. Every ``config.holdout``-th stream is held out: it gives
    the accuracy that is returned, and the temperature.
    """
    photographs = Photographs(config.source)
    classes = sorted({photographs.class_of(i) for i in range(len(photographs))})
    if len(classes) < 2:
        raise ValueError(f"a classifier needs two or more class folders; {config.source} has {len(classes)}")
    streams = cache_streams(photographs, folder, lambda images: encode_base(model, images, config.quality))
    features, targets = _features(model, streams, classes)
    held = torch.arange(len(targets)) % config.holdout == 0
    torch.manual_seed(seed)
    head = ClassificationHead(features.shape[1], classes, config.hidden)
    _fit(head, features[~held], targets[~held], config, seed)
    with torch.inference_mode():
        logits = head([features[held].float()])
    head.temperature.fill_(fit_temperature(logits.clone(), targets[held]))
    model.heads["classification"] = head.eval().requires_grad_(False)
    return {"holdout_top1": float((logits.argmax(1) == targets[held]).double().mean()), "streams": len(streams)}


def calibrate(model: Model, config: CalibrationConfig) -> float:
    """Fit the temperature of the classification head on streams of labelled photographs; gives it."""
    photographs = Photographs(config.source).every(config.every)
    head = model.heads["classification"]
    targets = [class_index(photographs.class_of(i), head.classes) for i in range(len(photographs))]
    if None in targets:
        raise ValueError(f"{config.source} has folders that name none of the head's classes")
    logits = []
    for start in range(0, len(photographs), 32):
        images = [photographs[i][0] for i in range(start, min(start + 32, len(photographs)))]
        logits.append(model.class_logits(encode_base(model, images, config.quality)))
    temperature = fit_temperature(torch.cat(logits).clone().cpu(), torch.tensor(targets))
    head.temperature.fill_(temperature)
    return temperature


def encode_base(model: Model, images: Sequence, quality: float) -> list[bytes]:
    """Streams of the semantic layer alone."""
    return model.encode_batch(images, quality, layers=("semantic",))


def _features(model: Model, streams: CachedStreams, classes: list[str]) -> tuple[Tensor, Tensor]:
    """What the head reads of every stream (N, C, h, w), in half precision, and the targets (N,)."""
    rows, targets = [], []
    with torch.inference_mode():
        for data, label in (streams[i] for i in range(len(streams))):
            rows.append(model.pyramid(model.to_latents([data], ("semantic",)))[-1].half())
            targets.append(classes.index(label))
    if len({row.shape for row in rows}) > 1:  # photographs of many sizes: the head averages over cells anyway
        side = min(min(row.shape[-2:]) for row in rows)
        rows = [F.adaptive_avg_pool2d(row.float(), side).half() for row in rows]
    return torch.cat(rows).clone(), torch.tensor(targets)


def _fit(head: ClassificationHead, features: Tensor, targets: Tensor, config: HeadConfig, seed: int) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(seed)
    steps = config.epochs * -(-len(targets) // config.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(config.epochs):
        for rows in torch.randperm(len(targets), generator=generator).split(config.batch):
            loss = F.cross_entropy(head([features[rows].float()]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
