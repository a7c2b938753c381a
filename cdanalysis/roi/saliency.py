"""Saliency models, which map an image to a map in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

Saliency = Callable[[np.ndarray], np.ndarray]
"""An image, uint8 (H, W, 3), to a map (H, W) in [0, 1]."""


class SpectralResidual:
    """Spectral residual (Hou, Zhang, "Saliency detection: a spectral residual approach", CVPR 2007), by OpenCV.

    Raises:
        ModuleNotFoundError: if OpenCV's contributed modules are not installed (the extra ``saliency``).
    """

    def __init__(self) -> None:
        try:
            import cv2

            self._compute = cv2.saliency.StaticSaliencySpectralResidual.create().computeSaliency
        except (ImportError, AttributeError):
            raise ModuleNotFoundError("spectral-residual saliency needs: pip install 'cdanalysis[saliency]'") from None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) to float32 (H, W) in [0, 1]."""
        known, values = self._compute(np.ascontiguousarray(image[..., ::-1]))
        if not known:
            raise ValueError("OpenCV could not compute a saliency map of the photograph")
        return _stretched(values)


class U2NetP:
    """U2-Net-P, a small network for salient objects, by onnxruntime: Qin and others, "U2-Net: going deeper with nested
    U-structure for salient object detection" (Pattern Recognition 2020).

    Args:
        path: its ONNX file.

    Raises:
        ModuleNotFoundError: if onnxruntime is not installed (the extra ``saliency``).
        ValueError: if the file is not such a network.
    """

    SIDE = 320
    MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def __init__(self, path: str | Path):
        try:
            import onnxruntime
        except ImportError:
            raise ModuleNotFoundError("U2-Net-P needs: pip install 'cdanalysis[saliency]'") from None
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            (entry,) = self.session.get_inputs()
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise ValueError(f"{path} is not an ONNX network that onnxruntime can load: {error}") from None
        if len(entry.shape) != 4 or entry.shape[1] != 3:
            raise ValueError(
                f"{path} is not a saliency network: its input has the shape {entry.shape}, not (N, 3, H, W)"
            )
        self.input = entry.name

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) to float32 (H, W) in [0, 1]."""
        from PIL import Image

        height, width = image.shape[:2]
        small = np.asarray(Image.fromarray(image).resize((self.SIDE, self.SIDE), Image.Resampling.BILINEAR))
        x = (small / max(1, small.max()) - self.MEAN) / self.DEVIATION
        values = self.session.run(None, {self.input: x.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]
        large = Image.fromarray(_stretched(values)).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(large)


class Remembered:
    """A saliency model that caches its maps, in half precision, by image.

    Args:
        saliency: the model.
    """

    def __init__(self, saliency: Saliency):
        self.saliency = saliency
        self.maps: dict[int, np.ndarray] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        key = (image.shape, image.tobytes())
        if hash(key) not in self.maps:
            self.maps[hash(key)] = np.asarray(self.saliency(image), np.float16)
        return self.maps[hash(key)].astype(np.float32)


def _stretched(values: np.ndarray) -> np.ndarray:
    """From 0 to 1; a map without any difference is 1 everywhere."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        return np.ones(values.shape, dtype=np.float32)
    return ((values - low) / (high - low)).astype(np.float32)
