"""Long runs with coverage-guided mutations, by atheris (``pip install atheris``).

    python tools/fuzz/coverage_guided.py runs/fuzz/corpus -max_total_time=3600

Arguments are libFuzzer's. The corpus starts from streams of the model that ships.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cdanalysis.stream", "cdanalysis.codec.entropy.symbols"]):
    from mutations import SECONDS, examine, repaired, streams_of

from skimage import data

from cdanalysis.zoo import load

MODEL = load("photo")


def one_input(case: bytes) -> None:
    """As it is, and with checksums that fit."""
    for stream in (case, repaired(case)):
        verdict = examine(MODEL, stream)
        if verdict.seconds > SECONDS:
            raise TimeoutError(f"{verdict.seconds:.1f} s")


def main() -> None:
    folders = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        for number, stream in enumerate(streams_of(MODEL, [data.astronaut()[100:164, 100:196]])):
            (folder / f"{number}.cda").write_bytes(stream)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
