"""A strip of the frames that the model saw, with its predictions."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HEIGHT = 160  # pixels of the frames; videos come in all sizes
COLUMNS = 8
GAP = 4
LINE = 24


def draw_strip(path: Path, pictures: Sequence[Image.Image], lines: Sequence[str]) -> None:
    """Writes a PNG: frames from left to right, at most 8 a row, and lines of text below.

    Args:
        path: The file to write.
        pictures: T frames of one size, in order of time.
        lines: What to say of them.
    """
    width = max(1, round(pictures[0].width * HEIGHT / pictures[0].height))
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    font = ImageFont.load_default(16)
    text_width = max((round(font.getlength(line)) for line in lines), default=0) + 2 * GAP
    strip_height = rows * (HEIGHT + GAP)
    size = (max(columns * (width + GAP) - GAP, text_width), strip_height + LINE * len(lines))
    strip = Image.new("RGB", size, "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        strip.paste(picture.resize((width, HEIGHT)), (column * (width + GAP), row * (HEIGHT + GAP)))
    pen = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        pen.text((GAP, strip_height + LINE * number), line, fill="black", font=font)
    strip.save(path, optimize=True)
