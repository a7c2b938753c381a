"""PicoDet-S, a second opinion on boxes (Yu and others: "PP-PicoDet", 2021), by onnxruntime.

Only asked in training: what two detectors say of a photograph together is more than either's word.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.images import data_path
from .nanodet import BINS, STRIDES, boxes_around, cell_corners

MEAN, DEVIATION = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)


class PicoDet:
    """PicoDet-S from its published graph of one photograph, 416 x 416; Apache-2.0 (PaddleDetection).

    Args:
        path: its ONNX file, absolute or below ``CDANALYSIS_DATA``.

    Raises:
        FileNotFoundError: if there is no such file.
        ModuleNotFoundError: where onnxruntime is not installed.
        ValueError: if the file holds no such network.
    """

    WEIGHTS = "weights/picodet_s_416_coco.onnx"
    SIDE = 416
    CLASSES = 80

    def __init__(self, path: str | Path = WEIGHTS):
        try:
            import onnxruntime
        except ImportError:
            raise ModuleNotFoundError("PicoDet needs: pip install 'cdanalysis[teachers]'") from None
        file = data_path(str(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # the published graph lists its weights among its inputs: a page of warnings
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            entry, outputs = self.session.get_inputs()[0], self.session.get_outputs()
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise ValueError(f"{path} is no network that onnxruntime reads: {error}") from None
        self.input, names = entry.name, {tuple(output.shape): output.name for output in outputs}
        self.scores, self.sides = (
            [names.get((1, self.rows(stride) ** 2, numbers)) for stride in STRIDES]
            for numbers in (self.CLASSES, 4 * BINS)
        )
        if entry.shape != [1, 3, self.SIDE, self.SIDE] or None in self.scores + self.sides:
            raise ValueError(f"{path} is no PicoDet of {self.CLASSES} classes at {self.SIDE} x {self.SIDE} pixels")

    @classmethod
    def rows(cls, stride: int) -> int:
        """Of the level with that stride; as many as columns."""
        return -(-cls.SIDE // stride)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and boxes, without thresholds, suppression of duplicates or clipping.

        Args:
            pixels: (N, 3, 416, 416) RGB, uint8 or float in 0..255.

        Returns:
            Scores (N, A, 80) in [0, 1] and boxes (N, A, 4), left, top, right, bottom in pixels.

        Raises:
            ValueError: if the pixels have another shape.
        """
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, self.SIDE, self.SIDE):
            raise ValueError(f"PicoDet takes pixels of the shape (N, 3, 416, 416), not {tuple(pixels.shape)}")
        x = pixels.detach().float().cpu().numpy()
        x = (x - MEAN[:, None, None]) / DEVIATION[:, None, None]
        names = [*self.scores, *self.sides]
        answers = [self.session.run(names, {self.input: one[None]}) for one in x]
        if not answers:
            cells = sum(self.rows(stride) ** 2 for stride in STRIDES)
            return torch.empty(0, cells, self.CLASSES), torch.empty(0, cells, 4)
        levels = [torch.from_numpy(np.concatenate(level)) for level in zip(*answers, strict=True)]
        scores, sides = levels[: len(STRIDES)], levels[len(STRIDES) :]
        return torch.cat(scores, 1), self.boxes(sides)

    @classmethod
    def boxes(cls, sides: list[Tensor]) -> Tensor:
        """Logits of sides, for each level (N, cells, 4 * BINS), to boxes around the middles of cells, (N, A, 4)."""
        boxes = []
        for level, stride in zip(sides, STRIDES, strict=True):
            middles = cell_corners([cls.rows(stride)] * 2, stride, level) + stride / 2
            boxes.append(boxes_around(middles, level, stride))
        return torch.cat(boxes, 1)
