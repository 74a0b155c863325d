"""Finds the files of the videos that an annotation names: layouts on disk differ in folders and endings."""

import os
from pathlib import Path


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
        self._by_name: dict[str, Path] | None = None

    def find(self, *names: str) -> Path | None:
        """The file under one of these names: a path below the folder, or a bare name with any folder and ending."""
        self.looked_for += 1
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        for name in names:
            found = self._index().get(Path(name).name) or self._index().get(Path(name).stem)
            if found is not None:
                return found
        self.missing.append(names[0])
        return None

    def report(self) -> str | None:
        """One line about what is missing; None: nothing is.

        Raises:
            ValueError: Everything is.
        """
        if not self.missing:
            return None
        if len(self.missing) == self.looked_for:
            raise ValueError(f"none of the {self.looked_for} videos is in {self.folder}, such as {self.missing[0]}")
        return f"{len(self.missing)} of {self.looked_for} videos are missing and skipped, such as {self.missing[0]}"

    def _index(self) -> dict[str, Path]:
        """Names with and without their ending, to files; walked once, since a look at each name would take hours."""
        if self._by_name is None:
            self._by_name = {}
            for folder, folders, files in os.walk(self.folder):
                folders.sort()
                for file in sorted(files):
                    for name in (file, Path(file).stem):
                        self._by_name.setdefault(name, Path(folder, file))
        return self._by_name
