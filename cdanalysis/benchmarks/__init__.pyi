from .hardware import versions
from .head_training import head_speed
from .macs import costs
from .memory import start_costs
from .profile import parts
from .speed import codec_speed, growth, label_speed, least, timed

__all__ = [
    "codec_speed",
    "costs",
    "growth",
    "head_speed",
    "label_speed",
    "least",
    "parts",
    "start_costs",
    "timed",
    "versions",
]
