"""Training that must not end in silence: caches, what learned nothing, faults that are found before the first step."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import SMALL, new_small_model
from PIL import Image
from safetensors import SafetensorError
from test_training import head_stage, recipe_for, train

import cdanalysis as cda
from cdanalysis.cli import main
from cdanalysis.data.cached import cache_streams, content_key
from cdanalysis.data.crops import Source
from cdanalysis.data.labeled import LabeledSource
from cdanalysis.files import read_tensors
from cdanalysis.notices import InputWarning
from cdanalysis.observers import LPIPS
from cdanalysis.training.auxiliary import AuxiliaryConfig
from cdanalysis.training.head_data import Examples
from cdanalysis.training.losses import StageLoss
from cdanalysis.training.recipe import CalibrationConfig, HeadConfig, Recipe, check_values
from cdanalysis.training.teacher_features import FeatureConfig
from cdanalysis.training.trainer import Trainer
from cdanalysis.zoo import WEIGHTS, load


def painted(folder, colors, side=64):
    """Class folders with one photograph each, both called a.png, of a color each."""
    for name, color in colors.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), color).save(folder / name / "a.png")
    return folder


# -- caches ------------------------------------------------------------------------------------


def embeddings_of(examples: Examples) -> list[torch.Tensor]:
    return [row.features.embedding for row in examples.rows]


def test_streams_are_cached_by_content_and_not_by_name(tmp_path, small):
    """Other sources of the same names, two sources of equal names, a photograph corrected under its name."""

    def examples(*folders):
        config = HeadConfig("classification", [LabeledSource(str(f)) for f in folders])
        return Examples(small, config, tmp_path / "cache")

    def fresh(*folders):
        shutil.rmtree(tmp_path / "cache")
        return embeddings_of(examples(*folders))

    first = painted(tmp_path / "first", {"cold": "blue", "warm": "red"})
    second = painted(tmp_path / "second", {"cold": "green", "warm": "orange"})
    examples(first)
    for folders in ((second,), (first, second), (second, first)):
        found = embeddings_of(examples(*folders))
        assert all(map(torch.equal, found, fresh(*folders))) and len(found) == 2 * len(folders)
    before = embeddings_of(examples(first))
    Image.new("RGB", (64, 64), "yellow").save(first / "warm" / "a.png")
    after = embeddings_of(examples(first))
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    assert torch.equal(after[1], fresh(first)[1])


def test_streams_that_are_there_are_not_made_again(tmp_path, chelsea):
    images, made = [Image.fromarray(chelsea[i : i + 32, :32]) for i in (0, 0, 9)], []

    def encode(group):
        made.extend(group)
        return [content_key(image).encode() for image in group]

    for _ in range(2):
        cached = cache_streams(["a", "a", "b/c"], images.__getitem__, tmp_path, encode)
        assert [cached[i] for i in range(3)] == [content_key(image).encode() for image in images]
    assert len(made) == 2
    cache_streams(["a", "a", "d"], images.__getitem__, tmp_path, encode)
    assert len(made) == 3


def test_content_is_more_than_bytes():
    flat = Image.new("L", (8, 2), 7)
    assert (
        len({content_key(flat), content_key(flat.transpose(Image.Transpose.ROTATE_90)), content_key(flat.convert("P"))})
        == 3
    )


def test_streams_of_other_weights_are_others(image_folder, tmp_path):
    """Of a synthesis network alone, too: a stream names the weights of the whole codec."""
    model, config = new_small_model(), HeadConfig("classification", [LabeledSource(str(image_folder))])
    for name in (
        None,
        "codec.global_layer.g_a.0.weight",
        "codec.spatial.g_a.out.weight",
        "codec.synthesis.stem.weight",
    ):
        if name:
            with torch.no_grad():
                model.get_parameter(name).mul_(1.25)
        examples = Examples(model, config, tmp_path)
        (folder,) = [f for f in tmp_path.iterdir() if f.name.startswith(model.fingerprint)]
        streams = [p.read_bytes() for p in sorted(folder.rglob("*.cda"))]
        assert {cda.inspect(s).fingerprint for s in streams} == {model.fingerprint} and len(examples) == 4


def test_training_again_with_other_photographs_learns_those(tmp_path, small_folder):
    """The same folder, the same names, the labels turned round."""
    for colors in ({"cold": "blue", "warm": "red"}, {"cold": "red", "warm": "blue"}):
        source = painted(tmp_path / "source", colors)
        stage = head_stage(source, ["heads.classification"], epochs=120)
        recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
        assert Trainer(recipe, tmp_path / "run").run()
        model = load(tmp_path / "run" / "model")
        for label, color in colors.items():
            assert model.analyze(model.encode(Image.new("RGB", (64, 64), color))).classification.label == label


# -- after training, in Python -----------------------------------------------------------------


def test_the_trained_model_and_the_saved_one_read_each_others_streams(image_folder, tmp_path, image):
    model = new_small_model()
    old = model.encode(image, 0.5)
    trainer = Trainer(recipe_for(image_folder), tmp_path, model)
    trainer.run()
    saved = load(tmp_path / "model")
    assert trainer.model.fingerprint == saved.fingerprint != cda.inspect(old).fingerprint
    streams = [m.encode(image, 0.5) for m in (trainer.model, saved)]
    for stream in streams:
        assert trainer.model.to_latents([stream]).equals(saved.to_latents([stream]))
    with pytest.raises(cda.StreamError, match="fingerprint"):
        trainer.model.decode(old)


def test_a_model_in_the_midst_of_training_has_a_fingerprint_of_its_own(image_folder, tmp_path, image):
    trainer, seen = Trainer(recipe_for(image_folder), tmp_path, new_small_model()), set()
    for _ in range(3):
        trainer.run(stop_after=1)
        stream = trainer.model.eval().encode(image, 0.5)
        seen.add(cda.inspect(stream).fingerprint)
        assert trainer.model.decode(stream).size == (101, 75)
    assert len(seen) == 3


# -- what learned nothing ----------------------------------------------------------------------


def trained(folder, recipe, model=None):
    Trainer(recipe, folder, model).run()


@pytest.mark.parametrize("lr", [1e30, 1e6])
@pytest.mark.parametrize("kind", ["codec", "head"])
def test_a_training_that_went_astray_is_not_saved(image_folder, tmp_path, small_folder, kind, lr):
    if kind == "codec":
        recipe = recipe_for(image_folder, steps=(12, 12))
        for stage in recipe.stages:
            stage.lr = lr
        model = new_small_model()
    else:
        stage = head_stage(image_folder, ["heads.classification"], lr=lr, epochs=12)
        recipe, model = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true"), None
    with pytest.raises(ValueError, match=r"diverged, so no model is written|holds what is no finite number"):
        trained(tmp_path, recipe, model)
    assert not list(tmp_path.rglob(WEIGHTS))
    with pytest.raises(ValueError, match=r"diverged|no finite number"):  # nor by going on with it
        Trainer(recipe, tmp_path, new_small_model() if kind == "codec" else None).run(resume=True)
    assert not list(tmp_path.rglob(WEIGHTS))


def not_finite_from(step, monkeypatch):
    original = StageLoss.forward

    def forward(self, batch, now):
        loss, terms = original(self, batch, now)
        return (loss * math.nan, terms) if now >= step else (loss, terms)

    monkeypatch.setattr(StageLoss, "forward", forward)


def test_steps_that_are_all_skipped_at_the_end_are_told(image_folder, tmp_path, monkeypatch):
    not_finite_from(7, monkeypatch)
    with pytest.raises(ValueError, match=r"'semantic' diverged.* its last 5 of 12 steps"):
        train(tmp_path, recipe_for(image_folder, steps=(12, 1)))
    assert not (tmp_path / "model").exists()


def test_a_run_that_lost_its_way_does_not_go_on_to_its_end(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cdanalysis.training.trainer.PATIENCE", 4)
    not_finite_from(0, monkeypatch)
    with pytest.raises(ValueError, match="its last 4 of 4 steps"):
        train(tmp_path, recipe_for(image_folder, steps=(500, 1)))


def test_the_exit_status_says_so(image_folder, tmp_path, small_folder, capsys):
    recipe = f"""
