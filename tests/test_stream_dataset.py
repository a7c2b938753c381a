"""Streams as a PyTorch data set, folders of streams, and paths wherever bytes are taken."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import cdanalysis as cda
from cdanalysis.data.cached import CachedStreams
from cdanalysis.notices import InputWarning
from cdanalysis.structures.features import STRIDES, Features
from cdanalysis.structures.targets import ClassLabel, Instances, LabelMap

SIZES = {"cat/a": (75, 101), "cat/b": (101, 75), "dog/c": (90, 90), "dog/d": (60, 101), "dog/e": (101, 80)}
SEMANTIC = ("global", "spatial")


class Named:
    """A path that is neither text nor `pathlib.Path`."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.fixture(scope="module")
def streams(small, chelsea, tmp_path_factory) -> Path:
    """Five photographs of different shapes in two folders, all layers, at two qualities."""
    folder = tmp_path_factory.mktemp("streams")
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        path = folder / f"{name}.cda"
        path.parent.mkdir(exist_ok=True)
        image = np.ascontiguousarray(chelsea[20 * number : 20 * number + height, 30 : 30 + width])
        path.write_bytes(small.encode(image, (0.5, 0.9)[number % 2]))
    (folder / ".hidden.cda").write_bytes(b"no stream")
    (folder / "notes.txt").write_text("no stream")
    return folder


def same(one: Features, other: Features) -> bool:
    pairs = zip([one.embedding, *one.pyramid], [other.embedding, *other.pyramid], strict=True)
    detail = one.detail is other.detail is None or torch.equal(one.detail, other.detail)
    return one.sizes == other.sizes and detail and all(torch.equal(a, b) for a, b in pairs)


# -- items -----------------------------------------------------------------------------------


def test_items_are_what_the_model_reads_of_streams(small, streams):
    dataset = cda.StreamDataset(streams, small, layers=SEMANTIC)
    assert dataset.names == [f"{name}.cda" for name in SIZES] and len(dataset) == 5 and dataset.targets is None
    for name, features in zip(dataset.names, dataset, strict=True):
        assert same(features, small.features(streams / name, SEMANTIC)) and features.sizes == [SIZES[name[:-4]]]
    assert same(dataset[-1], dataset[4]) and dataset.spec == small.feature_spec
    with pytest.raises(IndexError):
        dataset[5]
    paths = [streams / name for name in dataset.names]
    for way in (str(streams), Named(streams), CachedStreams(streams), paths, [p.read_bytes() for p in paths]):
        other = cda.StreamDataset(way, small, layers=SEMANTIC)
        assert len(other) == 5 and all(same(a, b) for a, b in zip(dataset, other, strict=True))
    assert len(cda.StreamDataset(paths[0], small)) == 1 and cda.StreamDataset(streams, small)[0].pyramid == []
    whole = cda.StreamDataset(streams, small, layers=("global", "spatial", "detail"))[0]
    assert whole.detail.shape == (1, small.feature_spec.detail, 6, 8)


def test_a_model_may_be_given_by_its_name(small, small_folder, streams):
    dataset = cda.StreamDataset(streams, small_folder, layers=SEMANTIC)
    assert same(dataset[0], cda.StreamDataset(streams, small, layers=SEMANTIC)[0])
    assert len(pickle.dumps(dataset)) < 10_000 < len(pickle.dumps(cda.StreamDataset(streams, small)))
    assert same(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        (np.arange(5.0), [0, 1, 2, 3, 4]),
        ("folders", [0, 0, 1, 1, 1]),
        ({"cat/a.cda": 5, "cat/b": 6, "c.cda": 7, "d": 8, "dog/e": 9, "e": 0}, [5, 6, 7, 8, 9]),
        (lambda name: len(name), [9] * 5),
        (str.upper, ["CAT/A.CDA", "CAT/B.CDA", "DOG/C.CDA", "DOG/D.CDA", "DOG/E.CDA"]),
    ],
    ids=["list", "array", "folders", "mapping", "lambda", "function"],
)
def test_targets_are_those_of_their_streams(small, streams, targets, expected):
    dataset = cda.StreamDataset(streams, small, targets)
    assert [target for _, target in dataset] == expected == list(dataset.targets)
    assert dataset.classes == (["cat", "dog"] if isinstance(targets, str) else None)
    if isinstance(targets, (str, dict)):  # the same in a list of paths, whatever its order
        paths = [streams / name for name in dataset.names][::-1]
        assert cda.StreamDataset(paths, small, targets).targets == expected[::-1]


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ([1, 2], "5 streams and 2 targets"),
        ({"a": 1, "b": 2, "c": 3}, "2 of 5 streams have no target, for example 'dog/d.cda'"),
        ("labels", "or \"folders\", got 'labels'"),
    ],
)
def test_targets_that_do_not_fit_are_refused(small, streams, targets, says):
    with pytest.raises(ValueError, match=says):
        cda.StreamDataset(streams, small, targets)


