"""Train CompressAI's mbt2018-mean as the detail layer was trained: photographs, crops, batch, steps and precision.

    CDANALYSIS_DATA=/path/to/data python tools/rival.py

Its weights at level 3 (128 and 192 channels, Minnen, Balle, Toderici, NeurIPS 2018) are what a comparison of speed at
equal or better rate and distortion needs: CompressAI's own were trained on many more photographs for many days. Writes
``runs/rival/mbt2018-mean-3.pth``; a run that was stopped goes on from its checkpoint:

    cdanalysis evaluate configs/evaluate/rival.yaml
    cdanalysis benchmark codec tasks --repeats 20 --compressai runs/rival -o docs/benchmarks.json
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from cdanalysis.data.crops import Crops
from cdanalysis.files import json_text, write_whole
from cdanalysis.training.recipe import load_recipe

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "rival"
NAME, LEVEL = "mbt2018-mean", 3
LAMBDA = 0.0067
"""CompressAI's weight of the squared error, times 255^2, at that level."""
LR, WARMUP, CLIP = 5e-4, 100, 1.0
"""Five times its authors' learning rate, for a run far shorter than theirs; it falls to a hundredth by a cosine."""
TRAINS = "codec.detail"
"""Stages of configs/photo.yaml that train this part say on what the rival learns, and for how many steps."""
SAVE = 50


def groups_of(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What the objective trains, and the quantiles of the hyper-latent, which have a loss of their own."""
    named = dict(net.named_parameters())
    quantiles = [p for name, p in named.items() if name.endswith(".quantiles")]
    return [p for name, p in named.items() if not name.endswith(".quantiles")], quantiles


def in_single_precision(module: nn.Module) -> None:
    """Let a module compute in float32 under autocast: likelihoods are differences of nearly equal numbers."""
    forward = module.forward

    def single(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return forward(*(a.float() if isinstance(a, torch.Tensor) else a for a in args), **kwargs)

    module.forward = single


def loss_of(out: dict[str, Any], x: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Rate plus weighted squared error, as CompressAI trains."""
    bits = sum(-torch.log2(likelihoods).sum() for likelihoods in out["likelihoods"].values())
    bpp = bits / (x.shape[0] * x.shape[2] * x.shape[3])
    mse = (out["x_hat"].float() - x).square().mean()
    return bpp + LAMBDA * 255**2 * mse, {"bpp": bpp.item(), "psnr": -10 * math.log10(mse.item())}


class Run:
    """The training, resumable."""

    def __init__(self, steps: int = 0):
        from compressai.zoo import image_models

        torch.manual_seed(0)
        self.net = image_models[NAME](LEVEL, pretrained=False).to(memory_format=torch.channels_last)
        self.step, self.spent = 0, 0.0
        for module in (self.net.entropy_bottleneck, self.net.gaussian_conditional):
            in_single_precision(module)
        main, quantiles = groups_of(self.net)
        self.optimizer = torch.optim.Adam(main, lr=LR)
        self.auxiliary = torch.optim.Adam(quantiles, lr=1e-3)
        stages = [s for s in load_recipe(ROOT / "configs" / "photo.yaml").stages if TRAINS in s.trains]
        self.steps = steps or sum(stage.steps for stage in stages)
        self.batch = stages[0].batch
        self.crops = Crops(stages[0].sources, stages[0].crop, seed=0, length=self.steps * self.batch)
        self.parts = {"net": self.net, "optimizer": self.optimizer, "auxiliary": self.auxiliary}
        if (FOLDER / "checkpoint.pt").is_file():
            state = torch.load(FOLDER / "checkpoint.pt", weights_only=True)
            self.step, self.spent = state["step"], state["spent"]
            for name, part in self.parts.items():
                part.load_state_dict(state[name])

    def rate(self) -> float:
        """The learning rate of this step."""
        done = self.step / self.steps
        return LR * min(1.0, (self.step + 1) / WARMUP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def batches(self) -> DataLoader:
        """The crops that are left, made beside training."""
        left = Subset(self.crops, range(self.step * self.batch, len(self.crops)))
        return DataLoader(left, self.batch, num_workers=1)

    def train_step(self, crops: Tensor) -> dict[str, float]:
        started = time.monotonic()
        torch.manual_seed(self.step)
        x = (crops.float() / 255).contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with torch.autocast("cpu", torch.bfloat16):
            out = self.net(x)
        loss, terms = loss_of(out, x)
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
    parser.add_argument("--steps", type=int, default=0, help="as many instead of those of the detail layer's stages")
    run = Run(parser.parse_args().steps)
    means: dict[str, float] = {}
    for crops in run.batches():
        terms = run.train_step(crops)
        means = {name: 0.95 * means.get(name, value) + 0.05 * value for name, value in terms.items()}
        if run.step % SAVE == 0:
            print(run.step, f"{run.spent / 60:.1f} min", {k: round(v, 3) for k, v in means.items()}, flush=True)
            run.save()
    run.save()
    torch.save(run.net.state_dict(), FOLDER / f"{NAME}-{LEVEL}.pth")
    facts = {"steps": run.step, "minutes": round(run.spent / 60, 1), "threads": torch.get_num_threads(), **means}
    write_whole(FOLDER / "facts.json", json_text(facts) + "\n")


if __name__ == "__main__":
    main()
