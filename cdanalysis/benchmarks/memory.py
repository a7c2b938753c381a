"""What processes of their own take: seconds to start, and memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..data.samples import sample_of_size
from ..zoo import load
from .speed import QUALITY, SIZE, sides, timed

LARGE = (1.0, 4.0, 12.0, 24.0)
"""Megapixels."""
STATUS = Path("/proc/self/status")
"""Linux tells a process's peak of memory there; what getrusage tells may be its parent's."""
FURTHER = 3
"""Worker processes beside the first, by which the cost of one is told."""
_WORKERS = (
    "from cdanalysis.processes import each; from cdanalysis.benchmarks.memory import load_once; "
    "list(each(load_once, [({0!r}, number) for number in range({1})], {1}))"
)


def start_costs(model: str = "photo") -> dict[str, float]:
    """Seconds to import the package, to print the command line's help, to import torch, to load a model, torch
    included, and what each further worker process adds to the first's; each in new processes, the least of three.

    Args:
        model: name or folder.
    """
    wanted = {
        "import_s": "import cdanalysis",
        "torch_s": "import torch",
        "load_s": f"import cdanalysis; cdanalysis.load({model!r})",
    }
    clock = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    wanted |= {f"{count}_workers_s": _WORKERS.format(model, count) for count in (1, 1 + FURTHER)}
    found = {name: min(float(run_python("-c", clock.format(what))) for _ in range(3)) for name, what in wanted.items()}
    first, all_workers = found.pop("1_workers_s"), found.pop(f"{1 + FURTHER}_workers_s")
    found["further_worker_s"] = (all_workers - first) / FURTHER
    return {**found, "help_s": min(timed(lambda: run_python("-m", "cdanalysis.cli", "--help")) for _ in range(3))}


def load_once(model: str, number: int) -> int:
    """What a worker does before its first photograph."""
    load(model)
    return number


def memory(
    model: str, megapixels: Sequence[float] = LARGE, verbs: Sequence[str] = ("encode", "decode", "analyze")
) -> dict[str, list[dict[str, float]]]:
    """The peak of memory, in MiB, of processes that load a model and do one thing with one photograph.

    The first row is of a photograph of 768 x 512; the others of 3:2. In ``loaded_mib`` nothing is done.

    Args:
        model: name or folder.
        verbs: what is done, each in a process of its own; the first writes the stream that the others read.

    Raises:
        ValueError: where the system does not tell.
    """
    if not STATUS.exists():
        raise ValueError("peaks of memory are read from /proc/self/status, which is not here")
    rows, sizes = [], [SIZE, *map(sides, megapixels)]
    with tempfile.TemporaryDirectory() as folder:
        source, stream = Path(folder) / "photograph.png", Path(folder) / "stream.cda"
        for width, height in sizes:
            sample_of_size((width, height)).save(source, compress_level=1)
            row = {"megapixels": round(width * height / 1e6, 2)}
            for verb in verbs:
                peaks = run_python("-c", _PROCESS, model, verb, source, stream).split()
                row |= {"loaded_mib": float(peaks[0]), f"{verb}_mib": float(peaks[1])}
            rows.append(row)
    return {"rows": rows}


_PROCESS = f"""
import re, sys
import cdanalysis as cda
from cdanalysis.photographs.read import open_image
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("{STATUS}").read())[1]) / 1024
name, verb, source, stream = sys.argv[1:]
model = cda.load(name)
loaded = peak()
if verb == "encode":
    open(stream, "wb").write(model.encode(open_image(source), {QUALITY}))
else:
    getattr(model, verb)(open(stream, "rb").read())
print(loaded, peak())
"""


def run_python(*words: object) -> str:
    """What a Python process with these words on its command line prints."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
