"""The folder of a run: a checkpoint to resume from, logs, and a list of skipped videos."""

import csv
import json
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from examples.startup import ranks

CHECKPOINT = "checkpoint.pt"


class RunFolder:
    """The folder of one run; of several processes, number 0 writes.

    Attributes:
        path: The folder.
        checkpoint: What an earlier process left there, or None.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool) -> None:
        """Opens a new folder, or an old one to go on.

        Args:
            path: The folder.
            settings: All that decides the result.
            resume: Whether to go on where an earlier process stopped; with nothing there, from the start.

        Raises:
            ValueError: If there is a run that must not be resumed, or it had other settings.
        """
        self.path = path
        self.settings = settings
        file = path / CHECKPOINT
        self.checkpoint: dict[str, Any] | None = None
        if file.is_file():
            if not resume:
                raise ValueError(f"{path} holds a run already: add --resume to go on with it, or choose another --out")
            try:
                self.checkpoint = torch.load(file, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
                raise ValueError(f"{file} is damaged: remove it to train from the start") from error
            for name, value in settings.items():
                before = self.checkpoint["settings"].get(name)
                if before != value:
                    raise ValueError(f"{path} holds a run with --{name.replace('_', '-')} {before}, not {value}")
        ranks.barrier()  # Everyone has looked before anyone writes.
        if path.exists() and not path.is_dir():
            raise ValueError(f"--out {path} is a file: give a folder, new or of a run to go on with")
        path.mkdir(parents=True, exist_ok=True)
        self._writer = self._tensorboard() if ranks.rank() == 0 else None
        self._reported: set[str] = set()

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the checkpoint; a kill while it is written leaves the old one."""
        if ranks.rank() != 0:
            return
        new = self.path / f"{CHECKPOINT}.new"
        with new.open("wb") as file:
            torch.save({"settings": self.settings, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / CHECKPOINT)
        if self._writer is not None:
            self._writer.flush()

    def rewind(self, table: str, step: int) -> None:
        """Takes rows of later steps out of a table: they are about to be written again."""
        file = self.path / f"{table}.csv"
        if ranks.rank() != 0 or not file.is_file():
            return
        with file.open(newline="") as lines:
            rows = list(csv.reader(lines))
        # A kill may have cut the last row short, even the first.
        kept = [row for row in rows[1:] if len(row) == len(rows[0]) and int(row[0]) <= step]
        if not kept:
            file.unlink()
            return
        new = file.with_suffix(".new")
        with new.open("w", newline="") as lines:
            csv.writer(lines).writerows([rows[0], *kept])
        new.replace(file)

    def log(self, table: str, step: int, values: dict[str, float]) -> None:
        """Adds a row to `TABLE.csv`, and to TensorBoard's files where it is installed."""
        if ranks.rank() != 0:
            return
        file = self.path / f"{table}.csv"
        new = not file.is_file()
        with file.open("a", newline="") as lines:
            writer = csv.writer(lines)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *values.values()])
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{table}/{name}", value, step)

    def unreported(self, lines: Iterable[str], name: str = "skipped.txt") -> list[str]:
        """Those that no process reported before, each once; they also go to the file of that name in the folder."""
        new = [line for line in dict.fromkeys(lines) if line not in self._reported]
        if new:
            # Names of files may be in no encoding at all: their bytes are written as they are.
            with (self.path / name).open("a+", encoding="utf-8", errors="surrogateescape") as file:
                file.seek(0)
                self._reported.update(file.read().splitlines())
                new = [line for line in new if line not in self._reported]
                file.writelines(f"{line}\n" for line in new)
            self._reported.update(new)
        return new

    def failed(self, folder: Path, paths: Iterable[Path]) -> set[Path]:
        """The videos that no process could decode.

        Args:
            folder: The folder of the videos. Only their names below it count: a run may have been moved with them.
            paths: The videos to look for.
        """
        file = self.path / "skipped.txt"
        if not file.is_file():
            return set()
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        below = {path.relative_to(folder) if path.is_relative_to(folder) else path: path for path in paths}
        found = set()
        for line in lines:
            parts = Path(line.partition(" cannot be decoded as a video")[0]).parts
            names = (Path(*parts[start:]) for start in range(len(parts)))
            name = next((name for name in names if name in below), None)  # the longest, if several videos have its end
            if name is not None:
                found.add(below[name])
        return found

    def write_results(self, results: dict[str, Any]) -> None:
        """Writes `results.json`; of several processes, number 0 does."""
        if ranks.rank() == 0:
            (self.path / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    def _tensorboard(self) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        step = None if self.checkpoint is None else self.checkpoint["step"] + 1
        return SummaryWriter(str(self.path), purge_step=step)
