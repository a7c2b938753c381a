"""Speed, profile, memory and arithmetic, of this library beside its alternatives.

- `speed`: `codec_speed`, `task_speed`, and `growth` with the number and the size of photographs; `least` and `timed`
  measure seconds
- `folders`: `folder_speed`, of the commands on all cores
- `head_training`: `head_speed`, of training on latents beside photographs
- `profile`: `parts`, seconds of each step
- `memory`: `start_costs`, and peak memory
- `macs`: `costs`, multiply-accumulate operations of each step
- `hardware`: `versions`, and the machine, for reports
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
