"""Trains one step of each kind of stage and keeps the gradients: called, or run by torchrun, by test_processes."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import torch
from conftest import new_small_model
from test_training import head_stage, recipe_for

from cdanalysis.training.recipe import Recipe
from cdanalysis.training.trainer import Trainer


def main(images: Path, small: str, output: Path) -> None:
    half = {"rand": lambda *size, **_: torch.full(size, 0.5), "rand_like": lambda x: torch.full_like(x, 0.5)}
    codec = recipe_for(images, steps=(1, 1), seed=3)
    for stage in codec.stages:
        stage.batch = 4
    head = head_stage(images, ["heads.classification"], batch=4, epochs=1)
    recipes = [Recipe(**{**vars(codec), "stages": [stage]}) for stage in codec.stages]
    recipes.append(Recipe(name="pets", init=small, stages=[head], precision="32-true"))
    kept, apply = [], torch.optim.AdamW.step
    for recipe in recipes:
        folder = output.parent / f"{output.stem}-{len(kept)}"
        trainer = Trainer(recipe, folder, None if recipe.init else new_small_model())

        def step(self, *args, model=trainer.model, **options):
            named = model.named_parameters()
            kept.append({name: p.grad.clone() for name, p in named if p.grad is not None})
            return apply(self, *args, **options)

        with patch.multiple(torch, **half), patch.object(torch.optim.AdamW, "step", step):
            assert trainer.run()  # without noise, of which each process would draw its own
    if trainer.fabric.global_rank == 0:
        torch.save({"processes": trainer.fabric.world_size, "gradients": kept}, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
