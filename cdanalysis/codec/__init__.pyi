from .detail import DetailLayer
from .fusion import FusionDecoder
from .global_layer import GlobalLayer
from .layered import LayeredCodec
from .realism import RealismBranch
from .shape import CodecConfig
from .spatial_layer import SpatialLayer

__all__ = [
    "CodecConfig",
    "DetailLayer",
    "FusionDecoder",
    "GlobalLayer",
    "LayeredCodec",
    "RealismBranch",
    "SpatialLayer",
]
