from .compressai import CompressAICodec, CompressAIModel
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
    "CompressAICodec",
    "CompressAIModel",
    "LatentBackbone",
    "LatentFCOS",
    "LatentMapper",
    "LatentPanopticFPN",
    "LatentRCNN",
    "LatentRetinaNet",
    "LatentSemanticSegmentor",
    "on_cluster",
]