name: pets
init: {small_folder}
precision: 32-true
stages:
  - name: labels
    trains: [heads.classification]
    batch: 4
    warmup: 1
    head: {{task: classification, sources: [{{path: {image_folder}}}]}}
"""
    (tmp_path / "pets.yaml").write_text(recipe)
    for word in ("lr=1.0e30", "head.epochs=0", "head.qualities=[]", "head.holdout=1", "head.every=0", "lr=.nan"):
        out = tmp_path / word
        assert main(["train", str(tmp_path / "pets.yaml"), f"stages.labels.{word}", "-o", str(out)]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert said[-1].startswith("cdanalysis train: ") and not list(out.rglob(WEIGHTS))
        assert word.partition("=")[0].removeprefix("head.") in said[-1] or "finite" in said[-1]


@pytest.mark.parametrize("left", [0, 1])
def test_a_new_model_is_trained_whole_or_not_published(image_folder, tmp_path, left, monkeypatch):
    """Stages left out, or of no steps: the layer that they would have trained is not saved as it was drawn."""
    recipe = recipe_for(image_folder)
    recipe.stages[left].steps = 0
    monkeypatch.setattr("cdanalysis.training.trainer.load_pretrained", lambda model: None)
    with pytest.raises(ValueError, match=("codec.global_layer", "codec.detail")[left] + " untrained"):
        trained(tmp_path, recipe)
    recipe.stages.pop(left)
    with pytest.raises(ValueError, match=r"untrained"):
        trained(tmp_path, recipe)
    trained(tmp_path, recipe, new_small_model())  # a model that is given is somebody's


def test_a_recipe_without_a_step_is_refused(image_folder, tmp_path, small_folder):
    for stages in ([], recipe_for(image_folder, steps=(0, 0)).stages):
        with pytest.raises(ValueError, match="trains nothing"):
            trained(tmp_path, Recipe(name="copy", init=str(small_folder), stages=stages, precision="32-true"))


# -- faults that are found before the first step -----------------------------------------------


def fault_sources(recipe, world):
    recipe.stages[1].sources = [Source("nowhere")]


def fault_empty(recipe, world):
    (world / "empty").mkdir()
    recipe.stages[1].sources = [Source(str(world / "empty"))]


def fault_observer(recipe, world):
    recipe.stages[1].objective.observers[0].kind = "sharpness"


def fault_trains(recipe, world):
    recipe.stages[1].trains = ["codec.detial"]


def fault_auxiliary(recipe, world):
    recipe.stages[0].trains.append("heads")
    recipe.stages[0].auxiliary = [AuxiliaryConfig("segmentation", [LabeledSource(str(world / "pixels"))])]


def fault_features(recipe, world):
    recipe.stages[0].features = FeatureConfig(["nowhere"])
    recipe.stages[0].trains = ["codec.global_layer"]


def fault_features_of_both(recipe, world):
    recipe.stages[0].features = FeatureConfig([str(world / "classes")])


def fault_features_narrow(recipe, world):
    recipe.stages[0].features = FeatureConfig([str(world / "classes")])
    recipe.stages[0].trains = ["codec.spatial"]


def fault_blank(recipe, world):
    recipe.stages[1].blank = 0.1


def fault_head(recipe, world):
    recipe.stages.append(head_stage(world / "classes", ["heads"], options={"depth": 9}))


def fault_kept(recipe, world):
    recipe.stages.append(head_stage(world / "classes", ["heads"], classes="keep"))


def fault_held_out(recipe, world):
    recipe.stages.append(head_stage(world / "classes", ["heads"], every=6, holdout=2))


def fault_calibration(recipe, world):
    recipe.calibration = CalibrationConfig("nowhere")


def fault_calibration_classes(recipe, world):
    recipe.calibration = CalibrationConfig(str(world / "classes"))


def fault_calibration_quality(recipe, world):
    recipe.calibration = CalibrationConfig(str(world / "classes"), quality=50)


FAULTS = {
    fault_sources: "no data at nowhere",
    fault_empty: "no images in",
    fault_observer: "unknown observer",
    fault_trains: "trains nothing",
    fault_auxiliary: "no segmentation head",
    fault_features: "no data at nowhere",
    fault_features_of_both: "codec.global_layer or codec.spatial is trained",
    fault_features_narrow: "spatial_hidden must be at least 192",
    fault_blank: "blank needs a decoder",
    fault_head: "no option 'depth'",
    fault_kept: "the class 'blue' of the data is not among",
    fault_held_out: "are left to train on",
    fault_calibration: "calibration: no data at nowhere",
    fault_calibration_classes: "calibration: the class 'blue' of the data is not among",
    fault_calibration_quality: "calibration.quality must lie in",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_faults_of_later_stages_are_found_before_the_first_step(world, tmp_path, monkeypatch, fault):
    recipe = recipe_for(world / "classes")
    fault(recipe, world)
    monkeypatch.setattr(Trainer, "_train_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises((ValueError, FileNotFoundError), match=FAULTS[fault]) as caught:
        Trainer(recipe, tmp_path / "run", new_small_model()).run()
    assert "\n" not in str(caught.value)


def test_looking_before_training_changes_nothing(world, tmp_path, small_folder, monkeypatch):
    """Random numbers, heads and weights are as if nobody had looked."""
    heads = [head_stage(world / "classes", ["heads.classification"], epochs=1) for _ in "ab"]
    states = []
    for looking in (True, False):
        if not looking:
            monkeypatch.setattr("cdanalysis.training.trainer.check_recipe", lambda *_: None)
        recipe = replace(recipe_for(world / "classes", steps=(1, 1)), init=str(small_folder))
        recipe.stages += heads
        trainer = Trainer(recipe, tmp_path / str(looking))
        trainer.run()
        states.append(trainer.model.state_dict())
    assert list(states[0]) == list(states[1]) and all(map(torch.equal, *(s.values() for s in states)))


def test_calibration_knows_the_classes_that_a_stage_will_make(image_folder, tmp_path, small_folder):
    stage = head_stage(image_folder, ["heads.classification"], epochs=1)
    recipe = Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")
    recipe.calibration = CalibrationConfig(str(image_folder), every=1)
    trained(tmp_path, recipe)
    assert json.loads((tmp_path / "progress.json").read_text())["stage"] == 1


def test_a_run_that_was_stopped_is_not_lost_to_one_that_starts_anew(image_folder, tmp_path):
    train(tmp_path, recipe_for(image_folder), stop_after=2)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    train(tmp_path, recipe_for(image_folder, seed=4), stop_after=1)
    assert (tmp_path / "checkpoint-before.pt").read_bytes() == before != (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="are left to train on"):  # a run that does not start touches nothing
        recipe = recipe_for(image_folder)
        fault_held_out(recipe, image_folder.parent)
        (image_folder.parent / "classes").symlink_to(image_folder)
        recipe.stages[-1].head.every = 4
        train(tmp_path, recipe)
    assert (tmp_path / "checkpoint-before.pt").read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.999])
def test_a_checkpoint_that_was_cut_is_called_damaged(image_folder, tmp_path, share):
    train(tmp_path, recipe_for(image_folder), stop_after=1)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged, or no file of torch's") as caught:
        train(tmp_path, recipe_for(image_folder), resume=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{}, {"recipe": {}}, [1], torch.zeros(2)])
def test_a_checkpoint_of_something_else_is_refused(image_folder, tmp_path, content):
    train(tmp_path, recipe_for(image_folder), stop_after=1)
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint of this library's"):
        train(tmp_path, recipe_for(image_folder), resume=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no weights at all", b"\x80\x02]q\x00."])
def test_weights_that_are_none_are_called_damaged(tmp_path, content):
    path = tmp_path / "squeezenet.pth"
    path.write_bytes(content)
    for read in (LPIPS, read_tensors):
        with pytest.raises(ValueError, match=r"squeezenet\.pth is damaged, or no file of torch's"):
            read(path)


@pytest.mark.parametrize("change", [{"codec": replace(SMALL, fused=True)}, {"init": "other"}])
def test_a_run_goes_on_with_the_model_that_it_began_with(image_folder, tmp_path, change):
    train(tmp_path, recipe_for(image_folder), stop_after=1)
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(replace(recipe_for(image_folder), **change), tmp_path, new_small_model()).run(resume=True)


def test_a_recipe_made_in_python_is_checked_like_one_from_a_file(image_folder, tmp_path):
    for key, value in {
        "lr": math.nan,
        "batch": 0,
        "crop": 100,
        "clip": 0.0,
        "blank": 2.0,
        "semantic_quality": [0.5],
    }.items():
        recipe = recipe_for(image_folder)
        setattr(recipe.stages[1], key, value)
        with pytest.raises(ValueError, match=rf"stages\[1\]\.{key} must"):
            train(tmp_path, recipe)
    with pytest.raises(ValueError, match=r"codec\.width must be at least 1"):
        train(tmp_path, replace(recipe_for(image_folder), codec=replace(SMALL, width=0)))


# -- what changed, was left behind, or cannot be read ----------------------------------------------


def pets(small_folder, folder, **head) -> Recipe:
    stage = head_stage(folder, ["heads.classification"], **{"epochs": 9, **head})
    return Recipe(name="pets", init=str(small_folder), stages=[stage], precision="32-true")


@pytest.mark.parametrize("left", [b"", b"cut", None])
def test_a_damaged_stream_of_the_cache_is_made_again(image_folder, tmp_path, small_folder, left):
    Trainer(pets(small_folder, image_folder), tmp_path / "run").run()
    path = sorted((tmp_path / "run" / "streams").rglob("*.cda"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] if left is None else left)
    assert Trainer(pets(small_folder, image_folder), tmp_path / "run").run() and path.read_bytes() == whole


@pytest.mark.parametrize("name", ["y" * 251 + ".png", "é" * 125 + ".png"])
def test_photographs_may_have_the_longest_names_there_are(image_folder, tmp_path, small_folder, name):
    name = name[-(255 - len(name.encode()) + len(name)) :] if len(name.encode()) > 255 else name
    (image_folder / "cat" / "a.png").rename(image_folder / "cat" / name)
    assert Trainer(pets(small_folder, image_folder), tmp_path / "run").run()


@pytest.mark.parametrize("why", ["held out", "unreadable", "every"])
def test_a_class_without_an_example_is_not_published(image_folder, tmp_path, small_folder, why):
    (image_folder / "ant").mkdir()
    shutil.copy(image_folder / "cat" / "a.png", image_folder / "ant" / "e.png")
    shutil.copy(image_folder / "cat" / "a.png", image_folder / "cat" / "e.png")
    if why == "unreadable":
        (image_folder / "ant" / "e.png").write_text("no picture")
    head = {"held out": {"holdout": 3}, "unreadable": {}, "every": {"every": 5}}[why]
    if why == "every":
        (image_folder / "ant").rename(image_folder / "bee")
    with pytest.raises(ValueError, match="nothing would teach the classification head '"):
        Trainer(pets(small_folder, image_folder, **head), tmp_path / "run").run()
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("objects", [0, 1])
def test_a_detector_needs_an_object_and_tells_what_it_never_saw(world, tmp_path, small_folder, objects):
    content = json.loads((world / "boxes.json").read_text())
    content["annotations"] = content["annotations"][:objects]
    (world / "boxes.json").write_text(json.dumps(content))
    source = LabeledSource(str(world / "pixels" / "images"), str(world / "boxes.json"))
    config = HeadConfig("detection", [source], qualities=[0.5])
    if objects:
        with pytest.warns(InputWarning, match="no example of 'blue'"):
            Examples(load(small_folder), config, tmp_path)
    else:
        with pytest.raises(ValueError, match="nothing would teach the detection head 'red', 'blue'"):
            Examples(load(small_folder), config, tmp_path)


def renamed(folder):
    (folder / "cat").rename(folder / "zebra")


def added(folder):
    shutil.copytree(folder / "cat", folder / "eel")


def fewer(folder):
    (folder / "dog" / "d.png").unlink()


def moved(folder):
    (folder / "dog" / "d.png").rename(folder / "cat" / "d.png")


def repainted(folder):
    Image.new("RGB", (96, 64), "red").save(folder / "dog" / "d.png")


@pytest.mark.parametrize("change", [renamed, added, fewer, moved, repainted])
@pytest.mark.parametrize("kind", ["codec", "head"])
def test_a_run_does_not_go_on_with_other_data(image_folder, tmp_path, small_folder, kind, change):
    if (kind, change) == ("codec", repainted):
        pytest.skip("the codec's sets may be too large to be read whole")
    recipe = recipe_for(image_folder) if kind == "codec" else pets(small_folder, image_folder)
    model = new_small_model() if kind == "codec" else None
    Trainer(recipe, tmp_path / "run", model).run(stop_after=1)
    change(image_folder)
    with pytest.raises(ValueError, match=r"the data of stage .* are others than when the run was stopped"):
        Trainer(recipe, tmp_path / "run", new_small_model() if kind == "codec" else None).run(resume=True)


def test_a_finished_model_is_not_trained_over_unless_told(image_folder, tmp_path, small_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(
        f"name: pets\ninit: {small_folder}\nprecision: 32-true\nstages:\n- name: labels\n"
        "  trains: [heads.classification]\n"
        f"  head: {{sources: [{{path: {image_folder}}}], epochs: 1}}\n"
    )
    words = ["train", "r.yaml", "-o", "run"]
    assert main(words) == 0
    before = (tmp_path / "run" / "model" / WEIGHTS).read_bytes()
    assert main([*words, "seed=3"]) == 1 and "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "run" / "model" / WEIGHTS).read_bytes() == before
    assert main([*words, "--resume"]) == 0
    (tmp_path / "run" / "model" / WEIGHTS).write_bytes(before[:200])
    assert main(words) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0 and load("run/model").heads["classification"].classes == ["cat", "dog"]


def test_what_no_step_can_learn_is_refused(image_folder, tmp_path, small_folder):
    recipe = pets(small_folder, image_folder)
    recipe.stages[0].lr = 0.0
    with pytest.raises(ValueError, match="lr 0, which would leave its new classification head"):
        Trainer(recipe, tmp_path).run()


@pytest.mark.parametrize("seed", [-1, 10**9, 2**64])
def test_seeds_that_no_generator_takes_are_refused_at_once(image_folder, tmp_path, small_folder, seed):
    with pytest.raises(ValueError, match="seed must be an integer from 0 to"):
        check_values(replace(pets(small_folder, image_folder), seed=seed), "r.yaml")


def test_two_folders_of_one_class_of_a_kept_head_are_refused(image_folder, tmp_path, small_folder):
    model = load(small_folder)
    model.heads["classification"] = model.new_head("classification", classes=["cat, feline", "dog"])
    shutil.copytree(image_folder / "cat", image_folder / "feline")
    with pytest.raises(ValueError, match="'cat' and 'feline' are both the head's class 'cat, feline'"):
        Trainer(pets(small_folder, image_folder, classes="keep"), tmp_path, model).run()


def test_a_full_disk_is_said_of_a_checkpoint(image_folder, tmp_path, small_folder, monkeypatch):
    def full(path, *_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("cdanalysis.training.trainer.write_whole", full)
    with pytest.raises(OSError, match=r"No space left.*checkpoint\.pt"):
        Trainer(pets(small_folder, image_folder), tmp_path).run()


def test_a_full_disk_is_said_of_a_model(tmp_path, small, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"model cannot be written to .*folder: No space left"):
        small.save(tmp_path / "folder")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["codec", "head"])
def test_what_cannot_be_read_is_told_at_the_end_too(image_folder, tmp_path, small_folder, kind, workers):
    (image_folder / "cat" / "bad.png").write_text("no picture")
    recipe = pets(small_folder, image_folder)
    if kind == "codec":
        recipe = recipe_for(image_folder)
        recipe.stages[0].steps = 4
    recipe.workers = workers
    trainer = Trainer(recipe, tmp_path / "run", new_small_model() if kind == "codec" else None)
    trainer.run()
    assert len(trainer.unreadable) == 1 and "cat/bad.png" in next(iter(trainer.unreadable))
