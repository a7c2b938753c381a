"""A page to try the library on, in a browser; needs the extra ``app``.

- `view`: `Photograph` and `View`, what the page shows of a photograph; without Gradio
- `page`: `new_page`, the page itself, by Gradio; ``cdanalysis app`` opens it
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
