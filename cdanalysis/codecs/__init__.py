"""Image codecs behind one protocol: this library's, Pillow's and CompressAI's.

- `base`: `Codec`, the protocol; `open_codec` by a registered name; `mean_bpp`, `level_at`
- `ours`: `ModelCodec`, `BaseLayerCodec`, `PreviewCodec`
- `pillow`: `PillowCodec`: `JPEG`, `WEBP`, `AVIF`, `JPEG2000`, `HEIC`, `JPEG_XL`
- `compressai`: `CompressAI`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
