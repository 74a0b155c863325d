"""A picture of the frames that the model saw, with its predictions."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from examples.video.fonts import Font, font_for

WIDTH = 1200  # pixels; less where there are few frames
WIDEST = 480  # of a frame
NARROWEST = 400  # of the text
TALLEST = 640
GAP = 6
TEXT = 30  # pixels; it is still readable where the picture is shown at half its size


def draw_strip(path: Path, pictures: Sequence[Image.Image], lines: Sequence[str]) -> str:
    """Writes a PNG: frames from left to right in rows of equal length, and lines of text below.

    Args:
        path: The file to write.
        pictures: T frames of one size, in order of time.
        lines: What to say of them; a line that is wider than the frames goes on in the next.

    Returns:
        The characters that no font of this machine has: the picture shows them as escapes such as \\u6c34.
    """
    columns = columns_of(len(pictures))
    scale = min(WIDEST, (WIDTH + GAP) // columns - GAP) / pictures[0].width
    scale = min(scale, TALLEST / pictures[0].height)
    width, height = (max(1, round(scale * side)) for side in pictures[0].size)
    frames_width = columns * (width + GAP) - GAP
    rows = -(-len(pictures) // columns)
    caption: list[tuple[Font, str]] = []
    missing = ""
    for line in lines:
        font, text, unknown = font_for(line, TEXT)
        missing += unknown
        caption += [(font, part) for part in wrapped(text, font, max(frames_width, NARROWEST) - 2 * GAP)]
    strip_width = max(frames_width, max((round(f.getlength(part)) for f, part in caption), default=0) + 2 * GAP)
    line_height = TEXT * 4 // 3
    strip = Image.new("RGB", (strip_width, rows * (height + GAP) + line_height * len(caption)), "white")
    left = (strip_width - frames_width) // 2
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        resized = picture.resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(resized, (left + column * (width + GAP), row * (height + GAP)))
    pen = ImageDraw.Draw(strip)
    for number, (font, part) in enumerate(caption):
        pen.text((GAP, rows * (height + GAP) + line_height * number), part, fill="black", font=font)
    strip.save(path, optimize=True)
    return "".join(dict.fromkeys(missing))


def columns_of(frames: int) -> int:
    """Frames in each row: few empty places in the last row, and rows of about 4, or of 8 for more than 16 frames."""
    wished = 4 if frames <= 16 else 8
    return min(range(min(frames, 3), 9), key=lambda columns: (-frames % columns, abs(columns - wished)))


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """A text in lines of at most a width in pixels, cut between words, or within a word that is wider."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
