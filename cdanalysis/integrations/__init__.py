"""Other libraries' interfaces; each module imports its library, which must be installed.

- `detectron2`: `LatentBackbone`, `LatentMapper`, and detectron2's meta-architectures on latents: `LatentRCNN`,
  `LatentRetinaNet`, `LatentFCOS`, `LatentPanopticFPN`, `LatentSemanticSegmentor`
- `compressai`: `CompressAIModel`, any of CompressAI's networks with heads on its latents, and `CompressAICodec` in it
- `ray`: `on_cluster`, which runs the jobs of `cdanalysis.batch`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
