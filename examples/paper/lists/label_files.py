"""Which video shows which class: files of UCF-101, HMDB-51, SSv2 and Kinetics, other CSV files, a folder a class."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from examples.paper.lists.video_files import VideoFiles
from examples.video.class_names import clean_names
from examples.video.decoding import SUFFIXES

TRAIN = "train"
TEST = ("test", "val", "validate", "validation")  # the first that is there is tested on


class LabelledVideo(NamedTuple):
    """One video.

    Attributes:
        path: Its file.
        label: The number of its class.
        group: What it was cut from; videos of one group are alike.
    """

    path: Path
    label: int
    group: str


@dataclass(frozen=True)
class LabelledVideos:
    """A data set.

    Attributes:
        classes: C plain names.
        train: Its videos for training.
        test: Its videos for testing; for validation, where the labels of the tests are secret.
        counts: Training videos of each class that the annotations name, whether they are on disk or not, C numbers.
        missing: A line about videos that are not on disk, or None.
    """

    classes: list[str]
    train: list[LabelledVideo]
    test: list[LabelledVideo]
    counts: list[int]
    missing: str | None


class Row(NamedTuple):
    """What an annotation says of one video: how it may be called on disk, its class, its group and its split."""

    names: tuple[str, ...]
    label: str
    group: str
    split: str


def read_labels(videos: Path, annotations: Path | None = None, split: int = 1) -> LabelledVideos:
    """Reads a data set; the kind of annotation is seen from its files.

    Args:
        videos: Folder of the videos.
        annotations: Folder of UCF-101's `classInd.txt`, of HMDB-51's `*_test_split1.txt`, of SSv2's `*labels.json`, or
            of `train.csv`; or one CSV file. None: the videos are in `train/CLASS/` and `test/CLASS/`.
        split: Of UCF-101 and HMDB-51: 1, 2 or 3.

    Raises:
        ValueError: Nothing that is known is there, a file is damaged, or no video is.
    """
    files = VideoFiles(videos)
    folder = videos if annotations is None else annotations
    if not folder.exists():
        raise ValueError(f"there are no annotations {folder}")
    read = _reader(folder)
    try:
        classes, rows = read(folder, split)
        numbers = {name: number for number, name in enumerate(classes)}
        train: list[LabelledVideo] = []
        test: list[LabelledVideo] = []
        counts = [0] * len(classes)
        tested = tested_split(row.split for row in rows)
        for row in rows:
            if row.split not in (TRAIN, tested):
                continue
            if row.label not in numbers:
                raise ValueError(f"{row.names[0]} is of the class {row.label!r}, which {folder} does not list")
            counts[numbers[row.label]] += row.split == TRAIN
            path = files.find(*row.names)
            if path is not None:
                (train if row.split == TRAIN else test).append(LabelledVideo(path, numbers[row.label], row.group))
    except (
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        csv.Error,
        json.JSONDecodeError,
        UnicodeDecodeError,
    ) as error:
        raise ValueError(f"the annotations in {folder} are damaged: {type(error).__name__}: {error}") from error
    missing = files.report()
    if not train and not test:
        raise ValueError(
            f"the annotations in {folder} name no videos of a split that is known, {TRAIN} or {', '.join(TEST)}; a CSV "
            "file says it in the column `split`, or in its own name"
        )
    return LabelledVideos(clean_names(classes), train, test, counts, missing)


def tested_split(splits: Iterable[str]) -> str | None:
    """Which one to test on; never two of them mixed."""
    there = set(splits)
    return next((name for name in TEST if name in there), None)


Reader = Callable[[Path, int], tuple[list[str], list[Row]]]


def _reader(folder: Path) -> Reader:
    """The reader for what is there."""
    if folder.is_file():
        if folder.suffix != ".csv":
            raise ValueError(f"{folder} is no CSV file, nor a folder of annotations")
        return _csv
    if (folder / "classInd.txt").is_file():
        return _ucf101
    if any(folder.glob("*_test_split[123].txt")):
        return _hmdb51
    if any(folder.glob("*labels.json")):
        return _ssv2
    tables = {file.stem for file in folder.glob("*.csv")}
    in_folders = any((folder / name).is_dir() for name in (TRAIN, *TEST))
    if tables & {TRAIN, *TEST} or (tables and not in_folders):
        return _csv
    if in_folders:
        return _folders
    raise ValueError(
        f"{folder} holds no annotations that are known: UCF-101 (classInd.txt), HMDB-51 (*_test_split1.txt), SSv2 "
        "(*labels.json), Kinetics or others (*.csv), or folders train/CLASS and test/CLASS"
    )


def _ucf101(folder: Path, split: int) -> tuple[list[str], list[Row]]:
    """`1 ApplyEyeMakeup` in classInd.txt; `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1` in trainlist01.txt."""
    classes = [line.split(maxsplit=1)[1].strip() for line in _lines(folder / "classInd.txt")]

    def rows() -> Iterator[Row]:
        for name in ("train", "test"):
            for line in _lines(folder / f"{name}list{split:02}.txt"):
                video = re.sub(r"\s\d+$", "", line.strip())
                label, _, file = video.partition("/")
                group = re.search(r"_(g\d+)_", file)
                yield Row((video,), label, f"{label} {group[1] if group else file}", name)

    return classes, list(rows())


def _hmdb51(folder: Path, split: int) -> tuple[list[str], list[Row]]:
    """`NAME.avi 1` in brush_hair_test_split1.txt: 1 trains, 2 tests, 0 does neither."""
    ending = f"_test_split{split}.txt"
    files = sorted(folder.glob(f"*{ending}"))
    if not files:
        raise ValueError(f"{folder} holds no files of split {split}, *{ending}")

    def rows() -> Iterator[Row]:
        for file in files:
            label = file.name.removesuffix(ending)
            for line in _lines(file):
                video, _, use = line.strip().rpartition(" ")
                if use not in ("0", "1", "2"):
                    raise ValueError(f"{file} has the line {line!r}: expected a video and 0, 1 or 2")
                if use != "0":
                    # The name starts with the film that the clip was cut from.
                    film = video.partition(f"_{label}_")[0]
                    yield Row((f"{label}/{video}",), label, f"{label} {film}", "train" if use == "1" else "test")

    return [file.name.removesuffix(ending) for file in files], list(rows())


def _ssv2(folder: Path, split: int) -> tuple[list[str], list[Row]]:
    """`{"id": "78687", "template": "Holding [something]"}` in *train.json, *validation.json; order in *labels.json."""
    numbers: dict[str, str] = _json(folder, "labels")
    classes = sorted(numbers, key=lambda name: int(numbers[name]))

    def rows() -> Iterator[Row]:
        for name, kind in (("train", "train"), ("validation", "test")):
            for video in _json(folder, name):
                label = video["template"].replace("[", "").replace("]", "")
                yield Row((f"{video['id']}.webm",), label, video["id"], kind)

    return classes, list(rows())


def _csv(path: Path, split: int) -> tuple[list[str], list[Row]]:
    """Columns `video,label` or Kinetics' `label,youtube_id,time_start,time_end`; the split is a column or the file."""
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    rows = [row for file in files for row in _csv_rows(file)]
    return sorted({row.label for row in rows}), rows


