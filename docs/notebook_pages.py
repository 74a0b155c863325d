"""A hook of `mkdocs build`: a notebook of `docs/` becomes a page of the site, with its saved outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Adds a page `x.md` for each `x.ipynb`; the notebook itself stays in the site, to be downloaded."""
    from mkdocs.structure.files import File  # here, so that the tests can import this file without mkdocs

    for notebook in sorted((ROOT / "docs").glob("*.ipynb")):
        page = as_markdown(json.loads(notebook.read_text(encoding="utf-8")), notebook.name)
        files.append(File.generated(config, f"{notebook.stem}.md", content=page))
    return files


def as_markdown(notebook: dict[str, Any], name: str) -> str:
    """The text of the page: texts as they are, code in fences, printed output and pictures below it."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(fenced("python", source))
        for output in cell["outputs"]:
            # A stream has a text. Pictures and returned values have data of several kinds.
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f'<img src="data:image/png;base64,{picture}" alt="What this cell draws">')
            else:
                parts.append(fenced("text", "".join(output.get("text", data.get("text/plain", "")))))
    title, *rest = parts
    link = f'<a href="../{name}" download>Download this page as a notebook</a>, or open `docs/{name}` in a clone.'
    return "\n\n".join([title, link, *rest]) + "\n"


def fenced(language: str, text: str) -> str:
    """A block of code, or of what code printed."""
    return f"```{language}\n{text.rstrip()}\n```"
