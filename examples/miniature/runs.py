"""The folder of runs: one file for each, written whole or not at all, so that processes can share the work.

All runs together make one compressed file, from which the tables can be made again.
"""

import contextlib
import dataclasses
import fcntl
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.miniature.jobs import Job

Record = dict[str, Any]


class Runs:
    """A folder with a file for each run that is done."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def get(self, job: Job) -> Record | None:
        """What a run left; None: it is not done."""
        file = self._file(job)
        return json.loads(file.read_text()) if file.is_file() else None

    def done(self, job: Job) -> bool:
        """Whether a run is done."""
        return self._file(job).is_file()

    def put(self, job: Job, record: Record) -> None:
        """Keeps what a run found."""
        new = self._file(job).with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({**record, "job": dataclasses.asdict(job)}))
        new.replace(self._file(job))

    @contextlib.contextmanager
    def claim(self, job: Job) -> Iterator[bool]:
        """Whether this process may do a run: no other one is at it, and it is not done. A kill gives it back."""
        with (self.folder / f"{job.key}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield not self.done(job)

    def all(self) -> dict[Job, Record]:
        """All runs that are done."""
        records = [json.loads(file.read_text()) for file in sorted(self.folder.glob("*.json"))]
        return {Job(**record["job"]): record for record in records}

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.key}.json"


def pack(records: dict[Job, Record], file: Path) -> None:
    """Writes all runs to one file, a line of JSON for each."""
    lines = [json.dumps(record, separators=(",", ":")) + "\n" for _, record in sorted(records.items(), key=_key)]
    # Without a time and a name inside, equal runs make equal files.
    with file.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed:
        packed.write("".join(lines).encode())


def unpack(file: Path) -> dict[Job, Record]:
    """The runs in a file that `pack` wrote."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return {Job(**record["job"]): record for record in records}


def _key(item: tuple[Job, Record]) -> str:
    return item[0].key
