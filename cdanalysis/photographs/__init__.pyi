from .color import to_srgb
from .formats import suffixes
from .limits import MAX_PIXELS
from .read import ImageLike, open_image, to_image, to_pixels, to_rgb, to_tensor

__all__ = [
    "MAX_PIXELS",
    "ImageLike",
    "open_image",
    "suffixes",
    "to_image",
    "to_pixels",
    "to_rgb",
    "to_srgb",
    "to_tensor",
]
