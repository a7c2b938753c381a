"""What each observer makes of photographs: crops of Kodak beside each other, at the same rate.

    CDANALYSIS_DATA=/path/to/data python tools/contact_sheet.py

Takes the variants that ``tools/experiment.py`` trained under ``runs/experiments``, those of three experiments, and
writes ``docs/experiments/observers.webp``: the original, AVIF, HEIC, then one reconstruction an observer. Variants that
are not there are trained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cdanalysis.evaluation.configs import load_experiment
from cdanalysis.evaluation.experiment import variant_codecs
from cdanalysis.reports.contact_sheet import crops_sheet

ROOT = Path(__file__).parent.parent
CROPS = "deep_perceptual"
"""The experiment whose windows, rate and codecs are shown."""
OBSERVERS = {
    "squared error": ("deep_perceptual", "MSE"),
    "MS-SSIM": ("deep_perceptual", "MS-SSIM"),
    "LPIPS, MS-SSIM": ("deep_perceptual", "LPIPS + MS-SSIM"),
    "semantic": ("observer_tradeoff", "alpha 1"),
    "adversarial": ("layered_generative", "fusion, adversary"),
}
"""Who looked while a variant was trained: the experiment, and the variant."""


def main() -> None:
    configs = {
        name: load_experiment(ROOT / "configs" / "experiments" / f"{name}.yaml") for name, _ in OBSERVERS.values()
    }
    codecs = []
    for title, (name, variant) in OBSERVERS.items():
        (codec,) = variant_codecs(configs[name], ROOT / "runs" / "experiments" / name, [variant])
        codec.name = title
        codecs.append(codec)
    crops = replace(configs[CROPS].crops, baselines=["AVIF", "HEIC"])
    path = ROOT / "docs" / "experiments" / "observers.webp"
    crops_sheet(crops, codecs).save(path, quality=88)
    print(f"the sheet is {path}")


if __name__ == "__main__":
    main()
