"""What is written for people: tutorials and the README run as a reader would run them, and links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import cdanalysis as cda
from cdanalysis import registry, version
from cdanalysis.training.recipe import load_recipe

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "model_zoo").rglob("*.md")),
]


def run_blocks(path: Path, **namespace: object) -> int:
    """Run a page's Python blocks in one namespace; gives their number. A failure names the page and its line."""
    document = Document.parse(str(path), PythonCodeBlockParser())
    document.namespace.update(namespace)
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
    return len(examples)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks(path) >= 4


def test_the_readme_runs(chelsea, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("cats", "dogs"):
        folder = tmp_path / "streams" / kind
        folder.mkdir(parents=True)
        (folder / "a.cda").write_bytes(cda.encode(chelsea[:160, :224], 0.2))
    assert run_blocks(ROOT / "README.md", image=chelsea[:160, :224]) >= 1


def test_a_failing_block_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError):
        run_blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_commands_that_train_name_keys_that_recipes_have():
    """A key that was renamed, of a stage too, is an error."""
    read = 0
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"cdanalysis train (configs/[a-z]\w*\.yaml[^`\n#]*)", text):
            recipe, *words = shlex.split(line)
            load_recipe(ROOT / recipe, [word for word in words if "=" in word])
            read += bool(words)
    assert read >= 2


def test_every_command_and_option_is_documented():
    """The page is what `python tools/commands.py` writes of the commands that there are."""
    page = (ROOT / "docs" / "commands.md").read_text()
    command = "import runpy; print(runpy.run_path('tools/commands.py')['text']())"  # without the heads of other tests
    written = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert written in page
    project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = re.findall(r"^(\w+) = \[", project, re.M)
    listed = re.findall(r"^\| `(\w+)` \|", page.split("## What the extras install")[1], re.M)
    assert sorted(listed) == sorted({*extras} - {"all"})


def test_contributing_has_a_recipe_for_every_registry():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = {name: value for name, value in vars(registry).items() if isinstance(value, registry.Registry)}
    assert found and not [name for name in found if name not in text]
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 5 and all(ast.parse(block).body for block in blocks)
    groups = set(re.findall(r"entry point (cdanalysis\.\w+)", text))
    assert groups and groups <= {value.group for value in found.values()}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version.__version__ and citation["license"] == "Apache-2.0"


def test_every_module_of_the_reference_is_there():
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for name in re.findall(r"^::: cdanalysis\.([\w.]+)$", page.read_text(), re.M):
            parts = name.split(".")
            module = ROOT.joinpath("cdanalysis", *parts)
            here = module.with_suffix(".py").is_file() or (page.stem == "index" and len(parts) == 1)
            assert here, f"{page.name}: {name}"
