from .base import Head
from .classification import ClassificationHead
from .detection import DetectionHead
from .segmentation import SegmentationHead

__all__ = [
    "ClassificationHead",
    "DetectionHead",
    "Head",
    "SegmentationHead",
]
