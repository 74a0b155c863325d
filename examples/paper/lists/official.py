"""Annotations as the authors of UCF-101, HMDB-51 and Something-Something v2 distribute them."""

import re
from collections.abc import Iterator
from pathlib import Path

from examples.paper.lists.json_files import read_entries, read_json, text_of
from examples.paper.lists.rows import Row, source_of
from examples.paper.lists.splits import TRAIN
from examples.paper.lists.text_files import read_lines

Annotations = tuple[list[str], list[Row]]  # the classes in the order of their numbers, and the videos


def read_ucf101(folder: Path, split: int, tests_only: bool) -> Annotations:
    """`1 ApplyEyeMakeup` in classInd.txt; `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1` in trainlist01.txt."""
    numbers: dict[str, int] = {}
    for number, text in read_lines(folder / "classInd.txt"):
        match = re.fullmatch(r"(\d+)\s+(.+)", text)
        if match is None:
            raise ValueError(
                f"{folder / 'classInd.txt'} has in line {number} {text!r}: expected a number and the name of a class"
            )
        numbers[match[2]] = int(match[1])
    classes = sorted(numbers, key=numbers.__getitem__)
    # The names of files have "HandStandPushups", the list of classes has "HandstandPushups".
    spelled = {name.lower(): name for name in classes}

    def rows() -> Iterator[Row]:
        for part in (TRAIN, "test"):
            file = folder / f"{part}list{split:02}.txt"
            if part == TRAIN and tests_only and not file.is_file():
                continue
            for number, text in read_lines(file):
                video = re.sub(r"\s+\d+$", "", text).replace("\\", "/")
                home, slash, name = video.rpartition("/")
                match = re.match(r"v_(.+)_g\d+_c\d+", name)  # lists of files without their folders
                label = home.rpartition("/")[2] if slash or match is None else spelled.get(match[1].lower(), match[1])
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
                match = re.fullmatch(r"(?P<video>.+?)\s+(?P<use>[012])", text)
                if match is None:
                    raise ValueError(f"{file} has in line {number} {text!r}: expected a video and 0, 1 or 2")
                if match["use"] != "0":
                    part = TRAIN if match["use"] == "1" else "test"
                    name = f"{label}/{match['video']}"
                    yield Row((name,), label, source_of(name, label), part, f"{file.name}, line {number}")

    return [file.name.removesuffix(ending) for file in files], list(rows())


def read_ssv2(folder: Path, split: int, tests_only: bool) -> Annotations:
    """`{"id": "78687", "template": "Holding [something]"}` in *train.json, *validation.json; order in *labels.json."""
    file = _only(folder, "labels")
    numbers = read_json(file)
    if not isinstance(numbers, dict):
        raise ValueError(f"{file} must hold an object from the name of each class to its number")
    for name, number in numbers.items():
        if not str(number).isdecimal():
            raise ValueError(f"{file} gives {name!r} the number {number!r}: expected 0, 1, 2, ...")
    classes = sorted(numbers, key=lambda name: int(numbers[name]))

    def rows() -> Iterator[Row]:
        for name, part in (("train", TRAIN), ("validation", "test")):
            if part == TRAIN and tests_only and not any(folder.glob(f"*{name}.json")):
                continue
            file = _only(folder, name)
            for number, video in enumerate(read_entries(file), 1):
                where = f"{file.name}, entry {number}"
                own = text_of(video, "id", f"{file}, entry {number},")
                label = text_of(video, "template", f"{file}, entry {number},").replace("[", "").replace("]", "")
                yield Row((f"{own}.webm",), label, own, part, where)

    return classes, list(rows())


def official_splits(folder: Path) -> list[int]:
    """Which of the three splits of UCF-101 and HMDB-51 a folder holds the tests of; empty for other data sets."""
    if (folder / "classInd.txt").is_file():
        return [split for split in (1, 2, 3) if (folder / f"testlist{split:02}.txt").is_file()]
    return [split for split in (1, 2, 3) if any(folder.glob(f"*_test_split{split}.txt"))]


def _only(folder: Path, name: str) -> Path:
    files = sorted(folder.glob(f"*{name}.json"))
    if not files:
        raise ValueError(f"{folder} holds no *{name}.json")
    return files[0]
