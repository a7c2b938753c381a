"""Training on several processes: the same gradients as one process has of the whole batch."""

from __future__ import annotations

import subprocess
import sys

import one_step
import torch

TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def test_two_processes_have_the_gradients_of_one(image_folder, small_folder, tmp_path, monkeypatch):
    """A stage of the semantic layer, one of the detail layer and one of a head, through gloo; one is this process."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one_step.main(image_folder, str(small_folder), tmp_path / "1.pt")
    words = [*TOGETHER, one_step.__file__, str(image_folder), str(small_folder), str(tmp_path / "2.pt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    results = [torch.load(tmp_path / f"{count}.pt", weights_only=True) for count in (1, 2)]
    assert [result["processes"] for result in results] == [1, 2]
    found = [result["gradients"] for result in results]
    assert [len(stage) for stage in found[0]] == [len(stage) for stage in found[1]] and len(found[0]) == 3
    for alone, together in zip(*found, strict=True):
        assert any(gradient.abs().max() > 0 for gradient in alone.values())
        for name, gradient in alone.items():
            torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-5, msg=name)
