"""Metrics of image quality, task accuracy, preferences (2AFC), and rate-distortion curves.

- `image`: `psnr`, `ms_ssim`, `bpp`, `accuracy`, `calibration_error`
- `tasks`: `Scorer`, the protocol; `ClassificationScorer`, `DetectionScorer`, `SegmentationScorer`
- `preferences`: `agreement`, `agreements`, `ceiling`: two-alternative forced choices
- `bjontegaard`: `Curve`, `bd_rate`, `bd_score`, `rate_at`, `rate_difference`, `rate_bound`, and bootstrap
  intervals: `Interval`, `interval`, `resamples`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
