"""A hook of MkDocs: every notebook in docs/ becomes a page, so that a tutorial has one source."""

from __future__ import annotations

import json
from typing import Any


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook; the notebook itself stays, to be downloaded."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, name, content=page(file.content_string, file.name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks lead to their pages; the link to the notebook in its own page does not change."""
    return markdown.replace(".ipynb)", ".md)").replace(".ipynb download)", ".ipynb)")


def page(text: str, name: str) -> str:
    """A notebook as Markdown: its texts, its code, and what the code printed to standard output.

    Args:
        text: of the notebook's file.
        name: of the file, without suffix.
    """
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        outputs = [output for output in cell["outputs"] if output.get("name") != "stderr"]
        printed = "".join("".join(output.get("text", "")) for output in outputs)
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
    parts.insert(1, f"[This page is a notebook.]({name}.ipynb download)")
    return "\n\n".join(parts) + "\n"
