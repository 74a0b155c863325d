"""A font for any text, as far as this machine has one."""

import functools
import subprocess
import unicodedata
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font_for(text: str, size: int) -> tuple[Font, str, str]:
    """Finds a font with the characters of a text.

    Args:
        text: What to draw.
        size: In pixels.

    Returns:
        The font; the text that it can draw; and the characters that no font here has, which are escaped in that text.
    """
    # Joiners and variation selectors have no picture of their own.
    drawn = "".join(c for c in text if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f")
    if drawn.isascii():
        return ImageFont.load_default(size), drawn, ""
    needed = frozenset(c for c in drawn if not c.isspace())
    for file in _font_files(min(needed, key=lambda c: (c.isascii(), -ord(c)))):
        if needed <= _characters(file):
            return ImageFont.truetype(file, size), drawn, ""
    missing = "".join(sorted(c for c in needed if not c.isascii()))
    return ImageFont.load_default(size), drawn.encode("ascii", "backslashreplace").decode(), missing


@functools.cache
def _font_files(character: str) -> list[str]:
    """Outline fonts to try: matplotlib's, then the system's that have a character."""
    try:
        import matplotlib
    except ImportError:
        found = []
    else:
        found = [str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")]
    try:
        query = ["fc-list", f":charset={ord(character):x}:scalable=true:color=false", "file"]
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return found  # without fontconfig
    return found + sorted(line.strip().removesuffix(":") for line in listed.splitlines())


@functools.cache
def _characters(file: str) -> frozenset[str]:
    """The characters that a font draws."""
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped]

    try:
        with TTFont(file, fontNumber=0, lazy=True) as font:
            return frozenset(map(chr, font.getBestCmap() or {}))
    except (OSError, TTLibError):
        return frozenset()
