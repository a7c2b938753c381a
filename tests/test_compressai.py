"""CompressAI's networks under this library's heads: what they wrote is what heads read, train on, save and load."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cdanalysis as cda
from cdanalysis.cli import main
from cdanalysis.codec.shape import CodecConfig
from cdanalysis.model_files import FILES, NETWORK
from cdanalysis.stream.container import pack, unpack
from cdanalysis.structures.features import STRIDES
from cdanalysis.structures.latents import working_size
from cdanalysis.training.recipe import Recipe, StageConfig, load_recipe
from cdanalysis.training.trainer import Trainer
from cdanalysis.zoo import load

if "CDANALYSIS_NEEDS_EXTRAS" not in os.environ or sys.version_info >= (3, 13):  # else a missing one is an error
    pytest.importorskip("compressai", reason="CompressAI is not installed")
from compressai import models

from cdanalysis.integrations.compressai import CompressAICodec, CompressAIModel

NETWORKS = {
    "bmshj2018-factorized": lambda: models.FactorizedPrior(8, 12),
    "bmshj2018-hyperprior": lambda: models.ScaleHyperprior(8, 12),
    "mbt2018-mean": lambda: models.MeanScaleHyperprior(8, 12),
    "cheng2020-anchor": lambda: models.Cheng2020Anchor(8),
    "elic2022-official": lambda: models.Elic2022Official(N=8, M=320),
    "mbt2018-mean-vbr": lambda: models.MeanScaleHyperpriorVbr(8, 12),
}
LOUD = 100.0
"""Random transforms say next to nothing; so many times louder, latents take many values."""


def drawn_network(name: str = "bmshj2018-hyperprior", seed: int = 0) -> nn.Module:
    """A small network with random weights whose latents take many values."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = NETWORKS[name]()
        last = [module for module in net.g_a.modules() if isinstance(module, nn.Conv2d)][-1]
        last.weight.data.mul_(LOUD)
    return net


@pytest.fixture(scope="module")
def model() -> CompressAIModel:
    return CompressAIModel.of(drawn_network(), size=96, name="hyperprior")


