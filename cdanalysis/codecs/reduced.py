"""Any codec on photographs that were made smaller first: what whoever only wants predictions may send as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from .base import Codec


class ReducedCodec(Codec):
    """A codec whose files hold the photograph at a working size; they are decoded to that size.

    Args:
        codec: what makes the files.
        working_size: (height, width) of a photograph to that of what is coded; photographs are never enlarged.
    """

    def __init__(self, codec: Codec, working_size: Callable[[int, int], tuple[int, int]]):
        self.codec, self.working_size = codec, working_size
        self.name, self.max_level = f"{codec.name}, reduced", codec.max_level  # type: ignore[misc]

    def facts(self) -> dict[str, object]:
        """Those of the codec."""
        return self.codec.facts()

    def encode(self, image: Image.Image, level: int) -> bytes:
        """As `Codec.encode`: the file of the reduced photograph, at the codec's level."""
        height, width = self.working_size(image.height, image.width)
        if height * width < image.height * image.width:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return self.codec.encode(image, level)

    def decode(self, data: bytes) -> np.ndarray:
        """As `Codec.decode`: the reduced photograph, uint8 (h, w, 3)."""
        return self.codec.decode(data)