def test_folders_that_are_no_classes_are_refused(small, streams, tmp_path):
    data = (streams / "cat" / "a.cda").read_bytes()
    for name in ("train/a", "val/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.cda").write_bytes(data)
    with pytest.raises(ValueError, match="splits, train and val, not classes"):
        cda.StreamDataset(tmp_path, small, "folders")
    with pytest.raises(ValueError, match=r"two or more class folders; the streams are in 1"):
        cda.StreamDataset([tmp_path / "val" / "b.cda"], small, "folders")
    (tmp_path / "c.cda").write_bytes(data)
    with pytest.raises(ValueError, match=r"the stream c\.cda is in no class folder"):
        cda.StreamDataset(tmp_path, small, "folders")
    with pytest.raises(ValueError, match="in no class folder"):
        cda.StreamDataset([data, data], small, "folders")


def test_targets_with_coordinates_are_scaled_to_the_working_size(small, streams):
    boxes = torch.tensor([[10.0, 20, 50, 60]])
    made = lambda name: Instances(boxes, torch.tensor([1]))  # noqa: E731
    for features, target in cda.StreamDataset(streams, small, made, SEMANTIC):
        (height, width), (h, w) = features.sizes[0], features.working
        assert torch.allclose(target.boxes, boxes * torch.tensor([w / width, h / height] * 2))
        assert torch.allclose(target.boxes, features.to_working(boxes))
        assert torch.allclose(features.to_working(boxes[:, 2:]), target.boxes[:, 2:])
    maps = cda.StreamDataset(streams, small, lambda name: LabelMap(torch.zeros(SIZES[name[:-4]])), SEMANTIC)
    assert all(target.labels.shape == features.working for features, target in maps)
    assert torch.equal(cda.StreamDataset(streams, small, made)[0][1].boxes, boxes), "no working size was read"
    plain = cda.StreamDataset(streams, small, lambda name: boxes, SEMANTIC)
    assert torch.equal(plain[0][1], boxes), "nobody knows what a plain tensor means"


def test_a_transform_makes_the_item(small, streams):
    pooled = lambda features, label: (features.pyramid[3].mean((0, 2, 3)), label + 1)  # noqa: E731
    dataset = cda.StreamDataset(streams, small, "folders", SEMANTIC, transform=pooled)
    vectors, labels = dataset.collate([dataset[0], dataset[4]])
    assert vectors.shape == (2, small.feature_spec.pyramid[3]) and labels.tolist() == [1, 2]
    assert cda.StreamDataset(streams, small, transform=lambda features: features.embedding)[0].ndim == 2


