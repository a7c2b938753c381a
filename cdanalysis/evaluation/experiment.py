"""Runs experiments: trains the variants of a model, has them evaluated, and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..benchmarks.hardware import hardware
from ..codecs.base import Codec
from ..codecs.ours import ModelCodec
from ..processes import each
from .experiment_config import ExperimentConfig
from .experiment_rows import Models, everyone, measure_one, measured
from .runner import versions


def run_experiment(
    config: ExperimentConfig,
    folder: Path,
    command: str,
    workers: int = 1,
    track: Callable[[Iterable], Iterable] = lambda items: items,
) -> dict[str, Any]:
    """Train what is not trained yet, measure what is not measured yet, and give the report.

    What is done is kept in ``folder``; a run that was stopped goes on from there.

    Args:
        workers: so many processes of one thread each; 1 is this process, with all of torch's threads.
    """
    if workers > 1:  # they leave nothing to do below but to read what they kept
        parts = [(who,) for who in everyone(config)]
        for _ in track(each(partial(measure_one, config, folder), parts, workers)):
            pass
    models, minutes = Models(config, folder), {}
    for name in config.variants:
        models.train(name)
        minutes[f"train {name}"] = models.minutes(name)
    tables = {name: measured(config, name, models, track) for name in config.measures}
    for name, table in tables.items():
        minutes[f"measure {name}"] = round(sum(row["seconds"] for row in table["rows"]) / 60, 1)
    return {
        "name": config.name,
        "question": config.question,
        "command": command,
        "hardware": hardware(),
        "workers": workers,
        "versions": versions(),
        "minutes": minutes,
        "tables": tables,
    }


def variant_codecs(config: ExperimentConfig, folder: Path, names: Sequence[str] = ()) -> list[Codec]:
    """Variants, by default all, from ``folder``; those that `run_experiment` has not trained there yet are trained."""
    models = Models(config, folder)
    return [ModelCodec(name, models[name], config.semantic) for name in names or config.variants]
