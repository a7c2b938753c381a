from .importance import Importance, importance_map, quality_offsets_of, saliency_model
from .saliency import Saliency, SpectralResidual, U2NetP

__all__ = [
    "Importance",
    "Saliency",
    "SpectralResidual",
    "U2NetP",
    "importance_map",
    "quality_offsets_of",
    "saliency_model",
]
