"""PicoDet-S, a second detector of COCO's classes (Yu and others: "PP-PicoDet", 2021), by onnxruntime.

Used in training only: pseudo-labels that two detectors agree on are better than those of one.
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
    """PicoDet-S, from its published ONNX graph for one photograph of 416x416 pixels; Apache-2.0 (PaddleDetection).

    Args:
        path: its ONNX file, absolute or below ``CDANALYSIS_DATA``.

    Raises:
        FileNotFoundError: if there is no such file.
        ModuleNotFoundError: if onnxruntime is not installed (the extra ``teachers``).
        ValueError: if the file is not this network.
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
            raise ValueError(f"{path} is not an ONNX network that onnxruntime can load: {error}") from None
        self.input, names = entry.name, {tuple(output.shape): output.name for output in outputs}
        self.scores, self.sides = (
            [names.get((1, self.rows(stride) ** 2, numbers)) for stride in STRIDES]
            for numbers in (self.CLASSES, 4 * BINS)
        )
        if entry.shape != [1, 3, self.SIDE, self.SIDE] or None in self.scores + self.sides:
            raise ValueError(f"{path} is not PicoDet for {self.CLASSES} classes and {self.SIDE}x{self.SIDE} pixels")

    @classmethod
    def rows(cls, stride: int) -> int:
        """Rows, and columns, of a level of the pyramid.

        Args:
            stride: of the level.
        """
        return -(-cls.SIDE // stride)

    def detect(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Detect objects, without thresholds, non-maximum suppression or clipping.

        Args:
            pixels: (N, 3, 416, 416) RGB, uint8 or float in 0..255.

        Returns:
            scores (N, A, 80) in [0, 1], and boxes (N, A, 4): left, top, right, bottom in pixels.

        Raises:
            ValueError: if the pixels have another shape.
        """
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, self.SIDE, self.SIDE):
            raise ValueError(f"pixels must have the shape (N, 3, 416, 416), got {tuple(pixels.shape)}")
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
        """Boxes around the centers of cells.

        Args:
            sides: for each level logits (N, cells, 4 * BINS), see `boxes_around`.

        Returns:
            (N, A, 4): left, top, right, bottom in pixels.
        """
        boxes = []
        for level, stride in zip(sides, STRIDES, strict=True):
            middles = cell_corners([cls.rows(stride)] * 2, stride, level) + stride / 2
            boxes.append(boxes_around(middles, level, stride))
        return torch.cat(boxes, 1)
