"""CSV files of labels: `video,label[,split][,group]`, or Kinetics' `label,youtube_id,time_start,time_end[,split]`."""

import re
from collections.abc import Sequence
from pathlib import Path

from examples.paper.lists.rows import Row
from examples.paper.lists.splits import TRAIN, known_split
from examples.paper.lists.tables import Table, read_table, rename_columns

_OTHER_COLUMNS = {
    "video": ("path", "video_path", "clip_path", "file", "filename", "file_name", "video_name", "clip", "clip_name"),
    "label": ("class", "class_name", "action", "label_name", "category"),
    "split": ("subset", "partition", "set"),
}
_KINETICS = ("label", "youtube_id", "time_start", "time_end")


def read_label_tables(files: Sequence[Path], split: str | None = None) -> list[Row]:
    """Reads the videos of CSV files.

    Args:
        files: CSV files. Where a file has no column `split`, its name is the split; of several files, one whose name is
            not a split either is not a list of videos and is left out.
        split: The split of all videos, whatever the files say.

    Raises:
        ValueError: A column is missing, a cell is empty, or a file is damaged.
    """
    rows = []
    for file in files:
        table = rename_columns(read_table(file), _OTHER_COLUMNS)
        if split is None and len(files) > 1 and "split" not in table.columns and known_split(file.stem) is None:
            continue
        rows += (_kinetics if "youtube_id" in table.columns else _videos)(table, split)
    return rows


def is_label_table(file: Path) -> bool:
    """Whether a file is a table with a column of videos and one of labels."""
    try:
        return {"video", "label"} <= {*rename_columns(read_table(file), _OTHER_COLUMNS).columns}
    except ValueError:  # Whoever needs the file says what is wrong with it.
        return False


def _split(table: Table, cells: dict[str, str], split: str | None) -> str:
    return split or cells.get("split") or (table.file.stem if known_split(table.file.stem) else "")


def _videos(table: Table, split: str | None) -> list[Row]:
    table.check_columns("video", "label", optional=("split", "group"))
    table.check_filled("video", "label")
    return [
        Row(
            (cells["video"],),
            re.sub(r"^(-?\d+)\.0+$", r"\1", cells["label"]),  # Spreadsheets write whole numbers as 3.0, too.
            cells.get("group") or cells["video"],
            _split(table, cells, split),
            f"{table.file.name}, row {number}",
        )
        for number, cells in table.rows
    ]


def _kinetics(table: Table, split: str | None) -> list[Row]:
    splits = [_split(table, cells, split) for _, cells in table.rows]
    # The labels of its test are secret: it is tested on its validation videos.
    kept = [(row, part) for row, part in zip(table.rows, splits, strict=True) if known_split(part) != "test"]
    if kept:
        table.check_columns(*_KINETICS, optional=("split",))
        Table(table.file, table.columns, [row for row, _ in kept]).check_filled(*_KINETICS)
    rows = []
    for (number, cells), part in kept:
        video = cells["youtube_id"]
        try:
            cut = f"{video}_{int(float(cells['time_start'])):06}_{int(float(cells['time_end'])):06}"
        except ValueError as error:
            raise ValueError(f"{table.file} has times that are not seconds in row {number}: {error}") from error
        if known_split(part) not in (None, TRAIN):
            part = "test"
        names = (f"{cut}.mp4", f"{video}.mp4")
        rows.append(Row(names, cells["label"], video, part, f"{table.file.name}, row {number}"))
    return rows
