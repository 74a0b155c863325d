"""A hook of `mkdocs build`: options such as `--frames-per-chunk`, and intervals in tables, stay on one line."""

from __future__ import annotations

import re
from typing import Any

CODE = re.compile(r"<pre.*?</pre>|<code>.*?</code>", flags=re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
CELL = re.compile(r"(?<=<td>)[^<]+")
NUMBERS = re.compile(r"\([+-]?\d[\d.]* to [+-]?\d[\d.]*\)|at (?:least|most) \d[\d.]*|\d+ of \d+")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Put options in sentences, and intervals in tables, into elements that `site.css` keeps in one piece."""
    html = CODE.sub(lambda found: found[0] if found[0].startswith("<pre") else _unbroken(OPTION, found[0]), html)
    return CELL.sub(lambda found: _unbroken(NUMBERS, found[0]), html)


def _unbroken(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(r'<span class="unbroken">\g<0></span>', text)
