"""The log of a run: everything that a script says, with the time, in one file."""

import logging
from pathlib import Path
from types import TracebackType

LOGGER = logging.getLogger("examples")


class RunLog:
    """Keeps the lines that a script says, and writes them to a file as soon as the folder for it is there.

    Example:
        >>> with RunLog() as log:
        ...     LOGGER.info("2 of 9 videos are missing")  # kept
        ...     log.open(Path("runs/first/log.txt"))  # written
        ...     LOGGER.info("training")  # written
    """

    def __init__(self) -> None:
        self._kept = _Kept()
        self._file: logging.FileHandler | None = None

    def __enter__(self) -> "RunLog":
        """Begins to keep lines."""
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False  # open_clip sets up the root logger, which would print every line again.
        LOGGER.addHandler(self._kept)
        return self

    def open(self, file: Path) -> None:
        """Appends the lines so far, and all that come, to a file; a run that goes on has one log."""
        # Names of files may be in no encoding at all: their bytes are written as they are.
        handler = logging.FileHandler(file, encoding="utf-8", errors="surrogateescape", delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        for record in self._kept.records:
            handler.emit(record)
        LOGGER.removeHandler(self._kept)
        LOGGER.addHandler(handler)
        self._file = handler

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Notes how the run ended, and lets go of the file."""
        if error is not None:
            LOGGER.info("ended: %s", " ".join(f"{type(error).__name__} {error}".split()))
        LOGGER.removeHandler(self._kept)
        if self._file is not None:
            LOGGER.removeHandler(self._file)
            self._file.close()


class _Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
