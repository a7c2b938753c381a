"""Observers: values on known pairs, gradients, weights, and that a frozen judge never moves."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error
from torch import nn
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from cdanalysis.observers import (
    LPIPS,
    MSSSIM,
    Adversary,
    Checkerboard,
    FeatureDistance,
    LowPass,
    Observer,
    PatchDiscriminator,
    SquaredError,
    Texture,
    UnitFeatureDistance,
    WassersteinDistortion,
)
from cdanalysis.teachers.imagenet import imagenet_classifier


def images(chelsea, side=192) -> tuple[torch.Tensor, torch.Tensor]:
    """Two photographs and their noisy versions, (2, 3, side, side)."""
    crops = [chelsea[20 : 20 + side, 30 : 30 + side], chelsea[60 : 60 + side, 200 : 200 + side]]
    x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return x, (x + 0.05 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def observers() -> dict[str, Observer]:
    torch.manual_seed(0)
    small = MSSSIM((0.3, 0.7))
    net = imagenet_classifier("tf_efficientnet_lite0")
    half = (0.5, 0.5, 0.5)
    machine = FeatureDistance(net, ["blocks.2", "blocks.4", "conv_head"], half, half)
    unit = UnitFeatureDistance(net, ["blocks.2", "blocks.4"], half, half)
    statistical = WassersteinDistortion(net, ["bn1", "blocks.2"], half, half)
    simple = {"mse": SquaredError(), "ms-ssim": MSSSIM(), "two scales": small, "texture": Texture()}
    simple |= {"checkerboard": Checkerboard(), "low pass": LowPass()}
    return {**simple, "machine": machine, "unit": unit, "wasserstein": statistical}


NAMES = ["mse", "ms-ssim", "two scales", "texture", "checkerboard", "low pass", "machine", "unit", "wasserstein"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_differs_means_nothing(name, observers, chelsea):
    x, y = images(chelsea)
    observer = observers[name]
    same, some = observer(x, x), observer(x, y)
    assert same.shape == (2,) and same.tolist() == pytest.approx([0, 0], abs=1e-5)
    worse = observer(x, (x + 3 * (y - x)).clamp(0, 1))
    assert (some > same).all() and (worse > some).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_reconstruction_and_nothing_else(name, observers, chelsea):
    x, y = images(chelsea)
    observer = observers[name]
    before = {n: t.clone() for n, t in observer.state_dict().items()}
    observer.train()
    x.requires_grad_(), y.requires_grad_()
    for _ in range(2):
        observer(x.detach(), y).sum().backward()
    assert torch.isfinite(y.grad).all() and y.grad.abs().sum() > 0
    assert not observer.training and all(not m.training for m in observer.modules())
    assert all(not p.requires_grad and p.grad is None for p in observer.parameters())
    assert all(torch.equal(t, before[n]) for n, t in observer.state_dict().items())


@pytest.mark.parametrize("name", ["mse", "two scales"])
def test_gradients_are_those_of_finite_differences(name, observers):
    torch.manual_seed(0)
    observer = observers[name]
    x, y = torch.rand(1, 3, 24, 24).double(), torch.rand(1, 3, 24, 24).double().requires_grad_()
    observer(x, y).backward()
    direction = torch.randn_like(x)
    with torch.no_grad():
        difference = (observer(x, y + 1e-5 * direction) - observer(x, y - 1e-5 * direction)).item() / 2e-5
    assert (y.grad * direction).sum().item() == pytest.approx(difference, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_weighted_place_counts(name, observers, chelsea):
    """Damage on the left is not seen by an observer who looks to the right; an even weight changes nothing."""
    x, _ = images(chelsea)
    damaged = x.clone()
    damaged[..., :64] = 1 - damaged[..., :64]
    left, right = torch.zeros(2, 1, *x.shape[-2:]), torch.zeros(2, 1, *x.shape[-2:])
    left[..., :64], right[..., -32:] = 1, 1
    observer = observers[name]
    assert (observer(x, damaged, left) > 5 * observer(x, damaged, right)).all()
    assert torch.allclose(observer(x, damaged, torch.full_like(left, 0.3)), observer(x, damaged), rtol=1e-4)
    for bad in (torch.zeros_like(left), left - 0.5):
        with pytest.raises(ValueError, match="weight"):
            observer(x, damaged, bad)


def test_pixel_observers_are_what_others_measure(observers, chelsea):
    x, y = images(chelsea)
    for i in range(2):
        assert observers["mse"](x, y)[i].item() == pytest.approx(mean_squared_error(x[i].numpy(), y[i].numpy()))
        theirs = multiscale_structural_similarity_index_measure(x[i : i + 1], y[i : i + 1], data_range=1.0)
        assert 1 - observers["ms-ssim"](x, y)[i].item() == pytest.approx(theirs.item(), abs=1e-4)


def test_local_means_see_blotches_of_color_and_hardly_grain():
    """Of equal squared error: a blotch counts most, in a color more than in gray, and grain next to nothing."""
    rng = torch.Generator().manual_seed(5)
    x, blotch = torch.full((1, 3, 96, 96), 0.5), torch.zeros(1, 1, 96, 96)
    blotch[..., 20:60, 30:70] = 0.05
    gray, violet = (blotch * torch.tensor(c)[:, None, None] for c in ((1.0, 1.0, 1.0), (0.5**0.5, -(2**0.5), 0.5**0.5)))
    grain = torch.randn(x.shape, generator=rng) * gray.square().mean().sqrt()
    in_gray, in_violet, fine = (LowPass()(x, x + error).item() for error in (gray, violet, grain))
    assert in_violet == pytest.approx(3 * in_gray, rel=1e-3) and in_gray > 30 * fine
    assert LowPass(chroma=1)(x, x + violet).item() == pytest.approx(in_gray, rel=1e-3)
    for windows, chroma in (((), 3.0), ((7,), 3.0), ((8, 0), 3.0), ((8,), -1.0)):
        with pytest.raises(ValueError, match="windows must be even"):
            LowPass(windows, chroma)
    with pytest.raises(ValueError, match="squares of 32 pixels"):
        LowPass()(x[..., :31, :], x[..., :31, :])


def test_lpips_is_torchmetrics_own(data_root, chelsea):
    pytest.importorskip("lpips", reason="the extra perceptual is not installed")
    from torchmetrics.functional.image.lpips import _LPIPS

    path = data_root / "weights" / "squeezenet1_1.pth"
    ours = LPIPS(path)
    theirs = _LPIPS(net="squeeze", pretrained=True, pnet_rand=True)
    weights = torch.load(path, weights_only=True)
    for part in theirs.net.slices:
        for name, layer in part.named_children():
            state = {k.split(".", 2)[2]: v for k, v in weights.items() if k.startswith(f"features.{name}.")}
            layer.load_state_dict(state)
    x, y = images(chelsea, 96)
    # They average each layer over its own grid, we over the picture after enlarging it: alike, not equal.
    assert ours(x, x).tolist() == pytest.approx([0, 0], abs=1e-6)
    expected = theirs(x, y, normalize=True).flatten()
    assert ours(x, y).tolist() == pytest.approx(expected.tolist(), rel=0.05)
    y.requires_grad_()
    ours(x, y).sum().backward()
    assert y.grad.abs().sum() > 0 and all(p.grad is None for p in ours.parameters())


def test_missing_or_wrong_weights_say_so(tmp_path):
    pytest.importorskip("lpips", reason="the extra perceptual is not installed")
    with pytest.raises(FileNotFoundError, match="no SqueezeNet weights"):
        LPIPS(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match="does not hold"):
        LPIPS(tmp_path / "wrong.pth")


def test_a_layer_that_is_not_there_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ValueError, match=r"no layer 'fc'; it has, among others: .*0"):
        FeatureDistance(net, ["fc"])


def test_small_pictures_are_refused_by_ms_ssim(observers):
    with pytest.raises(ValueError, match="at least 176 pixels"):
        observers["ms-ssim"](torch.rand(1, 3, 100, 200), torch.rand(1, 3, 100, 200))


@pytest.mark.parametrize("loss", ["hinge", "non_saturating"])
def test_an_adversary_learns_and_teaches(loss, chelsea):
    """The discriminator learns to tell the noisy pictures; its judgment has gradients for them, not for itself."""
    torch.manual_seed(0)
    x, y = images(chelsea, 96)
    semantic = torch.randn(2, 8, 6, 6)
    adversary = Adversary(PatchDiscriminator(8, width=16), loss)
    optimizer = torch.optim.Adam(adversary.parameters(), lr=5e-4, betas=(0.5, 0.9))
    losses = []
    for _ in range(40):
        fake = y.clone().requires_grad_()
        loss = adversary.loss_of_its_own(x, fake, semantic)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        losses.append(loss.detach().mean().item())
        assert loss.shape == (2,) and fake.grad is None
    assert max(losses[-5:]) < losses[0]
    optimizer.zero_grad(set_to_none=True)
    fake = y.clone().requires_grad_()
    judged = adversary(fake, semantic)
    judged.sum().backward()
    assert judged.shape == (2,) and (judged > adversary(x, semantic)).all()
    assert fake.grad.abs().sum() > 0 and all(p.grad is None for p in adversary.parameters())
    assert all(p.requires_grad for p in adversary.discriminator.parameters())
    weight = torch.zeros(2, 1, 12, 12)
    weight[..., :4, :4] = 1
    assert not torch.allclose(adversary(fake, semantic, weight), judged)
    with pytest.raises(ValueError, match="hinge, non_saturating"):
        Adversary(PatchDiscriminator(8), "wasserstein")


class Interrupted(nn.Module):
    """A layer in whose middle another thread looks at other images through the whole network."""

    def __init__(self):
        super().__init__()
        self.net: list[nn.Module] = []
        self.other: torch.Tensor | None = None

    def forward(self, x):
        other, self.other = self.other, None
        if other is not None:
            thread = threading.Thread(target=self.net[0], args=(other,))
            thread.start()
            thread.join()
        return x


def test_another_thread_may_use_the_network_meanwhile(chelsea):
    interrupted = Interrupted()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), interrupted, nn.Conv2d(4, 4, 3))
    interrupted.net.append(net)
    observer, (x, y) = UnitFeatureDistance(net, ["0", "2"]), images(chelsea, 64)
    alone = observer(x, y)
    interrupted.other = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(observer(x, y), alone, rtol=0, atol=0)
    assert interrupted.other is None
