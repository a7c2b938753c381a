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
from .huggingface import model_card, push_to_hub
from .onnx import export_onnx, write_streams
from .pillow import register_pillow
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
    "export_onnx",
    "model_card",
    "on_cluster",
    "push_to_hub",
    "register_pillow",
    "write_streams",
]
