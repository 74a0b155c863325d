"""Which captions belong to which video: the files of MSR-VTT, MSVD, LSMDC and DiDeMo, or a CSV file."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from examples.paper.lists.caption_rows import CaptionRow
from examples.paper.lists.caption_sets import read_caption_table, read_didemo, read_lsmdc, read_msvd
from examples.paper.lists.label_checks import Use, keep_known_splits, suspicious_uses, unused_splits
from examples.paper.lists.msrvtt import has_msrvtt, read_msrvtt
from examples.paper.lists.splits import TRAIN, tested_split
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
        train: Its captions for training; None: only the tests were read.
        test: Its captions for testing.
        listed: How many videos the annotations name for "train" and for "test", whether they are on disk or not.
        tested: The split that is tested on: "test", or "val" and the like without a "test"; None: there is none.
        missing: A line about videos that are not on disk, or None.
        remarks: Lines about suspicious annotations, and about videos that were left out.
    """

    train: Captions | None
    test: Captions
    listed: dict[str, int]
    tested: str | None
    missing: str | None
    remarks: tuple[str, ...] = ()


def read_captions(
    videos: Path, annotations: Path, protocol: str | None = None, tests_only: bool = False
) -> CaptionedVideos:
    """Reads a data set; the kind of annotations is seen from its files.

    Args:
        videos: Folder of the videos.
        annotations: Folder of MSR-VTT's `MSRVTT_data.json` or `*videodatainfo*.json`, of MSVD's `raw-captions.pkl` or
            `video_corpus.csv` with its lists, of `LSMDC16_annos_*.csv`, of DiDeMo's `train_data.json`; or one CSV file
            (`video,caption,split`).
        protocol: Of MSR-VTT: "9k", "7k" or "official"; None: see `read_msrvtt`.
        tests_only: Leave out the training videos: they need not be there.

    Raises:
        ValueError: Nothing that is known is there, a file is damaged, or no video is.
    """
    if not annotations.exists():
        raise ValueError(f"there are no annotations {annotations}")
    files = VideoFiles(videos)
    rows, remarks = keep_known_splits(list(_read(annotations, protocol, tests_only)), annotations)
    tested = tested_split(row.split for row in rows)
    remarks += unused_splits(rows, tested)
    found: dict[str, dict[Path, list[str]]] = {TRAIN: {}, "test": {}}
    listed: dict[str, set[str]] = {TRAIN: set(), "test": set()}
    paths: dict[str, Path | None] = {}
    uses = []
    for row in rows:
        if row.split != tested and (row.split != TRAIN or tests_only):
            continue
        part = TRAIN if row.split == TRAIN else "test"
        name = row.names[0]
        if name not in paths:
            paths[name] = files.find(*row.names)
        path = paths[name]
        if name not in listed[part]:
            listed[part].add(name)
            uses.append(Use(path or name, name, "", part == TRAIN))
        if path is not None:
            found[part].setdefault(path, []).append(row.text)
    missing = files.report()
    for part, captions in found.items():
        if not captions and not (part == TRAIN and tests_only):
            if listed[part]:
                raise ValueError(
                    f"all {len(listed[part])} videos that {annotations} names to {part} on are missing in {videos}, "
                    f"such as {min(listed[part])}"
                )
            raise ValueError(f"the annotations in {annotations} name no videos with captions to {part} on")
    return CaptionedVideos(
        train=None if tests_only else _captions(found[TRAIN]),
        test=_captions(found["test"]),
        listed={part: len(names) for part, names in listed.items()},
        tested=tested,
        missing=missing,
        remarks=(*remarks, *suspicious_uses(uses)),
    )


def _captions(found: dict[Path, list[str]]) -> Captions:
    pairs = [(number, text) for number, texts in enumerate(found.values()) for text in texts]
    return Captions(list(found), [text for _, text in pairs], [number for number, _ in pairs])


def _read(path: Path, protocol: str | None, tests_only: bool) -> Iterable[CaptionRow]:
    """Read the files."""
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise ValueError(f"{path} is not a CSV file video,caption,split: for a known data set give its folder")
        return read_caption_table(path)
    if has_msrvtt(path):
        return read_msrvtt(path, protocol)
    for names, read in (
        (("raw-captions.pkl", "video_corpus.csv"), read_msvd),
        (("LSMDC16_*.csv",), read_lsmdc),
        (("train_data.json", "test_data.json"), read_didemo),
    ):
        if any(any(path.glob(name)) for name in names):
            return read(path, tests_only)
    raise ValueError(
        f"{path} holds no annotations that are known: MSR-VTT (MSRVTT_data.json or *videodatainfo*.json), MSVD "
        "(raw-captions.pkl or video_corpus.csv), LSMDC (LSMDC16_annos_*.csv), DiDeMo (train_data.json); for others "
        "give a CSV file: video,caption,split"
    )
