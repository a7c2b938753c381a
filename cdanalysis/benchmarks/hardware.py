"""What figures were measured on."""

from __future__ import annotations

import os
import platform

import torch


def hardware() -> str:
    """The machine in one line, as this process uses it."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    return f"{platform.machine()}, {os.cpu_count()} cores, {threads}, {accelerator}"
