"""An archive gives what a look at every stream would give; what is stopped, changed or damaged is found out."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cdanalysis.archive import approximate
from cdanalysis.archive import store as store_module
from cdanalysis.archive.search import Archive
from cdanalysis.archive.sheet import match_page, match_sheet
from cdanalysis.archive.store import Manifest, Row, Store, locked
from cdanalysis.archive.vectors import center_of, directions, largest, nearest, quantized
from cdanalysis.batch import index as index_module
from cdanalysis.batch.index import IndexWork, index_streams
from cdanalysis.batch.run import attempt, in_process
from cdanalysis.cli import main
from cdanalysis.files import json_text, json_value
from cdanalysis.structures.latents import LAYERS, SEMANTIC
from cdanalysis.structures.predictions import SURE

SIZE = 16


def drawn_archive(folder: Path, count: int, seed: int = 0) -> Store:
    """An archive of drawn vectors, in parts of several sizes, with labels and objects."""
    rng = np.random.default_rng(seed)
    classes = {"classification": ["tabby cat, tabby", "dog", "hot dog"], "detection": ["cat", "dog"]}
    tasks = ("classification", "detection")
    store = Store.new(folder, Manifest("drawn", "abcdef", "s", tasks, classes, tuple(rng.standard_normal(SIZE))))
    rows = []
    for n in range(count):
        objects = [(int(rng.integers(2)), round(float(rng.uniform(0.2, 1)), 4), (1.0, 2, 3, 4)) for _ in range(n % 4)]
        labels = [(int(rng.integers(3)), round(float(rng.random()), 4))]
        vector = rng.standard_normal(SIZE)
        rows.append(Row(f"{n:03}.cda", (1, 2, 3, "d"), vector / np.linalg.norm(vector), 8, 6, labels, objects))
    for start, end in ((0, count // 3), (count // 3, count - 1), (count - 1, count)):
        store.add(rows[start:end])
    return store


@pytest.fixture(scope="module")
def encoded(three_tasks, chelsea) -> list[bytes]:
    """Six streams, of pictures of several sizes; two have no picture."""
    streams = []
    for n in range(6):
        image = np.roll(chelsea, 60 * n, 1)[20 * n : 20 * n + 64, : 80 + 8 * n]
        streams.append(three_tasks.encode(image, 0.8, LAYERS if n < 4 else SEMANTIC))
    return streams


@pytest.fixture
def streams(encoded, tmp_path) -> Path:
    """The streams in a folder."""
    folder = tmp_path / "streams"
    (folder / "more").mkdir(parents=True)
    for n, stream in enumerate(encoded):
        (folder / ("more" if n % 2 else ".") / f"{n}.cda").write_bytes(stream)
    return folder


@pytest.fixture
def index(streams, three_tasks_folder, tmp_path):
    """Runs ``index_streams`` on the folder of streams; gives its outcome and the archive."""

    def run(*tasks: str, runner=in_process, **options):
        work = IndexWork(str(three_tasks_folder), tasks=tasks or ("classification",))
        done = index_streams(work, [str(streams)], tmp_path / "archive.index", lambda count: runner, **options)
        return done, Archive(tmp_path / "archive.index")

    return run


def counts(outcome) -> tuple[int, int, int, int]:
    return outcome.streams, outcome.added, outcome.kept, outcome.dropped


def content(archive: Archive) -> dict[str, tuple]:
    """All that an archive holds, by file."""
    vectors = np.concatenate([rows * scales[:, None] for _, rows, scales in archive.store.blocks()])
    columns = [archive.store.column(name).tolist() for name in ("labels", "label_scores", "objects")]
    lines = archive.store.all_lines()
    return {
        line["file"]: (line, vector.tobytes(), *rest)
        for line, vector, *rest in zip(lines, vectors, *columns, strict=True)
    }


@given(st.integers(1, 90), st.integers(1, 40), st.integers(0, 2**16), st.booleans())
def test_the_nearest_are_those_of_a_full_sort(count, k, seed, some):
    rng = np.random.default_rng(seed)
    vectors, queries = rng.integers(-3, 4, (count, 5)).astype(np.float64), rng.standard_normal((3, 5))
    rows, scales = quantized(vectors)  # many are equal: ties go to the first
    chosen = rng.random(count) < 0.5 if some else None
    cut = int(rng.integers(count + 1))
    blocks = lambda: iter([(0, rows[:cut], scales[:cut]), (cut, rows[cut:], scales[cut:])])  # noqa: E731
    numbers, scores = nearest(blocks, queries.astype(np.float32), k, chosen)
    exact = (rows * scales[:, None]).astype(np.float32) @ queries.T.astype(np.float32)
    places = np.arange(count) if chosen is None else np.flatnonzero(chosen)
    assert numbers.shape == scores.shape == (3, min(k, len(places)))
    for query in range(3):
        expected = np.sort(exact[places, query])[::-1][: numbers.shape[1]]
        np.testing.assert_allclose(scores[query], expected, atol=1e-4)
        np.testing.assert_allclose(exact[numbers[query], query], scores[query], atol=1e-4)
        assert len(set(numbers[query])) == numbers.shape[1] and set(numbers[query]) <= set(places)


@given(st.integers(1, 30), st.integers(0, 2**16))
def test_eight_bits_keep_directions(count, seed):
    vectors = np.random.default_rng(seed).standard_normal((count, 64)) * 10.0 ** (seed % 7 - 3)
    rows, scales = quantized(vectors)
    assert np.abs(rows * scales[:, None] - vectors).max() <= 0.51 * scales.max()
    assert largest(scales, 3).tolist() == np.argsort(-scales, kind="stable")[:3].tolist()


def test_filters_choose_what_a_look_at_every_line_would(tmp_path):
    archive = Archive(drawn_archive(tmp_path / "a.index", 60).folder)
    lines = list(archive.store.all_lines())
    scores = lambda line, kind: [s for c, s, _ in line["objects"] if c == kind]  # noqa: E731
    for least in (None, 0.6):
        found = {match.file for match in archive.search(k=99, objects="dog", min_score=least)}
        assert found == {x["file"] for x in lines if max(scores(x, 1), default=0) >= (least or SURE)} and found
    both = archive.search(k=99, objects=["cat", "dog"], min_score=0.3)
    assert {match.file for match in both} == {
        line["file"] for line in lines if all(max(scores(line, kind), default=0) >= 0.3 for kind in (0, 1))
    }
    assert [match.score for match in both] == sorted((match.score for match in both), reverse=True)
    for words, kinds in (("tabby", {0}), ("DOG", {1}), ("cat", {0}), ("hot dog", {2})):
        found = {match.file for match in archive.search(k=99, label=words)}
        assert found == {line["file"] for line in lines if line["labels"][0][0] in kinds}
    query = np.asarray(archive.manifest.center) + np.random.default_rng(5).standard_normal(SIZE)
    near = archive.search(query, 99, label="dog", min_score=0.4)
    all_near = [m for m in archive.search(query, 99) if m.labels[0][0] == "dog" and m.labels[0][1] >= 0.4]
    assert near == all_near and 0 < len(near) < 60


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({}, "nothing to search by"),
        ({"k": 0, "label": "dog"}, "k must be at least 1"),
        ({"label": "doge"}, r"no class 'doge'; it knows .*dog"),
        ({"label": ""}, "no class ''"),
        ({"objects": "tabby"}, "detection knows no class"),
        ({"objects": "dog", "min_score": 0.1}, r"no objects of a score below 0\.2"),
        ({"objects": "dog", "min_score": 1.5}, r"lies in \[0, 1\]"),
        ({"query": np.zeros(3)}, "must be 16 finite numbers"),
        ({"query": np.full(SIZE, np.nan)}, "must be 16 finite numbers"),
    ],
)
def test_what_cannot_be_searched_by_is_refused(tmp_path, call, error):
    archive = Archive(drawn_archive(tmp_path / "a.index", 9).folder)
    with pytest.raises(ValueError, match=error):
        archive.search(**call)


def test_rows_are_what_the_model_says_of_the_streams(index, three_tasks, streams, tmp_path):
    done, archive = index("classification", "detection")
    assert counts(done) == (6, 6, 0, 0) and len(archive) == 6
    paths = sorted(streams.rglob("*.cda"))
    for path in paths:
        embedding, result = three_tasks.embed(path.read_bytes()).numpy(), three_tasks.analyze(path.read_bytes())
        best, *rest = archive.search(embedding, 6)
        assert Path(best.file) == path and best.score > 0.999 and len(rest) == 5
        assert best.labels[0][0] == result.classification.label
        assert best.labels[0][1] == pytest.approx(result.classification.score, abs=1e-4)
        sure = [(name, score) for name, score, _ in best.objects]
        kept = [
            (n, s)
            for n, s in zip(result.detection.labels, result.detection.scores, strict=True)
            if s >= store_module.LEAST
        ]
        # Of scores that are nearly the same, either may come first.
        assert sorted(name for name, _ in sure) == sorted(name for name, _ in kept)
        np.testing.assert_allclose([s for _, s in sure], [s for _, s in kept], atol=1e-4)
        stream = path.read_bytes()
        assert [m.file for m in archive.search(stream)] == [m.file for m in archive.search(embedding)]
        assert archive.search(path)[0] == best or archive.search(path)[0].file == best.file
    assert archive.model.fingerprint == three_tasks.fingerprint  # by the folder that the archive names


def test_classes_of_one_name_are_told_apart(three_tasks, streams, tmp_path):
    """As the two of ImageNet that are called crane."""
    model = copy.deepcopy(three_tasks)
    for task, names in {"classification": ["crane", "dog", "crane"], "detection": ["crane", "crane"]}.items():
        weights = model.heads[task].state_dict()
        model.heads[task] = model.new_head(task, classes=names)
        model.heads[task].load_state_dict(weights)
    model.heads["classification"].classify.bias.data[0] += 100
    model.eval().save(tmp_path / "model")
    work = IndexWork(str(tmp_path / "model"), tasks=("classification", "detection"))
    index_streams(work, [str(streams)], tmp_path / "a.index", lambda count: in_process)
    with pytest.raises(ValueError, match="no streams to index"):
        index_streams(work, [], tmp_path / "none.index", lambda count: in_process)
    assert not (tmp_path / "none.index").exists()
    kinds = set()
    for line in Archive(tmp_path / "a.index").store.all_lines():
        result = model.analyze(Path(line["file"]))
        assert line["labels"][0][0] == result.classification.class_ids[0] == 0
        found = result.detection.above(store_module.LEAST).class_ids.tolist()
        assert sorted(number for number, *_ in line["objects"]) == sorted(found)
        kinds.update(found)
    assert kinds == {0, 1}


def test_a_photograph_finds_its_stream(index, three_tasks, chelsea, tmp_path):
    _, archive = index()
    image = np.roll(chelsea, 120, 1)[40:104, :96]
    Image.fromarray(image).save(tmp_path / "q.png")
    expected = three_tasks.reference.features([image], 1).embedding[0].numpy()
    found = [archive.search(query, 6) for query in (image, Image.fromarray(image), tmp_path / "q.png", expected)]
    assert all([m.file for m in each] == [m.file for m in found[0]] for each in found)
    with pytest.raises(FileNotFoundError):
        archive.search(tmp_path / "none.png")


@pytest.mark.parametrize("kind", [str, Path])
def test_an_archives_model_may_be_a_folder(index, three_tasks_folder, chelsea, kind):
    _, archive = index()
    other = Archive(archive.store.folder, kind(three_tasks_folder))
    assert other.search(chelsea, 2) == archive.search(chelsea, 2)


def test_only_what_is_new_or_changed_is_read_and_what_is_gone_is_dropped(index, streams, monkeypatch, three_tasks):
    first = content(index()[1])
    read = []
    original = IndexWork.__call__
    monkeypatch.setattr(
        IndexWork, "__call__", lambda self, s, t, o: read.append(Path(s).name) or original(self, s, t, o)
    )
    done, archive = index()
    assert counts(done) == (6, 0, 6, 0) and content(archive) == first and not read
    (streams / "0.cda").unlink()
    changed = three_tasks.encode(np.zeros((40, 50, 3), np.uint8))
    (streams / "2.cda").write_bytes(changed)
    (streams / "new.cda").write_bytes(changed)
    done, archive = index()
    assert counts(done) == (6, 2, 4, 2) and sorted(read) == ["2.cda", "new.cda"]
    read.clear()
    assert content(index(overwrite=True)[1]) == content(archive) and len(read) == 6
    done, archive = index("classification", "detection")  # rows of other settings are of no use
    assert counts(done) == (6, 6, 0, 6)


def test_a_run_that_was_stopped_goes_on(index, monkeypatch):
    monkeypatch.setattr(index_module, "FLUSH_ROWS", 2)

    def stopped(work, jobs):
        for number, job in jobs[:3]:
            yield attempt(work, number, job)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(runner=stopped)
    done, archive = index()
    assert counts(done) == (6, 3, 3, 0) and len(content(archive)) == 6
    assert len(list(archive.store.folder.glob("part-*"))) == 2, "parts that are not full are merged"
    assert content(index(overwrite=True)[1]) == content(archive)


def test_a_wish_for_faiss_outlives_what_stops_a_run(index, monkeypatch):
    built = []
    monkeypatch.setattr(approximate, "faiss_module", lambda: None)
    monkeypatch.setattr(approximate, "build", lambda store: built.append(len(store)))

    def stopped(work, jobs):
        yield attempt(work, *jobs[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(faiss=True, runner=stopped)
    assert not built and index()[0].added == 5 and built == [6]
    index("classification", "detection"), index("classification", "detection", overwrite=True)
    assert built == [6, 6, 6], "all rows are others, the wish is the same"


def test_rows_survive_the_way_over_a_cluster(index):
    """What an actor answers is JSON."""
    here = content(index()[1])

    def far(work, jobs):
        for number, job in jobs:
            number, row, wrong = attempt(work, number, job)
            yield number, json_value(json_text(row)), wrong

    assert content(index(runner=far, overwrite=True)[1]) == here


def test_a_damaged_stream_fails_alone_and_its_old_row_goes(index, streams):
    index()
    (streams / "0.cda").write_bytes((streams / "2.cda").read_bytes()[:-1])
    done, archive = index()
    assert counts(done) == (5, 0, 5, 1)
    assert [Path(failure["file"]).name for failure in done.failures] == ["0.cda"]
    assert "0.cda" not in {Path(file).name for file in content(archive)}
    with pytest.raises(ValueError, match=r"0\.cda"):
        index(strict=True)


def test_an_archive_and_its_streams_can_be_moved(index, streams, tmp_path, monkeypatch):
    index()
    (tmp_path / "moved").mkdir()
    for name in ("streams", "archive.index"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    archive = Archive(tmp_path / "moved" / "archive.index")
    assert all(Path(file).is_file() for file in content(archive))
    monkeypatch.chdir(tmp_path / "moved")
    assert {match.file for match in Archive("archive.index").search("streams/0.cda")} >= {"streams/0.cda"}


@settings(max_examples=25)
@given(st.sets(st.integers(0, 29)), st.integers(2, 12))
def test_what_is_dropped_and_merged_leaves_the_rest_as_it_was(tmp_path_factory, gone, full):
    store = drawn_archive(tmp_path_factory.mktemp("archives") / "a.index", 30)
    before = content(Archive(store.folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "PART_ROWS", full)
        store.drop(gone)
        store.merge()
        assert all(part.rows <= max(full, 30 // 3 + 10) for part in store.manifest.parts)
    after = content(Archive(store.folder)) if len(gone) < 30 else {}
    assert after == {file: row for file, row in before.items() if int(Path(file).stem) not in gone}
    assert len(list(store.folder.glob("part-*"))) == 2 * len(store.manifest.parts)


def test_readers_find_a_whole_archive_or_say_that_it_has_changed(tmp_path, monkeypatch):
    drawn_archive(tmp_path / "a", 30)
    early, lines = Store(tmp_path / "a"), list(Store(tmp_path / "a").all_lines())
    stale = early.manifest
    Store(tmp_path / "a").merge()
    for read in (lambda: list(early.blocks()), lambda: early.lines([0]), lambda: early.column("ends")):
        with pytest.raises(ValueError, match="has changed since it was opened"):
            read()
    with pytest.raises(ValueError, match="has changed since it was opened"):
        list(early.all_lines())
    current = store_module._read_manifest
    answers = [stale]  # read just before another command replaced the parts
    monkeypatch.setattr(store_module, "_read_manifest", lambda *words: answers.pop() if answers else current(*words))
    assert list(Store(tmp_path / "a").all_lines()) == lines


def test_what_is_no_archive_or_damaged_or_of_another_model_is_refused(index, small_folder, streams, tmp_path):
    with pytest.raises(FileNotFoundError, match="no archive"):
        Archive(tmp_path / "none")
    with pytest.raises(ValueError, match="is no archive"):
        Archive(streams)
    work = IndexWork(str(small_folder))
    with pytest.raises(ValueError, match="is there already, and no archive"):
        index_streams(work, [str(streams)], streams, lambda count: in_process)
    with pytest.raises(ValueError, match=r"0\.cda is a file"):
        index_streams(work, [str(streams)], streams / "0.cda", lambda count: in_process)
    _, archive = index()
    from conftest import new_small_model

    new_small_model(seed=7).save(tmp_path / "other")
    with pytest.raises(ValueError, match="is an archive of model"):
        other = IndexWork(str(tmp_path / "other"))
        index_streams(other, [str(streams)], archive.store.folder, lambda count: in_process)
    assert len(Archive(archive.store.folder)) == 6, "what another model cannot read is not lost for it"

    with pytest.raises(ValueError, match="name the model that wrote them"):
        Archive(archive.store.folder, new_small_model(seed=7))
    with locked(archive.store.folder), pytest.raises(ValueError, match="another command is writing"):
        index()
    (path,) = archive.store.folder.glob("part-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="damaged or missing"):
        Archive(archive.store.folder)
    path.write_bytes(b"\xff" * 8 + whole[8:])
    with pytest.raises(ValueError, match="is damaged"):
        Archive(archive.store.folder).search(np.zeros(len(archive.manifest.center)))
    _, archive = index(overwrite=True)
    assert len(archive) == 6
    manifest = archive.store.folder / store_module.MANIFEST
    for text in ("{", "[]", '{"format": "cdanalysis archive", "version": 1}'):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=r"is no archive|is damaged"):
            Archive(archive.store.folder)


def test_faiss_finds_most_of_the_nearest_and_follows_changes(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="needs the extra faiss")
    monkeypatch.setattr(approximate, "FEW", 100)
    store = drawn_archive(tmp_path / "a.index", 400)
    approximate.build(store)
    archive = Archive(store.folder)
    queries = np.random.default_rng(1).standard_normal((20, SIZE)) + np.asarray(archive.manifest.center)
    close, scores = archive.nearest(queries, 5)
    exact, own = archive.nearest(queries, 5, exact=True)
    assert np.mean([len(set(a) & set(b)) for a, b in zip(close, exact, strict=True)]) >= 4
    np.testing.assert_allclose(scores[:, 0], own[:, 0], atol=0.05)
    store.drop([0])
    assert not store.manifest.faiss and not list(store.folder.glob("*.faiss"))
    approximate.build(store)
    (file,) = store.folder.glob("*.faiss")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="is damaged"):
        Archive(store.folder).nearest(queries)


def test_a_missing_faiss_is_named_before_anything_is_read(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    _, archive = index()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'cdanalysis\[faiss\]'"):
        index(faiss=True, overwrite=True)
    assert len(Archive(archive.store.folder)) == 6


def test_sheets_show_what_was_found(index, three_tasks, streams):
    _, archive = index()
    matches = archive.search(streams / "0.cda", 6)
    page = match_sheet(three_tasks, matches)
    assert page.width > 5 * 256 and np.asarray(page).std() > 20
    (streams / "2.cda").unlink()
    text = match_page(three_tasks, matches, "all <of> them", page)
    assert text.count("<figure") == 7 and "all &lt;of&gt; them" in text and "<script" not in text
    with pytest.raises(ValueError, match="nothing was found"):
        match_sheet(three_tasks, [])


def test_a_sheet_says_why_there_is_no_picture(index, three_tasks, streams, monkeypatch):
    _, archive = index()
    matches = archive.search(streams / "0.cda", 6)
    data = (streams / "2.cda").read_bytes()
    (streams / "2.cda").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    (streams / "0.cda").write_bytes(b"no stream")
    (streams / "more" / "1.cda").unlink()
    drawn, text = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *a, **k: drawn.append(a[2]) or text(*a, **k))
    match_page(three_tasks, matches, "")
    said = sorted(" ".join(each.split()) for each in drawn)
    for start in ("No such file or directory:", "not a .cda stream", "damaged: the checksum of the detail layer"):
        assert any(each.startswith(start) for each in said), said
    assert sum(each.startswith("the stream has no detail layer") for each in said) == 2 and len(said) == 5
    assert max(len(line) for each in drawn for line in each.splitlines()) <= 60


def test_a_vector_is_searched_by_without_torch(tmp_path, monkeypatch):
    archive = Archive(drawn_archive(tmp_path / "a.index", 9).folder)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert len(archive.search(np.ones(SIZE), 4)) == 4


def test_the_commands(streams, three_tasks_folder, tmp_path, capsys, monkeypatch):
    """Index and search: tables, JSON, sheets, statuses, and nothing decoded without a sheet."""
    monkeypatch.chdir(tmp_path)

    def run(*words, status=0):
        assert main([str(word) for word in words]) == status
        return capsys.readouterr()

    model = ("--model", three_tasks_folder, "--workers", 1)
    (streams / "bad.cda").write_bytes(b"no stream")
    out = run("index", "streams", "-o", "a.index", "--tasks", "detection", "classification", "--json", *model, status=1)
    assert json.loads(out.out)["added"] == 6 and "bad.cda: not a .cda stream" in out.err
    (streams / "bad.cda").unlink()
    assert " 6 " in run("index", "streams", "-o", "a.index", "--tasks", "classification", "detection", *model).out
    with monkeypatch.context() as patch:
        patch.setattr("cdanalysis.model.Model.decode_batch", None)
        found = json.loads(run("search", "streams/0.cda", "-k", 3, "a.index", "--json").out)["found"]
    assert found[0]["file"] == "streams/0.cda" and len(found) == 3 and found[0]["score"] > 0.99
    label = found[0]["labels"][0][0]
    assert "streams/0.cda" in run("search", "a.index", "--label", label, "--sheet", "s.png").out
    assert Image.open("s.png").width > 250
    assert "streams/0.cda" in run("search", "streams/0.cda", "a.index", "--sheet", "s.html").out
    assert Path("s.html").read_text().count("<figure") == 7
    assert "nothing was found among 6 streams" in run("search", "a.index", "--with", "dog", "--min-score", 1).err
    Path("mine.png").write_bytes(b"of somebody else")
    for words, why in {
        ("a.index", "--label", "dgo"): "knows no class",
        ("a.index",): "nothing to search by",
        ("a", "b", "a.index"): "at most one query",
        ("streams/0.cda", "a.index", "--sheet", "s.pdf"): "a contact sheet is one of",
        ("streams/0.cda", "a.index", "--sheet", "mine.png"): "not as a result of cdanalysis",
        ("streams/none.cda", "a.index"): "none.cda",
    }.items():
        assert why in run("search", *words, status=1).err
    wrong = run("index", "streams", "-o", "b.index", "--tasks", "segmentation", *model, status=1).err
    assert "can hold classification and detection, and not 'segmentation'" in wrong
    monkeypatch.setattr("cdanalysis.archive.search.MANY", 5)
    query = ("search", "streams/0.cda", "a.index")
    for words, slow in {
        query: True,
        (*query, "--label", label): False,
        ("search", "a.index", "--label", label): False,
    }.items():
        assert ("6 vectors were compared one by one" in run(*words).err) == slow


@pytest.mark.data
def test_recall_at_ten_is_what_was_published(photo, data_root):
    """Decoded embeddings of 60 photographs find most of what undecoded ones find."""
    from cdanalysis.data.images import ImageSet

    images, center = ImageSet(data_root / "wide" / "val.tar").every(10), center_of(photo)
    pictures = [images.image(n) for n in range(len(images))]
    own = directions(np.stack([photo.reference.features([p], 1).embedding[0].numpy() for p in pictures]), center)
    held = directions(np.stack([photo.embed(photo.encode(p, 0.5, ("global",))).numpy() for p in pictures]), center)
    tops = []
    for archive in (own, held):
        scores = own @ archive.T
        np.fill_diagonal(scores, -2)
        tops.append(np.argsort(-scores, 1)[:, :10])
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*tops, strict=True)]) >= 0.75


def test_an_archive_of_nothing_is_one(index, streams):
    for path in streams.rglob("*.cda"):
        path.write_bytes(b"no stream")
    done, archive = index("classification", "detection")
    assert counts(done) == (0, 0, 0, 0) and len(done.failures) == 6
    center = np.asarray(archive.manifest.center)
    assert archive.search(center) == archive.search(objects="dog") == archive.search(center, label="cat") == []
