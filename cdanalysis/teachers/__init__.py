"""Teachers: frozen, pre-trained networks whose features the stream's semantic layers carry.

Photographs come as RGB in 0..255; each network normalizes them itself. `teacher` makes one by its registered name.

- `base`: `Frozen`, the base class
- `classifier`: `Classifier`, any of timm's networks; EfficientNet-Lite0 by default
- `backbone`: `Backbone`, features of any of timm's networks at strides 8, 16 and 32
- `nanodet`: `NanoDetPlus`, boxes of COCO's 80 classes
- `deeplab`: `DeepLab`, masks of PASCAL VOC's 21 classes
- `imagenet`: `imagenet_classifier`, with ImageNet weights
"""

from __future__ import annotations

from .backbone import Backbone
from .base import Frozen
from .classifier import Classifier
from .deeplab import DeepLab
from .imagenet import imagenet_classifier
from .nanodet import NanoDetPlus

__all__ = ["Backbone", "Classifier", "DeepLab", "Frozen", "NanoDetPlus", "imagenet_classifier"]
