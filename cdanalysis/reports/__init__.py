"""Pages, tables, plots and drawings of what was measured and predicted.

- `study_page`: `study_report`, `report_page`, with a study's best and worst photographs
- `plots`: `study_figure`, `experiment_figure`, `growth_figure`
- `contact_sheet`: `sheet`, `crops_sheet`: pictures side by side
- `heat_maps`: `heat_map`, `bits_picture`: where a stream's bits are spent
- `markdown`: `table`, `fill`: figures in Markdown pages
- `demo`: `run_demo`, for ``cdanalysis demo``
- `pages`: HTML templates
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
