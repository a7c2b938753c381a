"""Models on the Hugging Face Hub, by a stub of its client that keeps repositories in a folder: nothing is sent."""

from __future__ import annotations

import inspect
import json
import shutil
import socket
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import cdanalysis as cda
from cdanalysis.registry import HUBS
from cdanalysis.zoo import COUNTERPARTS, METRICS, RECIPE, TEACHERS, WEIGHTS, find

huggingface_hub = pytest.importorskip("huggingface_hub")

from huggingface_hub import errors  # noqa: E402

from cdanalysis.integrations import huggingface  # noqa: E402

Client, download = huggingface_hub.HfApi, huggingface_hub.snapshot_download
ANSWER = SimpleNamespace(headers={}, request=None)


class StubHub:
    """What this library asks of the hub's client, with the client's own signatures and checks of names."""

    def __init__(self, root: Path):
        self.root, self.downloads, self.made, self.commits = root, 0, {}, []

    def client(self, **_: object) -> StubHub:
        return self

    def create_repo(self, *args: object, **options: object) -> None:
        bound = inspect.signature(Client.create_repo).bind(self, *args, **options).arguments
        huggingface_hub.utils.validate_repo_id(bound["repo_id"])
        self.made.setdefault(bound["repo_id"], bound)
        (self.root / bound["repo_id"] / "main").mkdir(parents=True, exist_ok=True)

    def create_branch(self, *args: object, **options: object) -> None:
        bound = inspect.signature(Client.create_branch).bind(self, *args, **options).arguments
        (self.root / bound["repo_id"] / bound["branch"]).mkdir(exist_ok=True)

    def upload_folder(self, **options: object) -> SimpleNamespace:
        bound = inspect.signature(Client.upload_folder).bind(self, **options).arguments
        source = Path(bound["folder_path"])
        target = self.root / bound["repo_id"] / (bound["revision"] or "main")
        for path in target.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in bound["delete_patterns"]):
                path.unlink()
        for path in source.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in bound["allow_patterns"]):
                shutil.copyfile(path, target / path.name)
        self.commits.append(bound)
        address = f"stub:{bound['repo_id']}"
        return SimpleNamespace(commit_url=f"{address}/commit", pr_url=f"{address}/discussions/1")

    def snapshot_download(self, *args: object, **options: object) -> str:
        bound = inspect.signature(download).bind(*args, **options).arguments
        huggingface_hub.utils.validate_repo_id(bound["repo_id"])
        self.downloads += 1
        repository = self.root / bound["repo_id"]
        if not repository.is_dir():
            raise errors.RepositoryNotFoundError("404", response=ANSWER)
        folder = repository / (bound["revision"] or "main")
        if not folder.is_dir():
            raise errors.RevisionNotFoundError("404", response=ANSWER)
        return str(folder)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> StubHub:
    stub = StubHub(tmp_path / "hub")

    def refuse(*_: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub, "HfApi", stub.client)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stub.snapshot_download)
    huggingface._downloaded.cache_clear()
    yield stub
    huggingface._downloaded.cache_clear()


def metadata(card: str) -> dict[str, object]:
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_a_model_that_was_pushed_is_the_model_that_is_loaded(hub, small, image):
    address = small.push_to_hub("me/small", license="apache-2.0", tags=["cats"], private=True)
    assert address == "stub:me/small/commit" and hub.made["me/small"]["private"] is True
    there = cda.load("hf-hub:me/small")
    assert there.fingerprint == small.fingerprint and list(there.heads) == list(small.heads)
    stream = small.encode(image)
    assert there.analyze(stream).classification == small.analyze(stream).classification
    assert torch.equal(there.embed(stream), small.embed(stream))
    folder = find("hf-hub:me/small")
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, TEACHERS, "README.md"}
    assert hub.downloads == 1, "the hub is asked once in a process"


def test_a_card_says_what_the_model_knows(hub, three_tasks):
    three_tasks.push_to_hub("me/three", license="mit", tags=["street"])
    card = (hub.root / "me" / "three" / "main" / "README.md").read_text()
    known = metadata(card)
    assert known["license"] == "mit" and known["library_name"] == "cdanalysis"
    assert known["fingerprint"] == three_tasks.fingerprint
    assert {"cdanalysis", "image-classification", "object-detection", "image-segmentation", "street"} <= set(
        known["tags"]
    )
    assert 'cda.load("hf-hub:me/three")' in card and "3 classes: cat, dog, cup" in card
    assert three_tasks.fingerprint in card and "Nothing has been measured" in card


def test_no_license_is_made_up(hub, small):
    small.push_to_hub("me/small")
    assert "license" not in metadata((hub.root / "me/small/main/README.md").read_text())


@pytest.fixture
def measured(small_folder, tmp_path) -> Path:
    """A model's folder with a recipe, and figures of it and of another model."""
    folder = tmp_path / "measured"
    shutil.copytree(small_folder, folder)
    own = huggingface.describe(folder)["fingerprint"]
    part = {"photographs": 7, "rows": [{"input": "stream", "top1": 0.625}, {"input": "photograph", "top1": 0.75}]}
    other = {"fingerprint": "abcdef", "data": "sets/b", "classification": {"rows": [{"top1": 0.123456}]}}
    figures = {"hardware": "any", "a": {"fingerprint": own, "data": "sets/a", "classification": part}, "b": other}
    (folder / METRICS).write_text(json.dumps(figures))
    (folder / RECIPE).write_text("name: small\n")
    return folder


