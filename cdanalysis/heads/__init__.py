"""Heads: networks from features to predictions. They know strides and channels, no codec.

- `base`: `Head`, the base class
- `classification`: `ClassificationHead`
- `detection`: `DetectionHead`
- `nanodet`: NanoDet-Plus's head, where the teacher's own learns on
- `torchvision_detectors`: FCOS, RetinaNet, Faster and Mask R-CNN
- `segmentation`: `SegmentationHead`
- `pyramid`: `FeaturePyramid`, equally wide features for the detectors and segmentation
- `fcos`: FCOS with a sparse loss
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
