"""The house keeps its order: imports go one way, modules stay small, the papers stay true."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cdanalysis"

# Rooms from the ground up; a room imports only from floors below its own (or from itself).
FLOORS = {
    "latents": 0, "targets": 0, "observers": 0, "blocks": 0, "files": 0, "memory": 0, "processes": 0,
    "stream": 1, "data": 1, "heads": 1,
    "codec": 2, "results": 2, "importance": 3, "encoding": 3, "reference": 3,
    "model": 4, "zoo": 5, "training": 6, "": 6, "evaluation": 7, "jobs": 8, "integrations": 9,
    "commands": 10, "cli": 11,
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0].replace("__init__", "")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a module imports when it runs; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(parts[: len(parts) - node.level])
            target = base + (node.module.split(".") if node.module else [])
            names = [target[0]] if target else [a.name for a in node.names]
            rooms |= {n if n in FLOORS else "" for n in names}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "cdanalysis":
            raise AssertionError(f"{path} should import relatively")
    return rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = room(path)
    for target in imported_rooms(path) - {here}:
        lazily_up = here in ("", "model") and target in ("zoo", "model", "training")  # inside functions only
        assert FLOORS[target] < FLOORS[here] or lazily_up, f"{here} imports {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small(path):
    assert len(path.read_text().splitlines()) <= 320


def test_every_public_thing_says_what_it_is():
    missing = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node) and path.name not in ("commands.py", "cli.py"):
                missing.append(f"{path.name}: {node.name}")
    assert not missing


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.strip().splitlines()]


def test_ci_runs_the_readmes_two_commands():
    script = (ROOT / ".ci" / "run").read_text()
    first, second = readme_commands()[:2]
    assert first in script and second in script


def test_nothing_of_the_data_sets_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [f for f in files if re.search(r"\.(tar|JPEG|onnx|pth)$|kodim", f)]
    assert all((ROOT / f).stat().st_size <= 25 * 10**6 for f in files if (ROOT / f).is_file())


def test_documents_link_only_to_what_exists():
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "model_zoo").glob("*/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
