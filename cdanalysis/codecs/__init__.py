"""Image codecs behind one protocol: this library's, Pillow's and CompressAI's.

- `base`: `Codec`, the protocol; `open_codec` by a registered name; `mean_bpp`, `level_at`
- `ours`: `ModelCodec`, `SemanticCodec`, `PreviewCodec`
- `reduced`: `ReducedCodec`, another codec on photographs that were reduced first
- `pillow`: `PillowCodec`: `JPEG`, `WEBP`, `AVIF`, `AVIF_PSNR`, `JPEG2000`, `HEIC`, `JPEG_XL`
- `compressai`: `CompressAI`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
