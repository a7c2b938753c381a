"""Heads for one's own classes: what they start from, how they are validated, and the plain commands and layouts."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cdanalysis.cli import main
from cdanalysis.data.coco_masks import CocoMasks
from cdanalysis.data.labeled import LabeledSource, open_labeled
from cdanalysis.data.layouts import find_layout
from cdanalysis.data.segmentation import LabeledPixels
from cdanalysis.heads.base import Head
from cdanalysis.heads.classification import ClassificationHead, fit_temperature
from cdanalysis.heads.detection import DetectionHead
from cdanalysis.heads.segmentation import SegmentationHead
from cdanalysis.structures.features import STRIDES, Features, FeatureSpec
from cdanalysis.training import plain
from cdanalysis.training.head_data import HeadConfig, training_sets, validation_sets
from cdanalysis.training.head_validation import HeadValidation
from cdanalysis.training.heads import CalibrationConfig, calibrate, prepare_head
from cdanalysis.training.recipe import Recipe, StageConfig, load_recipe
from cdanalysis.training.trainer import Trainer
from cdanalysis.zoo import load

SPEC = FeatureSpec(embedding=6, pyramid=(8, 8, 8, 8), detail=4)
KINDS = {
    "classification": (ClassificationHead, {}),
    "nanodet": (DetectionHead, {"kind": "nanodet"}),
    "fcos": (DetectionHead, {"kind": "fcos", "width": 64}),
    "retinanet": (DetectionHead, {"kind": "retinanet", "width": 64, "convs": 4}),
    "faster_rcnn": (DetectionHead, {"kind": "faster_rcnn", "width": 64}),
    "mask_rcnn": (DetectionHead, {"kind": "mask_rcnn", "width": 64}),
    "segmentation": (SegmentationHead, {"width": 32}),
}


def new_head(kind: str, classes: list[str], seed: int = 0, **changes) -> Head:
    torch.manual_seed(seed)
    made, options = KINDS[kind]
    return made(SPEC, classes, **{**options, **changes}).eval()


def of_class(head: Head, names: list[str]) -> dict[str, torch.Tensor]:
    """The weights of classes' outputs, class by class in the order of the names."""
    state = head.state_dict()
    places = [head.classes.index(name) for name in names]
    return {name: state[name][rows[places]] for name, rows in head.class_rows().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(map(torch.equal, a.values(), b.values()))


def of_no_class(head: Head) -> dict[str, torch.Tensor]:
    rows, found = head.class_rows(), {}
    for name, tensor in head.state_dict().items():
        taken = set(rows[name].flatten().tolist()) if name in rows else set()
        found[name] = tensor[[row for row in range(len(tensor)) if row not in taken]] if tensor.ndim else tensor
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_starts_from_one_of_other_classes(kind):
    """Outputs of shared classes and all other weights are the old head's, those of new classes the new one's own."""
    old, classes = new_head(kind, ["square", "bar", "dot"], 1), ["new", "BAR", "square"]
    head, untouched = (new_head(kind, classes, 2) for _ in "ab")
    kept = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    assert head.start_from(old) == ["BAR", "square"]
    assert same(of_class(head, ["BAR", "square"]), of_class(old, ["bar", "square"]))
    assert same(of_class(head, ["new"]), of_class(untouched, ["new"]))
    assert not same(of_class(head, ["new"]), of_class(old, ["dot"]))
    assert same(of_no_class(head), of_no_class(old)) and same(old.state_dict(), kept)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_with_its_classes_in_another_order_predicts_the_same(kind):
    """All that depends on a class is known to: nothing is confused when classes change places."""
    old = new_head(kind, ["square", "bar", "dot"], 1)
    with torch.no_grad():
        for name, rows in old.class_rows().items():  # a new detector is sure of nothing
            old.state_dict()[name][rows.flatten()] = torch.randn_like(old.state_dict()[name][rows.flatten()])
    head = new_head(kind, ["dot", "square", "bar"], 2)
    assert head.start_from(old) == head.classes
    rng = torch.Generator().manual_seed(3)
    levels = [torch.rand(1, 8, 64 // stride, 64 // stride, generator=rng) for stride in STRIDES]
    features = Features([(64, 64)], torch.rand(1, 6, generator=rng), levels)
    (ours,), (theirs,) = head.predict(features), old.predict(features)
    if kind == "classification":
        assert dict(ours.top5) == pytest.approx(dict(theirs.top5))
    elif kind == "segmentation":
        named = [np.array(p.classes)[p.mask] for p in (ours, theirs)]
        assert (named[0] == named[1]).all() and len(set(named[0].flatten())) > 1
    else:
        rows = [sorted(zip(p.labels, p.scores.tolist(), p.boxes.tolist(), strict=True)) for p in (ours, theirs)]
        assert len(rows[0]) == len(rows[1]) > 3
        for mine, his in zip(*rows, strict=True):
            assert mine[0] == his[0] and mine[1] == pytest.approx(his[1], abs=1e-3)
            assert mine[2] == pytest.approx(his[2], abs=0.1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("segmentation", {"width": 64}), ("segmentation", {})),
        (("fcos", {}), ("nanodet", {})),
        (("fcos", {"convs": 3}), ("fcos", {})),
        (("classification", {}), ("segmentation", {})),
    ],
)
def test_a_head_of_another_kind_or_shape_gives_nothing(old, new):
    head, untouched = (new_head(new[0], ["a", "b"], 1, **new[1]) for _ in "ab")
    assert head.start_from(new_head(old[0], ["a", "c"], 2, **old[1])) is None
    assert same(head.state_dict(), untouched.state_dict())


def test_a_temperature_does_not_pass_to_other_classes():
    old = new_head("classification", ["a", "b"], 1)
    old.temperature.fill_(3.0)
    for classes, temperature in ((["a", "b"], 3.0), (["b", "c"], 1.0)):
        head = new_head("classification", classes, 2)
        head.start_from(old)
        assert head.temperature == temperature


@pytest.mark.parametrize("init", ["model", "noise", "zeros"])
def test_a_recipe_says_what_a_new_head_starts_from(small_folder, init):
    model = load(small_folder)
    config, classes = HeadConfig("classification", init=init), ["dog", "horse"]
    before = model.heads["classification"].classify.weight.clone()
    if init == "zeros":
        with pytest.raises(ValueError, match="init must be one of model, noise"):
            prepare_head(model, config, classes)
        return
    torch.manual_seed(5)
    head = prepare_head(model, config, classes)
    torch.manual_seed(5)
    fresh = model.new_head("classification", classes=classes)
    assert head.classify.weight[1].equal(fresh.classify.weight[1])
    assert head.classify.weight[0].equal({"model": before[1], "noise": fresh.classify.weight[0]}[init])


# -- validation ------------------------------------------------------------------------------------


def recipe_of(folder, small_folder, **head) -> Recipe:
    config = HeadConfig("classification", [LabeledSource(str(folder))], **head)
    stage = StageConfig("labels", ["heads.classification"], head=config, batch=2, lr=0.01, warmup=1)
    return Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")


@given(st.integers(2, 9), st.integers(0, 30))
def test_what_is_held_out_is_the_rest(holdout, seed):
    from cdanalysis.training.head_data import _not_held_out, held_out

    held, rest = held_out(23, holdout, seed), _not_held_out(23, holdout, seed)
    assert sorted(held + rest) == list(range(23)) and 23 // holdout <= len(held) <= 23 // holdout + 1
    assert held != held_out(23, holdout, seed + 1) and held == held_out(23, holdout, seed + holdout)


def test_photographs_to_validate_on_are_not_learned_from(image_folder):
    config = HeadConfig("classification", [LabeledSource(str(image_folder))], holdout=2)
    for seed in (0, 1):
        held, rest = (sets[0].names for sets in (validation_sets(config, seed), training_sets(config, seed)))
        assert len(held) == len(rest) == 2 and not set(held) & set(rest)
    config.val = [LabeledSource(str(image_folder))]
    assert len(validation_sets(config)[0]) == 4 and not validation_sets(HeadConfig(sources=config.sources))
    (image_folder / "horse").mkdir()
    shutil.copy(image_folder / "cat" / "a.png", image_folder / "horse")
    other = HeadConfig("classification", config.sources, val=[LabeledSource(str(image_folder))])
    assert validation_sets(other)
    shutil.copytree(image_folder, image_folder.parent / "two", ignore=shutil.ignore_patterns("horse"))
    other.sources = [LabeledSource(str(image_folder.parent / "two"))]
    with pytest.raises(ValueError, match=r"val: .* has the class 'horse', which the training data do not have"):
        validation_sets(other)


@pytest.mark.parametrize(
    ("scores", "init", "best"),
    [([0.1, 0.9, 0.2, 0.3, 1.0], "noise", 2), ([0.5, 0.3, 0.2, 1.0], "model", 0), ([0.1, 0.3, 0.2, 0.2], "model", 1)],
)
def test_the_best_epoch_is_kept_and_patience_ends_a_stage(
    image_folder, tmp_path, small_folder, monkeypatch, scores, init, best
):
    """A head that knows all classes, because the model does, is scored before it learns."""
    seen, first, given = [], int(init == "noise"), iter(scores)

    def scored(self, head):
        seen.append({name: tensor.clone() for name, tensor in head.state_dict().items()})
        return {"top1": next(given)}

    monkeypatch.setattr(HeadValidation, "scores", scored)
    recipe = recipe_of(image_folder, small_folder, epochs=9, holdout=2, patience=2, init=init)
    trainer, last = Trainer(recipe, tmp_path), best + 2
    assert trainer.run() and len(seen) == last - first + 1
    weight = trainer.model.heads["classification"].classify.weight
    assert weight.equal(seen[best - first]["classify.weight"].half().float())
    assert not weight.equal(seen[-1]["classify.weight"].half().float())
    kept = json.loads((tmp_path / "model" / "metrics.json").read_text())["validation"]["labels"]
    assert kept == trainer.validated["labels"]
    told = (kept["top1"], kept["epoch"], kept["photographs"], kept["held_out"])
    assert told == (scores[best - first], best, 2, True)
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["top1"]) for row in rows] == list(zip(range(first, last + 1), scores, strict=False))


