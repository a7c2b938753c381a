"""Batch jobs on a Ray cluster, by Ray Data; needs the extra ``ray``.

Ray finds its cluster by its environment variable RAY_ADDRESS; without it, it uses this machine. All nodes must see the
files under the same paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..batch.run import Answer, Job, Recorded, attempt
from ..faults import optional
from ..files import json_text, json_value


class _Doer:
    """One actor: one process, one core, one model."""

    def __init__(self, work: Recorded):
        import torch

        torch.set_num_threads(1)
        self.work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number, found, wrong = attempt(self.work, int(row["number"]), (row["source"], row["target"]))
        return {"number": number, "row": json_text(found), "wrong": wrong}


def on_cluster(work: Recorded, jobs: Sequence[tuple[int, Job]]) -> Iterator[Answer]:
    """A `Runner` with one actor per core of the cluster.

    Args:
        work: to do.
        jobs: with their numbers.

    Yields:
        the answer of each job when it is done.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
    """
    ray = optional("ray", "ray", "Ray")
    if not ray.is_initialized():
        ray.init(log_to_driver=False, configure_logging=False)
    max_actors = min(len(jobs), max(1, int(ray.cluster_resources().get("CPU", 1)) - 1))
    rows = [{"number": number, "source": source, "target": target} for number, (source, target) in jobs]
    data = ray.data.from_items(rows, override_num_blocks=min(len(rows), 8 * max_actors))
    done = data.map(_Doer, fn_constructor_args=(work,), concurrency=(1, max_actors), num_cpus=1)
    for row in done.iter_rows():
        yield int(row["number"]), json_value(row["row"]), row["wrong"]
