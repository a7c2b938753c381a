"""Choices between distortions: read, made by construction, learned from, and agreed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, module_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from cdanalysis.codecs.base import open_codec
from cdanalysis.codecs.ours import ModelCodec
from cdanalysis.data.images import ImageSet
from cdanalysis.data.preferences import Preference, read_preferences, write_preferences
from cdanalysis.metrics import image as metrics
from cdanalysis.metrics.preferences import agreement, agreements, ceiling
from cdanalysis.observers import LPIPS, LPIPSComp
from cdanalysis.training.preferences import channel_distances, fit_weights

construct = module_of(ROOT / "tools" / "constructed_preferences.py").construct

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def psnr_metric(original: np.ndarray, distorted: np.ndarray) -> float:
    return -metrics.psnr(original, distorted)


@pytest.fixture
def images(tmp_path, chelsea) -> ImageSet:
    for number in range(3):
        Image.fromarray(chelsea[60 * number :][:140, :160]).save(tmp_path / f"{number}.png")
    return ImageSet(tmp_path)


@pytest.fixture
def squeezenet(tmp_path) -> Path:
    """A SqueezeNet of random weights: what is tested here holds for any."""
    pytest.importorskip("lpips", reason="the extra perceptual is not installed")
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), tmp_path / "squeezenet.pth")
    return tmp_path / "squeezenet.pth"


@pytest.fixture
def constructed(images, tmp_path) -> list[Preference]:
    codecs = [open_codec(name) for name in ("JPEG", "WebP")]
    return construct(images, codecs, psnr_metric, tmp_path / "files", "drawn", each=3, side=120)


def test_the_one_that_was_chosen_has_more_bits_or_the_judges_vote(constructed, images, small, tmp_path):
    groups = {preference.group for preference in constructed}
    assert groups == {"more bits, drawn", "equal bits, drawn"} and len(constructed) >= 12
    assert {preference.share for preference in constructed} == {0.0, 1.0}  # neither side has all the right ones
    for preference in constructed:
        original, a, b = (np.asarray(Image.open(path)) for path in (preference.original, preference.a, preference.b))
        assert original.shape == a.shape == b.shape == (120, 120, 3)
        chosen, other = (a, b) if preference.share else (b, a)
        assert psnr_metric(original, chosen) < psnr_metric(original, other)
    codecs = [open_codec("JPEG"), ModelCodec("ours", small)]
    more = construct(images.every(3), codecs, psnr_metric, tmp_path / "ours", "drawn", each=1, side=120)
    assert all(preference.a.is_file() and preference.b.is_file() for preference in more)


def test_constructed_choices_are_the_same_again(constructed, images, tmp_path):
    codecs = [open_codec(name) for name in ("JPEG", "WebP")]
    again = construct(images, codecs, psnr_metric, tmp_path / "again", "drawn", each=3, side=120)
    assert [(c.share, c.group, c.a.read_bytes()) for c in again] == [
        (c.share, c.group, c.a.read_bytes()) for c in constructed
    ]


def test_choices_are_read_as_they_were_written(constructed, tmp_path):
    write_preferences(tmp_path / "choices.csv", tmp_path, constructed)
    assert read_preferences(tmp_path / "choices.csv", tmp_path) == constructed


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("original,a,b\n", ValueError, "no column 'share'; it needs original, a, b, share"),
        ("original,a,b,share\n", ValueError, "has no rows"),
        ("original,a,b,share\n0.png,1.png,2.png,1.2\n", ValueError, r"line 2: the share must be .* got '1.2'"),
        ("original,a,b,share\n0.png,1.png,2.png,most\n", ValueError, "got 'most'"),
        ("original,a,b,share\n0.png,1.png,2.png,nan\n", ValueError, "got 'nan'"),
        ("original,a,b,share\n0.png,1.png,9.png,0.5\n", FileNotFoundError, "line 2: no such file: .*9.png"),
    ],
)
def test_bad_tables_say_what_is_wrong(images, tmp_path, text, error, says):
    (tmp_path / "choices.csv").write_text(text)
    with pytest.raises(error, match=says):
        read_preferences(tmp_path / "choices.csv", tmp_path)


@given(shares, st.randoms())
def test_nobody_agrees_more_than_the_majority(answers, random):
    said = [random.choice([0.0, 0.5, 1.0]) for _ in answers]
    assert 0.5 - 1e-9 <= ceiling(answers) <= 1 and agreement(said, answers) <= ceiling(answers) + 1e-9
    assert agreement([0.5] * len(answers), answers) == pytest.approx(0.5)


def test_agreement_counts_people():
    assert agreement([1, 0, 1], [0.8, 0.8, 0.0]) == pytest.approx((0.8 + 0.2 + 0.0) / 3)
    assert ceiling([0.8, 0.8, 0.0]) == pytest.approx((0.8 + 0.8 + 1.0) / 3)


def test_a_metric_agrees_with_itself(constructed):
    rows = agreements({"judge": psnr_metric, "contrary": lambda a, b: -psnr_metric(a, b)}, constructed)
    assert [row["metric"] for row in rows] == ["judge", "contrary", "ceiling"]
    for kind in ("more bits, drawn", "equal bits, drawn"):
        assert [row[kind] for row in rows] == [1, 0, 1]


def test_choices_of_different_sizes_are_refused(images, tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "other.png")
    preference = Preference(tmp_path / "0.png", tmp_path / "0.png", tmp_path / "other.png", 1.0)
    with pytest.raises(ValueError, match="not of the size of"):
        agreements({"judge": psnr_metric}, [preference])


def test_fitting_finds_the_weights_behind_the_choices():
    """Of twenty channels three count; judgments of them are learned, and hold for new choices."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.zeros(20)
    hidden[[2, 7, 11]] = torch.tensor([1.0, 3.0, 2.0])
    a, b = (torch.rand(600, 20, generator=generator) ** 2 for _ in range(2))
    chosen = ((a @ hidden) < (b @ hidden)).float()
    start, groups = torch.ones(20), [str(i // 10) for i in range(400)]
    fitted = fit_weights(start, (a[:400], b[:400]), chosen[:400], groups)

    def right(weights: torch.Tensor) -> float:
        return agreement(((a @ weights) < (b @ weights))[400:], chosen[400:])

    assert right(start) < 0.75 and right(fitted) > 0.93
    assert (fitted >= 0).all() and fitted.sum() == pytest.approx(20, rel=1e-4)
    assert set(fitted.topk(3).indices.tolist()) == {2, 7, 11}
    with pytest.raises(ValueError, match=r"five or more groups .*, got 4"):
        fit_weights(start, (a[:40], b[:40]), chosen[:40], groups[:40])


def test_channels_weighted_are_the_distance(squeezenet, constructed, tmp_path):
    observer = LPIPS(squeezenet)
    near, far = channel_distances(observer, constructed[:4])
    assert near.shape == far.shape == (4, observer.linear_weights.numel())
    for number, preference in enumerate(constructed[:4]):
        x, a = (torch.from_numpy(np.asarray(Image.open(p)) / 255).permute(2, 0, 1)[None].float() for p in (
            preference.original, preference.a,
        ))  # fmt: skip
        # The observer enlarges each layer to the picture's size before it takes the mean: alike, not equal.
        assert (near[number] @ observer.linear_weights).item() == pytest.approx(observer(x, a).item(), rel=0.1)
    linear = 2 * observer.linear_weights
    save_file({"linear": linear}, tmp_path / "linear.safetensors")
    doubled = LPIPSComp(tmp_path / "linear.safetensors", squeezenet)
    assert doubled(x, a).item() == pytest.approx(2 * observer(x, a).item(), rel=1e-5)
    assert not any(parameter.requires_grad for parameter in doubled.parameters())


def test_wrong_weights_of_channels_say_so(squeezenet, tmp_path):
    with pytest.raises(FileNotFoundError, match="no channel weights"):
        LPIPSComp(tmp_path / "none.safetensors", squeezenet)
    (tmp_path / "wrong.safetensors").write_bytes(b"none")
    with pytest.raises(ValueError, match="does not hold channel weights"):
        LPIPSComp(tmp_path / "wrong.safetensors", squeezenet)
    save_file({"linear": -torch.ones(3)}, tmp_path / "negative.safetensors")
    with pytest.raises(ValueError, match="at least 0"):
        LPIPSComp(tmp_path / "negative.safetensors", squeezenet)
