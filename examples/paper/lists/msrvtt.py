"""MSR-VTT: CLIP4Clip's files of the 9K, 7K and 1k-A splits, and the official `*videodatainfo*.json`."""

from collections.abc import Iterator
from pathlib import Path

from examples.paper.lists.caption_rows import CaptionRow
from examples.paper.lists.json_files import read_entries, text_of
from examples.paper.lists.splits import TRAIN, known_split
from examples.paper.lists.tables import read_table

PROTOCOLS = ("9k", "7k", "official")
_CAPTIONS = ("MSRVTT_data.json", "*videodatainfo*.json")
_PAIRS = "MSRVTT_JSFUSION_test.csv"


def has_msrvtt(folder: Path) -> bool:
    """Whether a folder holds MSR-VTT's captions."""
    return any(any(folder.glob(name)) for name in _CAPTIONS)


def read_msrvtt(folder: Path, protocol: str | None) -> Iterator[CaptionRow]:
    """Reads the captions of one protocol.

    Args:
        folder: Holds `MSRVTT_data.json` or the official `train_val_videodatainfo.json` and `test_videodatainfo.json`;
            for 1k-A also `MSRVTT_JSFUSION_test.csv`.
        protocol: "9k": all videos outside of 1k-A train. "7k": the official training and validation videos do. Both
            test on the 1,000 pairs of 1k-A. "official": the official splits, all captions. None: "official" where the
            pairs of 1k-A are not there, "7k" where its list is the only one, else "9k".

    Raises:
        ValueError: A file that the protocol needs is missing or damaged.
    """
    videos: dict[str, str] = {}
    sentences: list[tuple[str, str]] = []  # video and caption
    for file in sorted({file for name in _CAPTIONS for file in folder.glob(name)}):
        for number, video in enumerate(read_entries(file, "videos"), 1):
            name = text_of(video, "video_id", f"{file}, entry {number} of 'videos',")
            videos[name] = known_split(str(video.get("split", ""))) or ""
        own = [
            (text_of(sentence, "video_id", where), text_of(sentence, "caption", where))
            for number, sentence in enumerate(read_entries(file, "sentences"), 1)
            for where in [f"{file}, entry {number} of 'sentences',"]
        ]
        # MSRVTT_data.json repeats the official files; within one file, two people may have written one caption.
        known = set(sentences)
        sentences += [sentence for sentence in own if sentence not in known]
    if protocol is None:
        only_7k = (folder / "MSRVTT_train.7k.csv").is_file() and not (folder / "MSRVTT_train.9k.csv").is_file()
        protocol = "official" if not (folder / _PAIRS).is_file() else "7k" if only_7k else "9k"
    if protocol == "official":
        for video_id, caption in sentences:
            split = videos.get(video_id)
            if not split:
                raise ValueError(f"{folder} gives no split for {video_id}: --protocol official needs it")
            yield _row(video_id, caption, split)
        return
    pairs = read_table(folder / _PAIRS)
    pairs.check_columns("video_id", "sentence")
    tested = {row.cells["video_id"] for row in pairs.rows}
    trained = _training_videos(folder, protocol, videos, {video_id for video_id, _ in sentences}) - tested
    for video_id, caption in sentences:
        if video_id in trained:
            yield _row(video_id, caption, TRAIN)
    for row in pairs.rows:
        yield _row(row.cells["video_id"], row.cells["sentence"], "test")


def _training_videos(folder: Path, protocol: str, videos: dict[str, str], captioned: set[str]) -> set[str]:
    """The videos in the list of a protocol, or that the list would contain."""
    file = folder / f"MSRVTT_train.{protocol}.csv"
    if file.is_file():
        table = read_table(file)
        table.check_columns("video_id")
        return {row.cells["video_id"] for row in table.rows}
    if protocol == "9k":
        return captioned
    own = {video for video, split in videos.items() if split and split != "test"}
    if not own:
        raise ValueError(
            f"{folder} holds neither {file.name} nor official splits of its videos: --protocol 7k needs one"
        )
    return own


def _row(video: str, text: str, split: str) -> CaptionRow:
    return CaptionRow((f"{video}.mp4",), text, split, video)
