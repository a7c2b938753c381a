"""Teachers: frozen, pre-trained networks whose features the stream's semantic layers carry.

`Classifier` (any timm network; EfficientNet-Lite0 by default), `NanoDetPlus` (boxes of COCO's 80 classes), `DeepLab`
(masks of PASCAL VOC's 21) and `PicoDet` (a second opinion on boxes, asked in training alone). Photographs come as RGB
in 0..255; what a network wants done to them it does itself.
"""

from __future__ import annotations

from .classifier import Classifier
from .deeplab import DeepLab
from .nanodet import NanoDetPlus
from .picodet import PicoDet

__all__ = ["Classifier", "DeepLab", "NanoDetPlus", "PicoDet"]
