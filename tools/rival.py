"""Train CompressAI's mbt2018-mean on the photographs that the detail layer learned from, for as long.

    CDANALYSIS_DATA=/path/to/data python tools/rival.py --minutes 60

Its weights at level 3 (128 and 192 channels, Minnen, Balle, Toderici, NeurIPS 2018) are what a comparison of speed at
equal or better rate and distortion needs: CompressAI's own were trained on many more photographs for many days. Writes
``runs/rival/mbt2018-mean-3.pth``; a run that was stopped goes on from its checkpoint for the minutes that are left:

    cdanalysis evaluate configs/evaluate/kodak.yaml compressai=$PWD/runs/rival 'baselines={mbt2018-mean: [3]}'
    cdanalysis benchmark codec --compressai $PWD/runs/rival
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cdanalysis.data.crops import Crops
from cdanalysis.files import write_whole
from cdanalysis.training.recipe import load_recipe

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "rival"
NAME, LEVEL = "mbt2018-mean", 3
LAMBDA = 0.0067
"""CompressAI's weight of the squared error, times 255^2, at that level."""
LR, CLIP = 1e-4, 1.0
"""Its authors' learning rate, which falls to a hundredth by a cosine here, and CompressAI's clipping."""
STAGE = "detail"
"""The stage of configs/photo.yaml whose crops are learned from."""


def groups_of(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What the objective trains, and the quantiles of the hyper-latent, which have a loss of their own."""
    named = dict(net.named_parameters())
    quantiles = [p for name, p in named.items() if name.endswith(".quantiles")]
    return [p for name, p in named.items() if not name.endswith(".quantiles")], quantiles


def loss_of(out: dict[str, Any], x: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Rate plus weighted squared error, as CompressAI trains."""
    bits = sum(-torch.log2(likelihoods).sum() for likelihoods in out["likelihoods"].values())
    bpp = bits / (x.shape[0] * x.shape[2] * x.shape[3])
    mse = (out["x_hat"] - x).square().mean()
    return bpp + LAMBDA * 255**2 * mse, {"bpp": bpp.item(), "psnr": -10 * math.log10(mse.item())}


class Run:
    """The training, resumable; what is left of the minutes decides the learning rate."""

    def __init__(self, minutes: float):
        from compressai.zoo import image_models

        torch.manual_seed(0)
        self.net, self.seconds, self.step, self.spent = (
            image_models[NAME](LEVEL, pretrained=False),
            60 * minutes,
            0,
            0.0,
        )
        main, quantiles = groups_of(self.net)
        self.optimizer = torch.optim.Adam(main, lr=LR)
        self.auxiliary = torch.optim.Adam(quantiles, lr=1e-3)
        self.stage = next(stage for stage in load_recipe(ROOT / "configs" / "photo.yaml").stages if stage.name == STAGE)
        self.crops = Crops(self.stage.sources, self.stage.crop, seed=0, length=10**6)
        self.parts = {"net": self.net, "optimizer": self.optimizer, "auxiliary": self.auxiliary}
        if (FOLDER / "checkpoint.pt").is_file():
            state = torch.load(FOLDER / "checkpoint.pt", weights_only=True)
            self.step, self.spent = state["step"], state["spent"]
            for name, part in self.parts.items():
                part.load_state_dict(state[name])

    def train_step(self) -> dict[str, float]:
        batch, started = self.stage.batch, time.monotonic()
        torch.manual_seed(self.step)
        x = torch.stack([self.crops[i] for i in range(self.step * batch, (self.step + 1) * batch)]).float() / 255
        for group in self.optimizer.param_groups:
            group["lr"] = LR * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.spent / self.seconds))))
        loss, terms = loss_of(self.net(x), x)
        self.optimizer.zero_grad()
        self.auxiliary.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(groups_of(self.net)[0], CLIP)
        self.optimizer.step()
        self.net.aux_loss().backward()
        self.auxiliary.step()
        self.step, self.spent = self.step + 1, self.spent + time.monotonic() - started
        return terms

    def save(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "spent": self.spent,
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        torch.save(state, FOLDER / "checkpoint.part")
        (FOLDER / "checkpoint.part").replace(FOLDER / "checkpoint.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    run = Run(parser.parse_args().minutes)
    means: dict[str, float] = {}
    while run.spent < run.seconds:
        terms = run.train_step()
        means = {name: 0.95 * means.get(name, value) + 0.05 * value for name, value in terms.items()}
        if run.step % 50 == 0:
            print(run.step, f"{run.spent / 60:.1f} min", {k: round(v, 3) for k, v in means.items()}, flush=True)
            run.save()
    run.save()
    torch.save(run.net.state_dict(), FOLDER / f"{NAME}-{LEVEL}.pth")
    facts = {"steps": run.step, "minutes": round(run.spent / 60, 1), "threads": torch.get_num_threads(), **means}
    write_whole(FOLDER / "facts.json", json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