@pytest.fixture
def published(tmp_path):
    """A file of weights under the names that CompressAI published its own by, which are older than its code."""
    state = drawn_network().state_dict()
    old = {"_matrix": "_matrices.", "_bias": "_biases.", "_factor": "_factors."}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{before}")
        return f"module.{name}"

    path = tmp_path / "bmshj2018-hyperprior-3.pth.tar"
    torch.save({"epoch": 7, "state_dict": {renamed(name): value for name, value in state.items()}}, path)
    assert not set(state) & set(torch.load(path)["state_dict"])
    return path


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_heads_read_what_the_synthesis_would(name, image):
    """y_hat by way of a stream is what CompressAI's own decoder hands to its synthesis, cut to the photograph."""
    model = CompressAIModel.of(drawn_network(name), size=96)
    stream = model.encode(image)
    (height, width), codec = working_size(*image.shape[:2], longer=96), model.codec
    features = model.features(stream, ("global", "spatial", "detail"))
    y_hat = features.detail
    assert codec.architecture == name and y_hat.shape == (1, codec.channels, height // 16, width // 16)
    assert len(y_hat.unique()) > 10
    shapes = [tuple(level.shape[2:]) for level in features.pyramid]
    assert shapes == [(-(-height // s), -(-width // s)) for s in STRIDES]
    assert features.working == (height, width) and features.sizes == [image.shape[:2]]
    spec = codec.feature_spec
    assert tuple(level.shape[1] for level in features.pyramid) == spec.pyramid
    assert features.embedding.shape == (1, spec.embedding) and spec.detail == codec.channels
    # What its own decoder makes of the strings, and what it sees of the padding is not the photograph's.
    seen = codec._seen(torch.from_numpy(image.copy()).permute(2, 0, 1))
    coded = codec.net.compress(seen)
    caught = []
    hook = codec.net.g_s.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].clone()))
    codec.net.decompress([[string[0]] for string in coded["strings"]], coded["shape"])
    hook.remove()
    assert torch.equal(y_hat, caught[0][..., : height // 16, : width // 16])
    strings = [string[0] for string in coded["strings"]]
    (payload,) = [layer.data for layer in unpack(stream).layers if layer.data]
    assert all(string in payload for string in strings)
    assert len(payload) <= sum(map(len, strings)) + 2 * (len(strings) - 1)
    assert len(payload) < len(stream) <= len(payload) + 26  # its bytes are its strings', and a container's


def test_no_synthesis_runs_before_somebody_looks(model, image, monkeypatch):
    stream = model.encode(image)
    monkeypatch.setattr(model.codec.net.g_s, "forward", lambda *_: pytest.fail("the synthesis ran"))
    model.features(stream)
    model.embed(stream)


@torch.no_grad()
def test_latents_are_rounded_features(model, image):
    """Counterparts read y, heads y_hat: half a step apart at most."""
    spec, deviation = model.codec.feature_spec, model.codec.deviation
    apart = model.features(model.encode(image), ("global", "spatial")).pyramid[1]
    apart = (apart - model.reference.features([image]).pyramid[1]) * deviation
    assert apart.shape[1] == spec.pyramid[1] and 0.1 < apart.abs().max() <= 0.5 + 1e-3


def test_standardized_features_have_unit_deviation(model):
    from cdanalysis.data.samples import sample_images

    seen = [model.reference.features([photograph]).pyramid[1] for photograph in sample_images().values()]
    rows = torch.cat([level[0].flatten(1) for level in seen], 1)
    assert rows.mean(1).abs().max() < 1e-3 and rows.std(1).max() < 1 + 1e-3


def test_photographs_of_any_size_come_back(model):
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (20, 300), (97, 64)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        assert model.decode(model.encode(image)).size == (width, height)
    both = model.decode_batch([model.encode(image), model.encode(image.rotate(90, expand=True))])
    assert [picture.size for picture in both] == [(64, 97), (97, 64)]


def test_a_batch_reads_as_its_streams_do(model, chelsea):
    streams = [model.encode(chelsea[top : top + 75, left : left + 101]) for top, left in ((0, 0), (80, 40), (200, 300))]
    streams.append(model.encode(chelsea))
    together = model.embed_batch(streams)
    assert torch.equal(together, torch.stack([model.embed(stream) for stream in streams]))


@pytest.mark.parametrize("quality", [0.0, 1.0, (0.2, 0.4, 0.6)])
def test_a_network_has_one_rate(model, image, quality):
    with pytest.warns(match="has one rate"):
        assert model.encode(image, quality) == model.encode(image)


def test_what_a_network_cannot_do_is_said(model, image):
    for settings in ({"bpp": 0.5}, {"max_bytes": 500}):
        with pytest.raises(ValueError, match="hyperprior has one rate, so it meets no budget"):
            model.encode(image, **settings)
    with pytest.raises(ValueError, match="leave out importance"):
        model.encode(image, importance=[(0, 0, 8, 8)])
    with pytest.raises(ValueError, match="leave out spatial_size"):
        model.encode(image, spatial_size=64)
    with pytest.raises(ValueError, match="coded inside CompressAI"):
        model.to_latents([model.encode(image)])


def test_streams_of_others_are_refused(model, small, image):
    other = CompressAIModel.of(drawn_network(seed=1), size=96)
    wider = CompressAIModel.of(drawn_network(), size=128)
    for stream in (other.encode(image), wider.encode(image), small.encode(image, 0.5)):
        with pytest.raises(cda.StreamError, match="was written by the model with fingerprint"):
            model.features(stream)
    with pytest.raises(cda.StreamError, match="was written by the model with fingerprint"):
        small.features(model.encode(image))


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_strings_cut_short_are_stream_errors(model, image, kept):
    """With checksums that fit: whoever wrote them meant it so."""
    stream = unpack(model.encode(image))
    first, second = stream.layers
    data = second.data[:kept]
    cut = pack(replace(stream, layers=(first, replace(second, data=data, length=len(data)))))
    with pytest.raises(cda.StreamError, match="damaged"):
        model.features(cut)


class NoSynthesis(nn.Module):
    """Whatever has no transforms of these names."""


class Deep(models.FactorizedPrior):
    """y_hat at stride 32."""

    def __init__(self):
        super().__init__(8, 12)
        self.g_a = nn.Sequential(self.g_a, nn.AvgPool2d(2))


class Wordless(models.ScaleHyperprior):
    """A network that can be trained, and writes no strings."""

    def compress(self, x):
        raise NotImplementedError("later")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (NoSynthesis, "NoSynthesis cannot serve as a codec for heads: it has no transforms g_a and g_s"),
        (Deep, "Deep cannot serve as a codec for heads: y_hat has stride 32, not 16"),
        (lambda: Wordless(8, 12), r"Wordless cannot serve .*: it cannot code a picture \(NotImplementedError: later\)"),
    ],
)
def test_networks_that_cannot_serve_are_refused_by_name(made, reason):
    with pytest.raises(ValueError, match=reason):
        CompressAICodec(made())


@pytest.mark.parametrize("size", [0, 100, 2048])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match="a working size is a multiple of 32"):
        CompressAICodec(drawn_network(), size)


