"""Folders named after classes: `train/CLASS/` and `test/CLASS/`, or `CLASS/` alone."""

from pathlib import Path

from examples.paper.lists.remarks import remark
from examples.paper.lists.rows import Row, source_of
from examples.paper.lists.splits import TEST, TRAIN
from examples.video.files import is_ignored, is_video, walk_files


def has_split_folders(folder: Path) -> bool:
    """Whether a folder holds `train/`, `test/` or `val/`."""
    return any((folder / name).is_dir() for name in (TRAIN, *TEST))


def has_class_folders(folder: Path) -> bool:
    """Whether a folder holds folders with videos in them."""
    return any(is_video(file) for home in _folders(folder) for file in home.iterdir())


def read_class_folders(folder: Path) -> tuple[list[Row], list[str]]:
    """Reads which videos are in which folder.

    Args:
        folder: Holds `train/CLASS/VIDEO` and `test/CLASS/VIDEO`, or `CLASS/VIDEO`, whose split is then "".

    Returns:
        The videos, and remarks on files that are not taken.

    Raises:
        ValueError: A class folder holds videos in a folder of its own only.
    """
    parts = [name for name in (TRAIN, *TEST) if (folder / name).is_dir()] if has_split_folders(folder) else [""]
    rows: list[Row] = []
    others: list[Path] = []
    deeper: list[Path] = []
    for part in parts:
        for home in _folders(folder / part):
            files = walk_files(home)
            videos = [file for file in files if is_video(file)]
            own = [file for file in videos if file.parent == home]
            others += [file for file in files if not is_video(file)]
            if videos and not own:
                raise ValueError(
                    f"the class folder {home} holds no videos itself, but {videos[0].relative_to(home)}: put videos "
                    "directly into the folder of their class, or list them in a CSV file video,label,split"
                )
            deeper += [file for file in videos if file.parent != home]
            for file in own:
                name = str(file.relative_to(folder))
                rows.append(Row((name,), home.name, source_of(name, home.name), part, name))
    remarks = []
    for files, what in (
        (others, "files in class folders are not taken for videos"),
        (deeper, "videos are not taken, as they are in a folder inside a class folder"),
    ):
        if files:
            remarks.append(remark(len(files), what, (str(file.relative_to(folder)) for file in files)))
    return rows, remarks


def _folders(folder: Path) -> list[Path]:
    return [home for home in sorted(folder.iterdir()) if home.is_dir() and not is_ignored(home.name)]