def test_a_folder_is_pushed_with_its_recipe_and_figures(hub, measured):
    huggingface.push_to_hub(measured, "me/measured")
    there = hub.root / "me/measured/main"
    assert (there / RECIPE).read_text() == "name: small\n" and (there / METRICS).is_file()
    card = (there / "README.md").read_text()
    assert "Classification: sets/a, 7 photographs" in card and "| stream | 0.625 |" in card
    assert "sets/b" not in card, "figures of another model are no figures of this one"


def test_a_card_that_is_there_stays_and_its_metadata_are_completed(hub, measured):
    text = "---\nlicense: cc-by-4.0\nfingerprint: 'abcdef'\ntags:\n- mine\n---\n\n# My model\n\nWritten by hand.\n"
    (measured / "README.md").write_text(text)
    huggingface.push_to_hub(measured, "me/measured")
    card = (hub.root / "me/measured/main/README.md").read_text()
    known = metadata(card)
    assert known["license"] == "cc-by-4.0" and known["library_name"] == "cdanalysis"
    assert known["fingerprint"] == huggingface.describe(measured)["fingerprint"], "of the weights that are there"
    assert known["tags"][0] == "mine" and "cdanalysis" in known["tags"]
    assert "Written by hand." in card and "Results" not in card
    huggingface.push_to_hub(measured, "me/measured", license="mit")
    assert metadata((hub.root / "me/measured/main/README.md").read_text())["license"] == "mit"
    assert (measured / "README.md").read_text() == text, "the folder itself is only read"


def test_a_card_without_metadata_gets_some(measured):
    (measured / "README.md").write_text("# My model\n")
    card = huggingface.model_card(measured)
    assert metadata(card)["library_name"] == "cdanalysis" and card.rstrip().endswith("# My model")


def test_revisions(hub, small, three_tasks):
    small.push_to_hub("me/model")
    three_tasks.push_to_hub("me/model", revision="three", commit_message="More heads")
    assert list(cda.load("hf-hub:me/model@three").heads) == list(three_tasks.heads)
    assert list(cda.load("hf-hub:me/model").heads) == list(small.heads)
    assert hub.commits[-1]["commit_message"] == "More heads"
    assert small.push_to_hub("me/model", create_pr=True).endswith("discussions/1")
    with pytest.raises(FileNotFoundError, match="no such revision"):
        cda.load("hf-hub:me/model@none")


def test_what_a_model_no_longer_has_does_not_stay_on_the_hub(hub, small):
    small.push_to_hub("me/small")
    (hub.root / "me/small/main" / COUNTERPARTS).write_bytes(b"of another model")
    small.push_to_hub("me/small")
    assert not (hub.root / "me/small/main" / COUNTERPARTS).exists()


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("hf-hub:me/none", FileNotFoundError, "that you may see"),
        ("hf-hub:me/other", FileNotFoundError, "holds no model of this library"),
        ("hf-hub:me/foreign", ValueError, "not a model of this library"),
        ("hf-hub:a/b/c", ValueError, "not a name that the hub allows"),
        ("hf-hub:", ValueError, "not a name that the hub allows"),
        ("hf-hub:me/other@", ValueError, "no revision after the @"),
    ],
)
def test_names_that_cannot_be_loaded_get_a_sentence(hub, name, error, words):
    (hub.root / "me/other/main").mkdir(parents=True)
    (hub.root / "me/foreign/main").mkdir(parents=True)
    (hub.root / "me/foreign/main" / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(error, match=words) as caught:
        cda.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raised", "error", "words"),
    [
        (errors.LocalEntryNotFoundError("offline"), FileNotFoundError, "cannot be reached"),
        (errors.HfHubHTTPError("429 too\nmany", response=ANSWER), OSError, "refuses.*429 too many"),
        (errors.LocalTokenNotFoundError("none"), OSError, "hf auth login"),
    ],
)
def test_what_the_client_raises_gets_a_sentence(hub, monkeypatch, small, raised, error, words):
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(hub, "create_repo", fail)
    for attempt in (lambda: cda.load("hf-hub:me/small"), lambda: small.push_to_hub("me/small")):
        with pytest.raises(error, match=words):
            attempt()


def test_a_hub_of_another_package(small, small_folder, monkeypatch):
    pushed = {}

    class Shelf:
        def download(self, name: str) -> Path:
            return {"small": small_folder}[name]

        def push(self, model: object, name: str) -> str:
            pushed[name] = model
            return name

    monkeypatch.setitem(HUBS._registered, "shelf", Shelf())
    assert cda.load("shelf:small").fingerprint == small.fingerprint


def test_what_is_saved_twice_is_the_same_and_is_loaded(small, tmp_path):
    small.save(tmp_path / "a")
    small.save(tmp_path / "b")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()
    assert cda.load(str(tmp_path / "a")).fingerprint == small.fingerprint