def test_of_equal_epochs_the_last_is_kept():
    """One that was right at once has learned little."""
    validation, head = HeadValidation.__new__(HeadValidation), torch.nn.Linear(1, 1)
    validation.main, validation.best, validation.since = "top1", {}, 0
    for epoch, value in enumerate([None, 0.5, 0.5, None, 0.4], 1):
        head.bias.data.fill_(epoch)
        validation.add(epoch, {"top1": value}, head)
    assert validation.best["epoch"] == 3 == int(validation.best["weights"]["bias"]) and validation.since == 3


@pytest.mark.parametrize(
    ("task", "source"),
    [("classification", "streams"), ("detection", "streams"), ("detection", "features"), ("segmentation", "streams")],
)
def test_a_validation_has_the_scores_of_the_evaluation(world, tmp_path, three_tasks, task, source):
    """What a head is scored while it learns is what `evaluate` says of it."""
    from cdanalysis.evaluation.folder import evaluate_task

    sources = {
        "classification": LabeledSource(str(world / "classes")),
        "detection": LabeledSource(str(world / "pixels" / "images"), str(world / "boxes.json")),
        "segmentation": LabeledSource(str(world / "pixels")),
    }
    labeled, model = open_labeled(task, sources[task]), three_tasks
    head = model.new_head(task, classes=labeled.classes).eval()
    for name, rows in head.class_rows().items():  # whoever is sure of something scores something
        torch.nn.init.normal_(head.state_dict()[name][rows.flatten()], std=0.3)
    config = HeadConfig(task, [sources[task]], input=source, qualities=[0.2, 0.5, 0.9], flip=True, distill=1.0)
    validation = HeadValidation(model, config, [labeled], tmp_path)
    found = validation.scores(head.train())
    assert head.training and len(validation.examples) == 6
    kept, model.heads[task] = model.heads[task], head.eval()
    model.counterparts[task] = head
    try:
        rows = evaluate_task(model, task, labeled, [0.5])["rows"]
    finally:
        model.heads[task] = kept
        del model.counterparts[task]
    expected = rows[1 if source == "streams" else 0]
    assert all(expected[name] == pytest.approx(value, abs=0.02) for name, value in found.items()), (expected, found)


