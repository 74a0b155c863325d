"""Folders named after classes: `train/CLASS/` and `test/CLASS/`, or `CLASS/` alone."""

from pathlib import Path

from examples.paper.lists.remarks import remark
from examples.paper.lists.rows import Row, source_of
from examples.paper.lists.splits import known_split
from examples.video.files import is_ignored, is_video, walk_files


def split_folders(folder: Path) -> dict[Path, str]:
    """Returns the folders that are named after a split, such as `train/`, `Test/` or `validation/`, with their splits.

    One that holds videos and no folders is the folder of a class: trains are a class too.
    """
    return {
        home: split
        for home in _folders(folder)
        if (split := known_split(home.name)) and (_folders(home) or not _holds_videos(home))
    }


def has_class_folders(folder: Path) -> bool:
    """Whether a folder holds folders with videos in them, or in folders inside them."""
    return any(is_video(file) for home in _folders(folder) for file in walk_files(home))


def read_class_folders(folder: Path) -> tuple[list[Row], list[str]]:
    """Reads which videos are in which folder.

    Args:
        folder: Holds `train/CLASS/VIDEO` and `test/CLASS/VIDEO`, or `CLASS/VIDEO`, whose split is then "".

    Returns:
        The videos, and remarks on files that are not taken.

    Raises:
        ValueError: A class folder holds videos in a folder of its own only.
    """
    parts = split_folders(folder) or {folder: ""}
    rows: list[Row] = []
    others: list[Path] = []
    deeper: list[Path] = []
    empty: list[Path] = []
    outside = [file for home in {folder, *parts} for file in sorted(home.iterdir()) if is_video(file)]
    if folder not in parts:
        outside += [
            file for home in _folders(folder) if home not in parts for file in walk_files(home) if is_video(file)
        ]
    for part, split in parts.items():
        for home in _folders(part):
            files = walk_files(home)
            videos = [file for file in files if is_video(file) and file.is_file()]  # not a link to nothing
            own = [file for file in videos if file.parent == home]
            others += sorted({*files} - {*videos})
            if videos and not own:
                raise ValueError(
                    f"the class folder {home} holds no videos itself, but {videos[0].relative_to(home)}: put videos "
                    "directly into the folder of their class, or list them in a CSV file video,label,split"
                )
            empty += [] if videos else [home]
            deeper += [file for file in videos if file.parent != home]
            for file in own:
                name = str(file.relative_to(folder))
                rows.append(Row((name,), home.name, source_of(name, home.name), split, name))
    remarks = []
    for files, what in (
        (others, "files in class folders are not taken for videos"),
        (deeper, "videos are not taken, as they are in a folder inside a class folder"),
        (outside, "videos are not taken, as they are not in the folder of a class"),
        (empty, "class folders hold no videos"),
    ):
        if files:
            remarks.append(remark(len(files), what, (str(file.relative_to(folder)) for file in files)))
    return rows, remarks


def _holds_videos(folder: Path) -> bool:
    return any(is_video(file) and not file.is_dir() for file in folder.iterdir())


def _folders(folder: Path) -> list[Path]:
    return [home for home in sorted(folder.iterdir()) if home.is_dir() and not is_ignored(home.name)]
