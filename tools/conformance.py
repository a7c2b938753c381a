"""Read the golden streams on a machine that adds floats in other ways, and see whether anything changes.

    python tools/conformance.py

Every setting has a process of its own. Writes ``docs/conformance.json`` and the table between the markers of
``docs/format.md``; the status is 1 if a stream is read differently anywhere. Streams are those of ``tests/golden``, or
of another folder that ``tools/golden.py`` wrote: then nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch
from golden import FOLDER, hashes, read

from cdanalysis.files import json_text, write_whole
from cdanalysis.model import Model
from cdanalysis.reports.markdown import fill, table
from cdanalysis.stream.info import inspect
from cdanalysis.zoo import load

ROOT = Path(__file__).parent.parent
SETTINGS: dict[str, dict[str, str]] = {
    "1 thread": {"threads": "1"},
    "2 threads": {"threads": "2"},
    "4 threads": {"threads": "4"},
    "without oneDNN": {"onednn": "0"},
    "oneDNN up to SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "oneDNN up to AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN up to AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "ATen without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "ATen up to AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "both up to AVX2, without oneDNN": {"ATEN_CPU_CAPABILITY": "avx2", "onednn": "0"},
    "batches of 16": {"batch": "16"},
    "under bfloat16 autocast": {"autocast": "1"},
    "matrix products in medium precision": {"products": "medium"},
    "default type bfloat16": {"dtype": "bfloat16"},
}
if torch.cuda.is_available():
    SETTINGS["CUDA"] = {"device": "cuda"}


def check(model: Model, folder: Path, batch: int) -> dict[str, int]:
    """How many golden streams are read otherwise than recorded."""
    record = json.loads((folder / "golden.json").read_text())["streams"]
    otherwise = 0
    for name, known in record.items():
        latents = read(model, (folder / f"{name}.cda").read_bytes(), batch)
        otherwise += any(hashes(one) != known["latents"] for one in latents)
    return {"streams": len(record), "read otherwise": otherwise}


def worker(setting: dict[str, str], name: str, folder: Path) -> None:
    torch.set_num_threads(int(setting.get("threads", 2)))
    torch.set_float32_matmul_precision(setting.get("products", "highest"))
    torch.set_default_dtype(getattr(torch, setting.get("dtype", "float32")))
    model = load(name, setting.get("device", "cpu"))
    with (
        torch.backends.mkldnn.flags(enabled=setting.get("onednn") != "0"),
        torch.autocast("cpu", torch.bfloat16, enabled="autocast" in setting),
    ):
        print(json_text(check(model, folder, int(setting.get("batch", 1)))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--streams", type=Path, default=FOLDER)
    options = parser.parse_args()
    if options.worker is not None:
        worker(options.worker, options.model, options.streams)
        return 0
    rows = []
    for name, setting in SETTINGS.items():
        words = [sys.executable, __file__, "--worker", json_text(setting)]
        words += ["--model", options.model, "--streams", str(options.streams)]
        upper = {key: value for key, value in setting.items() if key.isupper()}
        done = subprocess.run(words, env={**os.environ, **upper}, capture_output=True, text=True, check=True)
        rows.append({"setting": name, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], flush=True)
    if options.streams != FOLDER:
        return int(any(row["read otherwise"] for row in rows))
    capability = torch.backends.cpu.get_cpu_capability()
    written = {inspect(path).fingerprint for path in FOLDER.glob("*.cda")}
    facts = f"`python tools/conformance.py`, streams of the weights {' and '.join(sorted(written))}, on "
    facts += f"{platform.machine()} ({capability}), torch {torch.__version__}."
    write_whole(ROOT / "docs" / "conformance.json", json_text({"machine": facts, "settings": rows}, indent=1) + "\n")
    fill(ROOT / "docs" / "format.md", {"conformance": f"{facts}\n\n{table(rows)}"})
    return int(any(row["read otherwise"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