# -- batches ---------------------------------------------------------------------------------


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5), st.booleans())
def test_padding_adds_zeros_and_changes_nothing(grids, detail):
    """Whatever the sizes: each photograph's cells are where they were, `valid` says which, and scales stay."""
    generator = torch.Generator().manual_seed(len(grids))
    parts = []
    for rows, columns in grids:
        h, w = 32 * rows, 32 * columns
        maps = [torch.rand(1, 2, -(-h // s), -(-w // s), generator=generator) + 1 for s in STRIDES]
        last = torch.rand(1, 3, rows, columns, generator=generator) if detail else None
        parts.append(Features([(7 * rows, 50 * columns)], torch.rand(1, 4, generator=generator), maps, last))
    batch = Features.padded(parts)
    assert len(batch) == len(parts) and batch.sizes == [part.sizes[0] for part in parts]
    assert batch.scales() == [part.scales()[0] for part in parts]
    assert batch.grid == (32 * max(r for r, _ in grids), 32 * max(c for _, c in grids))
    for n, part in enumerate(parts):
        assert torch.equal(batch.embedding[n], part.embedding[0])
        for level in range(4):
            own, inside = batch.pyramid[level][n], batch.valid(level)[n]
            assert torch.equal(own[:, inside].flatten(), part.pyramid[level][0].flatten())
            assert not own[:, ~inside].any()
    assert same(batch[1:2], Features.padded(parts)[1:2])
    if len(set(grids)) == 1:
        assert batch.workings is None and batch.working == batch.grid
    else:
        with pytest.raises(ValueError, match="are padded"):
            _ = batch.working
        again = Features.padded([batch, *parts])  # a padded batch may be padded further
        assert again.scales() == 2 * batch.scales() and torch.equal(again.valid(0)[: len(batch)], batch.valid(0))


def test_features_of_different_layers_are_no_batch(small, streams):
    paths = [streams / "cat" / "a.cda", streams / "cat" / "b.cda"]
    parts = [small.features(path, layers) for path, layers in zip(paths, (("global",), SEMANTIC), strict=True)]
    with pytest.raises(ValueError, match="read from different layers"):
        Features.padded(parts)


def test_collate_joins_targets_that_can_be_joined(small, streams):
    def batch(targets):
        dataset = cda.StreamDataset(streams, small, targets)
        return dataset.collate([dataset[0], dataset[3]])[1]

    assert batch("folders").tolist() == [0, 1] and batch("folders").dtype == torch.int64
    assert batch([ClassLabel(3)] * 5).tolist() == [3, 3] and batch([0.5] * 5).tolist() == [0.5, 0.5]
    assert batch(torch.arange(10.0).reshape(5, 2)).shape == (2, 2) and batch([np.ones(3)] * 5).shape == (2, 3)
    assert batch([torch.ones(n) for n in range(5)])[1].shape == (3,) and batch([{"a": 1}] * 5) == [{"a": 1}] * 2
    dataset = cda.StreamDataset(streams, small)
    assert len(dataset.collate([dataset[0], dataset[1], dataset[2]])) == 3


def test_batches_of_equal_sizes_need_no_padding(small, streams):
    dataset = cda.StreamDataset(streams, small, "folders", SEMANTIC)
    sampler = dataset.batches(2)
    epochs = [list(sampler) for _ in range(6)]
    for batches in epochs:
        assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3, 4] and len(batches) == len(sampler)
        assert all(dataset.collate([dataset[i] for i in batch])[0].workings is None for batch in batches)
    assert len({str(batches) for batches in epochs}) > 1 and epochs[0] != epochs[1]
    again = dataset.batches(2)
    assert [list(again) for _ in range(6)] == epochs
    assert list(dataset.batches(2, shuffle=False)) == list(dataset.batches(2, shuffle=False))
    mixed = dataset.collate([dataset[0], dataset[1]])[0]
    assert mixed.workings == [(64, 96), (96, 64)]
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        dataset.batches(0)


def test_heads_refuse_batches_that_are_padded(three_tasks, streams):
    dataset = cda.StreamDataset(streams, three_tasks, layers=SEMANTIC)
    mixed = dataset.collate([dataset[0], dataset[1]])
    for task in ("detection", "segmentation"):
        with pytest.raises(ValueError, match="are padded"):
            three_tasks.heads[task].predict(mixed)
    assert len(three_tasks.heads["classification"].predict(mixed)) == 2


@pytest.mark.parametrize(("context", "named"), [("fork", False), pytest.param("spawn", True, marks=pytest.mark.slow)])
def test_workers_give_what_this_process_gives(small, small_folder, streams, context, named):
    dataset = cda.StreamDataset(streams, small_folder if named else small, "folders", SEMANTIC, memory=True)
    here = list(DataLoader(dataset, 3, collate_fn=dataset.collate))
    there = list(DataLoader(dataset, 3, collate_fn=dataset.collate, num_workers=1, multiprocessing_context=context))
    assert len(here) == len(there) == 2
    for (features, labels), (others, same_labels) in zip(here, there, strict=True):
        assert same(features, others) and features.workings == others.workings and labels.equal(same_labels)


# -- caches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("memory", [False, True])
def test_what_is_cached_is_not_decoded_again(small, streams, tmp_path, monkeypatch, latents, memory):
    made = lambda **more: cda.StreamDataset(streams, small, layers=SEMANTIC, latents=latents, **more)  # noqa: E731
    equal = (lambda a, b: a.equals(b)) if latents else same
    keep = {"memory": True} if memory else {"cache": tmp_path / "cache"}
    dataset, fresh = made(**keep).preload(), list(made())
    with monkeypatch.context() as patch:
        for verb in ("features", "to_latents"):
            patch.setattr(type(small), verb, lambda *a: pytest.fail("decoded again"))
        others = [dataset] if memory else [dataset, made(**keep)]
        assert all(equal(a, b) for each in others for a, b in zip(each, fresh, strict=True))
    dataset[0].embedding.zero_()
    assert equal(dataset[0], fresh[0]), "what a user changes is not what is kept"


def test_a_cache_tells_apart_what_differs_and_mends_itself(small, streams, tmp_path):
    half = cda.StreamDataset(streams, small, cache=tmp_path, dtype=torch.float16)
    full = cda.StreamDataset(streams, small, cache=tmp_path)
    assert half[0].embedding.dtype == torch.float16 and full[0].embedding.dtype == torch.float32
    assert cda.StreamDataset(streams, small, layers=SEMANTIC, cache=tmp_path)[0].pyramid
    assert cda.StreamDataset(streams, small, cache=tmp_path, latents=True)[0].embedding.dtype == torch.int32
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    assert same(full[0], small.features(streams / "cat" / "a.cda"))


# -- latents and training --------------------------------------------------------------------


def test_latents_are_those_of_the_streams(small, streams):
    dataset = cda.StreamDataset(streams, small, "folders", ("global", "spatial", "detail"), latents=True)
    for name, (latents, _) in zip(dataset.names, dataset, strict=True):
        assert latents.equals(small.to_latents([streams / name]))
    twice = dataset.collate([dataset[1], dataset[1]])[0]
    assert len(twice) == 2 and twice[1].equals(dataset[1][0])
    with pytest.raises(ValueError, match="use batches"):
        dataset.collate([dataset[0], dataset[1]])
    assert sum(len(dataset.collate([dataset[i] for i in batch])[1]) for batch in dataset.batches(3)) == 5


@pytest.mark.parametrize("source", ["model", "dataset", "batch"])
def test_networks_learn_on_features(small, streams, source):
    """Tensors made in inference mode cannot be kept for a gradient."""
    dataset = cda.StreamDataset(streams, small, layers=SEMANTIC)
    features = {
        "model": lambda: small.features(streams / "cat" / "a.cda", SEMANTIC),
        "dataset": lambda: dataset[0],
        "batch": lambda: dataset.collate([dataset[0], dataset[1]]),
    }[source]()
    probe, conv = torch.nn.Linear(small.feature_spec.embedding, 2), torch.nn.Conv2d(small.feature_spec.pyramid[0], 1, 1)
    (probe(features.embedding).sum() + conv(features.pyramid[0]).sum()).backward()
    assert probe.weight.grad.abs().sum() > 0 and conv.weight.grad.abs().sum() > 0


def test_this_librarys_heads_learn_from_its_batches(three_tasks, streams):
    targets = lambda name: Instances(torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([1]))  # noqa: E731
    dataset = cda.StreamDataset(streams, three_tasks, targets, SEMANTIC)
    head = three_tasks.new_head("detection", classes=["cat", "dog"])
    for features, boxes in DataLoader(dataset, batch_sampler=dataset.batches(2), collate_fn=dataset.collate):
        loss = sum(head.loss(features, boxes).values())
        loss.backward()
        assert torch.isfinite(loss)


@pytest.mark.parametrize(("left", "top"), [(60, 40), (260, 40), (60, 200), (330, 180)])
def test_a_change_in_the_photograph_is_in_the_cells_that_the_geometry_names(photo, chelsea, left, top):
    """A square appears; at strides 8 and 16 features change most around its place."""
    plain = np.full((300, 451, 3), 120, np.uint8)
    marked = plain.copy()
    marked[top : top + 60, left : left + 60] = chelsea[80:140, 160:220]
    one, other = (photo.features(photo.encode(x, 1.0, SEMANTIC), SEMANTIC) for x in (plain, marked))
    box = other.to_working(torch.tensor([[left, top, left + 60.0, top + 60]]))[0]
    for level in (0, 1):
        change = (one.pyramid[level] - other.pyramid[level])[0].square().sum(0)
        change = change.where(change > change.max() / 2, 0)
        rows, columns = (STRIDES[level] * (torch.arange(n) + 0.5) for n in change.shape)
        center = (change.sum(0) * columns).sum() / change.sum(), (change.sum(1) * rows).sum() / change.sum()
        assert torch.allclose(torch.stack(center), (box[:2] + box[2:]) / 2, atol=16)


# -- bad files -------------------------------------------------------------------------------


def spoil(kind: str, path: Path, small) -> str:
    """Spoil a stream; gives what is said of it."""
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) - 5])
    elif kind == "damaged":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif kind == "another model's":
        path.write_bytes(data[:2] + bytes([data[2] ^ 1]) + data[3:])
    elif kind == "without a layer":
        path.write_bytes(cda.strip(data, ("global",)))
    elif kind == "no stream":
        path.write_bytes(b"GIF89a")
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        path.symlink_to(path.parent / "nowhere.cda")
    return {"without a layer": "has no spatial layer", "a folder": "is a folder", "gone": ""}.get(kind, "")


