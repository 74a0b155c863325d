"""Every layout of labels, and the messages about suspicious and unusable rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.paper.lists import label_files
from examples.paper.lists.caption_files import read_captions
from examples.paper.lists.label_files import LabelledVideos, Source
from examples.paper.lists.video_files import VideoFiles
from examples.video import class_names
from tests.support import video_sets


def read_labels(videos: Path, annotations: Path | None = None, **source: object) -> LabelledVideos:
    return label_files.read_labels(videos, Source(annotations, **source))


def shape(data: LabelledVideos) -> tuple[list[str], list[tuple[str, int]], list[tuple[str, int]]]:
    return data.classes, *([(v.path.name, v.label) for v in part] for part in (data.train, data.test))


def test_ucf101(tmp_path):
    classes, train, test = shape(data := read_labels(*video_sets.ucf101(tmp_path), split=2))
    assert classes == ["apply eye makeup", "yo yo", "archery"]
    assert train[:2] == [("v_ApplyEyeMakeup_g08_c01.avi", 0), ("v_ApplyEyeMakeup_g08_c02.avi", 0)]
    assert [label for _, label in train] == [0] * 4 + [1] * 4 + [2] * 4
    assert test[1] == ("v_YoYo_g01_c01.avi", 1)
    assert [video.group for video in data.train[:4]] == ["ApplyEyeMakeup g08"] * 2 + ["ApplyEyeMakeup g09"] * 2
    assert data.missing is None


def test_hmdb51(tmp_path):
    classes, train, test = shape(data := read_labels(*video_sets.hmdb51(tmp_path)))
    assert classes == ["brush hair", "climb", "dive", "wave"]
    assert [label for _, label in train] == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert [label for _, label in test] == [0, 1, 2, 3]
    assert test[0][0] == "April_00_brush_hair_u_nm_np1_ba_goo_0.avi"
    assert data.train[0].group == "brush_hair April_02"
    with pytest.raises(ValueError, match=r"no files of split 4, \*_test_split4.txt"):
        read_labels(tmp_path / "hmdb51", tmp_path / "splits", split=4)


def test_ssv2(tmp_path):
    classes, train, test = shape(read_labels(*video_sets.ssv2(tmp_path)))
    assert classes == ["pushing something from left to right", "holding something"]
    assert train == [("100.webm", 1), ("101.webm", 1), ("0.webm", 0), ("1.webm", 0)]
    assert test == [("102.webm", 1), ("2.webm", 0)]


def test_kinetics(tmp_path):
    classes, train, test = shape(data := read_labels(*video_sets.kinetics(tmp_path)))
    assert classes == ["air drumming", "playing tv games"]
    assert [label for _, label in train] == [0, 0, 0, 1, 1]
    assert [label for _, label in test] == [0, 1]
    assert train[1][0] == "t0_-1xxxxxx_000010_000020.mp4"
    assert data.missing == "1 of 8 videos are missing and skipped: t1_-2xxxxxx_000020_000030.mp4"


def test_folders_and_csv(tmp_path):
    root = video_sets.folders(tmp_path)
    classes, train, test = shape(read_labels(root))
    assert classes == ["action 0", "action 1"]
    assert train == test == [("0.mp4", 0), ("1.mp4", 0), ("0.mp4", 1), ("1.mp4", 1)]
    rows = [
        ("train/action_0/0.mp4", "b", "train", "x"),
        ("val/action_1/1", "a", "test", "y"),
        ("none", "a", "unused", ""),
    ]
    table = video_sets.write_csv(tmp_path / "mine.csv", ["video", "label", "split", "group"], rows)
    data = read_labels(root, table)
    assert data.classes == ["a", "b"]
    assert [(v.path, v.label, v.group) for v in data.train] == [(root / "train/action_0/0.mp4", 1, "x")]
    assert [(v.path.name, v.label) for v in data.test] == [("1.mp4", 0)]


def test_tests_are_never_mixed_with_validation(tmp_path):
    root = video_sets.folders(tmp_path)
    video_sets.write_video(root / "test" / "action_0" / "only.mp4", (1, 2, 3))
    assert [video.path.name for video in read_labels(root).test] == ["only.mp4"]
    for split in ("train", "val", "test"):
        rows = [["running", f"id_{split}", 0, 10, split]]
        header = ["label", "youtube_id", "time_start", "time_end", "split"]
        video_sets.write_csv(tmp_path / "k400" / f"{split}.csv", header, rows)
        video_sets.write_video(tmp_path / "k400" / f"id_{split}.mp4", (1, 2, 3))
    kinetics = read_labels(tmp_path / "k400", tmp_path / "k400")
    assert [video.path.name for video in kinetics.train + kinetics.test] == ["id_train.mp4", "id_val.mp4"]


def test_a_missing_video_is_not_taken_from_another_class(tmp_path):
    root = video_sets.folders(tmp_path / "videos")
    (root / "val" / "action_1" / "1.mp4").rename(root / "val" / "action_1" / "1.avi")
    (root / "train" / "action_0" / "1.mp4").unlink()
    files = VideoFiles(root)
    assert files.find("train/action_0/1.mp4") is None  # nor from the tests
    assert files.find("val/action_1/1.mp4") == root / "val" / "action_1" / "1.avi"
    assert files.find("elsewhere/val/action_1/1.mp4") == root / "val" / "action_1" / "1.avi"
    assert files.report() == "1 of 3 videos are missing and skipped: train/action_0/1.mp4"
    for name in ("0", "0.mp4", "action_0/0.mp4", "elsewhere/0.webm"):
        with pytest.raises(ValueError, match=rf"^{name} may be .*/0.mp4 or .*/0.mp4: add its folder to the annot"):
            files.find(name)


def test_what_lies_beside_a_video_is_not_taken_for_it(tmp_path):
    for name in ("a.mp4", "b.webm", "b.avi"):
        video_sets.write_video(tmp_path / "videos" / name, (1, 2, 3))
    for name in ("a.jpg", "a.info.json", "b.aac", "c.jpg"):
        _written(tmp_path / "videos" / name, "no video")
    files = VideoFiles(tmp_path)
    found = [files.find(name) for name in ("a.avi", "a", "b.mp4", "b.webm", "c.mp4")]
    assert [file and file.name for file in found] == ["a.mp4", "a.mp4", "b.avi", "b.webm", None]


def test_class_names():
    assert class_names.clean_names(["HandstandPushups", "shoot_ball", "kick"]) == [
        "handstand pushups",
        "shoot ball",
        "kick",
    ]
    names = ["BMXRiding", "HorseRiding_Outdoor", "watch_TV", "WatchTV", "playing TVs", "Holding [a thing]_now"]
    plain = ["bmx riding", "horse riding outdoor", "watch tv", "watch tv", "playing tvs", "holding a thing now"]
    assert [class_names.clean_name(name) for name in names] == plain
    with pytest.raises(ValueError, match="classes 'brush_hair' and 'BrushHair' both read 'brush hair'"):
        class_names.clean_names(["brush_hair", "BrushHair"])
    with pytest.raises(ValueError, match="class '__' has no words in its name"):
        class_names.clean_names(["__"])


def test_what_is_wrong_with_labels_is_said(tmp_path):
    videos, lists = video_sets.ucf101(tmp_path)

    def refused(message: str, annotations: Path | None, folder: Path = videos) -> None:
        with pytest.raises(ValueError, match=message):
            read_labels(folder, annotations)

    refused("there is no folder of videos nowhere", lists, Path("nowhere"))
    refused("there are no annotations .*nowhere", tmp_path / "nowhere")
    refused("UCF-101 holds a folder for each class, but neither train/ nor test/: give its --annotations, or", None)
    (tmp_path / "bare").mkdir()
    refused(r"bare is empty$", None, tmp_path / "bare")
    (tmp_path / "bare" / "readme.md").touch()
    refused(r"bare holds no annotations that are known: UCF-101 \(classInd.txt\)", None, tmp_path / "bare")
    refused("none of the 15 videos is in .*bare, such as ApplyEyeMakeup/v_", lists, tmp_path / "bare")
    refused("readme.doc is not a CSV file, a list of path and number, or", _written(tmp_path / "readme.doc", "hello"))
    refused("has the columns a, split: expected video,label", _written(tmp_path / "wrong.csv", "a,split\n1,train\n"))
    refused("empty.csv is empty", _written(tmp_path / "empty.csv", ""))
    refused("empty.csv names no videos", _written(tmp_path / "empty.csv", "video,label,split\n"))
    table = _written(tmp_path / "mine.csv", "video,label\na,b\nc,d\n")
    refused(r"mine.csv names no videos of a known split, train or test, .*: a \(mine.csv, row 1\) has no split", table)
    table = _written(tmp_path / "mine.csv", "video,label,split\na,b,tset\n")
    refused(r"a \(mine.csv, row 1\) has the split 'tset'; write it in the column `split` or in the name of", table)
    refused(
        "rows.csv has no label in row 2: c,train,",
        _written(tmp_path / "rows.csv", "video,split,label\na,train,b\nc,train\n"),
    )
    refused("rows.csv has no video in row 1", _written(tmp_path / "rows.csv", "video,label,split\n,b,train\n"))
    times = "label,youtube_id,time_start,time_end,split\na,id,,10,train\n"
    refused("rows.csv has no time_start in row 1", _written(tmp_path / "rows.csv", times))
    _written(lists / "trainlist01.txt", "Juggling/a.avi 4\n")
    refused(
        r"Juggling/a.avi \(trainlist01.txt, line 1\) is of the class 'Juggling', which .*lists does not list", lists
    )
    (lists / "trainlist01.txt").unlink()
    refused("there is no .*trainlist01.txt", lists)
    _written(lists / "classInd.txt", "1\n")
    refused("classInd.txt has in line 1 '1': expected a number and the name of a class", lists)
    (tmp_path / "json").mkdir()
    _written(tmp_path / "json" / "labels.json", "{not json")
    refused("labels.json is damaged: Expecting property name", tmp_path / "json")
    _written(tmp_path / "json" / "labels.json", '{"a": "0"}')
    _written(tmp_path / "json" / "train.json", '[{"id": "1", "template": null}]')
    refused("train.json, entry 1, has no 'template', which must be a text", tmp_path / "json")
    (tmp_path / "hmdb").mkdir()
    _written(tmp_path / "hmdb" / "wave_test_split1.txt", "clip.avi\n")
    refused("split1.txt has in line 1 'clip.avi': expected a video and 0, 1 or 2", tmp_path / "hmdb")


def test_annotations_that_went_through_an_editor(tmp_path):
    """A byte order mark, carriage returns, blank lines, spaces after commas: nothing of it is part of a name."""
    layouts = (video_sets.ucf101, video_sets.hmdb51, video_sets.ssv2, video_sets.kinetics)
    captioned = (video_sets.msrvtt, video_sets.msvd, video_sets.lsmdc, video_sets.didemo)
    for layout in layouts + captioned:
        videos, annotations = layout(tmp_path / layout.__name__)
        read = read_labels if layout in layouts else read_captions
        before = read(videos, annotations)
        for file in annotations.iterdir():
            text = "\ufeff" + "\n".join(file.read_text().splitlines()) + "\n\n"
            file.write_bytes(text.replace("\n", "\r\n").encode())
        assert read(videos, annotations) == before
    folder = video_sets.folders(tmp_path / "folders")
    table = _written(tmp_path / "mine.csv", "\ufeffvideo, label, split\n\ntrain/action_0/0.mp4, a b, train\n\n")
    assert read_labels(folder, table).classes == ["a b"]


def test_names_with_spaces(tmp_path):
    name = "my clip (1) é.avi"
    videos, lists = video_sets.ucf101(tmp_path / "ucf101")
    (videos / "YoYo" / "v_YoYo_g01_c01.avi").rename(videos / "YoYo" / name)
    for file in lists.iterdir():
        _written(file, file.read_text().replace("v_YoYo_g01_c01.avi", name).replace("2 YoYo", "2  YoYo "))
    _written(lists / "trainlist01.txt", (lists / "trainlist01.txt").read_text() + f"YoYo/{name} 2\n")
    data = read_labels(videos, lists)
    assert name in [video.path.name for video in data.test]
    assert data.train[-1].path.name == name
    videos, splits = video_sets.hmdb51(tmp_path / "hmdb51")
    (videos / "dive" / "April_00_dive_u_nm_np1_ba_goo_0.avi").rename(videos / "dive" / name)
    _written(splits / "dive_test_split1.txt", f"{name} 2 \n")
    assert name in [video.path.name for video in read_labels(videos, splits).test]


def test_other_tables_beside_folders_or_lists(tmp_path):
    root = video_sets.folders(tmp_path / "folders")
    data = read_labels(root)
    video_sets.write_csv(root / "metadata.csv", ["fps"], [[25]])
    assert read_labels(root) == data
    videos, annotations = video_sets.kinetics(tmp_path / "kinetics")
    data = read_labels(videos, annotations)
    video_sets.write_csv(annotations / "classes.csv", ["id", "name"], [[0, "air drumming"]])
    # The labels of its tests are secret.
    video_sets.write_csv(
        annotations / "test.csv", ["youtube_id", "time_start", "time_end", "split"], [["a", 0, 9, "test"]]
    )
    assert read_labels(videos, annotations) == data


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- what is suspicious -------------------------------------------------------------------------------------------


def remarks(tmp_path: Path, table: str, **source: object) -> tuple[str, ...]:
    """The messages about a CSV file whose videos all exist."""
    for line in table.splitlines()[1:]:
        (tmp_path / line.split(",")[0]).touch()
    return read_labels(tmp_path, _written(tmp_path / "mine.csv", table), **source).remarks


def test_rows_of_an_unknown_split_are_counted_and_named(tmp_path):
    table = "video,label,split\na.mp4,run,train\nb.mp4,run,tset\nc.mp4,run,test\n"
    assert remarks(tmp_path, table) == ("1 rows of an unknown split are left out: b.mp4 ('tset', mine.csv, row 2)",)
    table += "".join(f"{name}.mp4,run,unused\n" for name in "defg")
    (remark,) = remarks(tmp_path, table)
    assert remark.startswith("5 rows of an unknown split are left out: b.mp4 (")
    assert remark.endswith("e.mp4 ('unused', mine.csv, row 5), ...")


def test_splits_are_read_in_any_capitals_and_under_their_other_names(tmp_path):
    table = "Video,Label,Split\na.mp4,run, Train \nb.mp4,run,TEST\nc.mp4,run,Training\n"
    assert remarks(tmp_path, table) == ()
    data = read_labels(tmp_path, tmp_path / "mine.csv")
    assert [len(data.train), len(data.test)] == [2, 1]


def test_a_video_in_training_and_test_is_said(tmp_path):
    rows = "".join(f"{name}.mp4,run,{part}\n" for name in "abcd" for part in ("train", "test"))
    assert remarks(tmp_path, f"video,label,split\n{rows}e.mp4,run,test\n") == (
        "4 videos are in training and test: a.mp4, b.mp4, c.mp4, ...",
    )
    # Two names of one file are one video; where the file is missing, its name counts.
    table = "video,label,split\na.mp4,run,train\na,run,test\nf.mp4,run,train\nf.mp4,run,test\n"
    assert read_labels(tmp_path, _written(tmp_path / "mine.csv", table)).remarks == (
        "2 videos are in training and test: a.mp4, f.mp4",
    )
    assert read_labels(tmp_path, tmp_path / "mine.csv", tests_only=True).remarks == ()


def test_a_video_of_two_labels_is_said(tmp_path):
    table = "video,label,split\na.mp4,run,train\na.mp4,jump,train\nb.mp4,run,test\nc.mp4,run,test\n"
    assert remarks(tmp_path, table) == ("1 videos have two labels: a.mp4 ('run' and 'jump')",)


def test_labels_that_differ_in_capitals_or_blanks_only_are_one(tmp_path):
    table = (
        "video,label,split\na.mp4,Brush  Hair,train\nb.mp4,brush hair,train\nc.mp4,brush hair,test\nd.mp4,run,test\n"
    )
    assert remarks(tmp_path, table) == (
        "1 labels differ in capitals or blanks only and are read as one: 'Brush  Hair' and 'brush hair'",
        "1 classes have no training videos: run",
    )
    data = read_labels(tmp_path, tmp_path / "mine.csv")
    assert (data.classes, data.listed["train"]) == (["brush hair", "run"], [2, 0])


def test_names_decide_the_classes_and_their_order(tmp_path):
    table = "video,label,split\na.mp4,brush_hair,train\nb.mp4,run,test\n"
    names = _written(tmp_path / "names.txt", "run\nBrush hair\nwalk\n")
    remarks(tmp_path, table, names=names)
    data = read_labels(tmp_path, tmp_path / "mine.csv", names=names)
    assert (data.classes, [video.label for video in data.train + data.test]) == (["run", "brush hair", "walk"], [1, 0])
    with pytest.raises(
        ValueError, match=r"b.mp4 \(mine.csv, row 2\) is of the class 'run', which .*names.txt does not list"
    ):
        read_labels(tmp_path, tmp_path / "mine.csv", names=_written(names, "brush hair\n"))


def test_tests_alone_need_no_training_videos(tmp_path):
    for layout in (video_sets.ucf101, video_sets.hmdb51, video_sets.ssv2, video_sets.kinetics):
        videos, annotations = layout(tmp_path / layout.__name__)
        whole = read_labels(videos, annotations)
        for video in whole.train:
            video.path.unlink()
        alone = read_labels(videos, annotations, tests_only=True)
        assert (alone.train, alone.test, alone.missing) == ([], whole.test, None)
        assert alone.listed == whole.listed
    (tmp_path / "ucf101" / "lists" / "trainlist01.txt").unlink()
    assert len(read_labels(tmp_path / "ucf101/UCF-101", tmp_path / "ucf101/lists", tests_only=True).test) == 3


@pytest.mark.parametrize("header", ["path,class,subset", "Filename,Action,SET", "clip_path,label,partition"])
def test_other_names_of_columns(tmp_path, header):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    video_sets.write_lines(tmp_path / "mine.csv", [header, "a.mp4,run,train", "b.mp4,run,test"])
    data = read_labels(tmp_path, tmp_path / "mine.csv")
    assert [video.path.name for video in (*data.train, *data.test)] == ["a.mp4", "b.mp4"]


def test_missing_videos_are_counted_and_three_are_named(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "e.mp4").symlink_to(tmp_path / "nowhere.mp4")
    table = [(f"{name}.mp4", "run", "test") for name in "abcde"]
    mine = video_sets.write_csv(tmp_path / "mine.csv", ["video", "label", "split"], table)
    data = read_labels(tmp_path, mine)
    assert data.missing == "4 of 5 videos are missing and skipped: b.mp4, c.mp4, d.mp4, ..."


def table_of(root: Path, text: str, *videos: str) -> LabelledVideos:
    """The labels in a CSV file, of videos that exist."""
    for name in videos:
        (root / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "videos" / name).touch()
    (root / "labels.csv").write_text(text)
    return read_labels(root / "videos", root / "labels.csv")


def test_numbers_that_a_spreadsheet_made_are_numbers(tmp_path):
    with pytest.raises(
        ValueError, match=r"the classes are numbers, such as 0 of a.mp4 \(labels.csv, row 1\): say .*--names"
    ):
        table_of(tmp_path, "video,label,split\na.mp4,0.0,train\nb.mp4,1.0,test\n", "a.mp4", "b.mp4")


def test_what_follows_a_dot_in_a_name_is_not_an_ending(tmp_path):
    table = "video,label,split\n1.5_ab,run,train\n2.5_ab,run,train\n2,run,test\n"
    data = table_of(tmp_path, table, "1.mp4", "2.mp4", "2.5_ab.mp4")
    assert [video.path.name for video in data.train + data.test] == ["2.5_ab.mp4", "2.mp4"]
    assert data.missing == "1 of 3 videos are missing and skipped: 1.5_ab"


def test_accents_are_written_in_two_ways(tmp_path):
    table = "video,label,split\ncaf\u00e9/caf\u00e9.mp4,run,train\nb.mp4,run,test\n"
    data = table_of(tmp_path, table, "cafe\u0301/cafe\u0301.mp4", "bar/caf\u00e9.mp4", "b.mp4")
    assert [video.path.parent.name for video in data.train] == ["cafe\u0301"]


def test_repeated_rows_are_counted(tmp_path):
    table = "video,label,split\n" + "a.mp4,run,train\n" * 3 + "b.mp4,run,test\nc.mp4,run,test\n"
    remarks = table_of(tmp_path, table, "a.mp4", "b.mp4", "c.mp4").remarks
    assert remarks == ("1 videos are listed more than once, and count each time: a.mp4",)


@pytest.mark.parametrize("form", ["YoYo/{}", "YoYo\\{}", "UCF-101/YoYo/{}", "{}"])
def test_ucf101_in_other_forms(tmp_path, form):
    pushups = "v_HandStandPushups_g08_c01.avi"
    for name in ("YoYo/v_YoYo_g08_c01.avi", f"HandstandPushups/{pushups}"):
        (tmp_path / "UCF-101" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "UCF-101" / name).touch()
    (tmp_path / "classInd.txt").write_text("2 YoYo\r\n1 HandstandPushups\r\n")
    (tmp_path / "trainlist01.txt").write_text(f"{form.format('v_YoYo_g08_c01.avi')} 2\r\n")
    (tmp_path / "testlist01.txt").write_text(f"{form.replace('YoYo', 'HandstandPushups').format(pushups)}\r\n")
    data = read_labels(tmp_path / "UCF-101", tmp_path)
    assert shape(data) == (["handstand pushups", "yo yo"], [("v_YoYo_g08_c01.avi", 1)], [(pushups, 0)])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "classInd.txt",
            "1 ApplyEyeMakeup\n2\n",
            r"classInd.txt has in line 2 '2': expected a number and the name of a",
        ),
        (
            "testlist02.txt",
            "Yo/a.avi\n",
            r"Yo/a.avi \(testlist02.txt, line 1\) is of the class 'Yo', which .* not list: cor",
        ),
    ],
)
def test_mistakes_in_ucf101s_files_are_shown(tmp_path, file, text, message):
    videos, annotations = video_sets.ucf101(tmp_path)
    (annotations / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_labels(videos, annotations, split=2)


def test_mistakes_in_hmdb51s_files_are_shown(tmp_path):
    videos, annotations = video_sets.hmdb51(tmp_path)
    file = annotations / "wave_test_split1.txt"
    file.write_text(file.read_text().replace(" 1", "\t1"))
    assert len(read_labels(videos, annotations).train) == 9  # tabs are read, too
    file.write_text("a.avi 1\nb.avi 3\n")
    with pytest.raises(
        ValueError, match=r"wave_test_split1.txt has in line 2 'b.avi 3': expected a video and 0, 1 or 2"
    ):
        read_labels(videos, annotations)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train", '[{"id": "1",', r"train.json is damaged: .*line 1 column"),
        ("train", '{"a": 1}', r"train.json must hold a list$"),
        ("train", '[{"id": "1"}]', r"train.json, entry 1, has no 'template', which must be a text: \{\"id\": \"1\"\}"),
        (
            "labels",
            '{"Holding something": "x"}',
            r"labels.json gives 'Holding something' the number 'x': expected 0, 1",
        ),
        ("labels", "[1]", r"labels.json must hold an object from the name of each class to its number"),
    ],
)
def test_mistakes_in_ssv2s_files_are_shown(tmp_path, name, text, message):
    videos, annotations = video_sets.ssv2(tmp_path)
    (file,) = annotations.glob(f"*{name}.json")
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_labels(videos, annotations)
