"""Single photographs: what can be opened, and how it becomes upright 8-bit sRGB.

- `read`: `open_image`; `ImageLike`: `to_tensor`, `to_pixels`, `to_image`, `to_rgb`
- `formats`: `suffixes` of the image files that can be opened
- `color`: bit depth and color profiles: `to_srgb`
- `limits`: `MAX_PIXELS`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
