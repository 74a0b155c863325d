"""A hook of `mkdocs build`: an option such as `--frames-per-chunk` in a sentence is not broken after a hyphen."""

from __future__ import annotations

import re
from typing import Any

CODE = re.compile(r"<pre.*?</pre>|<code>.*?</code>", flags=re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Put each option in a sentence into an element that `site.css` keeps in one piece."""
    return CODE.sub(lambda found: found[0] if found[0].startswith("<pre") else _unbroken(found[0]), html)


def _unbroken(code: str) -> str:
    return OPTION.sub(r'<span class="unbroken">\g<0></span>', code)
