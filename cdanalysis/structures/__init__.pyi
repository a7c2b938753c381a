from .features import Features, FeatureSpec
from .latents import Latents, LatentSpec, quality_level, quality_levels, working_size
from .predictions import Classification, Detection, Prediction, Result, Segmentation
from .targets import ClassLabel, Instances, LabelMap, Target

__all__ = [
    "ClassLabel",
    "Classification",
    "Detection",
    "FeatureSpec",
    "Features",
    "Instances",
    "LabelMap",
    "LatentSpec",
    "Latents",
    "Prediction",
    "Result",
    "Segmentation",
    "Target",
    "quality_level",
    "quality_levels",
    "working_size",
]
