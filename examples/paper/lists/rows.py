"""What annotations say of one video, before it is looked for on disk."""

import re
from typing import NamedTuple


class Row(NamedTuple):
    """One video of one split.

    Attributes:
        names: How its file may be called; the first is how the annotations call it.
        label: The name of its class, or its number where the annotations give numbers.
        group: The source that it was cut from; videos of one group are alike.
        split: A text that may name a split.
        where: Where it is written, such as "val1.txt, line 3".
    """

    names: tuple[str, ...]
    label: str
    group: str
    split: str
    where: str


def source_of(name: str, label: str) -> str:
    """Returns what a video was cut from, as far as its name tells: the group of UCF-101's names, the film of HMDB-51's.

    Args:
        name: The name of its file.
        label: The name of its class.

    Example:
        >>> source_of("YoYo/v_YoYo_g08_c01.avi", "YoYo"), source_of("April_09_brush_hair_u_nm_np1.avi", "brush_hair")
        ('YoYo g08', 'brush_hair April_09')
        >>> source_of("a.mp4", "yo yo")
        'a.mp4'
    """
    file = name.replace("\\", "/").rpartition("/")[2]
    group = re.search(r"_(g\d+)_c\d+", file)
    if group is not None:
        return f"{label} {group[1]}"
    film, border, _ = file.partition(f"_{label.replace(' ', '_')}_")
    return f"{label} {film}" if border else name
