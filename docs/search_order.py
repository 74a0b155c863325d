"""A hook of `mkdocs build`: guides come before reference and history where the search finds a word in both."""

from __future__ import annotations

from typing import Any

BOOSTS = {
    "index.md": 2.0,
    "own-videos.md": 2.0,
    "performance.md": 2.0,
    "deploy.md": 2.0,
    "recipes.md": 1.5,
    "api.md": 0.5,
    "results-details.md": 0.2,
    "results.md": 0.5,
    "tutorial.md": 0.5,
    "CHANGELOG.md": 0.2,
    "CONTRIBUTING.md": 0.2,
}


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Set the factor of a page's score in the search plugin. The text stays the same."""
    name = page.file.src_uri
    page.meta.setdefault("search", {"boost": BOOSTS.get(name, 0.2 if name.startswith("examples/") else 1.0)})
    return markdown