def test_published_weights_are_read(published, model, image, tmp_path):
    """From the file's path, also in a recipe's name; under today's names from a folder, where the zoo has the shape."""
    loaded = load(f"compressai:bmshj2018-hyperprior:3:{published}")
    again = CompressAIModel.of("bmshj2018-hyperprior", weights=published, size=96)
    assert loaded.codec.size == 448 and again.fingerprint == model.fingerprint
    assert torch.equal(again.features(model.encode(image)).embedding, model.features(model.encode(image)).embedding)
    with pytest.raises(FileNotFoundError, match=r"bmshj2018-hyperprior-2\.pth"):
        load(f"compressai:bmshj2018-hyperprior:2:{tmp_path}")
    with pytest.raises(ValueError, match="the weights are not those of cheng2020-anchor"):
        load(f"compressai:cheng2020-anchor:3:{published}")
    torch.save({"state_dict": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list.pth holds no state dict"):
        load(f"compressai:bmshj2018-hyperprior:3:{tmp_path / 'list.pth'}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("compressai:hyperprior", "CompressAI's zoo has no network 'hyperprior'; it has bmshj2018-factorized, "),
        ("compressai:bmshj2018-hyperprior:9:random", "CompressAI makes no 'bmshj2018-hyperprior' of quality 9"),
        ("compressai:bmshj2018-hyperprior:best", "is not compressai:NAME:QUALITY"),
    ],
)
def test_names_of_no_network_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason) as error:
        load(name)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_downloaded_are_a_sentence(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("compressai.zoo.image.load_state_dict_from_url", unreachable)
    with pytest.raises(FileNotFoundError, match=r"could not download them \(no route to host\); name a file"):
        load("compressai:bmshj2018-hyperprior:1")


def test_a_saved_model_is_the_same_model(model, image, tmp_path):
    torch.manual_seed(0)
    model.heads["detection"] = model.new_head("detection", classes=["cat"], kind="fcos", width=64).eval()
    try:
        model.save(tmp_path / "saved")
        loaded, stream = load(tmp_path / "saved"), model.encode(image)
        assert loaded.fingerprint == model.fingerprint and loaded.origin == model.fingerprint
        assert loaded.encode(image) == stream  # in whatever layout of memory the other weights are
        first, second = (each.features(stream).pyramid[1] for each in (model, loaded))
        torch.testing.assert_close(first, second, atol=2e-3, rtol=2e-3)  # statistics are saved in half precision
        assert loaded.analyze(stream).detection is not None
        # The network is one file, unrounded, that no half precision touches; another's in its place is found out.
        assert torch.equal(loaded.codec.net.g_a[0].weight, model.codec.net.g_a[0].weight)
        CompressAIModel.of(drawn_network(seed=1), size=96).save(tmp_path / "other")
        (tmp_path / "other" / "codec.safetensors").replace(tmp_path / "saved" / "codec.safetensors")
        with pytest.raises(ValueError, match="does not hold the network that the model was saved with"):
            load(tmp_path / "saved")
    finally:
        del model.heads["detection"]


def test_a_folder_is_passed_on_whole_and_leaves_nothing_behind(model, small, tmp_path):
    """What a hub takes is all that a folder has; the card names the network; another model takes its place."""
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    from cdanalysis.integrations.huggingface import model_card

    model.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert NETWORK in names and names <= set(FILES)
    card = model_card(tmp_path)
    assert f"compressai's {model.codec.architecture}; sees {model.codec.size} pixels" in card
    assert "global layer" not in card
    small.save(tmp_path)
    assert not (tmp_path / NETWORK).exists() and load(tmp_path).fingerprint == small.fingerprint


def test_parts_of_another_librarys_network_are_not_exported(model, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    from cdanalysis.integrations import export_onnx, write_streams

    with pytest.raises(ValueError, match="another library's network, which has no parts to export"):
        export_onnx(model, tmp_path)
    with pytest.raises(ValueError, match="which has no parts to export"):
        write_streams(model, (64, 96), {})


def test_without_compressai_a_saved_model_says_what_to_install(model, tmp_path, monkeypatch):
    model.save(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in (str(tmp_path), "compressai:bmshj2018-hyperprior:3"):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'cdanalysis\[baselines\]'"):
            load(name)


def test_a_class_that_cannot_be_rebuilt_is_not_saved(tmp_path):
    class Own(models.ScaleHyperprior):
        pass

    mine = CompressAIModel.of(Own(8, 12), size=64)
    with pytest.raises(ValueError, match=r"the model is not saved: .*'Own'.*register_model"):
        mine.save(tmp_path / "mine")
    assert not (tmp_path / "mine" / "model.safetensors").exists()


RECIPE = """
name: mine
init: {init}
precision: {precision}
workers: 0
stages:
- name: counterpart
  trains: [counterparts.{task}]
  batch: 3
  warmup: 1
  head: {{task: {task}, input: features, sources: [{source}], epochs: 2, options: {options}}}
- name: head
  trains: [heads.{task}]
  batch: 3
  lr: 0.003
  warmup: 1
  head: {{task: {task}, sources: [{source}], epochs: {epochs}, options: {options}}}
"""
TASKS = {
    "classification": ("{{path: {world}/classes}}", "{}"),
    "detection": ("{{path: {world}/pixels/images, annotations: {world}/boxes.json}}", "{{kind: {kind}, width: 64}}"),
    "segmentation": ("{{path: {world}/pixels}}", "{width: 32}"),
}


@pytest.mark.parametrize(
    ("task", "kind", "precision", "epochs"),
    [
        ("classification", "", "bf16-mixed", 30),
        ("detection", "nanodet", "32-true", 1),
        ("detection", "fcos", "32-true", 1),
        ("segmentation", "", "bf16-mixed", 20),
    ],
)
def test_heads_learn_by_the_same_commands(task, kind, precision, epochs, world, tmp_path, model):
    """On a saved model, by a recipe; what labels and masks are in its own training data it knows in the end."""
    model.save(tmp_path / "start")
    source, options = TASKS[task]
    text = RECIPE.format(
        init=tmp_path / "start", precision=precision, task=task, epochs=epochs,
        source=source.format(world=world), options=options.format(kind=kind) if kind else options,
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(text)
    assert main(["train", str(tmp_path / "recipe.yaml"), "-o", str(tmp_path / "run")]) == 0
    trained = cda.load(str(tmp_path / "run" / "model"))
    assert isinstance(trained, CompressAIModel) and trained.fingerprint == model.fingerprint
    right = 0
    for path in sorted((world / "pixels" / "images").iterdir()):
        result = trained.analyze(trained.encode(path))
        wanted = ("red", "blue")[int(path.stem) % 2]
        if task == "classification":
            right += result.classification.label == wanted
        elif task == "detection":  # in one epoch nobody learns boxes; but they lie in the photograph
            x, y, width, height = result.detection.boxes.T
            right += bool((x >= -1).all() and (y >= -1).all() and (x + width <= 97).all() and (y + height <= 97).all())
        else:
            labels = np.asarray(Image.open(world / "pixels" / "labels" / path.name))
            right += (result.segmentation.mask == labels).mean() > 0.85
    assert right >= 5


def test_training_starts_from_a_name_and_goes_on(published, world, tmp_path):
    """``init: compressai:...``, stopped and resumed; the folder that it leaves needs no other file."""
    source = TASKS["classification"][0].format(world=world)
    text = RECIPE.format(
        init=f"compressai:bmshj2018-hyperprior:3:{published}", precision="32-true", task="classification", epochs=2,
        source=source, options="{}",
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert not Trainer(recipe, tmp_path / "run").run(stop_after=3)
    assert Trainer(recipe, tmp_path / "run").run(resume=True)
    published.unlink()
    trained, out = str(tmp_path / "run" / "model"), tmp_path / "out"
    assert main(["encode", str(world / "classes"), "-o", str(out), "--model", trained]) == 0
    assert len(streams := sorted(map(str, out.rglob("*.cda")))) == 6
    assert main(["analyze", *streams, "--model", trained, "--json"]) == 0
    assert main(["decode", *streams[:1], "-o", str(tmp_path / "decoded"), "--model", trained]) == 0
    assert main(["inspect", *streams]) == 0


def test_a_stage_that_would_train_the_network_is_refused(model, tmp_path):
    stages = [StageConfig(name="pixels", trains=["codec.detail"], steps=1)]
    with pytest.raises(ValueError, match="trains the codec, which is another library's network"):
        Trainer(Recipe(name="mine", stages=stages, codec=CodecConfig()), tmp_path / "run", model)
