"""What figures were measured on, and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch
from PIL import features

from ..version import __version__


def hardware() -> str:
    """The machine in one line, as this process uses it."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads}, {accelerator}"


def versions() -> dict[str, str]:
    """Of all that figures depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "timm", "pillow", "constriction")}
    formats = {f"pillow {name}": features.version(name) or "-" for name in ("jpg", "webp", "avif")}
    return {"python": platform.python_version(), "cdanalysis": __version__, **packages, **formats}
