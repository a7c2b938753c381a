"""The house keeps its order: imports go one way, every public thing says what it is, the papers stay true."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cdanalysis"

# Rooms from the ground up; a room imports only from floors below its own (or from itself).
TREE = (
    "registry blocks files memory processes version", "structures", "stream data", "metrics", "observers roi heads",
    "codec", "reference", "model", "zoo", "codecs training", "benchmarks", "evaluation", "reports", "", "batch",
    "integrations", "commands", "cli",
)  # fmt: skip
FLOORS = {name: floor for floor, names in enumerate(TREE) for name in names.split() or [""]}
MODULES = sorted(PACKAGE.rglob("*.py"))
CIRCLES = [{"codec/encoder", "codec/layered", "codec/second_look"}]
"""Modules that name each other in annotations; nothing else may."""


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0].replace("__init__", "")


def imported_modules(path: Path, lazy: bool = True) -> set[str]:
    """Modules of this package that a module imports, those for type checkers alone included, as ``room/module``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*parts[: len(parts) - node.level], *(node.module.split(".") if node.module else [])]
            for name in node.names:
                whole = PACKAGE.joinpath(*base, name.name)
                module = whole if whole.with_suffix(".py").exists() or whole.is_dir() else PACKAGE.joinpath(*base)
                modules.add(str(module.relative_to(PACKAGE)).replace(".", ""))
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "cdanalysis":
            raise AssertionError(f"{path} should import relatively")
    return modules


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    here = room(path)
    for target in {module.split("/")[0] for module in imported_modules(path)} - {here}:
        assert FLOORS[target] < FLOORS[here], f"{here or 'the package'} imports {target or 'the package'}"


def test_no_circles_hidden_or_not():
    name = lambda path: str(path.relative_to(PACKAGE).with_suffix("")).removesuffix("/__init__")  # noqa: E731
    below = {name(path): imported_modules(path) for path in MODULES}

    def reached(start: str) -> set[str]:
        found, rest = set(), [start]
        while rest:
            new = below.get(rest.pop(), set()) - found
            found |= new
            rest += new
        return found

    inside = {module for module in below if module in reached(module)}
    assert inside <= set().union(*CIRCLES), f"modules that import each other: {sorted(inside)}"


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
