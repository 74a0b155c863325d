"""Annotations as the authors of UCF-101, HMDB-51 and Something-Something v2 distribute them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.paper.lists.rows import Row, source_of
from examples.paper.lists.splits import TRAIN
from examples.paper.lists.text_files import read_lines, read_text

Annotations = tuple[list[str], list[Row]]  # the classes in the order of their numbers, and the videos


def read_ucf101(folder: Path, split: int, tests_only: bool) -> Annotations:
    """`1 ApplyEyeMakeup` in classInd.txt; `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1` in trainlist01.txt."""
    classes = [text.split(maxsplit=1)[1].strip() for _, text in read_lines(folder / "classInd.txt")]

    def rows() -> Iterator[Row]:
        for part in (TRAIN, "test"):
            file = folder / f"{part}list{split:02}.txt"
            if part == TRAIN and tests_only and not file.is_file():
                continue
            for number, text in read_lines(file):
                video = re.sub(r"\s\d+$", "", text)
                label = video.partition("/")[0]
                yield Row((video,), label, source_of(video, label), part, f"{file.name}, line {number}")

    return classes, list(rows())


def read_hmdb51(folder: Path, split: int, tests_only: bool) -> Annotations:
    """`NAME.avi 1` in brush_hair_test_split1.txt: 1 trains, 2 tests, 0 does neither."""
    ending = f"_test_split{split}.txt"
    files = sorted(folder.glob(f"*{ending}"))
    if not files:
        raise ValueError(f"{folder} holds no files of split {split}, *{ending}")

    def rows() -> Iterator[Row]:
        for file in files:
            label = file.name.removesuffix(ending)
            for number, text in read_lines(file):
                video, _, use = text.rpartition(" ")
                if use not in ("0", "1", "2"):
                    raise ValueError(f"{file} has the line {text!r}: expected a video and 0, 1 or 2")
                if use != "0":
                    part = TRAIN if use == "1" else "test"
                    name = f"{label}/{video.strip()}"
                    yield Row((name,), label, source_of(name, label), part, f"{file.name}, line {number}")

    return [file.name.removesuffix(ending) for file in files], list(rows())


def read_ssv2(folder: Path, split: int, tests_only: bool) -> Annotations:
    """`{"id": "78687", "template": "Holding [something]"}` in *train.json, *validation.json; order in *labels.json."""
    numbers: dict[str, str] = _json(folder, "labels")
    classes = sorted(numbers, key=lambda name: int(numbers[name]))

    def rows() -> Iterator[Row]:
        for name, part in (("train", TRAIN), ("validation", "test")):
            if part == TRAIN and tests_only and not any(folder.glob(f"*{name}.json")):
                continue
            for number, video in enumerate(_json(folder, name), 1):
                label = video["template"].replace("[", "").replace("]", "")
                yield Row((f"{video['id']}.webm",), label, video["id"], part, f"*{name}.json, entry {number}")

    return classes, list(rows())


def official_splits(folder: Path) -> list[int]:
    """Which of the three splits of UCF-101 and HMDB-51 a folder holds the tests of; empty for other data sets."""
    if (folder / "classInd.txt").is_file():
        return [split for split in (1, 2, 3) if (folder / f"testlist{split:02}.txt").is_file()]
    return [split for split in (1, 2, 3) if any(folder.glob(f"*_test_split{split}.txt"))]


def _json(folder: Path, name: str) -> Any:
    files = sorted(folder.glob(f"*{name}.json"))
    if not files:
        raise ValueError(f"{folder} holds no *{name}.json")
    return json.loads(read_text(files[0]))
