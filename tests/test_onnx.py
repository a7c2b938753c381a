"""What is exported to ONNX gives in onnxruntime what torch gives, at sizes and batches that the export did not see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import new_small_model
from torch import Tensor

import cdanalysis as cda
from cdanalysis.cli import main
from cdanalysis.codec.gains import quality_plane
from cdanalysis.codec.layered import resampled, resized
from cdanalysis.codec.spatial_layer import analysis_inputs
from cdanalysis.codec.tiles import padded
from cdanalysis.heads.base import Head
from cdanalysis.model import Model
from cdanalysis.structures.features import Features
from cdanalysis.structures.latents import LAYERS, Latents
from cdanalysis.teachers.classifier import Classifier

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from cdanalysis.integrations.onnx import (  # noqa: E402
    BATCH,
    DESCRIPTION,
    EXAMPLE,
    PaddedConv2d,
    chosen_parts,
    export_onnx,
    part_names,
    part_of,
    with_fixed_padding,
    write_streams,
)

SIZES = [(1, 96, 64), (3, 128, 160)]
"""Batch, height and width: two of each, and none is that of the example."""
NAMES = {"p8": 0, "p16": 1, "p32": 2, "p64": 3}


class Exported:
    """A model's ONNX files, made when they are first asked for."""

    def __init__(self, model: Model, folder: Path):
        self.model, self.folder = model, folder

    def __call__(self, name: str, **inputs: Tensor | np.ndarray) -> dict[str, np.ndarray]:
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            assert export_onnx(self.model, self.folder, [name]) == [path]
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert [entry.name for entry in session.get_inputs()] == list(inputs)
        assert not [a for entry in session.get_inputs() for a in (entry.shape[0], *entry.shape[2:]) if a in EXAMPLE]
        outputs = [entry.name for entry in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, {k: np.asarray(v) for k, v in inputs.items()}), strict=True))


@pytest.fixture(scope="module")
def exported(three_tasks, tmp_path_factory) -> Exported:
    return Exported(three_tasks, tmp_path_factory.mktemp("onnx"))


