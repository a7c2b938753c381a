"""Observers that compare pixels: squared error, structural similarity, local means, the decoder's grid, spectra."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Observer, weighted_mean

WINDOW = 11
"""Pixels, each way, of MS-SSIM's window."""
SCALES = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
"""Exponents of its scales, the finest first."""


class SquaredError(Observer):
    """The mean squared error of pixels, in [0, 1].

    >>> import torch
    >>> black = torch.zeros(1, 3, 8, 8)
    >>> SquaredError()(black, black + 0.5)
    tensor([0.2500])
    """

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`."""
        return weighted_mean((original - reconstruction).square(), weight)


class MSSSIM(Observer):
    """1 - MS-SSIM: Wang, Simoncelli, Bovik, "Multiscale structural similarity" (Asilomar 2003).

    Args:
        scales: exponents of the scales, the finest first; by default the paper's. Images must be at least 11 pixels
            wide and high at the coarsest scale.

    >>> image = torch.rand(1, 3, 192, 192)
    >>> bool(MSSSIM()(image, image) < 1e-5)
    True
    """

    window: Tensor

    def __init__(self, scales: tuple[float, ...] = SCALES):
        super().__init__()
        self.scales = scales
        x = torch.arange(float(WINDOW)) - WINDOW // 2
        window = torch.exp(-x.square() / (2 * 1.5**2))
        self.register_buffer("window", window / window.sum(), persistent=False)

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`; in [0, 1].

        Raises:
            ValueError: if the images are too small for the scales.
        """
        least = WINDOW * 2 ** (len(self.scales) - 1)
        if min(original.shape[-2:]) < least:
            raise ValueError(f"MS-SSIM over {len(self.scales)} scales needs sides of at least {least} pixels")
        a, b, product = original, reconstruction, original.new_ones(())
        for number, exponent in enumerate(self.scales):
            contrast, similarity = self._maps(a, b)
            last = number == len(self.scales) - 1
            # A negative mean has no such power, and no meaning: nothing alike is 0.
            product = product * weighted_mean(similarity if last else contrast, weight).clamp_min(1e-6) ** exponent
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        return 1 - product

    def _maps(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(contrast and structure, those times luminance) at every place where the window fits."""
        stacked = torch.cat([a, b, a * a, b * b, a * b])
        mean_a, mean_b, aa, bb, ab = self._blur(stacked).chunk(5)
        first, second = 0.01**2, 0.03**2
        contrast = (2 * (ab - mean_a * mean_b) + second) / (aa - mean_a**2 + bb - mean_b**2 + second)
        return contrast, contrast * (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)

    def _blur(self, x: Tensor) -> Tensor:
        window = self.window.to(x).repeat(x.shape[1], 1, 1, 1)
        x = F.conv2d(x, window.transpose(2, 3), groups=x.shape[1])
        return F.conv2d(x, window, groups=x.shape[1])


