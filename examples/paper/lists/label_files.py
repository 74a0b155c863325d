"""Which video shows which class: files of data sets, lists of path and number, CSV files, a folder for each class."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from examples.paper.lists.class_folders import has_class_folders, read_class_folders, split_folders
from examples.paper.lists.label_checks import Use, keep_known_splits, merge_labels, suspicious_uses, unused_splits
from examples.paper.lists.label_tables import is_label_table, read_label_tables
from examples.paper.lists.names_files import FORMS, ClassNames, read_names
from examples.paper.lists.number_lists import (
    ListFiles,
    check_lines,
    find_lists,
    is_number_list,
    list_splits,
    misnamed_list,
    name_numbers,
    read_number_list,
)
from examples.paper.lists.official import read_hmdb51, read_ssv2, read_ucf101
from examples.paper.lists.remarks import remark
from examples.paper.lists.rows import Row
from examples.paper.lists.shares import split_by_share
from examples.paper.lists.splits import TEST, TRAIN, tested_split
from examples.paper.lists.text_files import read_text
from examples.paper.lists.video_files import VideoFiles
from examples.video.class_names import clean_name, clean_names
from examples.video.files import is_ignored, is_video


class LabelledVideo(NamedTuple):
    """One video.

    Attributes:
        path: Its file.
        label: The number of its class.
        group: The recording that it was cut from. Videos of one group are alike.
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
        listed: How many videos of each class the annotations name for "train" and for "test", whether they are on disk
            or not, C numbers each.
        tested: The split that is tested on: "test", or "val" and the like without a "test"; None: there is none.
        train_list: The list of path and number that names the training videos, or None.
        missing: A line about videos that are not on disk, or None.
        remarks: Lines about suspicious annotations, and about videos that were left out.
    """

    classes: list[str]
    train: list[LabelledVideo]
    test: list[LabelledVideo]
    listed: dict[str, list[int]]
    tested: str | None
    train_list: Path | None
    missing: str | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where labels are, and what to take of them.

    Attributes:
        annotations: Folder of UCF-101's `classInd.txt`, of HMDB-51's `*_test_split1.txt`, of SSv2's `*labels.json`, of
            `train.csv` or of lists of path and number; or one CSV file or list. None: the videos are in folders named
            after their classes.
        lists: The lists to read instead.
        names: A file of class names, for numbers; it also decides the order of the classes.
        split: Of data sets that have three: 1, 2 or 3.
        shots: The number of shots whose lists are read from a folder with lists of few shots. None: none of them.
        tests_only: Look for the test videos alone: neither the training videos nor a list of them need be there.
        test_share: Where no split is given, the share of the videos to test on.
        seed: Draws that share.
    """

    annotations: Path | None = None
    lists: ListFiles | None = None
    names: Path | None = None
    split: int = 1
    shots: int | None = None
    tests_only: bool = False
    test_share: float | None = None
    seed: int = 0


def read_labels(videos: Path, source: Source) -> LabelledVideos:
    """Reads a data set; the kind of annotations is seen from its files.

    Args:
        videos: Folder of the videos.
        source: Where their labels are.

    Raises:
        ValueError: No annotations are known, a file is damaged, classes have no names, or no video is on disk.
    """
    files = VideoFiles(videos)
    folder = source.annotations or videos
    if source.lists is None and not folder.exists():
        raise ValueError(f"there are no annotations {folder}")
    found = _read(videos, folder, source)
    remarks = list(found.remarks)
    rows = found.rows
    if source.test_share is not None:
        if any(row.split for row in rows):
            remarks.append(f"--test-share is not used: {folder} says which videos are for training and which for tests")
        elif rows:
            rows = split_by_share(rows, source.test_share, source.seed)
    rows, notes = keep_known_splits(rows, folder, ", or draw the test videos with --test-share")
    remarks += notes
    if not rows:
        raise ValueError(f"{folder} names no videos")
    tested = tested_split(row.split for row in rows)
    remarks += unused_splits(rows, tested)
    rows = [row for row in rows if row.split in (TRAIN, tested)]
    rows, classes, notes = _name_classes(rows, found, source, folder)
    remarks += notes
    numbers = {name: number for number, name in enumerate(classes)}
    parts: dict[bool, list[LabelledVideo]] = {True: [], False: []}
    uses = []
    for row in rows:
        trains = row.split == TRAIN
        if trains and source.tests_only:
            continue
        path = files.find(*row.names)
        uses.append(Use(path or row.names[0], row.names[0], row.label, trains))
        if path is not None:
            parts[trains].append(LabelledVideo(path, numbers[row.label], row.group))
    missing = files.report()
    if not source.tests_only and any(row.split == TRAIN for row in rows):
        trained = {row.label for row in rows if row.split == TRAIN}
        untrained = [name for name in classes if name not in trained]
        if untrained:
            remarks.append(remark(len(untrained), "classes have no training videos", untrained))
    counts = {TRAIN: Counter[str](), "test": Counter[str]()}
    for row in rows:
        counts[TRAIN if row.split == TRAIN else "test"][row.label] += 1
    return LabelledVideos(
        clean_names(classes),
        train=parts[True],
        test=parts[False],
        listed={part: [own[name] for name in classes] for part, own in counts.items()},
        tested=tested,
        train_list=found.train_list,
        missing=missing,
        remarks=(*remarks, *suspicious_uses(uses)),
    )


class _Found(NamedTuple):
    """The result of reading: videos, their classes if the annotations list them, and remarks."""

    rows: list[Row]
    classes: list[str] | None = None
    remarks: tuple[str, ...] = ()
    train_list: Path | None = None