def pixels_of(chelsea: np.ndarray, batch: int, height: int, width: int) -> Tensor:
    """Different parts of a photograph, (N, 3, h, w) uint8."""
    crops = [chelsea[20 * n : 20 * n + height, 40 * n : 40 * n + width] for n in range(batch)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def latents_of(model: Model, x: Tensor, levels: tuple[int, ...] = (24, 60, 96)) -> Latents:
    with torch.inference_mode():
        return model.codec.to_latents(x, levels)


def qualities(latents: Latents, layer: int) -> np.ndarray:
    return np.full(len(latents), latents.quality[layer] / 120, np.float32)


def same(ours: np.ndarray, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Equal shapes, and values that are apart by no more than a share of the largest."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()
    assert np.abs(theirs).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_detail_encoder(exported, chelsea, batch, height, width):
    pixels = pixels_of(chelsea, batch, height, width)
    found = exported("encoder_detail", pixels=pixels)
    same(found["latents"], exported.model.codec.analyze(pixels).detail)


@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_classification_from_integers(exported, chelsea, batch, height, width):
    """From what a stream's symbols are to the scores that the model gives."""
    model, latents = exported.model, latents_of(exported.model, pixels_of(chelsea, batch, height, width))
    found = exported("decoder_global", **{"global": latents.embedding, "quality": qualities(latents, 0)})
    features = model.codec.features(latents.up_to("global"))
    same(found["embedding"], features.embedding)
    scores = exported("head_classification", embedding=found["embedding"])["scores"]
    for row, prediction in zip(scores, model.heads["classification"].predict(features), strict=True):
        classes = model.heads["classification"].classes
        assert {classes[i]: pytest.approx(s, abs=1e-5) for i, s in enumerate(row)} == dict(prediction.top5)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_global_encoder(exported, chelsea, batch, height, width):
    pixels, codec = pixels_of(chelsea, batch, height, width), exported.model.codec
    found = exported("encoder_global", pixels=pixels)
    same(found["latents"], codec.classifier(pixels))


@pytest.mark.parametrize("size", [(32, 96), (224, 288)])
def test_padding_that_does_not_depend_on_the_size_is_the_same(size):
    teacher = Classifier("tf_efficientnet_lite0")
    fixed, pixels = with_fixed_padding(teacher), torch.rand(2, 3, *size) * 255
    assert sum(isinstance(module, PaddedConv2d) for module in fixed.modules()) == 5
    assert not any(isinstance(module, PaddedConv2d) for module in teacher.modules())
    same(fixed(pixels).detach().numpy(), teacher(pixels), 1e-5)
    plain = Classifier("test_efficientnet")
    assert with_fixed_padding(plain) is plain


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_spatial_encoder(exported, chelsea, batch, height, width):
    pixels, codec = pixels_of(chelsea, batch, height, width), exported.model.codec
    found = exported("encoder_spatial", pixels=pixels)
    same(found["latents"], codec.spatial.g_a(analysis_inputs(codec.detector(pixels))))


def decoded_pyramid(exported: Exported, latents: Latents) -> dict[str, np.ndarray]:
    return exported(
        "decoder_spatial",
        **{
            "global": latents.embedding,
            "spatial": latents.spatial,
            "global_quality": qualities(latents, 0),
            "quality": qualities(latents, 1),
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_spatial_decoder_and_its_heads(exported, chelsea, batch, height, width):
    model, latents = exported.model, latents_of(exported.model, pixels_of(chelsea, batch, height, width))
    found, features = decoded_pyramid(exported, latents), model.codec.features(latents)
    assert list(found) == list(NAMES)
    for name, level in zip(NAMES, features.pyramid, strict=True):
        same(found[name], level)
    with torch.no_grad():
        cells = model.heads["detection"].detector.cells(features.pyramid)
        logits = model.heads["segmentation"](features)
    boxes = exported("head_detection", **found)
    same(boxes["boxes"], cells.boxes())
    same(boxes["scores"], cells.logits.sigmoid())
    inputs = {"embedding": features.embedding, **{name: found[name] for name in ("p8", "p16", "p32")}}
    same(exported("head_segmentation", **inputs)["logits"], logits)


def exported_picture(exported: Exported, latents: Latents) -> np.ndarray:
    like = torch.zeros(1)
    plane = quality_plane(latents.detail_level, like).expand(len(latents), 1, *latents.detail.shape[-2:])
    inputs = {"detail": latents.detail, "quality": plane.contiguous()}
    if exported.model.codec.config.fused:
        inputs["spatial"] = resampled(latents.spatial, latents.size)
    height, width = latents.size
    return exported("decoder_detail", **inputs)["pixels"][..., :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 96, 64), (3, 117, 150)])
@pytest.mark.parametrize("mapped", [False, True])
def test_synthesis(exported, chelsea, batch, height, width, mapped):
    x, codec = pixels_of(chelsea, batch, height, width), exported.model.codec
    offsets = None
    if mapped:
        offsets = torch.randint(0, 5, (batch, 1, -(-height // 32), -(-width // 32)), dtype=torch.int32)
    with torch.inference_mode():
        latents = codec.to_latents(x, (60, 60, 96), quality_offsets=offsets)
        wanted = codec.to_images(latents).numpy()
    found = exported_picture(exported, latents)
    apart = np.abs(found.astype(int) - wanted)
    assert found.dtype == np.uint8 and apart.max() <= 1 and apart.mean() < 1e-3


@pytest.mark.slow
def test_synthesis_of_a_fused_codec(chelsea, tmp_path):
    model = new_small_model(seed=3)
    model.codec.set_fused(True)
    with torch.no_grad():
        for conv in (model.codec.detail.h_s.side, model.codec.synthesis.condition[0]):
            conv.weight.normal_(std=0.1)
    model.eval().requires_grad_(False)
    latents = latents_of(model, pixels_of(chelsea, 2, 75, 101))
    found = exported_picture(Exported(model, tmp_path), latents)
    with torch.inference_mode():
        apart = np.abs(found.astype(int) - model.codec.to_images(latents).numpy())
    assert apart.max() <= 1 and apart.mean() < 1e-3


def analyzed(model: Model, x: Tensor) -> dict[str, np.ndarray]:
    y = model.codec.analyze(x)
    return dict(zip(LAYERS, (y.embedding.numpy(), y.spatial.numpy(), y.detail.numpy()), strict=True))


def encoded(exported: Exported, x: Tensor) -> dict[str, np.ndarray]:
    """What the exported encoders give of photographs (N, 3, H, W)."""
    seen = {
        name: resized(x, exported.model.codec.config.working_size(*x.shape[-2:], number))
        for number, name in enumerate(LAYERS[:2], 1)
    }
    seen["detail"] = (padded(x) * 255).round().to(torch.uint8)
    return {name: exported(f"encoder_{name}", pixels=pixels)["latents"] for name, pixels in seen.items()}


def test_streams_of_what_encoders_give(three_tasks, chelsea):
    """The latents of torch's own encoders give the very streams of `Model.encode`."""
    x = pixels_of(chelsea, 2, 75, 101)
    latents = analyzed(three_tasks, x)
    for count in (1, 2, 3):
        some = {name: latents[name] for name in LAYERS[:count]}
        streams = write_streams(three_tasks, (75, 101), some, (0.2, 0.5, 0.9)[:count])
        assert streams == three_tasks.encode_batch(list(x), (0.2, 0.5, 0.9)[:count], LAYERS[:count])


def test_streams_are_of_weights_as_they_are(chelsea):
    """Also where they were changed behind autograd's back, and streams were written before."""
    model, x = new_small_model(), pixels_of(chelsea, 1, 64, 96)
    before = model.encode(x[0], 0.5)
    model.codec.spatial.context.heads[0].bias.data.add_(0.5)
    (stream,) = write_streams(model, (64, 96), analyzed(model, x), 0.5)
    assert stream == model.encode(x[0], 0.5) != before
    assert model.to_latents([stream]).equals(model.codec.to_latents(x, (60, 60, 60)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: {"spatial": y["spatial"]}, "layers must be the first"),
        (lambda y: y | {"spatial": y["spatial"][..., :-1]}, r"the spatial latents .* have the shape \(N, 8, 4, 6\)"),
        (lambda y: y | {"detail": y["detail"][:1]}, "the detail latents"),
    ],
)
def test_latents_of_another_shape_are_refused(three_tasks, chelsea, change, words):
    latents = analyzed(three_tasks, pixels_of(chelsea, 2, 75, 101))
    with pytest.raises(ValueError, match=words):
        write_streams(three_tasks, (75, 101), change(latents))


@pytest.mark.slow
def test_exported_encoders_write_streams_that_the_model_reads(exported, chelsea):
    model, x = exported.model, pixels_of(chelsea, 1, 75, 101)
    latents = encoded(exported, x)
    for ours, theirs in zip(latents.values(), analyzed(model, x).values(), strict=True):
        same(ours, torch.from_numpy(theirs))
    (stream,) = write_streams(model, (75, 101), latents, 0.7)
    wanted = model.encode(x[0], 0.7)
    assert abs(len(stream) - len(wanted)) <= 0.01 * len(wanted)
    assert torch.allclose(model.embed(stream), model.embed(wanted), atol=1e-2)
    assert np.abs(np.asarray(model.decode(stream), int) - np.asarray(model.decode(wanted))).mean() < 0.1


def test_what_torch_cannot_export_gets_a_sentence_and_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a reason\nof several lines")

    model = new_small_model().train()
    modes = [module.training for module in model.modules()]
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ValueError, match="torch cannot export head_classification: a reason of several lines"):
        export_onnx(model, tmp_path, ["head_classification"])
    assert [module.training for module in model.modules()] == modes and any(modes)


@pytest.mark.slow
def test_what_was_exported_before_is_still_described(three_tasks, tmp_path):
    parts = ["decoder_global", "head_classification"]
    for part in parts:
        export_onnx(three_tasks, tmp_path, [part])
    assert set(json.loads((tmp_path / DESCRIPTION).read_text())["parts"]) == set(parts)
    export_onnx(new_small_model(seed=4).eval(), tmp_path, parts[1:])
    described = json.loads((tmp_path / DESCRIPTION).read_text())["parts"]
    assert set(described) == set(parts[1:]), "files of another model are not this one's parts"


def test_parts_and_groups(three_tasks):
    every = part_names(three_tasks)
    assert every == [
        *(f"{side}_{layer}" for side in ("encoder", "decoder") for layer in LAYERS),
        "head_classification", "head_detection", "head_segmentation",
    ]  # fmt: skip
    assert chosen_parts(three_tasks) == every
    assert chosen_parts(three_tasks, ["head", "decoder_global", "head_detection"]) == [*every[-3:], "decoder_global"]
    with pytest.raises(ValueError, match="unknown part 'synthesis'; there are encoder_global"):
        chosen_parts(three_tasks, ["synthesis"])
    for name in every:
        part = part_of(three_tasks, name)
        assert list(part.inputs) == list(part.takes) == list(part.dynamic) and part.outputs
        assert all(axes[0] is BATCH for axes in part.dynamic.values())
    for name in ("head", "head_counts", "decoder_pixels", "", "x_y"):
        with pytest.raises(ValueError, match=f"unknown part {name!r}; there are encoder_global"):
            part_of(three_tasks, name)


@pytest.mark.parametrize("kind", ["faster_rcnn", "mask_rcnn"])
def test_two_stage_detectors_are_refused_before_anything_is_written(kind, tmp_path):
    model = new_small_model()
    model.heads["detection"] = model.new_head("detection", classes=["cat"], kind=kind, width=64)
    with pytest.raises(ValueError, match=f"a {kind} looks again .* nanodet, fcos or retinanet"):
        export_onnx(model.eval(), tmp_path, ["head_detection"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "convs"), [("fcos", 1), ("retinanet", 4)])
def test_one_stage_detectors_of_torchvision_give_raw_predictions(kind, convs, tmp_path):
    torch.manual_seed(0)
    model = new_small_model()
    options = {"classes": ["cat", "dog"], "kind": kind, "width": 64, "convs": convs}
    model.heads["detection"] = model.new_head("detection", **options)
    exported = Exported(model.eval().requires_grad_(False), tmp_path)
    for batch, height, width in SIZES:
        pyramid = [torch.randn(batch, 96, height // s, width // s) for s in (8, 16, 32)]
        found = exported("head_detection", **dict(zip(("p8", "p16", "p32"), pyramid, strict=True)))
        wanted = model.heads["detection"].detector(pyramid)
        assert set(found) == set(wanted)
        for name, values in found.items():
            same(values, wanted[name])


def test_the_command_exports_and_says_what_there_is(three_tasks_folder, tmp_path, capsys):
    folder = tmp_path / "onnx"
    words = ["export", str(three_tasks_folder), "-o", str(folder), "--parts", "decoder_global"]
    assert main([*words, "--json"]) == 0
    assert [file["file"] for file in json.loads(capsys.readouterr().out)["files"]] == [
        str(folder / "decoder_global.onnx")
    ]
    described = json.loads((folder / DESCRIPTION).read_text())
    model = cda.load(str(three_tasks_folder))
    assert described["fingerprint"] == model.fingerprint and described["working_sizes"] == {"global": 64, "spatial": 96}
    assert described["classes"]["segmentation"] == ["sky", "road", "tree"]
    assert set(described["parts"]) == {"decoder_global"}
    assert set(described["parts"]["decoder_global"]["inputs"]) == {"global", "quality"}
    (folder / "decoder_global.onnx").write_bytes(b"mine")
    assert main(words) == 1 and "has changed since" in capsys.readouterr().err
    assert (folder / "decoder_global.onnx").read_bytes() == b"mine"
    assert main(["export", str(three_tasks_folder), "--parts", "none"]) == 1


def test_a_head_of_another_package_is_exported_by_its_forward():
    class Counts(Head):
        def __init__(self):
            super().__init__()
            self.classes, self.count = ["things"], torch.nn.Linear(96, 1)

        def forward(self, features: Features) -> Tensor:
            return self.count(features.pyramid[3].mean((2, 3)))

    model = new_small_model()
    model.heads["counts"] = Counts()
    part = part_of(model, "head_counts")
    assert list(part.inputs) == ["embedding", *NAMES]
    assert torch.equal(
        part.network(*part.inputs.values()), model.heads["counts"].count(part.inputs["p64"].mean((2, 3)))
    )


@pytest.mark.slow
def test_the_model_that_ships(photo, chelsea, tmp_path):
    """All of its parts, at the size of a photograph: what onnxruntime says of a stream is what the model says."""
    exported = Exported(photo, tmp_path)
    x = torch.from_numpy(chelsea).permute(2, 0, 1)[None].contiguous()
    (stream,) = write_streams(photo, (300, 451), encoded(exported, x), 0.5)
    read, result = photo.to_latents([stream]), photo.analyze(stream)
    assert result.classification.label == photo.analyze(photo.encode(chelsea)).classification.label
    embedding = exported("decoder_global", **{"global": read.embedding, "quality": qualities(read, 0)})["embedding"]
    scores = exported("head_classification", embedding=embedding)["scores"]
    assert photo.heads["classification"].classes[scores[0].argmax()] == result.classification.label
    pyramid = decoded_pyramid(exported, read)
    boxes = exported("head_detection", **pyramid)
    assert boxes["scores"].max() == pytest.approx(float(result.detection.scores.max()), abs=1e-3)
    inputs = {"embedding": embedding, **{name: pyramid[name] for name in ("p8", "p16", "p32")}}
    logits = exported("head_segmentation", **inputs)["logits"]
    with torch.no_grad():
        same(logits, photo.heads["segmentation"](photo.codec.features(read)), 1e-3)
    apart = np.abs(
        exported_picture(exported, read)[0].transpose(1, 2, 0).astype(int) - np.asarray(photo.decode(stream))
    )
    assert apart.max() <= 1
