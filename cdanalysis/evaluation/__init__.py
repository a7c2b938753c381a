"""One evaluation engine: photographs, codecs at levels, and evaluators become rows of a table.

- `engine`: `Case`, `Point`, `measure`
- `evaluators`: `Evaluator`, the protocol; `Context`, `new_evaluators`
- `weights`: what of a model's weights rows depend on
- `folder`: `evaluate_folder`, for ``cdanalysis evaluate FOLDER``
- `configs`: `StudyConfig`, `load_study`, `ExperimentConfig`, `load_experiment`
- `study`: `run_study`: rate-accuracy curves of one task on one data set
- `experiment`: `run_experiment`: variants of a model that differ in one thing
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
