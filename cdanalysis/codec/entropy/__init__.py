"""Entropy models, the checkerboard partition of their context, CDF tables, and symbols.

- `models`: `ContextModel`, a layer's; `FactorizedPrior`, the hyper-latents'
- `vector`: `VectorModel`, for layers of one cell
- `partition`: `CheckerboardPartition`: which cells each coding pass takes
- `tables`: `gaussian_cdf_tables`, `logistic_mixture_cdf_tables`
- `symbols`: `SymbolCoder`: latents to the bytes of their layers and back
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
