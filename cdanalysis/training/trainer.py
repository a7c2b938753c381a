"""Runs the stages of a recipe with Lightning Fabric: resumable, bit-exact on the CPU, on one device or several."""

from __future__ import annotations

import io
import logging
import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ..codec.derived import REALISM, saved_tensors
from ..codec.shape import CodecConfig
from ..files import json_text, make_folder, read_tensors, write_whole
from ..heads.base import Heads
from ..model import Model
from ..reference import is_teachers_own
from ..registry import HEADS
from ..teachers.imagenet import imagenet_classes
from ..teachers.nanodet import COCO_CLASSES
from ..zoo import check_finite, load, round_weights
from .averaging import WeightAverage
from .checks import calibration_sets, check_learnable, check_recipe
from .heads import calibrate
from .pretrained import load_pretrained
from .recipe import Recipe, StageConfig, touches
from .stages import HeadStage, Stage, select, stage_of
from .validation import VALIDATION, validate

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"
EARLIER = "checkpoint-before.pt"
"""New name of the checkpoint of an earlier run in the same folder that is not resumed."""
PATIENCE = 200
"""Consecutive steps without a finite loss or gradient after which training stops."""


class Trainer:
    """Trains a model by a recipe.

    An interrupted run continues with ``run(resume=True)``; on the CPU the result is bit-identical to that of an
    uninterrupted run.

    Args:
        recipe: what to train, and how.
        folder: of the checkpoint, the TensorBoard logs and the finished model.
        model: to start from; by default the recipe's ``init``, or a new one.

    Attributes:
        unreadable: photographs that were left out because they cannot be read, in the order they were met.
        validated: what the heads were scored on photographs that they did not learn from, by the names of their stages:
            see `HeadValidation.report`. It is written to ``metrics.json`` in the model's folder.

    Raises:
        FileNotFoundError: if ``init``, or weights of a new model, do not exist.
        ValueError: if ``init`` is damaged.
    """

    def __init__(self, recipe: Recipe, folder: str | Path, model: Model | None = None):
        self.recipe, self.folder = recipe, Path(folder)
        accelerator = "auto" if torch.cuda.is_available() else "cpu"
        devices = "auto" if accelerator == "auto" else int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
            precision=cast(Any, recipe.precision),  # Fabric checks that it is one of its words
        )
        torch.manual_seed(recipe.seed)
        self.new = model is None and not recipe.init
        self.model = model or _first_model(recipe)
        check_learnable(recipe, self.model)
        pictured = [stage for stage in recipe.stages if touches(stage, "codec.detail", "codec.synthesis")]
        if pictured:
            self.model.codec.set_realism(recipe.codec.realism)
        if not all(name.startswith(REALISM) for stage in pictured for name in stage.trains):
            self.model.codec.set_fused(recipe.codec.fused)
        self.model.name = recipe.name
        taught = {task for stage in recipe.stages for task in HEADS if touches(stage, f"counterparts.{task}")}
        self.counterparts = {*self.model.counterparts, *taught}  # others are but what heads were before
        self.stage, self.step, self.skipped, self.lost = 0, 0, 0, 0
        self.data = ""
        self.unreadable: dict[str, None] = {}
        self.validated: dict[str, dict[str, Any]] = {}

    def run(self, resume: bool = False, stop_after: int | None = None) -> bool:
        """Train, and write the model to ``folder / "model"``.

        Args:
            resume: continue from the folder's checkpoint.
            stop_after: number of steps after which to stop; None to finish the recipe.

        Returns:
            True if the recipe is finished, False if stopped.

        Raises:
            FileNotFoundError: if there is no checkpoint to resume, or data or weights do not exist.
            ValueError: if the checkpoint is of another recipe, the recipe is invalid (see `check_recipe`), or training
                diverged; no model is written then.
        """
        self.fabric.launch()
        make_folder(self.folder)
        state = self._load() if resume else None
        check_recipe(self.recipe, self.model, self.stage, self.fabric, self.new)
        if not resume and self.fabric.global_rank == 0 and (self.folder / CHECKPOINT).is_file():
            os.replace(self.folder / CHECKPOINT, self.folder / EARLIER)
        budget = math.inf if stop_after is None else stop_after
        while self.stage < len(self.recipe.stages):
            done, finished = self._run_stage(state, budget)
            budget -= done
            if not finished:
                return False
            state, self.stage, self.step, self.lost = None, self.stage + 1, 0, 0
            self._save()
        if self.fabric.global_rank == 0:
            self._finish()
        return True

    def _finish(self) -> None:
        """Tables and calibration; then the model's folder."""
        model = self.model.eval().float()  # of "true" half precisions, which no codec encodes in
        round_weights(model)  # so that it and the model in the folder read each other's streams
        if any(stage.head is None for stage in self.recipe.stages):
            model.codec.freeze_tables()
        held = calibration_sets(self.recipe)
        if held:
            log.info("temperature %.3f", calibrate(model, self.recipe.calibration, held))
        for task in set(model.counterparts) - self.counterparts:
            if not is_teachers_own(model.codec, model.counterparts[task]):
                del model.counterparts[task]
        metrics = {"validation": self.validated} if self.validated else None
        model.save(self.folder / "model", self.recipe, metrics)

    def _run_stage(self, state: dict | None, budget: float) -> tuple[int, bool]:
        """Train the current stage from the current step on; gives the steps done, and whether it is finished."""
        config = self.recipe.stages[self.stage]
        stage, loss_module, optimizer, average = self._prepared(config, state)
        first, last = self.step, int(min(stage.steps, self.step + budget))
        writer = SummaryWriter(str(self.folder / "logs" / config.name)) if self.fabric.global_rank == 0 else None
        saved = time.monotonic()
        if state is None:
            self._validate_head(config, stage, average, writer)
        with _Bar(config.name, stage.steps, enabled=self.fabric.global_rank == 0) as bar:
            for batch in stage.batches(first, last):
                if _stopped(stage):
                    break
                lr = learning_rate(config, self.step, stage.steps)
                terms = self._train_step(loss_module, optimizer, config.clip, lr, batch)
                self.step += 1
                self._step_done(config, stage, average, writer, terms)
                bar.update(self.step, terms, self.skipped)
                if time.monotonic() - saved > 60 * self.recipe.checkpoint_minutes:
                    self._save(optimizer, stage, average)
                    saved = time.monotonic()
        if writer:
            writer.close()
        self.unreadable |= dict.fromkeys(stage.unreadable)
        self._save(optimizer, stage, average)
        finished = self.step >= stage.steps or _stopped(stage)
        if finished:
            self._leave(config, stage, average)
        return self.step - first, finished

    def _leave(self, config: StageConfig, stage: Stage, average: WeightAverage | None) -> None:
        """Give the model the weights that a finished stage leaves behind: the average, or those of the best epoch."""
        if average:
            average.copy_to_weights()
        self._check_learned(stage.steps)
        if isinstance(stage, HeadStage) and stage.validation is not None:
            stage.validation.restore(stage.loss.head)
            self.validated[config.name] = stage.validation.report()

    def _prepared(self, config: StageConfig, state: dict | None) -> tuple[Stage, Any, Any, WeightAverage | None]:
        """The current stage, its loss, optimizer and average of weights, as they were where a run was stopped in it."""
        stage = stage_of(self.model, self.recipe, self.stage, self.fabric, self.folder)
        self.data = stage.key
        if state is not None and state.get("data", self.data) != self.data:
            raise ValueError(
                f"the data of stage {config.name!r} are others than when the run was stopped, and it cannot go on with "
                "them: bring back what they were, or start anew, with --overwrite"
            )
        if self.step == 0:
            stage.start(self.model)
        self.model.to(memory_format=torch.channels_last)  # also heads that are new, or were loaded: sums depend on it
        if state is not None and config.head is not None:
            self.model.load_state_dict(state["model"])  # the stage has made its head anew
        groups = [{"params": select(self.model, config), "share": 1.0}, *stage.own_parameters()]
        optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98))
        loss_module, optimizer = self.fabric.setup(stage.loss, optimizer)
        average = WeightAverage(groups[0]["params"], config.average) if config.average else None
        if state is not None:
            optimizer.load_state_dict(state["optimizer"])
            stage.own.load_state_dict(state["own"])
            if stage.validation is not None:
                stage.validation.load(state["validation"])
            if average:
                average.load(state["average"])
        loss_module.train(config.head is None)
        if isinstance(stage, HeadStage):
            stage.loss.head.train()
            if self.step == 0:
                log.info("%s: %s", config.name, stage.start_said)
        return stage, loss_module, optimizer, average

    def _step_done(
        self,
        config: StageConfig,
        stage: Stage,
        average: WeightAverage | None,
        writer: SummaryWriter | None,
        terms: dict[str, float],
    ) -> None:
        """Average the weights, and write down where training stands."""
        if average:
            average.update(self.step)
        self._validate(config, average, writer)
        self._validate_head(config, stage, average, writer)
        if writer and self.step % 20 == 0:
            for name, value in terms.items():
                writer.add_scalar(name, value, self.step)

    def _validate(self, config: StageConfig, average: WeightAverage | None, writer: SummaryWriter | None) -> None:
        """Measure what the stage would leave behind now, where its time has come."""
        validation = config.validation
        if writer is None or not validation.source or self.step % validation.every:
            return
        with average.as_weights() if average else nullcontext():
            row = {"stage": config.name, "step": self.step, **validate(self.model, validation)}
        self._note(row, writer)

    def _note(self, row: dict[str, Any], writer: SummaryWriter) -> None:
        """Write a measurement down."""
        with open(self.folder / VALIDATION, "a") as file:
            file.write(json_text(row) + "\n")
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(f"validation/{name}", value, self.step)

    def _validate_head(
        self, config: StageConfig, stage: Stage, average: WeightAverage | None, writer: SummaryWriter | None
    ) -> None:
        """Score a head at the end of an epoch, or before the first if it knows all its classes.

        One process does it, all keep the best weights.
        """
        validation = stage.validation
        if validation is None or not isinstance(stage, HeadStage):
            return
        if self.step % stage.each or not (self.step or stage.ready):
            return
        epoch, head = self.step // stage.each, stage.loss.head
        with average.as_weights() if average else nullcontext():
            scores = validation.scores(head) if writer else None
            scores = cast("dict[str, float | None]", self.fabric.broadcast(scores))
            better = validation.add(epoch, scores, head)
        if writer is not None:
            self._note({"stage": config.name, "step": self.step, "epoch": epoch, **scores}, writer)
            said = ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in scores.items())
            mark = " (best)" if better else ""
            log.info("%s: epoch %d of %d: %s%s", config.name, epoch, stage.steps // stage.each, said, mark)

    def _check_learned(self, steps: int) -> None:
        """Raises `ValueError` where the last tenth of a stage's steps were lost, or weights are no numbers."""
        if self.lost and self.lost >= min(PATIENCE, steps // 10):
            raise ValueError(
                f"stage {self.recipe.stages[self.stage].name!r} diverged, so no model is written: its last "
                f"{self.lost} of {steps} steps had no finite loss or gradient; try a lower learning rate (lr)"
            )
        check_finite(saved_tensors(self.model))

    def _train_step(self, loss_module, optimizer, clip: float, lr: float, batch) -> dict[str, float]:
        torch.manual_seed((self.recipe.seed * 1009 + self.stage) * 10**7 + self.step * 64 + self.fabric.global_rank)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["share"]
        loss, terms = loss_module(batch, self.step)
        self.fabric.backward(loss)
        norms = [torch.nn.utils.clip_grad_norm_(group["params"], clip) for group in optimizer.param_groups]
        finite = torch.isfinite(torch.stack([*norms, loss.detach()])).all()
        if self.fabric.world_size > 1:
            finite = cast(torch.Tensor, self.fabric.all_reduce(finite.float(), reduce_op="mean")) == 1
        if finite:
            optimizer.step()
            self.lost = 0
        else:
            self.skipped, self.lost = self.skipped + 1, self.lost + 1
            if self.lost >= PATIENCE:
                self._check_learned(self.step + 1)
        optimizer.zero_grad()
        return {name: float(value) for name, value in terms.items()}

    def _save(self, optimizer=None, stage: Stage | None = None, average: WeightAverage | None = None) -> None:
        """Write the checkpoint whole or not at all; between stages it holds no optimizer, and nothing of a stage."""
        if self.fabric.global_rank == 0:
            validation = None if stage is None else stage.validation
            state = {
                "recipe": asdict(self.recipe),
                "stage": self.stage,
                "step": self.step,
                "skipped": self.skipped,
                "lost": self.lost,
                "data": self.data,
                "heads": _described(self.model.heads),
                "counterparts": _described(self.model.counterparts),
                "model": self.model.state_dict(),
                "optimizer": optimizer.state_dict() if optimizer else None,
                "own": stage.own.state_dict() if stage is not None else None,
                "validation": validation.state() if validation is not None else None,
                "validated": self.validated,
                "average": average.weights if average else None,
            }
            buffer = io.BytesIO()  # torch's own errors do not say that a disk is full
            torch.save(state, buffer)
            write_whole(self.folder / CHECKPOINT, buffer.getvalue())
            summary = {"stage": self.stage, "step": self.step, "skipped": self.skipped, "seed": self.recipe.seed}
            (self.folder / "progress.json").write_text(json_text(summary) + "\n")

    def _load(self) -> dict | None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            raise FileNotFoundError(f"nothing to resume: no checkpoint {path}; train without --resume")
        state = read_tensors(path)
        if not isinstance(state, dict) or not {"recipe", "stage", "model"} <= state.keys():
            raise ValueError(f"{path} is no checkpoint of this library's")
        if not _same_beginning(state["recipe"], asdict(self.recipe), state["stage"]):
            raise ValueError(f"{path} is of another recipe; use another folder (-o), or train without --resume")
        for heads, described in ((self.model.heads, "heads"), (self.model.counterparts, "counterparts")):
            for task, options in state[described].items():
                heads[task] = self.model.new_head(task, **options)
        self.model.load_state_dict(state["model"])
        self.stage, self.step, self.skipped = state["stage"], state["step"], state["skipped"]
        self.lost, self.validated = state.get("lost", 0), state.get("validated", {})
        return state if state["optimizer"] is not None else None


def _first_model(recipe: Recipe) -> Model:
    """What training starts from; with counterparts where a stage teaches them, or learns from them."""
    if not recipe.init:
        return new_model(recipe)
    taught = any(name.startswith("counterparts") for stage in recipe.stages for name in stage.trains)
    asked = any(s.head.distill if s.head else s.objective.distillation for s in recipe.stages)
    return load(recipe.init, counterparts=taught or asked)


def _stopped(stage: Stage) -> bool:
    """Whether a stage ends before its last step, because its head gets no better."""
    return stage.validation is not None and stage.validation.stopped


def _described(heads: Heads) -> dict[str, dict]:
    return {task: head.describe() for task, head in heads.items()}


def _same_beginning(old: dict, new: dict, stage: int) -> bool:
    """Whether two recipes agree on all that a run has begun: model, seed, and the stages up to now."""
    keys = ("init", "codec", "seed")
    return all(old[k] == new[k] for k in keys) and old["stages"][: stage + 1] == new["stages"][: stage + 1]


def learning_rate(stage: StageConfig, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, constant peak, then a cosine to a hundredth of the peak.

    Args:
        stage: its ``lr``, ``warmup`` and ``decay``.
        step: from 0.
        steps: of the whole stage.
    """
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    first = max(stage.warmup, round((1 - stage.decay) * steps))
    progress = max(0, step - first) / max(1, steps - first)
    return stage.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class _Bar:
    """A progress bar with smoothed terms; plain lines now and then where there is no terminal."""

    def __init__(self, name: str, steps: int, enabled: bool):
        self.name, self.steps, self.enabled = name, steps, enabled
        self.means: dict[str, float] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
            console=Console(stderr=True),  # standard output is for reports
            disable=not enabled,
        )
        self.said = time.monotonic()

    def __enter__(self) -> _Bar:
        self.progress.start()
        self.task = self.progress.add_task(self.name, total=self.steps, terms="")
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, step: int, terms: dict[str, float], skipped: int) -> None:
        for name, value in terms.items():
            if math.isfinite(value):
                self.means[name] = 0.98 * self.means.get(name, value) + 0.02 * value
        text = " ".join(f"{name} {value:.4g}" for name, value in self.means.items())
        if skipped:
            text += f" skipped {skipped}"
        self.progress.update(self.task, completed=step, terms=text)
        if self.enabled and not self.progress.console.is_terminal and time.monotonic() - self.said > 30:
            self.said = time.monotonic()
            log.info("%s %d/%d %s", self.name, step, self.steps, text)


def new_model(recipe: Recipe) -> Model:
    """A new model with its teachers' weights, and heads that start as theirs.

    Args:
        recipe: its ``codec`` and name count.

    Raises:
        FileNotFoundError, RuntimeError: as `load_pretrained`.
        ValueError: if no such codec can be made.
    """
    model = Model(recipe.codec, {}, recipe.name)
    if len(model.codec.classifier.classifier_weights()[0]) == len(imagenet_classes()):
        model.heads["classification"] = model.new_head("classification", classes=imagenet_classes())
    if recipe.codec.detector == CodecConfig().detector:
        model.heads["detection"] = model.new_head("detection", classes=COCO_CLASSES)
    load_pretrained(model)
    return model