def _csv_rows(file: Path) -> Iterator[Row]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        for number, values in enumerate(csv.DictReader(lines, skipinitialspace=True), 1):
            split = values.get("split") or file.stem
            if split not in (TRAIN, *TEST):
                continue
            kinetics = "youtube_id" in values
            if kinetics and split == "test":
                continue  # Not public: Kinetics is tested on its validation videos.
            needed = ("label", "youtube_id", "time_start", "time_end") if kinetics else ("video", "label")
            if not values.keys() >= set(needed):
                raise ValueError(f"{file} has the columns {', '.join(values)}: expected video,label[,split][,group]")
            for name in needed:
                if not values[name]:
                    raise ValueError(f"{file} has no {name} in row {number}")
            if kinetics:
                video = values["youtube_id"]
                cut = f"{video}_{int(float(values['time_start'])):06}_{int(float(values['time_end'])):06}"
                split = "test" if split.startswith("val") else split
                yield Row((f"{cut}.mp4", f"{video}.mp4"), values["label"], video, split)
            else:
                yield Row((values["video"],), values["label"], values.get("group") or values["video"], split)


def _folders(folder: Path, split: int) -> tuple[list[str], list[Row]]:
    """`train/CLASS/*` and `test/CLASS/*`."""
    rows = [
        Row((str(file.relative_to(folder)),), home.name, str(file), part)
        for part in (TRAIN, *TEST)
        for home in sorted((folder / part).glob("*"))
        if home.is_dir()
        for file in sorted(home.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    return sorted({row.label for row in rows}), rows


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise ValueError(f"there is no {file}")
    return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _json(folder: Path, name: str) -> Any:
    files = sorted(folder.glob(f"*{name}.json"))
    if not files:
        raise ValueError(f"{folder} holds no *{name}.json")
    return json.loads(files[0].read_text(encoding="utf-8-sig"))
