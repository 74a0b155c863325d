"""What annotations say of one caption, before its video is looked for on disk."""

from typing import NamedTuple


class CaptionRow(NamedTuple):
    """One caption.

    Attributes:
        names: How the file of its video may be called; the first is how the annotations call it.
        text: The caption.
        split: The split of its video.
        where: Where it is written, such as "captions.csv, row 3".
    """

    names: tuple[str, ...]
    text: str
    split: str
    where: str
