"""Many files: which there are, what is done to one, and which processes do it.

- `base`: `Work`, what is done to one file
- `work`: `EncodeWork`, `DecodeWork`, `AnalyzeWork` and `InspectWork`, one for each command
- `run`: `jobs_of` lists a command's files, `run_jobs` works on them and gives an `Outcome`; `local_runner` chooses a
  `Runner`
- `index`: `IndexWork` and `index_streams`, which put streams into an archive
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
