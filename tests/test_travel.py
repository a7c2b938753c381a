"""Models and their folders: weights that change, models that travel, folders that are whole or refused."""

from __future__ import annotations

import copy
import io
import json
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import new_small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

import cdanalysis as cda
from cdanalysis.codec.derived import ordinary_tensors
from cdanalysis.model_files import _set_aside
from cdanalysis.structures.latents import LAYERS, quality_levels
from cdanalysis.zoo import (
    COUNTERPARTS,
    METRICS,
    RECIPE,
    TEACHERS,
    WEIGHTS,
    describe,
    load,
    round_weights,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


# -- weights that change -----------------------------------------------------------------------


def by_optimizer(model, weight):
    weight.requires_grad_(True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    (3e-3 * weight).sum().backward()
    optimizer.step()
    weight.requires_grad_(False)


def by_state_dict(model, weight):
    state = {n: t + 3e-3 if t.is_floating_point() else t for n, t in model.state_dict().items()}
    model.load_state_dict(state)


def by_assignment(model, weight):
    state = {n: t + 3e-3 if t.is_floating_point() else t for n, t in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


CHANGES = {
    "an optimizer": by_optimizer,
    "a state dict": by_state_dict,
    "a state dict assigned": by_assignment,
    "no_grad": lambda model, weight: torch.no_grad()(weight.add_)(3e-3),
    ".data": lambda model, weight: weight.data.add_(3e-3),
    ".data's sign": lambda model, weight: weight.data.neg_(),
    "numpy": lambda model, weight: weight.detach().numpy().__iadd__(3e-3),
    "frozen tables": lambda model, weight: (
        torch.no_grad()(model.codec.detail.prior.means.add_)(0.4),
        model.codec.freeze_tables(),
    ),
}
PLACES = [
    "spatial.context.heads.0.weight",
    "detail.context.mixes.1.weight",
    "detail.g_a.down.weight",
    "global_layer.context.mixes.1.weight",
]


@pytest.mark.parametrize(("how", "place"), list(zip(CHANGES, PLACES * 2, strict=True)))
def test_weights_that_changed_change_the_fingerprint(small_folder, tmp_path, how, place):
    """Nothing that was kept of the old weights comes into a new stream: the new weights, saved, read what it holds."""
    model = load(small_folder)
    before = model.encode(PICTURE, 0.5)
    model.to_latents([before])
    CHANGES[how](model, model.codec.get_parameter(place))
    after = model.encode(PICTURE, 0.5)
    assert cda.inspect(after).fingerprint == model.fingerprint != cda.inspect(before).fingerprint
    with pytest.raises(
        cda.StreamError, match=rf"'small' with fingerprint {model.fingerprint}, whose codec was changed"
    ):
        model.decode(before)
    with pytest.raises(cda.StreamError, match="written by the model with fingerprint"):
        load(small_folder).decode(after)
    round_weights(model)
    saved = model.encode(PICTURE, 0.5)
    model.save(tmp_path)
    again = load(tmp_path)
    assert again.fingerprint == model.fingerprint
    assert again.to_latents([saved]).equals(model.to_latents([saved]))


def test_weights_that_a_file_cannot_hold_have_a_fingerprint_of_their_own(small_folder, tmp_path):
    model = load(small_folder)
    with torch.no_grad():
        model.codec.detail.g_a.down.weight.mul_(1 + 1e-4)
    model.save(tmp_path)
    assert model.fingerprint not in (load(tmp_path).fingerprint, load(small_folder).fingerprint)
    round_weights(model)
    assert model.fingerprint == load(tmp_path).fingerprint


@pytest.mark.parametrize("added", [1.0, 1e-4])
@pytest.mark.parametrize(
    "place",
    [
        "heads.classification.classify.weight",
        "codec.classifier.net.conv_stem.weight",
        "codec.detector.pan.reduce.0.0.weight",
    ],
)
def test_what_streams_are_not_read_with_changes_no_fingerprint(small_folder, tmp_path, place, added):
    """Heads, and the teachers that look at images; also by less than half precision can tell."""
    model, plain = load(small_folder), load(small_folder)
    with torch.no_grad():
        model.get_parameter(place).add_(added)
    assert model.fingerprint == plain.fingerprint == describe(small_folder)["fingerprint"]
    stream = model.encode(PICTURE, 0.5)
    assert plain.to_latents([stream]).equals(model.to_latents([stream]))
    model.save(tmp_path)
    assert load(tmp_path).to_latents([stream]).equals(model.to_latents([stream]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_codec_in_another_precision_says_so(small_folder, dtype):
    model, plain = load(small_folder).to(dtype), load(small_folder)
    stream = plain.encode(PICTURE, 0.5)
    with pytest.raises(ValueError, match=f"encodes in torch.float32, and this one is in {dtype}"):
        model.encode(PICTURE, 0.5)
    if dtype == torch.bfloat16:
        with pytest.raises(cda.StreamError, match=r"'small'.* whose codec was cast to torch.bfloat16 since"):
            model.analyze(stream)
    else:  # what the file holds is held exactly
        assert model.to_latents([stream]).equals(plain.to_latents([stream]))


# -- models that travel ------------------------------------------------------------------------


def sent_by_torch(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m)), "torch.save": sent_by_torch}


@pytest.mark.parametrize("way", WAYS)
def test_a_used_model_can_be_copied_and_sent(small_folder, way):
    model = load(small_folder)
    stream = model.encode(PICTURE, (0.4, 0.5, 0.6))
    model.analyze(stream), model.decode(stream), model.encode(PICTURE, max_bytes=len(stream))
    sent = WAYS[way](model)
    assert sent.fingerprint == model.fingerprint and sent.encode(PICTURE, (0.4, 0.5, 0.6)) == stream
    assert sent.to_latents([stream]).equals(model.to_latents([stream]))
    with torch.no_grad():
        sent.codec.global_layer.context.heads[0].bias.add_(0.5)
    again, other = (m.encode(PICTURE, (0.4, 0.5, 0.6)) for m in (model, sent))
    assert again == stream != other, "copies share nothing"


class Streams(Dataset):
    """Reads streams in the workers that a DataLoader starts."""

    def __init__(self, model, streams):
        self.model, self.streams = model, streams

    def __len__(self):
        return len(self.streams)

    def __getitem__(self, index):
        return self.model.embed(self.streams[index]).clone()


def test_spawned_workers_read_streams(small_folder):
    model = load(small_folder)
    streams = [model.encode(PICTURE[i:], 0.5) for i in range(0, 8, 4)]
    loader = DataLoader(Streams(model, streams), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for found, stream in zip(loader, streams, strict=True):
        assert torch.allclose(found, model.embed(stream), atol=1e-5)


SURROUNDINGS = {
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "the meta device": lambda: torch.device("meta"),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float64": lambda: default_dtype(torch.float64),
    "bfloat16 autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


class default_dtype:
    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_):
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("where", SURROUNDINGS)
def test_a_model_is_the_same_wherever_it_was_loaded(small_folder, tmp_path, where):
    plain = load(small_folder)
    stream = plain.encode(PICTURE, 0.5)
    latents = plain.to_latents([stream])
    with SURROUNDINGS[where]():
        model = load(small_folder)
        head = model.new_head("classification", classes=["a", "b"])
        if "device" not in where:
            assert model.to_latents([model.encode(PICTURE, 0.5)]).layers == LAYERS
            assert model.to_latents([stream]).equals(latents)
    assert model.to_latents([stream]).equals(latents) and model.decode(stream).size == (56, 40)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(p.is_inference() for p in (*model.parameters(), *head.parameters()))
    by_optimizer(model, model.codec.detail.g_a.down.weight)
    model.save(tmp_path)


def test_ordinary_tensors_leave_the_world_as_it_was():
    with default_dtype(torch.float64), torch.inference_mode():
        with pytest.raises(RuntimeError), ordinary_tensors():
            raise RuntimeError
        assert torch.get_default_dtype() == torch.float64 and torch.is_inference_mode_enabled()


# -- streams together --------------------------------------------------------------------------


def test_latents_of_streams_that_differ_are_refused_by_a_sentence(small):
    stream, other = small.encode(PICTURE, 0.5), small.encode(PICTURE, 0.2)
    smaller, base = small.encode(PICTURE[:30], 0.5), cda.strip(stream)
    for streams, says in (
        (
            [stream, other],
            r"stream 0 is 56x40 \(global 60 at 64 px, spatial 60 at 96 px, detail 60\), and stream 1 is 56x40",
        ),
        ([stream, stream, smaller], r"stream 2 is 56x30"),
        ([stream, base], r"stream 1 is 56x40 \(global 60 at 64 px, spatial 60 at 96 px\)"),
        ([], "no stream"),
    ):
        with pytest.raises(ValueError, match=says):
            small.to_latents(streams)
    with pytest.raises(cda.StreamError, match="no detail layer"):
        small.to_latents([base])
    with pytest.raises(ValueError, match="layers must be"):
        small.to_latents([stream], layers=("detail",))
    both = small.to_latents([stream, base], layers=("global", "spatial"))
    assert both[0].equals(both[1])


# -- folders -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A saved model with a counterpart."""
    folder, model = tmp_path_factory.mktemp("whole"), new_small_model()
    model.counterparts["classification"] = model.new_head("classification", classes=["cat", "dog"])
    model.save(folder)
    return folder


@given(data=st.data(), file=st.sampled_from([WEIGHTS, TEACHERS, COUNTERPARTS]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_was_cut_anywhere_is_called_damaged(whole, tmp_path, data, file):
    content = (whole / file).read_bytes()
    head = int.from_bytes(content[:8], "little")
    near = st.one_of(st.integers(0, 9), st.integers(0, head + 9), st.integers(0, len(content) - 1))
    cut = data.draw(near)
    for name in (WEIGHTS, TEACHERS, COUNTERPARTS):
        (tmp_path / name).write_bytes(content[:cut] if name == file else (whole / name).read_bytes())
    with pytest.raises(ValueError, match=rf"{file} is (damaged: [^\n]+|not a model of this library)$") as caught:
        load(tmp_path, counterparts=True)
    assert "\n" not in str(caught.value)


DESCRIPTIONS = {
    "no heads": lambda d: d.pop("heads"),
    "no codec": lambda d: d.pop("codec"),
    "codec of strings": lambda d: d["codec"].update(width="wide"),
    "unknown task": lambda d: d["heads"].update(sound={}),
    "unknown option": lambda d: d["heads"]["classification"].update(depth=3),
    "classes that are none": lambda d: d["heads"]["classification"].update(classes=7),
    "options that are none": lambda d: d["heads"].update(classification=3),
    "groups of strings": lambda d: d["codec"].update(global_groups=["many"]),
    "other groups": lambda d: d["codec"].update(global_groups=[8, 8]),
    "working size that is none": lambda d: d["codec"].update(spatial_size=100),
    "detector that is none": lambda d: d["codec"].update(detector="deeplab"),
    "network that is none": lambda d: d["codec"].update(classifier="nonet"),
}


@pytest.mark.parametrize("what", DESCRIPTIONS)
def test_a_description_that_fits_nothing_is_called_damaged(whole, tmp_path, what):
    info = describe(whole)
    DESCRIPTIONS[what](info)
    (tmp_path / TEACHERS).write_bytes((whole / TEACHERS).read_bytes())
    save_file(load_file(whole / WEIGHTS), tmp_path / WEIGHTS, metadata={"cdanalysis": json.dumps(info)})
    with pytest.raises(ValueError, match=rf"{WEIGHTS} is damaged[^\n]+$"):
        load(tmp_path)


def test_a_description_with_more_than_is_known_is_of_a_newer_version(whole, tmp_path):
    info = describe(whole)
    info["codec"].update(wavelets=3)
    save_file(load_file(whole / WEIGHTS), tmp_path / WEIGHTS, metadata={"cdanalysis": json.dumps(info)})
    with pytest.raises(ValueError, match=rf"{WEIGHTS} was written by a newer version[^\n]+'wavelets'$"):
        load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "place", ["codec.detail.g_a.down.weight", "codec.spatial.g_s.to16.weight", "heads.classification.classify.bias"]
)
def test_what_is_no_number_is_neither_saved_nor_loaded(whole, tmp_path, value, place):
    model = load(whole)
    weight = model.get_parameter(place).data
    weight[(0,) * weight.ndim] = value
    with pytest.raises(ValueError, match=rf"not saved: {place} holds what is no finite number"):
        model.save(tmp_path / "model")
    weight[(0,) * weight.ndim] = 1e6
    with pytest.raises(ValueError, match="in half precision"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model" / WEIGHTS).exists()
    tensors = load_file(whole / WEIGHTS)
    tensors[place][(0,) * tensors[place].ndim] = value
    save_file(tensors, tmp_path / WEIGHTS, metadata={"cdanalysis": json.dumps(describe(whole))})
    with pytest.raises(ValueError, match=f"damaged: {place} holds what is no number"):
        load(tmp_path)


def wrapped_weight(model):
    torch.nn.utils.parametrizations.weight_norm(model.heads["classification"].classify)


def adapter(model):
    model.codec.spatial.adapter = torch.nn.Linear(3, 3)


def other_width(model):
    model.heads["classification"].classify = torch.nn.Linear(7, 3)


def parallel(model):
    model.heads["classification"] = torch.nn.DataParallel(model.heads["classification"])


@pytest.mark.parametrize("change", [wrapped_weight, adapter, other_width, parallel])
def test_what_could_not_be_loaded_is_not_saved(small_folder, tmp_path, change):
    model = load(small_folder)
    change(model)
    with pytest.raises(ValueError, match=r"is not what its description would rebuild|unwrap it"):
        model.save(tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("part", ["head", "codec", "in place"])
def test_a_compiled_model_is_saved_and_loaded(small_folder, tmp_path, part):
    model = load(small_folder)
    stream = model.encode(PICTURE, 0.5)
    if part == "head":
        model.heads["classification"] = torch.compile(model.heads["classification"], backend="eager")
    elif part == "in place":
        model.codec.spatial.g_s.compile(backend="eager")
    else:
        setattr(model, part, torch.compile(getattr(model, part), backend="eager"))
    assert model.analyze(stream).classification.label in ("cat", "dog", "cup")
    model.save(tmp_path)
    again = load(tmp_path)
    assert again.fingerprint == model.fingerprint
    assert again.to_latents([stream]).equals(model.to_latents([stream]))
    assert again.analyze(stream).classification == load(small_folder).analyze(stream).classification


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_holds_one_model_and_nothing_of_another(whole, tmp_path):
    """What another model left is not read as this one's; what people wrote is kept."""
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in (METRICS, RECIPE, "README.md", "notes.txt"):
        (tmp_path / name).write_text(f"{name} of the first")
    model = new_small_model(seed=5)
    model.save(tmp_path)
    found = files_in(tmp_path)
    assert not {COUNTERPARTS, METRICS, RECIPE, "README.md"} & set(found)
    old = describe(whole)["saved"]
    assert set(found) == {WEIGHTS, TEACHERS, "notes.txt", *(f"{n}.of-{old}" for n in (METRICS, RECIPE, "README.md"))}
    assert found[f"README.md.of-{old}"] == b"README.md of the first"
    assert not load(tmp_path, counterparts=True).counterparts
    (tmp_path / METRICS).write_text("of the second")
    model.save(tmp_path)
    assert (tmp_path / METRICS).read_text() == "of the second", "the same weights keep their figures"


def test_what_is_in_a_folder_without_a_model_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    new_small_model().save(tmp_path)
    assert set(files_in(tmp_path)) == {WEIGHTS, TEACHERS, "README.md"}


def test_a_save_that_fails_leaves_the_old_model(whole, tmp_path, monkeypatch):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before, model = files_in(tmp_path), load(whole, counterparts=True)
    model.get_parameter("codec.spatial.g_s.to16.weight").data.mul_(2)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for broken in ("safetensors.torch.save_file", "cdanalysis.model_files._check_rebuilt"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, full)
            with pytest.raises(OSError, match="No space"):
                model.save(tmp_path)
        assert files_in(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def test_counterparts_of_another_model_are_refused(whole, tmp_path):
    new_small_model(seed=5).save(tmp_path)
    (tmp_path / COUNTERPARTS).write_bytes((whole / COUNTERPARTS).read_bytes())
    assert not load(tmp_path).counterparts
    with pytest.raises(ValueError, match=f"{COUNTERPARTS} belongs to another model"):
        load(tmp_path, counterparts=True)


def test_teachers_of_another_model_are_refused(whole, tmp_path):
    model = new_small_model(seed=5)
    model.save(tmp_path)
    (tmp_path / TEACHERS).write_bytes((whole / TEACHERS).read_bytes())
    with pytest.raises(ValueError, match=f"{TEACHERS}"):
        load(tmp_path)
    (tmp_path / TEACHERS).unlink()
    with pytest.raises(ValueError, match=f"lacks {TEACHERS}"):
        load(tmp_path)


def test_a_file_of_somebody_else_is_renamed_and_not_replaced(small, tmp_path):
    """Where others keep weights under the same name, a model that is saved takes the name and leaves the file."""
    theirs = b"weights of another library"
    (tmp_path / "model.safetensors").write_bytes(theirs)
    small.save(tmp_path)
    assert load(tmp_path).fingerprint == small.fingerprint
    (kept,) = tmp_path.glob("model.safetensors.of-others*")
    assert kept.read_bytes() == theirs
    small.save(tmp_path)
    assert len(list(tmp_path.glob("*.of-*"))) == 1, "a model's own files are replaced"


@pytest.mark.parametrize("quality", ["0.5", None, [0.5, "high", 1], torch.tensor([0.5]), float("nan"), 1.5])
def test_what_is_no_quality_is_refused(quality):
    with pytest.raises(ValueError, match="quality must be"):
        quality_levels(quality)


def test_a_device_that_holds_no_numbers_is_refused(small_folder):
    with pytest.raises(ValueError, match="device 'meta' cannot be used here"):
        load(small_folder, device="meta")


def test_what_is_set_aside_has_a_name_of_its_own(tmp_path):
    """The next number that is free, found without listing a million."""
    for number, name in enumerate(("README.md.of-others", "README.md.of-others-1", "README.md.of-others-2")):
        (tmp_path / "README.md").write_text(str(number))
        tracemalloc.start()
        _set_aside(tmp_path, "new", {"README.md"})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (tmp_path / name).read_text() == str(number) and peak < 2**20
