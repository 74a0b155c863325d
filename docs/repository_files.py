"""A hook of `mkdocs build`: what pages link to outside of `docs/`, such as `../CONTRIBUTING.md`, is part of the site.

Links lead somewhere on disk and in the repository's own view, and are rewritten for the site: `docs/x.md` is x.md
there, every other file keeps its place.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()([^)#:]+)(?=[)#])")
FRONT, FRONT_IN_SITE = "README.md", "index.md"  # the first page


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to, files that the added pages link to, and files that only the menu names."""
    from mkdocs.structure.files import File  # here, so that the tests can import this file without mkdocs

    named = re.findall(r"[\w./-]+\.md", str(config["nav"]))
    waiting = [file.src_uri for file in files.documentation_pages()] + [
        name for name in named if (ROOT / name).is_file()
    ]
    seen: set[str] = set()
    while waiting:
        uri = waiting.pop()
        if uri in seen:
            continue
        seen.add(uri)
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / uri)))
        if uri.endswith(".md"):
            path = in_repository(uri)
            targets = (in_site(path, link) for link in LINK.findall((ROOT / path).read_text()))
            waiting += [target for target in targets if target is not None]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrites a page's links from places in the repository to places in the site."""
    path = in_repository(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        target = in_site(path, match[0])
        return match[0] if target is None else posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(rewrite, markdown)


def in_repository(uri: str) -> str:
    """The path in the repository of a file of the site."""
    if (ROOT / uri).is_file():
        return uri
    notebook = f"docs/{uri.removesuffix('.md')}.ipynb"  # of which `notebook_pages.py` makes a page
    return notebook if (ROOT / notebook).is_file() else f"docs/{uri}"


def in_site(path: str, link: str) -> str | None:
    """The place in the site of the file that a link of the file at `path` leads to; None: there is no such file."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    if target == FRONT:
        return FRONT_IN_SITE
    if not (ROOT / target).is_file():
        return None
    if target.endswith(".ipynb"):
        target = f"{target.removesuffix('.ipynb')}.md"
    return target.removeprefix("docs/")
