from .bjontegaard import Curve, Interval, bd_rate, bd_score, interval, rate_at, rate_bound, rate_difference, resamples
from .image import accuracy, bpp, calibration_error, ms_ssim, psnr
from .preferences import agreement, agreements, ceiling
from .tasks import ClassificationScorer, DetectionScorer, Scorer, SegmentationScorer

__all__ = [
    "ClassificationScorer",
    "Curve",
    "DetectionScorer",
    "Interval",
    "Scorer",
    "SegmentationScorer",
    "accuracy",
    "agreement",
    "agreements",
    "bd_rate",
    "bd_score",
    "bpp",
    "calibration_error",
    "ceiling",
    "interval",
    "ms_ssim",
    "psnr",
    "rate_at",
    "rate_bound",
    "rate_difference",
    "resamples",
]
