from .base import Head
from .classification import ClassificationHead
from .detection import DetectionHead
from .pyramid import FeaturePyramid
from .segmentation import SegmentationHead

__all__ = [
    "ClassificationHead",
    "DetectionHead",
    "FeaturePyramid",
    "Head",
    "SegmentationHead",
]
