from .base import Codec, level_at, mean_bpp, open_codec
from .compressai import CompressAI
from .ours import ModelCodec, PreviewCodec, SemanticCodec
from .pillow import AVIF, AVIF_PSNR, HEIC, JPEG, JPEG2000, JPEG_XL, WEBP, PillowCodec

__all__ = [
    "AVIF",
    "AVIF_PSNR",
    "HEIC",
    "JPEG",
    "JPEG2000",
    "JPEG_XL",
    "WEBP",
    "Codec",
    "CompressAI",
    "ModelCodec",
    "PillowCodec",
    "PreviewCodec",
    "SemanticCodec",
    "level_at",
    "mean_bpp",
    "open_codec",
]
