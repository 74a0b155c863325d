"""Captions of MSVD, LSMDC and DiDeMo as they are distributed, and CSV files."""

from collections.abc import Iterator
from pathlib import Path

from examples.paper.lists.caption_pickle import read_caption_pickle
from examples.paper.lists.caption_rows import CaptionRow
from examples.paper.lists.json_files import read_entries, text_of
from examples.paper.lists.splits import TRAIN
from examples.paper.lists.tables import read_table, rename_columns
from examples.paper.lists.text_files import read_lines
from examples.video.files import SUFFIXES

_OTHER_COLUMNS = {
    "video": ("path", "video_path", "file", "filename", "file_name", "video_name", "video_id", "clip"),
    "caption": ("text", "sentence", "description"),
    "split": ("subset", "partition", "set"),
}


def read_msvd(folder: Path, tests_only: bool = False) -> Iterator[CaptionRow]:
    """The English captions in raw-captions.pkl or video_corpus.csv; train_list.txt and test_list.txt list videos."""
    splits = {}
    for split in ("test",) if tests_only else (TRAIN, "test"):
        for _, name in read_lines(folder / f"{split}_list.txt"):
            splits[name] = split
    pickled = folder / "raw-captions.pkl"
    if pickled.is_file():
        for name, captions in read_caption_pickle(pickled).items():
            for text in captions if name in splits else []:
                yield CaptionRow((f"{name}.avi",), text, splits[name], f"{pickled.name}, {name}")
        return
    table = read_table(folder / "video_corpus.csv")
    table.check_columns("videoid", "start", "end", "language", "description")
    for number, cells in table.rows:
        name = f"{cells['videoid']}_{cells['start']}_{cells['end']}"
        if cells["language"].lower() == "english" and cells["description"] and name in splits:
            yield CaptionRow((f"{name}.avi",), cells["description"], splits[name], f"{table.file.name}, row {number}")


def read_lsmdc(folder: Path, tests_only: bool = False) -> Iterator[CaptionRow]:
    """Tabs between the clip, four times or more, and the caption; training, or else validation, and the 1,000."""
    trains = sorted(folder.glob("LSMDC16_annos_training.csv")) or sorted(folder.glob("LSMDC16_annos_val.csv"))
    tests = sorted(folder.glob("LSMDC16_challenge_1000*.csv"))
    for split, files in ((TRAIN, [] if tests_only else trains[:1]), ("test", tests[:1])):
        for file in files:
            for number, line in read_lines(file):
                cells = line.split("\t")
                if len(cells) < 6:
                    raise ValueError(
                        f"{file} has in line {number} {line!r}: expected tabs between clip, four times and caption"
                    )
                # Clips are in a folder for each film, whose name is theirs without the times.
                name = f"{cells[0].rpartition('_')[0]}/{cells[0]}.avi"
                yield CaptionRow((name,), cells[-1], split, f"{file.name}, line {number}")


def read_didemo(folder: Path, tests_only: bool = False) -> Iterator[CaptionRow]:
    """The descriptions of a video's moments, in train_data.json and test_data.json, are one paragraph.

    Some videos are named twice, under two endings, and some names end in a dot: only the name counts, without the
    ending. The test file has 1,037 names of 1,004 videos.
    """
    for split in ("test",) if tests_only else (TRAIN, "test"):
        names: dict[str, list[str]] = {}
        moments: dict[str, list[str]] = {}
        file = folder / f"{split}_data.json"
        for number, moment in enumerate(read_entries(file), 1):
            where = f"{file}, entry {number},"
            name = text_of(moment, "video", where)
            video = without_ending(name)
            names.setdefault(video, []).append(name)
            moments.setdefault(video, []).append(text_of(moment, "description", where))
        for video, descriptions in moments.items():
            yield CaptionRow(
                (*dict.fromkeys(names[video]), video), " ".join(descriptions), split, f"{file.name}, {video}"
            )


def without_ending(name: str) -> str:
    """Returns the name of a video without the ending of a video and without a dot at its end.

    Example:
        >>> without_ending("12@N00_34_ab.mov"), without_ending("12@N00_34_ab."), without_ending("12@N00_34.5_ab")
        ('12@N00_34_ab', '12@N00_34_ab', '12@N00_34.5_ab')
    """
    stem, dot, ending = name.rstrip(".").rpartition(".")
    return stem if dot and f".{ending.lower()}" in SUFFIXES else name.rstrip(".")


def read_caption_table(file: Path) -> Iterator[CaptionRow]:
    """Columns `video,caption,split`; a video may have several rows."""
    table = rename_columns(read_table(file), _OTHER_COLUMNS)
    table.check_columns("video", "caption", "split")
    table.check_filled("video", "caption", "split")
    for number, cells in table.rows:
        yield CaptionRow((cells["video"],), cells["caption"], cells["split"], f"{file.name}, row {number}")
