"""Measures agree with independent implementations, or with values known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cdanalysis.codecs.pillow import BASELINES
from cdanalysis.metrics import image as metrics


@pytest.fixture
def pair(chelsea):
    noise = np.random.default_rng(0).normal(0, 8, chelsea.shape)
    return chelsea, np.clip(chelsea + noise, 0, 255).astype(np.uint8)


def test_psnr_agrees_with_scikit_image(pair):
    assert metrics.psnr(*pair) == pytest.approx(peak_signal_noise_ratio(*pair), abs=1e-9)
    assert metrics.psnr(pair[0], pair[0]) == float("inf")


def test_ms_ssim_agrees_with_scales_put_together_from_scikit_image(pair):
    """Contrast-structure at four scales, full SSIM at the fifth, with the paper's exponents."""
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].double() for x in pair)
    settings = {
        "channel_axis": 2,
        "data_range": 255,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    product = 1.0
    for scale, weight in enumerate(weights):
        x, y = (t[0].permute(1, 2, 0).numpy() for t in (a, b))
        _, full = structural_similarity(x, y, full=True, **settings)
        if scale < 4:
            full = full / _luminance(x, y)
        product *= np.mean(full[5:-5, 5:-5]) ** weight
        a, b = (torch.nn.functional.avg_pool2d(t, 2) for t in (a, b))
    assert metrics.ms_ssim(*pair) == pytest.approx(product, abs=2e-3)


def _luminance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    mx, my = (np.stack([gaussian_filter(v[..., c], 1.5, truncate=3.5) for c in range(3)], -1) for v in (x, y))
    c1 = (0.01 * 255) ** 2
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1)


def test_ms_ssim_of_small_pictures_is_absent(pair):
    for side in (150, 160, 161, 175):
        assert metrics.ms_ssim(pair[0][:side], pair[1][:side]) is None
    assert metrics.ms_ssim(pair[0][:, :176], pair[0][:, :176]) == pytest.approx(1.0)
    assert metrics.ms_ssim(pair[0], pair[0]) == pytest.approx(1.0)


def test_accuracy_by_hand():
    logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 5.0, 4.0], [1.0, 2.0, 3.0], [9.0, 1.0, 8.0]])
    targets = torch.tensor([0, 2, 2, 2])
    assert metrics.accuracy(logits, targets) == 0.5
    assert metrics.accuracy(logits, targets, top=2) == 1.0
    assert metrics.accuracy(logits, targets, among=[0, 2]) == 0.75


def test_calibration_error_by_hand():
    probabilities = torch.tensor([[0.9, 0.1]] * 10)
    targets = torch.tensor([0] * 6 + [1] * 4)
    assert metrics.calibration_error(probabilities, targets) == pytest.approx(0.3, abs=1e-6)


def test_bpp_counts_the_photographs_pixels():
    assert metrics.bpp(100, 40, 20) == 1.0


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda b: b.name)
def test_baselines_come_as_near_to_a_size_as_they_can(baseline, chelsea):
    if not baseline.available():
        pytest.skip(f"this Pillow has no {baseline.name}")
    image = Image.fromarray(chelsea[60:190, 130:320])
    sizes = {q: len(baseline.encode(image, q)) for q in range(0, 101, 8)}
    for target in (1500, 3000, 6000):
        found = len(baseline.encode_near(image, target, nearest=True))
        assert abs(found - target) <= min(abs(size - target) for size in sizes.values())
    assert baseline.decode(baseline.encode(image, 80)).shape == (130, 190, 3)


def test_psnr_compares_equal_shapes_alone(pair):
    with pytest.raises(ValueError, match="one shape"):
        metrics.psnr(pair[0], pair[1][..., :1])
