"""Training on several processes: the same gradients as one process has of the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("one_step.py")
ALONE, TOGETHER = (
    [sys.executable],
    [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"],
)


def test_two_processes_have_the_gradients_of_one(image_folder, small_folder, tmp_path):
    """A stage of the semantic layer, one of the detail layer and one of a head, through gloo."""
    found = []
    for count, command in ((1, ALONE), (2, TOGETHER)):
        output = tmp_path / f"{count}.pt"
        words = [*command, str(SCRIPT), str(image_folder), str(small_folder), str(output)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        result = torch.load(output, weights_only=True)
        assert result["processes"] == count
        found.append(result["gradients"])
    assert [len(stage) for stage in found[0]] == [len(stage) for stage in found[1]] and len(found[0]) == 3
    for alone, together in zip(*found, strict=True):
        assert any(gradient.abs().max() > 0 for gradient in alone.values())
        for name, gradient in alone.items():
            torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-5, msg=name)