@pytest.mark.parametrize("stop", [3])
def test_a_resumed_validated_head_equals_an_unbroken_one(image_folder, tmp_path, small_folder, stop):
    recipe = recipe_of(image_folder, small_folder, epochs=6, holdout=4, patience=3)
    whole = Trainer(recipe, tmp_path / "whole")
    assert whole.run() and not Trainer(recipe, tmp_path / "pieces").run(stop_after=stop)
    pieces = Trainer(recipe, tmp_path / "pieces")
    assert pieces.run(resume=True) and pieces.validated == whole.validated
    assert same(whole.model.state_dict(), pieces.model.state_dict())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"patience": 2}, "has a patience, and nothing to validate on"),
        ({"val": [LabeledSource("nowhere")]}, "val: no data at nowhere"),
        ({"init": "zeros"}, "init must be one of model, noise"),
        ({"patience": -1}, "patience must be at least 0"),
    ],
)
def test_what_cannot_be_validated_is_said_before_the_first_step(image_folder, tmp_path, small_folder, change, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        Trainer(recipe_of(image_folder, small_folder, **change), tmp_path).run()


# -- calibration -----------------------------------------------------------------------------------


def test_what_is_held_out_calibrates(image_folder, tmp_path, small_folder):
    recipe = recipe_of(image_folder, small_folder, epochs=2, holdout=2)
    trainer = Trainer(recipe, tmp_path)
    trainer.run()
    found = float(load(tmp_path / "model").heads["classification"].temperature)
    held = validation_sets(recipe.stages[0].head)
    assert found == pytest.approx(calibrate(trainer.model, CalibrationConfig(), held), rel=1e-3)  # in half precision
    assert found != 1


@pytest.mark.parametrize("head", [{}, {"holdout": 4}])
def test_what_will_not_be_calibrated_is_said_before_the_first_step(
    image_folder, tmp_path, small_folder, monkeypatch, caplog, head
):
    said = []
    step = Trainer._train_step
    monkeypatch.setattr(Trainer, "_train_step", lambda *words: (said.append(caplog.text), step(*words))[1])
    with caplog.at_level(logging.WARNING):
        Trainer(recipe_of(image_folder, small_folder, epochs=1, **head), tmp_path).run()
    assert ("will not be calibrated: set calibration.source" in said[0]) == (not head)


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_a_few_photographs_that_are_all_right_do_not_make_scores_certain(count):
    """With a margin of m all N are right: the score that fits is (N + 1) / (N + 2), as Platt has it."""
    margin = 4.0
    logits = torch.tensor([[margin, 0.0]]).repeat(count, 1)
    temperature = fit_temperature(logits, torch.zeros(count, dtype=torch.int64))
    assert temperature == pytest.approx(margin / math.log(count + 1), rel=0.02)


# -- layouts ---------------------------------------------------------------------------------------


def archive(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for item in sorted(folder.iterdir()):
            tar.add(item, arcname=item.name)


def folders(kind: str):
    """Class folders, or images and labels, as they are, or one folder for each split."""

    def build(world: Path, data: Path, splits: tuple[str, ...] = ("",)) -> tuple[str, str]:
        for split in splits:
            shutil.copytree(world / kind, data / split, dirs_exist_ok=True)
        return str(data), ""

    return build


def split_folders(kind: str):
    return lambda world, data: folders(kind)(world, data, ("train", "val"))


def nested(world: Path, data: Path) -> tuple[str, str]:
    return folders("pixels")(world, data, ("mine",))


def splits_with_a_common_listing(world: Path, data: Path) -> tuple[str, str]:
    split_folders("pixels")(world, data)
    (data / "val" / "classes.json").unlink()
    (data / "train" / "classes.json").rename(data / "classes.json")
    return str(data), ""


def listing_beside(world: Path, data: Path) -> tuple[str, str]:
    shutil.copytree(world / "pixels", data / "test")
    (data / "test" / "classes.json").rename(data / "classes.json")
    return str(data / "test"), ""


def archived(kind: str):
    def build(world: Path, data: Path) -> tuple[str, str]:
        archive(world / kind, data / "mine.tar")
        return str(data / "mine.tar"), ""

    return build


def archived_with_its_listing_beside(world: Path, data: Path) -> tuple[str, str]:
    listing_beside(world, data)
    archive(data / "test", data / "test.tar")
    shutil.rmtree(data / "test")
    return str(data / "test.tar"), ""


def archives_of_splits(world: Path, data: Path) -> tuple[str, str]:
    for split in ("train", "val"):
        archive(world / "classes", data / f"{split}.tar")
    return str(data), ""


def images_and_file(world: Path, data: Path) -> tuple[str, str]:
    shutil.copytree(world / "pixels" / "images", data / "images")
    shutil.copy(world / "boxes.json", data / "annotations.json")
    return str(data), ""


def file_named(world: Path, data: Path) -> tuple[str, str]:
    return f"{images_and_file(world, data)[0]}/annotations.json", ""


def archive_and_file(world: Path, data: Path) -> tuple[str, str]:
    archive(world / "pixels" / "images", data / "photographs.tar")
    return str(data / "photographs.tar"), str(world / "boxes.json")


def flat(world: Path, data: Path) -> tuple[str, str]:
    shutil.copytree(world / "pixels" / "images", data, dirs_exist_ok=True)
    shutil.copy(world / "boxes.json", data / "boxes.json")
    return str(data), ""


def as_coco_has_it(world: Path, data: Path) -> tuple[str, str]:
    (data / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        shutil.copytree(world / "pixels" / "images", data / split)
        shutil.copy(world / "boxes.json", data / "annotations" / f"instances_{split}.json")
        (data / "annotations" / f"captions_{split}.json").write_text("{}")
    return str(data), ""


def a_file_in_each_split(world: Path, data: Path) -> tuple[str, str]:
    for split in ("train", "valid"):
        shutil.copytree(world / "pixels" / "images", data / split)
        shutil.copy(world / "boxes.json", data / split / "_annotations.coco.json")
    return str(data), ""


def archives_and_files(world: Path, data: Path) -> tuple[str, str]:
    for split in ("train", "val"):
        archive(world / "pixels" / "images", data / f"{split}.tar")
        shutil.copy(world / "boxes.json", data / f"instances_{split}.json")
    return str(data), ""


CLASSES = {
    "class folders": folders("classes"),
    "class folders, split": split_folders("classes"),
    "archive of class folders": archived("classes"),
    "archives of class folders, split": archives_of_splits,
}
FILES = {
    "images and a COCO file": images_and_file,
    "COCO file named": file_named,
    "archive and a COCO file": archive_and_file,
    "flat": flat,
    "COCO's own, split": as_coco_has_it,
    "a COCO file in each folder, split": a_file_in_each_split,
    "archives and COCO files, split": archives_and_files,
}
MAPS = {
    "label maps": folders("pixels"),
    "label maps, nested": nested,
    "label maps, split": splits_with_a_common_listing,
    "label maps, listing beside": listing_beside,
    "label maps, archive": archived("pixels"),
    "label maps, archive, listing beside": archived_with_its_listing_beside,
}
LAYOUTS = [
    *(("classification", name) for name in CLASSES),
    *(("detection", name) for name in FILES),
    *(("segmentation", name) for name in {**FILES, **MAPS}),
]


def laid_out(world: Path, data: Path, layout: str) -> tuple[str, str]:
    """Put the drawn data into a layout; gives what is named on the command line, and its annotations."""
    data.mkdir()
    return {**CLASSES, **FILES, **MAPS}[layout](world, data)


@pytest.mark.parametrize(("task", "layout"), LAYOUTS)
def test_usual_layouts_are_found(world, tmp_path, task, layout):
    """The same photographs and targets, wherever they lie."""
    if task == "segmentation":  # boxes as masks
        coco = json.loads((world / "boxes.json").read_text())
        for annotation in coco["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        (world / "boxes.json").write_text(json.dumps(coco))
    data, annotations = laid_out(world, tmp_path / "data", layout)
    found = find_layout(task, data, annotations)
    assert (found.val is not None) == layout.endswith("split")
    for source in (found.train, found.val) if found.val else (found.train,):
        labeled = open_labeled(task, source)
        assert len(labeled) == 6 and source.path != ""
        for index in range(6):
            target, kind = labeled[index][1], int(Path(labeled.names[index]).stem) % 2
            if task == "classification":
                assert labeled.classes[target] == ("red", "blue")[kind]
            elif task == "detection":
                assert [labeled.classes[label] for label in target.labels] == [("red", "blue")[kind]]
            else:
                expected = {"b", "rd"[kind]} if layout in MAPS else {"background", ("red", "blue")[kind]}
                assert {labeled.classes[value] for value in target.labels.unique()} == expected


def test_a_class_may_be_called_train(world):
    (world / "classes" / "red").rename(world / "classes" / "train")
    found = find_layout("classification", str(world / "classes"))
    assert found.val is None and open_labeled("classification", found.train).classes == ["blue", "train"]


def test_a_file_of_both_splits_is_not_validated_on(world, tmp_path):
    data, _ = laid_out(world, tmp_path / "data", "images and a COCO file")
    (Path(data) / "annotations.json").rename(Path(data) / "trainval.json")
    assert find_layout("detection", data).val is None
    shutil.copy(Path(data) / "trainval.json", Path(data) / "test.json")
    assert find_layout("detection", data).val is None


@pytest.mark.parametrize(
    ("task", "break_it", "says"),
    [
        ("detection", lambda d: (d / "annotations.json").unlink(), "has no COCO file that says what detection learns"),
        ("segmentation", lambda d: (d / "annotations.json").unlink(), "or label maps"),
        (
            "detection",
            lambda d: [shutil.copy(d / "annotations.json", d / f"{n}.json") for n in "ab"],
            "has several COCO files .*none of which is named train",
        ),
        ("segmentation", lambda d: None, "has boxes, and no masks"),
        ("detection", lambda d: shutil.rmtree(d), "no data at"),
    ],
)
def test_what_is_in_no_layout_is_a_sentence(world, tmp_path, task, break_it, says):
    data, _ = laid_out(world, tmp_path / "data", "images and a COCO file")
    break_it(Path(data))
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        open_labeled(task, find_layout(task, data).train)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("color", [None, "colour", "color", "text", "short", "large"])
def test_colors_and_the_list_of_classes_are_optional_or_a_sentence(world, color):
    path, bad = world / "pixels" / "classes.json", {"text": "red", "short": [1, 2], "large": [0, 0, 256]}
    listed = json.loads(path.read_text())["classes"]
    for described in listed:
        del described["colour"]
        if color:
            described["colour" if color in bad else color] = bad.get(color, [1, 2, 3])
    path.write_text(json.dumps({"classes": listed}))
    if color in bad:
        with pytest.raises(ValueError, match=r"has the color .*; it must be \[red, green, blue\]"):
            LabeledPixels(world / "pixels")
    else:
        assert LabeledPixels(world / "pixels").colors == [(1, 2, 3) if color else (0, 0, 0)] * 3
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no classes\.json in .*pixels, nor beside it: it must list the classes"
    ):
        LabeledPixels(world / "pixels")


def test_masks_are_read_in_the_files_own_classes(world):
    coco = json.loads((world / "boxes.json").read_text())
    x, y, w, h = coco["annotations"][0]["bbox"]
    coco["annotations"][0]["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    coco["annotations"][1]["segmentation"] = None
    (world / "boxes.json").write_text(json.dumps(coco))
    masks = CocoMasks(world / "pixels" / "images", world / "boxes.json")
    assert masks.classes == ["background", "red", "blue"]
    labels = masks.labels(0, (96, 96))
    assert labels[y + 1 : y + h - 1, x + 1 : x + w - 1].min() == 1 and set(np.unique(labels)) == {0, 1}
    assert masks.labels(1, (96, 96)).max() == 0


# -- plain commands --------------------------------------------------------------------------------


def test_a_plain_command_is_its_recipe_with_values_filled_in(world, tmp_path, small_folder):
    data, annotations = str(world / "pixels" / "images"), str(world / "boxes.json")
    recipe = plain.plain_recipe("detection", data, annotations=annotations)
    expected = load_recipe(plain.config_folder() / "detect.yaml")
    expected.name, expected.stages[0].head.sources = "images", [LabeledSource(data, annotations)]
    assert recipe == expected
    options = {"annotations": annotations, "val": data, "val_annotations": annotations, "epochs": 3, "name": "mine"}
    recipe = plain.plain_recipe(
        "detection", data, **options, start="other", overrides=["stages.detection.lr=0.5", "seed=4"]
    )
    head = recipe.stages[0].head
    assert (recipe.name, recipe.init, recipe.seed, recipe.stages[0].lr) == ("mine", "other", 4, 0.5)
    assert head.val == [LabeledSource(data, annotations)] == head.sources and (head.epochs, head.holdout) == (3, 0)
    with pytest.raises(ValueError, match="the nearest known one is 'lr'"):
        plain.plain_recipe("detection", data, annotations=annotations, overrides=["stages.detection.lrr=1"])


@pytest.mark.parametrize("task", plain.RECIPES)
def test_the_recipes_of_plain_commands_are_short_and_in_the_wheel(task, tmp_path, monkeypatch):
    root = Path(__file__).parent.parent
    text = (root / "configs" / plain.RECIPES[task]).read_text()
    assert len(text.splitlines()) <= 24 and not re.search(r"[&*]\w", text)
    assert [stage.name for stage in load_recipe(plain.config_folder() / plain.RECIPES[task]).stages] == [task]
    included = (root / "pyproject.toml").read_text().partition("[tool.hatch.build.targets.wheel.force-include]")[2]
    assert 'configs = "cdanalysis/recipes"' in included.partition("\n\n")[0]
    shutil.copytree(root / "configs", tmp_path / "cdanalysis" / "recipes")  # as it is installed
    monkeypatch.setattr(plain, "__file__", str(tmp_path / "cdanalysis" / "training" / "plain.py"))
    assert (
        plain.config_folder() / plain.RECIPES[task]
    ).read_text() == text and tmp_path in plain.config_folder().parents


def test_a_newcomer_trains_by_one_command(image_folder, tmp_path, small_folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "classification", str(image_folder), "--from", str(small_folder), "--epochs", "2"]
    quick = ["stages.classification.head.holdout=2", "precision=32-true", "workers=0"]
    assert main([*words, *quick]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"classification: top1 [\d.]+ on 2 held-out photographs, from streams of quality 0.3, after epoch \d", said[-2]
    )
    assert said[-1] == f"the model is in {Path('runs', 'photographs', 'model')}"
    model = load(tmp_path / "runs" / "photographs" / "model")
    assert model.heads["classification"].classes == ["cat", "dog"] and model.name == "photographs"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "detection"],
        ["train", "detection", "a", "b"],
        ["train", "recipe.yaml", "--val", "x"],
    ],
)
def test_wrong_words_of_train_are_usage_errors(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_an_extracted_set_is_evaluated_like_its_archive(world, tmp_path, three_tasks_folder, capsys, three_tasks):
    """As CamVid's ``test`` folder, whose classes are listed beside it."""
    listed = json.loads((world / "pixels" / "classes.json").read_text())
    for described, name in zip(listed["classes"], three_tasks.heads["segmentation"].classes, strict=True):
        described["name"] = name
    (world / "classes.json").write_text(json.dumps(listed))
    (world / "pixels" / "classes.json").unlink()
    archive(world / "pixels", world / "pixels.tar")
    reports = []
    for data in (world / "pixels", world / "pixels.tar"):
        words = ["--tasks", "segmentation", "--model", str(three_tasks_folder), "--quality", "0.5", "--json"]
        assert main(["evaluate", str(data), *words]) == 0
        reports.append(json.loads(capsys.readouterr().out)["segmentation"])
    assert reports[0] == reports[1]
    assert Image.open(world / "pixels" / "images" / "0.png").size == (96, 96)
