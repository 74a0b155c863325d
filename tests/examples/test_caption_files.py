"""Every layout of captions."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from examples.paper.lists.caption_files import Captions, read_captions
from tests.support import video_sets


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def pairs(captions: Captions) -> list[tuple[str, str]]:
    return [(captions.paths[v].name, text) for v, text in zip(captions.videos, captions.texts, strict=True)]


def test_msrvtt(tmp_path):
    data = read_captions(*video_sets.msrvtt(tmp_path))
    assert pairs(data.train) == [(f"video{n}.mp4", f"caption {k} of {n}") for n in range(4) for k in (0, 1)]
    assert pairs(data.test) == [(f"video{n}.mp4", f"test caption of {n}") for n in (4, 5, 6)]


def test_msvd(tmp_path):
    data = read_captions(*video_sets.msvd(tmp_path))
    for split, numbers in ((data.train, (0, 1)), (data.test, (2, 3))):
        texts = ("a man runs", 'he says "hi", then runs')
        assert pairs(split) == [(f"-id{n}_{n}_{n + 5}.avi", f"{n} {text}") for n in numbers for text in texts]


def test_lsmdc(tmp_path):
    data = read_captions(*video_sets.lsmdc(tmp_path))
    assert data.train.texts == ["SOMEONE opens door 0.", "SOMEONE opens door 1."]
    assert data.test.texts == ["SOMEONE opens door 2.", "SOMEONE opens door 3."]
    assert data.test.paths[0].parent.name == "101_MOVIE"
    annotations = tmp_path / "annotations"
    (annotations / "LSMDC16_annos_training.csv").rename(annotations / "LSMDC16_annos_val.csv")
    assert read_captions(tmp_path / "videos", annotations) == data


def test_didemo(tmp_path):
    data = read_captions(*video_sets.didemo(tmp_path))
    assert pairs(data.train)[0] == ("12@N00_34_ab.mov", "moment 0 of 12@N00 moment 1 of 12@N00")
    assert [path.suffix for path in data.test.paths] == [".mov", ".mp4"]


def test_didemo_names_some_videos_twice_and_some_with_a_dot(tmp_path):
    """One video under two endings is one, with one paragraph; a name that ends in a dot is found under any ending."""
    videos = video_sets.captioned_files(tmp_path, ["a_1.mp4", "b_2.mov", "c_3..mp4"])
    moments = {
        "train": [("b_2.mov", "one")],
        "test": [("a_1.mov", "first"), ("b_2.avi", "other"), ("a_1.MP4", "second"), ("c_3.", "third")],
    }
    for split, own in moments.items():
        content = json.dumps([{"video": name, "description": text} for name, text in own])
        _written(tmp_path / f"{split}_data.json", content)
    data = read_captions(videos, tmp_path)
    assert pairs(data.test) == [("a_1.mp4", "first second"), ("b_2.mov", "other"), ("c_3..mp4", "third")]
    assert (data.listed, data.missing) == ({"train": 1, "test": 3}, None)
    assert data.remarks == ("1 videos are in training and test: b_2.mov",)


def test_msvd_as_clip4clip_distributes_it(tmp_path):
    expected = read_captions(*video_sets.msvd(tmp_path))
    (tmp_path / "annotations" / "video_corpus.csv").unlink()
    texts = ("a man runs", 'he says "hi", then runs')
    captions = {f"-id{n}_{n}_{n + 5}": [f"{n} {text}".split() for text in texts] for n in range(5)}
    (tmp_path / "annotations" / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
    assert read_captions(tmp_path / "videos", tmp_path / "annotations") == expected


def test_msrvtt_protocols(tmp_path):
    videos, annotations = video_sets.msrvtt(tmp_path)
    content = json.loads((annotations / "MSRVTT_data.json").read_text())
    (annotations / "MSRVTT_data.json").unlink()
    splits = ["train", "train", "validate", "validate", "train", "test", "test", "test"]
    for name, kept in (("train_val_videodatainfo", {"train", "validate"}), ("test_videodatainfo", {"test"})):
        own = {f"video{n}" for n, split in enumerate(splits) if split in kept}
        part = {
            "videos": [{"video_id": f"video{n}", "split": splits[n]} for n in range(8) if f"video{n}" in own],
            "sentences": [sentence for sentence in content["sentences"] if sentence["video_id"] in own],
        }
        _written(annotations / f"{name}.json", json.dumps(part))

    def trained(protocol: str | None) -> tuple[list[int], list[int]]:
        data = read_captions(videos, annotations, protocol)
        return tuple(sorted(int(path.stem[5:]) for path in part.paths) for part in (data.train, data.test))

    assert trained(None) == trained("9k") == ([0, 1, 2, 3], [4, 5, 6])
    assert trained("official") == ([0, 1, 4], [5, 6, 7])  # of validation and test, the test counts
    assert trained("7k") == ([0, 1, 2, 3], [4, 5, 6])  # video4 is of 1k-A, whatever its official split
    (annotations / "MSRVTT_train.9k.csv").unlink()
    assert trained("9k") == ([0, 1, 2, 3, 7], [4, 5, 6])  # all outside of 1k-A
    video_sets.write_csv(annotations / "MSRVTT_train.7k.csv", ["video_id"], [["video1"]])
    assert trained(None) == trained("7k") == ([1], [4, 5, 6])
    (annotations / "MSRVTT_JSFUSION_test.csv").unlink()
    assert trained(None)[1] == [5, 6, 7]
    assert len(read_captions(videos, annotations).test.texts) == 6
    with pytest.raises(ValueError, match="there is no .*JSFUSION_test.csv"):
        read_captions(videos, annotations, "9k")


def test_tests_alone_need_no_training_videos(tmp_path):
    for layout in (video_sets.msrvtt, video_sets.msvd, video_sets.lsmdc, video_sets.didemo):
        videos, annotations = layout(tmp_path / layout.__name__)
        whole = read_captions(videos, annotations)
        for path in whole.train.paths:
            path.unlink()
        alone = read_captions(videos, annotations, tests_only=True)
        assert (alone.train, alone.test, alone.missing) == (None, whole.test, None)


def test_captions_in_other_dialects_and_suspicious_ones(tmp_path):
    videos = video_sets.captioned_files(tmp_path, ["a.mp4", "b.mp4"])
    table = "Video;Caption;Split\na.mp4;one, two;Train\nb.mp4;two;TEST\nb.mp4;three;train\na.mp4;four;dve\n"
    data = read_captions(videos, _written(tmp_path / "mine.csv", table))
    assert pairs(data.train) == [("a.mp4", "one, two"), ("b.mp4", "three")]
    assert data.remarks == (
        "1 rows of an unknown split are left out: a.mp4 ('dve', mine.csv, row 4)",
        "1 videos are in training and test: b.mp4",
    )


def test_caption_csv_and_what_is_wrong(tmp_path):
    videos = video_sets.captioned_files(tmp_path, ["a.mp4", "b.mp4"])
    rows = [("a.mp4", "one", "train"), ("b.mp4", "two", "val"), ("b.mp4", "three", "val"), ("c.mp4", "four", "val")]
    table = video_sets.write_csv(tmp_path / "mine.csv", ["video", "caption", "split"], rows)
    data = read_captions(videos, table)
    assert (pairs(data.train), pairs(data.test)) == ([("a.mp4", "one")], [("b.mp4", "two"), ("b.mp4", "three")])
    assert data.missing == "1 of 3 videos are missing and skipped: c.mp4"
    for file, message in (
        (tmp_path / "nowhere", "there are no annotations"),
        (videos, "holds no annotations that are known: MSR-VTT"),
        (
            _written(tmp_path / "wrong.csv", "a,split\n1,train\n"),
            "has the columns a, split: expected video,caption,split",
        ),
        (
            _written(tmp_path / "half.csv", "video,caption,split\na.mp4,one,train\n"),
            "half.csv name no videos with captions to test on$",
        ),
        (_written(tmp_path / "row.csv", "video,split,caption\na.mp4,train\n"), "row.csv has no caption in row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            read_captions(videos, file)
    folder = tmp_path / "didemo"
    folder.mkdir()
    (folder / "train_data.json").write_text(json.dumps([{"film": "a"}]))
    with pytest.raises(ValueError, match="train_data.json, entry 1, has no 'video', which must be a text"):
        read_captions(videos, folder)
    (folder / "train_data.json").unlink()
    (folder / "LSMDC16_annos_training.csv").write_text("clip and caption\n")
    with pytest.raises(
        ValueError, match="in line 1 'clip and caption': expected tabs between clip, four times and caption"
    ):
        read_captions(videos, folder)


def test_other_names_of_columns_and_splits_that_are_not_used(tmp_path):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()
    lines = ["Path;Text;Split", "a.mp4;a man;train", "b.mp4;a dog;Test", "c.mp4;a cat;val"]
    video_sets.write_lines(tmp_path / "mine.csv", lines)
    data = read_captions(tmp_path, tmp_path / "mine.csv")
    assert (data.train.texts, data.test.texts, data.tested) == (["a man"], ["a dog"], "test")
    assert data.remarks == ("1 rows of the split 'val' are not used, as 'test' is tested on",)


def test_a_json_file_is_not_read_as_a_table(tmp_path):
    (tmp_path / "videodatainfo.json").write_text("{}")
    with pytest.raises(ValueError, match=r"videodatainfo.json is not a CSV file .*: for a known data set"):
        read_captions(tmp_path, tmp_path / "videodatainfo.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"vid', r"test_data.json is damaged: .*line 1 column 3"),
        ('[{"video": "1.mov"}]', r"test_data.json, entry 1, has no 'description', which must be a text: \{\"video\""),
        ('{"videos": []}', "test_data.json must hold a list$"),
    ],
)
def test_mistakes_in_json_are_shown(tmp_path, text, message):
    videos, annotations = video_sets.didemo(tmp_path)
    (annotations / "test_data.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_captions(videos, annotations)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "MSRVTT_data.json must hold a list under 'videos'"),
        ({"videos": [{"split": "train"}], "sentences": []}, "entry 1 of 'videos', has no 'video_id'"),
        ({"videos": [], "sentences": [{"video_id": "video0"}]}, "entry 1 of 'sentences', has no 'caption'"),
    ],
)
def test_mistakes_in_msrvtts_file_are_shown(tmp_path, content, message):
    videos, annotations = video_sets.msrvtt(tmp_path)
    (annotations / "MSRVTT_data.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_captions(videos, annotations)


@pytest.mark.parametrize("line", ["1_Film_00.01-00.02\t1\t2\t3\t4\t\n", "a line without tabs\n"])
def test_a_clip_without_a_caption_is_shown(tmp_path, line):
    videos, annotations = video_sets.lsmdc(tmp_path)
    (file,) = annotations.glob("LSMDC16_challenge_1000*.csv")
    file.write_text(f"{file.read_text()}{line}")
    with pytest.raises(ValueError, match=r"has in line 3 .*: expected tabs between clip, four times and caption"):
        read_captions(videos, annotations)


@pytest.mark.parametrize(("data", "file"), [("didemo", "train_data.json"), ("msvd", "train_list.txt")])
def test_lists_of_training_videos_need_not_be_there_for_a_test(tmp_path, data, file):
    videos, annotations = getattr(video_sets, data)(tmp_path)
    (annotations / file).unlink()
    assert read_captions(videos, annotations, tests_only=True).test.texts
    with pytest.raises(ValueError, match=f"there is no .*{file}"):
        read_captions(videos, annotations)


def test_videos_that_are_all_missing_are_counted(tmp_path):
    videos, annotations = video_sets.msvd(tmp_path)
    for name in ("-id2_2_7.avi", "-id3_3_8.avi"):
        (videos / name).unlink()
    with pytest.raises(
        ValueError, match="all 2 videos that .* names to test on are missing in .*, such as -id2_2_7.avi"
    ):
        read_captions(videos, annotations)


def test_no_split_is_known(tmp_path):
    file = _written(tmp_path / "a.csv", "video,caption,split\na.mp4,a man runs,tset\n")
    with pytest.raises(ValueError, match=r"a.mp4 \(a.csv, row 1\) has the split 'tset'; write it .* name of the file$"):
        read_captions(tmp_path, file)
