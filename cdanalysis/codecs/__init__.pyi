from .base import Codec, level_at, mean_bpp, open_codec
from .compressai import CompressAI
from .ours import BaseLayerCodec, ModelCodec, PreviewCodec
from .pillow import AVIF, HEIC, JPEG, JPEG2000, JPEG_XL, WEBP, PillowCodec

__all__ = [
    "AVIF",
    "HEIC",
    "JPEG",
    "JPEG2000",
    "JPEG_XL",
    "WEBP",
    "BaseLayerCodec",
    "Codec",
    "CompressAI",
    "ModelCodec",
    "PillowCodec",
    "PreviewCodec",
    "level_at",
    "mean_bpp",
    "open_codec",
]
