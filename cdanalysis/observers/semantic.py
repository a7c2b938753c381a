"""The semantic observers: distances in the features of a recognition network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import get_ident

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Observer, weighted_mean


class Layers(nn.Module):
    """A network, and the outputs of some of its modules.

    Args:
        net: the network; observers freeze it.
        names: of the modules, as ``named_modules`` lists them.

    Raises:
        ValueError: if the network has no such module; the message lists some that it has.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]):
        super().__init__()
        modules = dict(net.named_modules())
        for name in names:
            if name not in modules or not name:
                some = ", ".join(name for name in list(modules)[1:9])
                raise ValueError(f"the network has no layer {name!r}; it has, among others: {some}")
        self.net, self.names = net, tuple(names)
        self._kept: list[tuple[Tensor, bool, dict[str, Tensor]]] | None = None

    def add(self, names: Sequence[str]) -> None:
        """Give the outputs of more modules, too.

        Args:
            names: of the modules, as ``named_modules`` lists them.
        """
        self.names = tuple(dict.fromkeys([*self.names, *names]))

    @contextmanager
    def once(self) -> Iterator[None]:
        """In here, the network looks at the same images once, however many observers ask."""
        self._kept = []
        try:
            yield
        finally:
            self._kept = None

    def forward(self, images: Tensor, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
        """Outputs of the modules.

        Args:
            images: (N, 3, H, W).
            mean: (1, 3, 1, 1), subtracted from the images.
            std: (1, 3, 1, 1), by which they are then divided.

        Returns:
            (N, C, h, w) by the modules' names; an output without places is (N, C, 1, 1).
        """
        learning = torch.is_grad_enabled()
        for seen, learned, found in self._kept or ():
            if seen is images and learned == learning:
                return found
        found = self._outputs((images - mean.to(images)) / std.to(images))
        if self._kept is not None:
            self._kept.append((images, learning, found))
        return found

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        found, asking = dict[str, Tensor](), get_ident()

        def keep(name: str, _module: nn.Module, _inputs: object, out: Tensor) -> None:
            if get_ident() == asking:  # another thread may look at images of its own through the same network
                found[name] = out

        hooks = [self.net.get_submodule(name).register_forward_hook(partial(keep, name)) for name in self.names]
        try:
            self.net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: out if out.ndim == 4 else out.flatten(1)[..., None, None] for name, out in found.items()}


class FeatureDistance(Observer):
    """Squared distance in the features of a network: the machine observer of Weber, Renggli, Grabner, Zhang, "Observer
    dependent lossy image compression" (2019).

    At each layer the squared difference is divided by the mean square of the photograph's own features, so that layers
    have equal weights; the distortion is the mean over layers.

    Args:
        net: a classifier, or a detector's backbone; it is frozen.
        layers: names of the modules whose outputs are compared, as ``named_modules`` lists them.
        mean: per channel, subtracted from pixels in [0, 1]; by default ImageNet's.
        std: per channel, by which they are then divided.

    Raises:
        ValueError: if the network has no such layer; the message lists some that it has.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ):
        super().__init__()
        self.net, self.layers = Layers(net, layers), tuple(layers)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, original: Tensor, reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """As `Observer.forward`."""
        return self.distance(self.wanted(original), reconstruction, weight)

    @torch.no_grad()
    def wanted(self, original: Tensor) -> list[Tensor]:
        """What photographs are compared by: once for all of their reconstructions.

        Args:
            original: (N, 3, H, W) in [0, 1].

        Returns:
            features (N, C, h, w) at each layer.
        """
        return self._features(original)

    def distance(self, wanted: Sequence[Tensor], reconstruction: Tensor, weight: Tensor | None = None) -> Tensor:
        """The distortion, where the photographs' features are known.

        Args:
            wanted: what `wanted` gave for the photographs.
            reconstruction: (N, 3, H, W).
            weight: as `forward` takes it.

        Returns:
            (N,), at least 0.
        """
        distances = [
            weighted_mean(self.between(f, w), weight) / w.square().mean((1, 2, 3)).clamp_min(1e-8)
            for f, w in zip(self._features(reconstruction), wanted, strict=True)
        ]
        return torch.stack(distances).mean(0)

    def between(self, features: Tensor, wanted: Tensor) -> Tensor:
        """Squared distances of a layer's features from those of the photograph.

        Args:
            features: (N, C, h, w), of the reconstruction.
            wanted: (N, C, h, w), of the photograph.

        Returns:
            (N, C, h', w'), at least 0.
        """
        return (features - wanted).square()

    def share(self, net: Layers) -> None:
        """Look through a network of the same weights that other observers have.

        Args:
            net: the network; the outputs of this observer's layers are added to those that it gives.
        """
        net.add(self.layers)
        self.net = net

    def _features(self, x: Tensor) -> list[Tensor]:
        found = self.net(x, self.mean, self.std)
        return [found[layer] for layer in self.layers]


class UnitFeatureDistance(FeatureDistance):
    """Squared distance between features of unit length at every place, the mean over layers: LPIPS (Zhang and others,
    CVPR 2018) without its weights, for networks that have none.

    Arguments and errors are those of `FeatureDistance`.
    """

    def _features(self, x: Tensor) -> list[Tensor]:
        return [F.normalize(f, dim=1) for f in super()._features(x)]


class WassersteinDistortion(FeatureDistance):
    """Squared distance of the local statistics of features, their means and standard deviations: Qiu, Wagner, Balle,
    Theis, "Wasserstein distortion: unifying fidelity and realism" (2023).

    Texture that is like the photograph's counts as right wherever its grains lie; and a mean of all possible textures,
    which squared error prefers, as wrong.

    Args:
        net: a classifier, or a detector's backbone; it is frozen.
        layers: as of `FeatureDistance`.
        mean: as of `FeatureDistance`.
        std: as of `FeatureDistance`.
        window: side of a square, in cells of each layer, over which statistics are taken; squares overlap by half.

    Raises:
        ValueError: as `FeatureDistance`, and for a window below 2.
    """

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        window: int = 8,
    ):
        super().__init__(net, layers, mean, std)
        if window < 2:
            raise ValueError(f"the window of a Wasserstein distortion must be at least 2 cells, got {window}")
        self.window = window

    def between(self, features: Tensor, wanted: Tensor) -> Tensor:
        """As `FeatureDistance.between`, of means and standard deviations."""
        least = 1e-3 * wanted.square().mean((1, 2, 3), keepdim=True) + 1e-12  # so that roots have a slope everywhere
        (mean, deviation), (mean_w, deviation_w) = self._statistics(features, least), self._statistics(wanted, least)
        return (mean - mean_w).square() + (deviation - deviation_w).square()

    def _statistics(self, x: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
        size = min(self.window, *x.shape[-2:])
        mean, square = (F.avg_pool2d(value, size, max(1, size // 2)) for value in (x, x.square()))
        return mean, ((square - mean.square()).clamp_min(0) + least).sqrt()
