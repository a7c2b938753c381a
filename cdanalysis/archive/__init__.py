"""Archives of streams that can be searched: by vectors, labels and objects, without decoding a pixel.

- `store`: the files of an archive's folder, and `Store`, which writes them
- `vectors`: embeddings as unit vectors of 8 bits a number, and the nearest of them
- `search`: `Archive`, `Match`
- `approximate`: an index by FAISS, for more vectors than are compared one by one
- `sheet`: `match_sheet`, `match_page`: the photographs that were found, on a contact sheet

`cdanalysis.batch.index` fills an archive.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
