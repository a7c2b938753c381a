"""Damage streams a hundred thousand times, and count what becomes of them.

    python tools/fuzz/run.py

Every third case has checksums that fit, so that the entropy decoder and the heads see the damage. Writes
``docs/fuzz.json``. A case that crashes, hangs (a verb takes over a second), or reads a damaged stream whose checksums
nobody mended, ends the run with status 1, and the stream lies in ``runs/fuzz``.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import SECONDS, examine, mutated, peak_mib, repaired, streams_of
from rich.progress import track
from skimage import data

from cdanalysis.benchmarks.hardware import hardware
from cdanalysis.files import json_text, write_whole
from cdanalysis.zoo import load

ROOT = Path(__file__).parent.parent.parent
SIZES = (64, 96)
"""Of the windows that streams are made of: (height, width) in pixels."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", default=str(ROOT / "docs" / "fuzz.json"))
    options = parser.parse_args()
    model = load("photo")
    height, width = SIZES
    windows = [image[100 : 100 + height, 100 : 100 + width] for image in (data.astronaut(), data.coffee())]
    streams = streams_of(model, windows)
    examine(model, streams[0])  # what is made once does not count
    counts, bad, slowest, before, started = Counter(), [], 0.0, peak_mib(), time.monotonic()
    for number in track(range(options.cases), description="damaged streams"):
        rng = np.random.default_rng([options.seed, number])
        original, other = (streams[i] for i in rng.choice(len(streams), 2, replace=False))
        damaged, mended = mutated(rng, original, other), number % 3 == 0
        case = repaired(damaged) if mended else damaged
        if case in streams:
            counts["as it was"] += 1
            continue
        try:
            verdict = examine(model, case)
        except Exception as error:
            bad.append((number, f"{type(error).__name__}: {error}", case))
            continue
        slowest = max(slowest, verdict.seconds)
        if verdict.seconds > SECONDS:
            bad.append((number, f"{verdict.seconds:.1f} s", case))
        elif not verdict.refused and not mended and not _is_cut(case, streams):
            bad.append((number, "read, and nobody had mended it", case))
        counts[re.sub(r"fingerprint \w+|\d+", "N", verdict.refused) if verdict.refused else "read"] += 1
    report = {
        "command": f"python tools/fuzz/run.py --cases {options.cases} --seed {options.seed}",
        "hardware": hardware(),
        "fingerprint": model.fingerprint,
        "cases": options.cases,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "slowest_s": round(slowest, 3),
        "peak_mib": {"before": round(before), "after": round(peak_mib())},
        "outcomes": dict(counts.most_common()),
        "bad": [{"case": number, "what": what} for number, what, _ in bad],
    }
    write_whole(options.output, json_text(report, indent=1) + "\n")
    for number, what, case in bad:
        write_whole(ROOT / "runs" / "fuzz" / f"{number}.cda", case)
        print(f"case {number}: {what}", file=sys.stderr)
    print(json_text(report["outcomes"], indent=1))
    return 1 if bad else 0


def _is_cut(case: bytes, streams: list[bytes]) -> bool:
    """Whether a stream was cut right after one of its layers, which is no damage."""
    return any(stream.startswith(case) for stream in streams)


if __name__ == "__main__":
    sys.exit(main())
