"""Finds the files of the videos that an annotation names: layouts on disk differ in folders and endings."""

import unicodedata
from pathlib import Path

from examples.paper.lists.remarks import remark
from examples.video.files import SUFFIXES, is_video, walk_folders


class VideoFiles:
    """The files below a folder, by name.

    Attributes:
        missing: Names that were looked for and not found.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"there is no folder of videos {folder}")
        self.folder = folder
        self.missing: list[str] = []
        self.looked_for = 0
        self._by_name: dict[str, list[Path]] | None = None
        self._folders: set[tuple[str, ...]] = set()

    def find(self, *names: str) -> Path | None:
        """The file under one of these names: a path below the folder, or a name with any folder and ending.

        Raises:
            ValueError: Files in several folders have the name.
        """
        self.looked_for += 1
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        for name in names:
            # Lists that were made on Windows separate folders by backslashes, which elsewhere are part of a name.
            found = self._named(Path(name)) or self._named(Path(name.replace("\\", "/")))
            other = next(
                (path for path in found if path.parent != found[0].parent and not path.samefile(found[0])), None
            )
            if other is not None:
                raise ValueError(f"{name} may be {found[0]} or {other}: add its folder to the annotations, or keep one")
            if found:
                return found[0]
        self.missing.append(names[0])
        return None

    def report(self) -> str | None:
        """One line about missing videos. None: none is missing.

        Raises:
            ValueError: Everything is.
        """
        if not self.missing:
            return None
        if len(self.missing) == self.looked_for:
            raise ValueError(f"none of the {self.looked_for} videos is in {self.folder}, such as {self.missing[0]}")
        return remark(len(self.missing), f"of {self.looked_for} videos are missing and skipped", self.missing)

    def _named(self, name: Path) -> list[Path]:
        """Files of that name, or else with another ending. Only named folders that exist are searched."""
        index = self._index()
        # In layouts such as CLASS/1.mp4, the 1.mp4 of another class must not stand in for a missing one.
        home = _plain(name.parent)
        while home and home not in self._folders:
            home = home[1:]
        # What follows a dot in a name such as "1.5_ab" is not an ending.
        for key in (name.name, name.stem) if name.suffix.lower() in SUFFIXES else (name.name,):
            found = [
                file
                for file in index.get(unicodedata.normalize("NFC", key), [])
                if (_plain(file.parent)[-len(home) :] == home or not home) and file.is_file()  # or a link to nothing
            ]
            if found:
                return found
        return []

    def _index(self) -> dict[str, list[Path]]:
        """Files by name, videos also by name without ending. One walk over the folder: look-ups would take hours."""
        if self._by_name is None:
            self._by_name = {}
            for folder, files in walk_folders(self.folder):
                parts = _plain(folder.relative_to(self.folder))
                self._folders.update(parts[start:] for start in range(len(parts)))
                for file in files:
                    # A thumbnail or a sound track beside a video has its name, and another ending.
                    for name in (file.name, file.stem) if is_video(file) else (file.name,):
                        self._by_name.setdefault(unicodedata.normalize("NFC", name), []).append(file)
        return self._by_name


def _plain(path: Path) -> tuple[str, ...]:
    """The parts of a path with each accent in one character with its letter; macOS stores the two apart."""
    return tuple(unicodedata.normalize("NFC", part) for part in path.parts)
