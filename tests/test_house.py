"""The house keeps its order: imports go one way, every public thing says what it is, the papers stay true."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cdanalysis"

# Rooms from the ground up; a room imports only from floors below its own (or from itself).
TREE = (
    "faults lean", "registry blocks configs files memory notices version", "photographs",
    "structures processes outputs", "stream data",
    "metrics teachers", "observers roi heads", "codec", "reference model_files", "model", "zoo",
    "codecs stream_dataset", "training", "benchmarks", "evaluation", "reports", "archive app", "", "batch",
    "integrations", "console", "commands", "cli",
)  # fmt: skip
FLOORS = {name: floor for floor, names in enumerate(TREE) for name in names.split() or [""]}
MODULES = sorted(PACKAGE.rglob("*.py"))


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
    below: dict[str, set[str]] = {}
    for path in [*MODULES, *PACKAGE.rglob("*.pyi")]:  # a package's stub says what it exports
        below.setdefault(name(path), set()).update(imported_modules(path))

    def reached(start: str) -> set[str]:
        found, rest = set(), [start]
        while rest:
            new = below.get(rest.pop(), set()) - found
            found |= new
            rest += new
        return found

    inside = {module for module in below if module in reached(module)}
    assert not inside, f"modules that import each other: {sorted(inside)}"


def test_every_public_thing_says_what_it_is():
    missing = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node) and path.name not in ("commands.py", "cli.py"):
                missing.append(f"{path.name}: {node.name}")
    assert not missing


PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_package_says_what_is_in_it_and_exports_it(folder):
    package = importlib.import_module(".".join(folder.relative_to(ROOT).parts))
    described = set(re.findall(r"`(\w+)`", package.__doc__ or ""))
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert package.__all__
    if folder == PACKAGE:  # the front door, which documentation describes
        return
    assert not modules - {"__init__"} - described, "modules that the docstring does not name"
    assert not set(package.__all__) - described, "exported names that the docstring does not name"
    assert not modules & set(package.__all__), "a module would hide what has its name"


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_package_exports_is_there(folder):
    package = importlib.import_module(".".join(folder.relative_to(ROOT).parts))
    for name in package.__all__:
        try:
            getattr(package, name)
        except ModuleNotFoundError as error:  # an integration with a library that is not installed
            assert folder.name == "integrations" and not error.name.startswith("cdanalysis")


def test_importing_a_package_imports_no_network_library():
    names = [".".join(folder.relative_to(ROOT).parts) for folder in PACKAGES]
    light = [name for name in names if name.split(".")[-1] not in ("observers", "teachers", "pages")]
    command = f"import sys, {', '.join(light)}; print({{'torch', 'numpy', 'PIL', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_overrides_a_model_takes_what_a_model_takes():
    """A parameter that is new in `Model` is known to other kinds of models, too, which may refuse it by name."""
    from cdanalysis.integrations.compressai import CompressAIModel
    from cdanalysis.model import Model

    overridden = {name for name, method in vars(CompressAIModel).items() if inspect.isfunction(method)} & set(
        vars(Model)
    )
    assert "writer" in overridden
    for name in overridden:
        first, other = (inspect.signature(getattr(kind, name)).parameters for kind in (Model, CompressAIModel))
        missing = set() if any(p.kind == p.VAR_KEYWORD for p in other.values()) else set(first) - set(other)
        assert not missing, f"CompressAIModel.{name} does not know {sorted(missing)}"


def test_shipped_code_does_not_mock():
    assert not [path.name for path in MODULES if re.search(r"^\s*(from|import) unittest", path.read_text(), re.M)]


def test_no_loss_is_taken_of_probabilities_where_autocast_refuses_it():
    """torch.autocast on an accelerator raises for these, on a CPU it lets them pass."""
    refused = re.compile(r"\b(binary_cross_entropy|BCELoss)\b")
    assert not [path.name for path in MODULES if refused.search(path.read_text())]


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
    docs = ROOT / "docs"
    for document in [ROOT / "README.md", *docs.rglob("*.md"), *(ROOT / "model_zoo").glob("*/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            linked = (document.parent / target).resolve()
            assert linked.exists(), f"{document.name}: {target}"
            # The site has no more than this folder.
            assert docs not in document.parents or docs in linked.parents, f"{document.name}: {target}"
