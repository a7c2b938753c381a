"""Types that codec, stream, heads and data sets share.

- `latents`: `Latents`, `LatentSpec`; `quality_level`, `quality_levels`, `working_size`
- `features`: `Features`, which heads read; `FeatureSpec`
- `predictions`: `Prediction`: `Classification`, `Detection`, `Segmentation`; `Result`, of all tasks
- `drawing`: what predictions draw on pictures, and show in notebooks
- `targets`: `Target`: `ClassLabel`, `Instances`, `LabelMap`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
