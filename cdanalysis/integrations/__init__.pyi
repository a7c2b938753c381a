from .detectron2 import (
    LatentBackbone,
    LatentFCOS,
    LatentMapper,
    LatentPanopticFPN,
    LatentRCNN,
    LatentRetinaNet,
    LatentSemanticSegmentor,
)
from .ray import on_cluster

__all__ = [
    "LatentBackbone",
    "LatentFCOS",
    "LatentMapper",
    "LatentPanopticFPN",
    "LatentRCNN",
    "LatentRetinaNet",
    "LatentSemanticSegmentor",
    "on_cluster",
]