class LowPass(Observer):
    """Squared error of local means, in colors as eyes oppose them: blotches and casts.

    Eyes see colors, and how bright a surface is, more coarsely than edges, and there they forgive least (Zhang,
    Wandell, "A spatial extension of CIELAB for digital color image reproduction", 1996), where squared error of single
    pixels hardly counts what is little everywhere.

    Args:
        windows: sides, in pixels, of the squares whose means are compared; squares overlap by half.
        chroma: what an error of color counts, beside one of brightness.

    Raises:
        ValueError: without windows, for odd ones, or for a negative ``chroma``.

    >>> gray = torch.full((1, 3, 32, 32), 0.5)
    >>> checked = gray + 0.1 * (torch.arange(32) % 2 * 2 - 1)
    >>> bool(LowPass()(gray, checked) < 1e-9), bool(LowPass()(gray, gray + 0.1) > 1e-3)
    (True, True)
    """

    opponents: Tensor

    def __init__(self, windows: Sequence[int] = (8, 16, 32), chroma: float = 3.0):
        super().__init__()
        if not windows or any(window < 2 or window % 2 for window in windows) or chroma < 0:
            raise ValueError(f"windows must be even and at least 2 pixels, chroma at least 0: got {windows}, {chroma}")
        self.windows = tuple(windows)
        axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
        axes = axes / axes.norm(dim=1, keepdim=True) * torch.tensor([1.0, chroma, chroma]).sqrt()[:, None]
        self.register_buffer("opponents", axes[:, :, None, None], persistent=False)

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`.

        Raises:
            ValueError: if the images are smaller than a window.
        """
        if min(original.shape[-2:]) < max(self.windows):
            size = tuple(original.shape[-2:])
            raise ValueError(f"means are taken in squares of {max(self.windows)} pixels, got {size}")
        difference = F.conv2d(original - reconstruction, self.opponents.to(original))
        means = (F.avg_pool2d(difference, window, window // 2) for window in self.windows)
        return torch.stack([weighted_mean(mean.square(), weight) for mean in means]).mean(0)


class Checkerboard(Observer):
    """Error of what repeats itself from cell to cell of the decoder's grid, and so lies on it like a weave.

    Where a decoder knows nothing of a surface it draws the same in every cell, and what is the same in every cell has
    the grid's period (Odena, Dumoulin, Olah, "Deconvolution and checkerboard artifacts", 2016), whatever it consists
    of. A weave of little contrast is hardly an error of pixels, and to a recognition network it is a texture like any
    other; eyes see it at once. Over a few cells the mean of each pixel of the grid tells it from grain, which is no
    longer there. Its squared contrast counts beside that of the photograph's surface (Weber's law).

    Args:
        period: of the grid, in pixels: that of the latents, where decoders work on coarser and finer grids.
        cells: over whose square, each way, means are taken; squares overlap by half.
        least: contrast, in [0, 1], below which surfaces count as equally smooth.

    Raises:
        ValueError: for a period or a number of cells below 2.

    >>> weave = torch.zeros(1, 3, 64, 64)
    >>> weave[..., ::8, ::8] = 0.1
    >>> grain = weave.flatten()[torch.randperm(weave.numel())].reshape(weave.shape)
    >>> seen = [Checkerboard()(torch.zeros_like(weave), image) for image in (grain, weave)]
    >>> bool(10 * seen[0] < seen[1])
    True
    """

    def __init__(self, period: int = 16, cells: int = 4, least: float = 2 / 255):
        super().__init__()
        if period < 2 or cells < 2:
            raise ValueError(f"a checkerboard has a period and a number of cells of at least 2: got {period}, {cells}")
        self.period, self.cells, self.least = period, cells, least

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`.

        Raises:
            ValueError: if the images are smaller than the square over which means are taken.
        """
        side = self.period * self.cells
        if min(original.shape[-2:]) < side:
            raise ValueError(f"checkerboards are seen in squares of {side} pixels, got {tuple(original.shape[-2:])}")
        cells, contrast = self._cells(original - reconstruction), self._cells(original).var(2, correction=0)
        pattern = self._around(cells.flatten(1, 2)).unflatten(1, cells.shape[1:3]).var(2, correction=0)
        # By the logarithm, so that an edge in one cell does not excuse a weave in all around it.
        surface = self._around((contrast + self.least**2).log()).exp()
        return weighted_mean(pattern / surface, weight)

    def _cells(self, x: Tensor) -> Tensor:
        """Whole cells of the grid, (N, 3, pixels of a cell, h, w)."""
        height, width = (length // self.period * self.period for length in x.shape[-2:])
        return F.pixel_unshuffle(x[..., :height, :width], self.period).unflatten(1, (-1, self.period**2))

    def _around(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.cells, self.cells // 2)


class Texture(Observer):
    """Squared difference of the logarithms of local power spectra.

    Texture counts as right wherever its grains lie, as by `WassersteinDistortion`; but a weave of few frequencies is no
    grain, though its contrast be the same. By the logarithm (Weber's law), grain in a clear sky is as wrong as a lawn
    without any.

    Args:
        window: side of a square, in pixels, that has a spectrum of its own; squares overlap by half.
        pooled: spectra of so many squares, each way, are averaged (Welch's method), or chance would count as texture.
        least: contrast, in [0, 1], that nobody sees.

    Raises:
        ValueError: for a window below 4 or odd, or fewer than one square.
    """

    waves: Tensor

    def __init__(self, window: int = 16, pooled: int = 4, least: float = 1 / 255):
        super().__init__()
        if window < 4 or window % 2 or pooled < 1:
            raise ValueError(f"the window of textures must be even and at least 4 pixels, of at least one square: "
                             f"got {window} and {pooled}")  # fmt: skip
        self.window, self.pooled, self.least = window, pooled, least
        taper = torch.hann_window(window)
        phases = torch.fft.fft2(torch.eye(window**2).reshape(-1, window, window) * taper[:, None] * taper)
        half = phases[:, :, : window // 2 + 1].flatten(1)[:, 1:] / taper.square().sum()  # the first is no texture
        self.register_buffer("waves", torch.cat([half.real, half.imag], 1), persistent=False)

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`.

        Raises:
            ValueError: if the images are smaller than a window.
        """
        if min(original.shape[-2:]) < self.window:
            raise ValueError(f"textures are seen in squares of {self.window} pixels, got {tuple(original.shape[-2:])}")
        spectra = [self._spectra(image) for image in (original, reconstruction)]
        return weighted_mean((spectra[0] - spectra[1]).square(), weight)

    def _spectra(self, x: Tensor) -> Tensor:
        """Logarithms (N, frequencies, h, w) of amplitudes of waves; white noise has its deviation at each."""
        squares = x.unfold(2, self.window, self.window // 2).unfold(3, self.window, self.window // 2).flatten(4)
        real, imaginary = (squares @ self.waves.to(x)).square().chunk(2, -1)
        power = (real + imaginary).mean(1).permute(0, 3, 1, 2)
        size = min(self.pooled, *power.shape[-2:])
        return (F.avg_pool2d(power, size, max(1, size // 2)) + self.least**2).log() / 2
