from .folders import folder_speed
from .hardware import versions
from .head_training import head_speed
from .macs import costs
from .memory import start_costs
from .profile import parts
from .speed import codec_speed, growth, least, task_speed, timed

__all__ = [
    "codec_speed",
    "costs",
    "folder_speed",
    "growth",
    "head_speed",
    "least",
    "parts",
    "start_costs",
    "task_speed",
    "timed",
    "versions",
]