KINDS = ["truncated", "damaged", "another model's", "without a layer", "no stream", "a folder", "gone"]


@pytest.fixture
def copies(streams, tmp_path) -> list[Path]:
    """Three streams of their own."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.cda").write_bytes((streams / "cat" / "a.cda").read_bytes())
    return sorted(tmp_path.glob("*.cda"))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_streams_are_named_or_left_out(three_tasks, small, copies, kind):
    says = spoil(kind, copies[1], small)
    with pytest.raises((cda.StreamError, FileNotFoundError), match=rf"b\.cda.*({says})"):
        cda.StreamDataset(copies, small, [1, 2, 3], SEMANTIC)
    with pytest.warns(InputWarning, match=r"left out: .*b\.cda"):
        dataset = cda.StreamDataset(copies, small, [1, 2, 3], SEMANTIC, errors="skip")
    assert dataset.targets == [1, 3] and len(dataset) == 2 and dataset.names[1] == copies[2].as_posix()
    found = []
    with pytest.raises((cda.StreamError, FileNotFoundError), match=rf"b\.cda.*({says})"):
        for path, result in three_tasks.stream_predictions(copies):
            found.append((path, result))
    assert [path for path, _ in found] == copies[:1], "what came before it was given"
    with pytest.warns(InputWarning, match=r"left out: .*b\.cda") as caught:
        found = list(three_tasks.stream_predictions(copies, errors="skip"))
    assert [path for path, _ in found] == [copies[0], copies[2]] and len(caught) == 1
    assert found[1][1] == three_tasks.analyze(copies[2])


def test_a_stream_that_goes_bad_later_is_named(small, copies):
    dataset = cda.StreamDataset(copies, small)
    copies[1].write_bytes(b"GIF89a")
    with pytest.raises(cda.StreamError, match=r"b\.cda: not a \.cda stream"):
        dataset[1]


def test_nothing_to_read_is_a_sentence(small, tmp_path):
    for source, kind, says in (
        (tmp_path, ValueError, "no .cda files in"),
        ([], ValueError, "the list of streams is empty"),
        (tmp_path / "none", FileNotFoundError, "no such file or folder"),
    ):
        with pytest.raises(kind, match=says):
            cda.StreamDataset(source, small)
        with pytest.raises(kind, match=says):
            small.stream_predictions(source)
    (tmp_path / "bad.cda").write_bytes(b"bad")
    with pytest.raises(ValueError, match="none of the streams can be read"), pytest.warns(InputWarning):
        cda.StreamDataset(tmp_path, small, errors="skip")
    for wrong in ({"errors": "ignore"}, {"batch_size": 0}, {"tasks": ["sound"]}):
        with pytest.raises(ValueError, match=r"errors must be|batch_size must be|unknown task"):
            small.stream_predictions([tmp_path / "bad.cda"], **wrong)
    with pytest.raises(ValueError, match="got bytes in a list"):
        small.stream_predictions([b"bytes"])
    with pytest.raises(ValueError, match="errors must be"):
        cda.StreamDataset(tmp_path, small, errors="ignore")


# -- folders of streams, and paths -----------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_predictions_of_a_folder_come_in_order(three_tasks, streams, batch_size, capsys):
    expected = [(streams / f"{name}.cda") for name in SIZES]
    found = list(three_tasks.stream_predictions(streams, ["classification", "detection"], batch_size))
    assert [path for path, _ in found] == expected
    for path, result in found:
        alone = three_tasks.analyze(path, ["classification", "detection"])
        assert list(result) == list(alone) and result.detection.labels == alone.detection.labels
        assert np.allclose(result.detection.boxes, alone.detection.boxes, atol=1e-2)
    turned = three_tasks.stream_predictions((str(path) for path in expected[::-1]), "classification", batch_size)
    assert [path for path, _ in turned] == expected[::-1] and not capsys.readouterr().err
    assert len(list(three_tasks.stream_predictions(streams, progress=True))) == 5
    assert capsys.readouterr().out == ""


def test_predictions_are_read_a_batch_at_a_time(three_tasks, streams, monkeypatch):
    read = []
    monkeypatch.setattr(type(three_tasks), "analyze_batch", lambda self, group, tasks: read.append(len(group)) or group)
    first = next(iter(three_tasks.stream_predictions(streams, batch_size=2)))
    assert read == [2] and first[0] == streams / "cat" / "a.cda"


VERBS = {
    "analyze": lambda model, path: model.analyze(path).to_dict(),
    "analyze_batch": lambda model, path: model.analyze_batch(p for p in [path])[0].to_dict(),
    "embed": lambda model, path: model.embed(path).tolist(),
    "embed_batch": lambda model, path: model.embed_batch([path, path])[1].tolist(),
    "features": lambda model, path: model.features(path).embedding.tolist(),
    "decode": lambda model, path: model.decode(path).tobytes(),
    "decode_batch": lambda model, path: model.decode_batch([path])[0].tobytes(),
    "to_latents": lambda model, path: model.to_latents([path]).embedding.tolist(),
    "header": lambda model, path: model.header(path),
    "bit_maps": lambda model, path: model.bit_maps(path)["spatial"].tolist(),
    "estimated_bits": lambda model, path: model.estimated_bits(path),
    "class_logits": lambda model, path: model.class_logits([path]).tolist(),
    "inspect": lambda model, path: cda.inspect(path),
    "strip": lambda model, path: cda.strip(path),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [str, Path, Named, memoryview])
def test_every_verb_takes_paths_where_it_takes_bytes(small, streams, verb, kind):
    path = streams / "cat" / "a.cda"
    given = memoryview(path.read_bytes()) if kind is memoryview else kind(path)
    assert VERBS[verb](small, given) == VERBS[verb](small, path.read_bytes())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_the_file_that_is_bad(small, copies, verb):
    copies[1].write_bytes(b"GIF89a")
    with pytest.raises(cda.StreamError, match=r"^\S*b\.cda: not a \.cda stream$"):
        VERBS[verb](small, copies[1])
    with pytest.raises(cda.StreamError, match=r"^\S+: it is a folder"):
        VERBS[verb](small, copies[1].parent)
    with pytest.raises(FileNotFoundError):
        VERBS[verb](small, copies[1].parent / "none.cda")


def test_photographs_may_be_paths_of_any_kind(small, image, tmp_path):
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.png")
    expected = small.encode(image)
    assert all(small.encode(kind(tmp_path / "a.png")) == expected for kind in (str, Path, Named))


@pytest.mark.parametrize("verb", ["encode_batch", "analyze_batch", "decode_batch", "embed_batch"])
def test_one_thing_is_no_list(small, streams, verb):
    path = streams / "cat" / "a.cda"
    for one in (str(path), path, path.read_bytes()):
        with pytest.raises(ValueError, match=rf"{verb} takes a list, got one \w+: use {verb[:-6]}, or"):
            getattr(small, verb)(one)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_one_photograph_is_no_list_of_its_rows(small, image, kind):
    one = kind(image if kind is np.asarray else image.transpose(2, 0, 1).copy())
    with pytest.raises(ValueError, match=r"encode_batch takes a list, got one \w+: use encode, or"):
        small.encode_batch(one)
    with pytest.raises(ValueError, match=r"analyze takes a list, got one \w+: write"):
        small.reference.analyze(one)
    assert small.encode_batch(one[None]) == [small.encode(image)]


def test_an_empty_name_is_not_the_working_directory(small, streams, monkeypatch):
    monkeypatch.chdir(streams)
    with pytest.raises(FileNotFoundError, match="empty"):
        cda.StreamDataset("", small)
    assert len(cda.StreamDataset(".", small)) == len(SIZES)


def test_names_may_be_an_array(small, streams):
    paths = [str(streams / "cat" / "a.cda"), str(streams / "cat" / "b.cda")]
    assert len(small.analyze_batch(np.array(paths))) == len(small.analyze_batch(paths)) == 2


def test_one_row_of_a_batch_is_a_batch_of_one(small, image):
    images = [image, image[::-1].copy()]
    features, latents = small.reference.features(images), small.to_latents(small.encode_batch(images, 0.3))
    for index in (0, 1, -1):
        part = slice(index % 2, index % 2 + 1)
        assert len(features[index]) == 1 and features[index].sizes == features.sizes[part]
        assert torch.equal(features[index].embedding, features.embedding[part])
        assert torch.equal(latents[index].detail, latents[part].detail) and len(latents[part]) == 1
    assert len(latents[:]) == len(features[:]) == len(list(features)) == 2
    for batch in (features, latents):
        with pytest.raises(IndexError):
            batch[2]


def test_a_writer_wants_photographs_of_one_size(small, image):
    height, width = image.shape[:2]
    for images, sizes in (([], "none"), ([image, image[:-1]], f"{width}x{height - 1}, {width}x{height}")):
        with pytest.raises(ValueError, match=rf"one or more photographs of one size, got {sizes}"):
            small.writer(images)


@pytest.mark.parametrize("layers", [2, None, object(), "global", (), ("detail",)])
def test_layers_are_a_list_of_names(small, image, layers):
    with pytest.raises(ValueError, match="layers must be the first one or more of global, spatial, detail"):
        small.encode(image, layers=layers)


def test_a_picture_that_pillow_has_opened_and_cannot_read_is_refused_like_its_file(small, image, tmp_path):
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with pytest.raises(ValueError, match="the image cannot be read"):
        small.encode(Image.open(tmp_path / "a.png"))


def test_the_front_door_takes_a_model_by_name_alone(small, small_folder, image):
    stream = cda.encode(image, 0.3, model=str(small_folder))
    assert cda.decode(stream, model=str(small_folder)).tobytes() == small.decode(stream).tobytes()
    with pytest.raises(ValueError, match="not trained for realism"):
        cda.decode(stream, False, 0.5, model=str(small_folder))
    for verb, before in ((cda.analyze, [None]), (cda.embed, []), (cda.decode, [False, 0.0])):
        with pytest.raises(TypeError, match="positional"):
            verb(stream, *before, str(small_folder))


def test_the_front_door_imports_torch_only_when_asked(small):
    assert "StreamDataset" in cda.__all__ and cda.StreamDataset.__module__ == "cdanalysis.stream_dataset"
    with pytest.raises(AttributeError, match="no attribute 'StreamDatasets'"):
        _ = cda.StreamDatasets
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert small.feature_spec.embedding > 0
