"""Tutorials that are notebooks run, in small, as a reader would run them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """In this process, which spares a kernel and its imports."""
    monkeypatch.setenv("CDANALYSIS_TUTORIAL", "small")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace: dict = {"__name__": path.stem}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{path.name}, code cell {number}", "exec"), namespace)
    assert len(cells) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel(path, tmp_path, monkeypatch):
    monkeypatch.setenv("CDANALYSIS_TUTORIAL", "small")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_page_of_the_site(path):
    tool = runpy.run_path(str(path.parents[2] / "tools" / "mkdocs_notebooks.py"))
    page, cells = tool["page"](path.read_text(), path.stem), json.loads(path.read_text())["cells"]
    assert all("".join(cell["source"]) in page for cell in cells)
    assert page.count("```python") == sum(cell["cell_type"] == "code" for cell in cells)
    assert (
        f"({path.name})" in tool["on_page_markdown"](page)
        and f"{path.stem}.md" in (DOCS.parent / "mkdocs.yml").read_text()
    )
    assert tool["on_page_markdown"](f"see [this]({path.name})") == f"see [this]({path.stem}.md)"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small(path):
    cells = json.loads(path.read_text())["cells"]
    assert path.stat().st_size < 300_000
    assert not [line for cell in cells for line in "".join(cell["source"]).splitlines() if len(line) > 150]
