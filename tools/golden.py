"""Write the golden streams: small streams of the model that ships, and what is in them.

    python tools/golden.py
    python tools/golden.py --model models/mine --output /tmp/golden

Writes ``*.cda`` and ``golden.json`` to ``tests/golden``. Only a new model, or a new version of the format, is a reason
to do so: as long as neither is there, streams that were written once must be read the same for ever. They are only ever
read again: an encoder is free to write others.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from skimage import data

from cdanalysis import inspect
from cdanalysis.files import json_text, write_whole
from cdanalysis.model import Model
from cdanalysis.stream.container import VERSION
from cdanalysis.structures.latents import SEMANTIC, Latents
from cdanalysis.zoo import load

FOLDER = Path(__file__).parent.parent / "tests" / "golden"


def cases() -> dict[str, dict]:
    """Arguments of `Model.encode` by the streams' names."""
    astronaut, chelsea, coffee = data.astronaut(), data.chelsea(), data.coffee()
    ramp = np.repeat(np.arange(0, 255, 15, dtype=np.uint8)[None, :, None], 33, 0).repeat(3, 2)
    return {
        "all-layers": {"image": astronaut[60:156, 180:308], "quality": 0.5},
        "best": {"image": astronaut[60:124, 180:244], "quality": 1.0},
        "least": {"image": chelsea[100:196, 100:196], "quality": 0.0},
        "global-alone": {"image": astronaut[:300, 100:400], "quality": 0.3, "layers": ("global",)},
        "semantic-alone": {"image": chelsea[20:244, 100:324], "quality": 0.3, "layers": SEMANTIC},
        "three-qualities": {"image": coffee[100:165, 200:299], "quality": (0.9, 0.1, 0.7)},
        "importance": {"image": coffee[100:196, 200:296], "quality": 0.6, "importance": [(20, 20, 40, 40)]},
        "one-pixel": {"image": np.full((1, 1, 3), 77, np.uint8), "quality": 0.5},
        "one-row": {"image": coffee[200:201, :333], "quality": 0.4},
        "ramp": {"image": ramp, "quality": 0.5},
        "flat": {"image": np.full((70, 40, 3), 128, np.uint8), "quality": 0.5},
    }


def hashes(latents: Latents) -> dict[str, str]:
    """SHA-256 of each tensor's integers (int32, little-endian), by its name; those that are not there are left out."""
    names = ("embedding", "spatial", "detail", "hyper", "quality_offsets")
    parts = {name: getattr(latents, name) for name in names}
    return {
        name: hashlib.sha256(np.ascontiguousarray(part.cpu().numpy().astype("<i4")).tobytes()).hexdigest()
        for name, part in parts.items()
        if part is not None
    }


def read(model: Model, stream: bytes, times: int = 1) -> Latents:
    """The latents of all layers that a stream has, read so many times in a batch."""
    return model.to_latents([stream] * times, [layer.name for layer in inspect(stream).layers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="photo")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    model = load(options.model)
    for old in options.output.glob("*.cda"):
        old.unlink()
    record = {"version": VERSION, "fingerprint": model.fingerprint, "streams": {}}
    for name, arguments in cases().items():
        stream = model.encode(**arguments)
        write_whole(options.output / f"{name}.cda", stream)
        record["streams"][name] = {"bytes": len(stream), "latents": hashes(read(model, stream))}
    write_whole(options.output / "golden.json", json_text(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
