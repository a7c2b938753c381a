"""Heads: networks from features to predictions. They know strides and channels, no codec.

- `base`: `Head`, the base class
- `classification`: `ClassificationHead`
- `detection`: `DetectionHead`, torchvision's detectors
- `segmentation`: `SegmentationHead`
- `neck`: latents to the feature pyramid that heads read
- `fcos`: FCOS with a sparse loss
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
