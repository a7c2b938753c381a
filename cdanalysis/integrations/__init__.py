"""Other libraries' interfaces; each module imports its library, which must be installed.

- `detectron2`: `LatentBackbone`, `LatentMapper`, and detectron2's meta-architectures on latents: `LatentRCNN`,
  `LatentRetinaNet`, `LatentFCOS`, `LatentPanopticFPN`, `LatentSemanticSegmentor`
- `huggingface`: `push_to_hub` and `model_card`; ``hf-hub:owner/name`` as the name of a model
- `onnx`: `export_onnx`, and `write_streams` of what exported encoders give
- `pillow`: `register_pillow`, after which Pillow opens and saves streams
- `compressai`: `CompressAIModel`, any of CompressAI's networks with heads on its latents, and `CompressAICodec` in it
- `ray`: `on_cluster`, which runs the jobs of `cdanalysis.batch`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
