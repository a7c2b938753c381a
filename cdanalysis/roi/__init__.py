"""Regions of interest: where the bits of the detail layer go.

- `importance`: `Importance`, all that may name a region; `importance_map`, `quality_offsets_of`, `saliency_model`
- `saliency`: `Saliency`, the interface of saliency models; `SpectralResidual`, `U2NetP`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
