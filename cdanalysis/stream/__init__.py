"""The .cda stream: bytes on disk, and symbols to bytes. No network weights needed.

- `container`: `Stream`, `Layer`; `pack`, `unpack`, `strip`
- `info`: `Info`, `inspect`: what a header says
- `errors`: `StreamError`
- `coder`: `SymbolWriter`, `SymbolReader`, `CdfTables`: entropy coding
- `quality_map`: the map of quality offsets
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
