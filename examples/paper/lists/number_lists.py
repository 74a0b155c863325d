"""Lists of `path number` lines, as ViFi-CLIP, X-CLIP, mmaction2, SlowFast and pytorchvideo use them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from examples.paper.lists.label_tables import is_label_table
from examples.paper.lists.names_files import ClassNames
from examples.paper.lists.rows import Row, source_of
from examples.paper.lists.text_files import read_lines
from examples.video.files import SUFFIXES

ENDINGS = (".txt", ".csv", ".list", ".lst")
_LINE = re.compile(r".+?(?P<numbers>(?:[\s,;]+-?\d+)+)")
_TRAINED = {"train", "training", "trainlist"}
_TESTED = {"test", "testing", "testlist"}
_VALIDATED = {"val", "valid", "validate", "validation", "vallist", "eval"}


@dataclass(frozen=True)
class ListFiles:
    """The lists of one data set.

    Attributes:
        train: The videos to train on, or None.
        test: The videos to test on, or None.
        unused: Lists of validation videos beside those to test on.
    """

    train: Path | None
    test: Path | None
    unused: tuple[Path, ...] = ()


def is_number_list(file: Path) -> bool:
    """Whether the first line of a file, and half of the first nine, are paths followed by one or more numbers."""
    if file.suffix.lower() not in ENDINGS or not file.is_file():
        return False
    try:
        lines = _entries(file)[:9]
        matches = [_LINE.fullmatch(text) is not None for _, text in lines]
        return bool(matches) and matches[0] and 2 * sum(matches) >= len(matches)
    except ValueError:  # An empty file, or no text: whoever needs it says so.
        return False


def _entries(file: Path) -> list[tuple[int, str]]:
    """The lines of a list with their numbers, without comments and without a header such as `path label`."""
    lines = [(number, text) for number, text in read_lines(file) if not text.startswith("# ")]
    return lines[1:] if lines and re.fullmatch(r"[A-Za-z_]+( +[A-Za-z_]+)+", lines[0][1]) else lines


def read_number_list(file: Path, split: str) -> list[Row]:
    """Reads lines `path number` or `path frames number`, separated by blanks, tabs, commas or semicolons.

    Paths may hold blanks and stand in quotation marks. The last number is that of the class; a number before it, in
    lists made for folders of frames, counts the frames and is not used.

    Args:
        file: The list.
        split: The split of its videos.

    Raises:
        ValueError: A line is something else, or gives a video several classes.
    """
    check_lines(file)
    lines = []
    for number, text in _entries(file):
        match = _LINE.fullmatch(text)
        assert match is not None
        lines.append((number, text, len(re.findall(r"-?\d+", match["numbers"]))))
    # A path may itself end in a blank and a number; only numbers that every line has are columns.
    columns = min(2, *(count for *_, count in lines))
    form = re.compile(rf"(?P<path>.+?)(?:[\s,;]+-?\d+){{{columns - 1}}}[\s,;]+(?P<label>-?\d+)")
    rows = []
    for number, text, _ in lines:
        match = form.fullmatch(text)
        assert match is not None  # as `_LINE` matched it
        path = match["path"].strip("\"'")
        shorter = re.fullmatch(r"(.+?)(?:[\s,;]+-?\d+)+", path)
        if shorter is not None and Path(shorter[1]).suffix.lower() in SUFFIXES:
            raise ValueError(
                f"{file} has in line {number} {text!r}, more numbers than in other lines: expected one class a video"
            )
        rows.append(Row((path,), str(int(match["label"])), source_of(path, ""), split, f"{file.name}, line {number}"))
    return rows


def name_numbers(rows: list[Row], names: ClassNames) -> tuple[list[Row], str | None]:
    """Puts names for the numbers of classes.

    Where the file of names counts from 1 and the lists from 0, as UCF-101's `classInd.txt` and the lists made from it
    do, the numbers of the lists are raised by 1. They are lowered by 1 where the names have no numbers and the lists
    count from 1.

    Args:
        rows: Videos whose labels are numbers, counted alike.
        names: The class name of each number.

    Returns:
        The same videos with names as labels, and a remark on how the numbers were read, or None.

    Raises:
        ValueError: A number has no name.
    """
    used = {int(row.label) for row in rows}
    last = len(names.names)
    counts_from_one = names.numbered and set(names.names) == set(range(1, last + 1))
    shift, note = 0, None
    if counts_from_one and 0 in used and last not in used:
        shift = 1
        note = (
            f"{names.file} counts the classes from 1 and the lists from 0: their number 0 is read as {names.names[1]!r}"
        )
    elif not names.numbered and 0 not in used and last in used:
        shift = -1
        note = f"the lists count the classes from 1: their number 1 is read as {names.names[0]!r}"
    elif counts_from_one and not used & {0, last}:
        note = f"neither 0 nor {last} is the number of a video: numbers are read as in {names.file}, counting from 1"
    named = []
    for row in rows:
        name = names.names.get(int(row.label) + shift)
        if name is None:
            raise ValueError(
                f"{row.names[0]} ({row.where}) is of the class number {row.label}, which {names.file} does not name: "
                f"it names {min(names.names)} to {max(names.names)}; add the class to it, or give another --names"
            )
        group = source_of(row.names[0], name) if row.group == row.names[0] else row.group
        named.append(row._replace(label=name, group=group))
    return named, note


def find_lists(folder: Path, split: int = 1, shots: int | None = None) -> ListFiles | None:
    """Finds the lists of a folder by their names; None: it holds none.

    A file is for training if a word of its name is "train", and for testing if one is "test" or else "val". Of files
    that number their splits (`val2.txt`, `hmdb51_val_split_2_videos.txt`), the lists of the split count. Beside a list
    of path and number, the other one may be a table with a header.

    Args:
        folder: Where to look.
        split: 1, 2 or 3.
        shots: Take `train1_few_shot_16.txt` for 16, where there is one; None: no list of few shots.

    Raises:
        ValueError: Several files fit, or a file that is named like a list is something else.
    """
    train: list[Path] = []
    test: list[Path] = []
    validation: list[Path] = []
    for file in sorted(folder.iterdir()):
        words = _words(file)
        if not words & (_TRAINED | _TESTED | _VALIDATED) or not is_number_list(file) or "novel" in words:
            continue
        number = split_number(file)
        if number is not None and number != split:
            continue
        if words & _TRAINED:
            train.append(file)
        else:
            (test if words & _TESTED else validation).append(file)
    drawn = {file: re.search(r"few_?shot_?(\d+)", file.stem.lower()) for file in train}
    own = [file for file in train if (match := drawn[file]) is not None and int(match[1]) == shots]
    files = ListFiles(
        _only(own or [file for file in train if drawn[file] is None], folder, "--train-list"),
        _only(test or validation, folder, "--test-list"),
        tuple(validation) if test else (),
    )
    if files == ListFiles(None, None):
        return None
    # A list with a mistake in it, or with a header, must not go unnoticed beside a good one.
    if files.train is None:
        files = replace(files, train=_other_list(folder, _TRAINED, split, {*drawn}))
    if files.test is None:
        others = (_other_list(folder, words, split, {*drawn}) for words in (_TESTED, _VALIDATED))
        files = replace(files, test=next((file for file in others if file is not None), None))
    return files


def _other_list(folder: Path, words: set[str], split: int, known: set[Path]) -> Path | None:
    """Returns a table that is named like a list, or None; a ValueError shows the first line of any other such file."""
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in ENDINGS or file in known or not _words(file) & words or "novel" in _words(file):
            continue
        if split_number(file) not in (None, split):
            continue
        if is_label_table(file):
            return file
        check_lines(file)
    return None


def check_lines(file: Path) -> None:
    """Raises a ValueError that shows the first line of a list that is not a path and a number."""
    for number, text in _entries(file):
        if _LINE.fullmatch(text) is None:
            raise ValueError(f"{file} has in line {number} {text!r}: expected a path and the number of its class")


def misnamed_list(folder: Path) -> Path | None:
    """Returns the first text file of a folder that is named like a list of videos, or None."""
    words = _TRAINED | _TESTED | _VALIDATED
    files = (file for file in sorted(folder.iterdir()) if file.suffix.lower() in (".txt", ".list", ".lst"))
    return next((file for file in files if _words(file) & words and file.is_file()), None)


def _words(file: Path) -> set[str]:
    return set(re.findall(r"[a-z]+", file.stem.lower()))


def list_splits(folder: Path) -> list[int]:
    """Returns which of three splits a folder holds lists of test videos for; empty where lists are not numbered."""
    numbers = {split_number(file) for file in folder.iterdir() if _is_tested(file)}
    return sorted(number for number in numbers if number is not None)


def _is_tested(file: Path) -> bool:
    words = _words(file)
    return bool(words & (_TESTED | _VALIDATED)) and not words & _TRAINED and is_number_list(file)


def split_number(file: Path) -> int | None:
    """Returns the split that the name of a list says, or None.

    Example:
        >>> [split_number(Path(name)) for name in ("train1_few_shot_16.txt", "ucf101_val_split_2.txt", "val.txt")]
        [1, 2, None]
    """
    match = re.search(r"(?:split|train|val|test)(?:list)?_?0*([1-9])(?!\d)", file.stem.lower())
    return None if match is None else int(match[1])


@dataclass(frozen=True)
class BaseNovelLists:
    """Lists of base and novel classes, whose numbers count within their own file of names.

    Attributes:
        base: The lists of the base classes.
        novel_test: The videos of the novel classes to test on.
    """

    base: ListFiles
    novel_test: Path


def find_base_novel_lists(folder: Path, draw: int) -> BaseNovelLists | None:
    """Finds ViFi-CLIP's `fs_base_s1_train.txt`, `base_val.txt` and `novel_val.txt`; None: they are not there.

    Args:
        folder: Where to look.
        draw: Which of the draws of training videos to take, from 1.

    Raises:
        ValueError: The lists are there, but not that draw.
    """
    base_test, novel_test = folder / "base_val.txt", folder / "novel_val.txt"
    draws = sorted(folder.glob("fs_base_s*_train.txt"))
    if not (draws and base_test.is_file() and novel_test.is_file()):
        return None
    train = folder / f"fs_base_s{draw}_train.txt"
    if train not in draws:
        found = ", ".join(file.name for file in draws)
        raise ValueError(f"there is no {train}: --seed 0 takes draw 1, --seed 1 draw 2; there are {found}")
    return BaseNovelLists(ListFiles(train, base_test), novel_test)


def _only(files: list[Path], folder: Path, option: str) -> Path | None:
    if len(files) > 1:
        raise ValueError(
            f"{folder} holds several lists, {', '.join(file.name for file in files)}: choose one, {option}"
        )
    return files[0] if files else None
