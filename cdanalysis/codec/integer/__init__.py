"""The exact integer arithmetic that the parsing of a stream rests on.

- `exact`: `ExactConv2d`, `ExactUpsample`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