def _read(videos: Path, folder: Path, source: Source) -> _Found:
    """Reads the annotations in a folder, which may be that of the videos, or in a file."""
    if source.lists is not None:
        return _read_lists(source.lists, source.tests_only)
    if folder.is_file():
        if is_number_list(folder):
            if source.test_share is not None:
                return _Found(read_number_list(folder, ""))
            if not source.tests_only:
                raise ValueError(
                    f"{folder} is a list of path and number, which has no column for the split: give it as "
                    "--train-list or --test-list, give the folder of both as --annotations, or draw the test videos "
                    "with --test-share"
                )
            return _read_lists(ListFiles(None, folder), tests_only=True)
        if folder.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise ValueError(f"{folder} is not a CSV file, a list of path and number, or a folder of annotations")
        read_text(folder)
        return _Found(read_label_tables([folder]))
    official = None
    if (folder / "classInd.txt").is_file() and any(folder.glob("*list0[123].txt")):
        official = read_ucf101
    elif any(folder.glob("*_test_split[123].txt")):
        official = read_hmdb51
    lists = None if official is not None else find_lists(folder, source.split, source.shots)
    if lists is not None:
        return _read_lists(lists, source.tests_only)
    if official is None and list_splits(folder):
        there = ", ".join(map(str, list_splits(folder)))
        raise ValueError(
            f"{folder} holds no lists of split {source.split}, but of split {there}: choose another --split"
        )
    if any(folder.glob("*labels.json")):
        official = read_ssv2
    if official is not None:
        classes, rows = official(folder, source.split, source.tests_only)
        return _Found(rows, classes)
    tables = sorted(folder.glob("*.csv"))
    misnamed = misnamed_list(folder)
    is_only_names = misnamed is not None and not any(map(is_label_table, tables))
    if {table.stem for table in tables} & {TRAIN, *TEST} or (
        tables and not split_folders(folder) and not is_only_names
    ):
        return _Found(read_label_tables(tables))
    if split_folders(folder) or (videos == folder and has_class_folders(folder)):
        rows, remarks = read_class_folders(folder)
        if not split_folders(folder) and source.test_share is None:
            raise ValueError(
                f"{folder} holds a folder for each class, but neither {TRAIN}/ nor test/: give its --annotations, or "
                "draw the test videos with --test-share 0.2"
            )
        return _Found(rows, remarks=tuple(remarks))
    if misnamed is not None:
        check_lines(misnamed)
    entries = [path for path in sorted(folder.iterdir()) if not is_ignored(path.name)]
    if not entries:
        raise ValueError(f"{folder} is empty")
    loose = next((path for path in entries if is_video(path)), None)
    if loose is not None:
        raise ValueError(
            f"{folder} holds videos, such as {loose.name}, but does not say their classes: put them into a folder for "
            "each class, or give --annotations"
        )
    raise ValueError(
        f"{folder} holds no annotations that are known: UCF-101 (classInd.txt), HMDB-51 (*_test_split1.txt), SSv2 "
        "(*labels.json), lists of path and number (train.txt, val.txt), Kinetics or others (*.csv), or folders "
        "train/CLASS and test/CLASS"
    )


def _read_lists(lists: ListFiles, tests_only: bool) -> _Found:
    rows = []
    for file, split in ((lists.train, TRAIN), (lists.test, "test")):
        if file is None or (split == TRAIN and tests_only and not file.is_file()):
            continue
        if not file.is_file():
            raise ValueError(f"there is no list {file}")
        rows += read_number_list(file, split) if is_number_list(file) else read_label_tables([file], split)
    unused = [f"{file} is not used, as {lists.test} is tested on" for file in lists.unused]
    return _Found(rows, remarks=tuple(unused), train_list=lists.train)


def _name_classes(
    rows: list[Row], found: _Found, source: Source, folder: Path
) -> tuple[list[Row], list[str], list[str]]:
    """Returns the rows with names as labels, the names of all classes in order, and remarks."""
    names, remarks = _find_names(rows, source, folder)
    if names is not None and all(_is_number(row.label) for row in rows):
        rows, note = name_numbers(rows, names)
        return rows, list(names.names.values()), remarks if note is None else [*remarks, note]
    if found.classes is not None:
        _check_listed(rows, set(found.classes), folder)
        return rows, found.classes, remarks
    if names is not None:
        plain = {clean_name(name): name for name in names.names.values()}
        rows = [row._replace(label=plain.get(clean_name(row.label), row.label)) for row in rows]
        _check_listed(rows, set(names.names.values()), names.file)
        return rows, list(names.names.values()), remarks
    rows, notes = merge_labels(rows)
    return rows, sorted({row.label for row in rows}), remarks + notes


def _find_names(rows: list[Row], source: Source, folder: Path) -> tuple[ClassNames | None, list[str]]:
    """Returns the names that are given or, for numbers, those in a file beside the annotations."""
    if source.names is not None:
        return read_names(source.names), []
    numbers = next((row for row in rows if _is_number(row.label)), None)
    if numbers is None or not all(_is_number(row.label) for row in rows):
        return None, []
    home = folder if folder.is_dir() else folder.parent
    if (home / "classInd.txt").is_file() and source.lists is None:
        return read_names(home / "classInd.txt"), [f"the names of the classes are those in {home / 'classInd.txt'}"]
    raise ValueError(
        f"the classes are numbers, such as {numbers.label} of {numbers.names[0]} ({numbers.where}): say what they are "
        f"called with --names FILE, {FORMS}"
    )


def _check_listed(rows: list[Row], classes: set[str], source: Path) -> None:
    for row in rows:
        if row.label not in classes:
            raise ValueError(
                f"{row.names[0]} ({row.where}) is of the class {row.label!r}, which {source} does not list: "
                "correct it, or add the class"
            )


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()
