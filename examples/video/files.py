"""All files below a folder, without what operating systems and editors leave there."""

import os
from pathlib import Path

# Endings of the containers that FFmpeg reads pictures in motion from.
# fmt: off
SUFFIXES = {
    ".3g2", ".3gp", ".amv", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".gxf", ".h264",
    ".h265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mk3d",
    ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ogv",
    ".qt", ".rm", ".rmvb", ".swf", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
}
# fmt: on
IGNORED = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


def is_ignored(name: str) -> bool:
    """Whether a name is a system's or an editor's: `._a.mp4`, `.ipynb_checkpoints`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in IGNORED


def is_video(file: Path) -> bool:
    """Whether a name is that of a video."""
    return file.suffix.lower() in SUFFIXES and not is_ignored(file.name)


def walk_files(folder: Path) -> list[Path]:
    """Returns the files below a folder, sorted; links to folders are followed, but not back into a folder above."""
    return [file for home, files in walk_folders(folder) for file in files]


def walk_folders(folder: Path) -> list[tuple[Path, list[Path]]]:
    """Returns the folder and those below it, sorted, each with the files directly inside; links as in `walk_files`."""
    found: list[tuple[Path, list[Path]]] = []

    def visit(home: Path, above: tuple[str, ...]) -> None:
        real = os.path.realpath(home)
        if real in above:
            return  # A link to a folder that it is in: following it would never end.
        with os.scandir(home) as entries:
            kept = sorted((entry for entry in entries if not is_ignored(entry.name)), key=lambda entry: entry.name)
        found.append((home, [Path(entry.path) for entry in kept if not entry.is_dir()]))
        for entry in kept:
            if entry.is_dir():
                visit(Path(entry.path), (*above, real))

    visit(folder, ())
    return found
