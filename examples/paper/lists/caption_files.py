"""Which captions belong to which video: the files of MSR-VTT, MSVD, LSMDC and DiDeMo, or a CSV file."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from examples.paper.lists.label_files import TRAIN, tested_split
from examples.paper.lists.video_files import VideoFiles


@dataclass(frozen=True)
class Captions:
    """One split.

    Attributes:
        paths: B files.
        texts: C captions.
        videos: The number of the video of each caption, C numbers.
    """

    paths: list[Path]
    texts: list[str]
    videos: list[int]


@dataclass(frozen=True)
class CaptionedVideos:
    """A data set.

    Attributes:
        train: Its captions for training.
        test: Its captions for testing.
        missing: A line about videos that are not on disk, or None.
    """

    train: Captions
    test: Captions
    missing: str | None


class Row(NamedTuple):
    """What an annotation says: how a video may be called on disk, one caption of it, and its split."""

    names: tuple[str, ...]
    text: str
    split: str


def read_captions(videos: Path, annotations: Path) -> CaptionedVideos:
    """Reads a data set; the kind of annotation is seen from its files.

    Args:
        videos: Folder of the videos.
        annotations: Folder of MSR-VTT's `MSRVTT_data.json` with the lists of 9K and 1k-A, of MSVD's `video_corpus.csv`
            with its lists, of `LSMDC16_annos_*.csv`, of DiDeMo's `train_data.json`; or one CSV file
            (`video,caption,split`).

    Raises:
        ValueError: Nothing that is known is there, a file is damaged, or no video is.
    """
    if not annotations.exists():
        raise ValueError(f"there are no annotations {annotations}")
    files = VideoFiles(videos)
    read = _reader(annotations)
    found: dict[str, dict[Path, list[str]]] = {"train": {}, "test": {}}
    paths: dict[str, Path | None] = {}
    try:
        rows = list(read(annotations))
        tested = tested_split(row.split for row in rows)
        for row in rows:
            if row.split not in (TRAIN, tested):
                continue
            if row.names[0] not in paths:
                paths[row.names[0]] = files.find(*row.names)
            path = paths[row.names[0]]
            if path is not None:
                found["train" if row.split == TRAIN else "test"].setdefault(path, []).append(row.text)
    except (KeyError, TypeError, AttributeError, csv.Error, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the annotations in {annotations} are damaged: {type(error).__name__}: {error}") from error
    missing = files.report()
    for split, captions in found.items():
        if not captions:
            raise ValueError(f"the annotations in {annotations} name no videos to {split} on, or all are missing")
    return CaptionedVideos(_captions(found["train"]), _captions(found["test"]), missing)


def _captions(found: dict[Path, list[str]]) -> Captions:
    pairs = [(number, text) for number, texts in enumerate(found.values()) for text in texts]
    return Captions(list(found), [text for _, text in pairs], [number for number, _ in pairs])


def _reader(path: Path) -> Callable[[Path], Iterable[Row]]:
    """The reader for what is there."""
    if path.is_file():
        return _csv
    for name, reader in {
        "MSRVTT_data.json": _msrvtt,
        "video_corpus.csv": _msvd,
        "LSMDC16_*.csv": _lsmdc,
        "train_data.json": _didemo,
    }.items():
        if any(path.glob(name)):
            return reader
    raise ValueError(
        f"{path} holds no annotations that are known: MSR-VTT (MSRVTT_data.json), MSVD (video_corpus.csv), LSMDC "
        "(LSMDC16_annos_*.csv), DiDeMo (train_data.json); for others give a CSV file: video,caption,split"
    )


def _msrvtt(folder: Path) -> Iterator[Row]:
    """All captions of the 9,000 videos in MSRVTT_train.9k.csv; one of each of MSRVTT_JSFUSION_test.csv (1k-A)."""
    train = {row["video_id"] for row in _rows(folder, "MSRVTT_train.9k.csv")}
    for sentence in json.loads(_text(folder, "MSRVTT_data.json"))["sentences"]:
        if sentence["video_id"] in train:
            yield Row((f"{sentence['video_id']}.mp4",), sentence["caption"], "train")
    for row in _rows(folder, "MSRVTT_JSFUSION_test.csv"):
        yield Row((f"{row['video_id']}.mp4",), row["sentence"], "test")


def _msvd(folder: Path) -> Iterator[Row]:
    """The English captions in video_corpus.csv, of the videos in train_list.txt and test_list.txt."""
    splits = {}
    for split in ("train", "test"):
        for line in _text(folder, f"{split}_list.txt").split():
            splits[line] = split
    for row in _rows(folder, "video_corpus.csv"):
        name = f"{row['VideoID']}_{row['Start']}_{row['End']}"
        if row["Language"] == "English" and row["Description"] and name in splits:
            yield Row((f"{name}.avi",), row["Description"], splits[name])


def _lsmdc(folder: Path) -> Iterator[Row]:
    """Tabs between the clip, four times, perhaps more, and the caption; training, or else validation, and the 1,000."""
    trains = sorted(folder.glob("LSMDC16_annos_training.csv")) or sorted(folder.glob("LSMDC16_annos_val.csv"))
    tests = sorted(folder.glob("LSMDC16_challenge_1000*.csv"))
    for kind, files in (("train", trains[:1]), ("test", tests[:1])):
        for file in files:
            for line in filter(str.strip, _text(folder, file.name).split("\n")):
                clip, tab, rest = line.partition("\t")
                if not tab:
                    raise ValueError(f"{file} has the line {line!r}: expected tabs between clip, times and caption")
                text = rest.rpartition("\t")[2]
                # Clips are in a folder for each film, whose name is theirs without the times.
                yield Row((f"{clip.rpartition('_')[0]}/{clip}.avi",), text, kind)


def _didemo(folder: Path) -> Iterator[Row]:
    """The descriptions of a video's moments, in train_data.json and test_data.json, make one paragraph."""
    for split in ("train", "test"):
        paragraphs: dict[str, list[str]] = {}
        for moment in json.loads(_text(folder, f"{split}_data.json")):
            paragraphs.setdefault(moment["video"], []).append(moment["description"])
        for video, descriptions in paragraphs.items():
            yield Row((video,), " ".join(descriptions), split)


def _csv(file: Path) -> Iterator[Row]:
    """Columns `video,caption,split`; a video may have several rows."""
    for number, row in enumerate(_rows(file.parent, file.name), 1):
        if not {"video", "caption", "split"} <= row.keys():
            raise ValueError(f"{file} has the columns {', '.join(row)}: expected video,caption,split")
        for name in ("video", "caption", "split"):
            if not row[name]:
                raise ValueError(f"{file} has no {name} in row {number}")
        yield Row((row["video"],), row["caption"], row["split"])


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_text(folder, name), newline=""), skipinitialspace=True))


def _text(folder: Path, name: str) -> str:
    if not (folder / name).is_file():
        raise ValueError(f"there is no {folder / name}")
    return (folder / name).read_text(encoding="utf-8-sig")
