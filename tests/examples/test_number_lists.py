"""Lists of path and number: every separator and column, the folders they are found in, and ViFi-CLIP's own lists."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from examples.paper.lists.label_files import Source, read_labels
from examples.paper.lists.number_lists import (
    BaseNovelLists,
    ListFiles,
    find_base_novel_lists,
    find_lists,
    is_number_list,
    list_splits,
    read_number_list,
)
from tests.support import video_sets


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def pairs(file: Path) -> list[tuple[str, str]]:
    return [(row.names[0], row.label) for row in read_number_list(file, "train")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4 0\nb.mp4 10\n", [("a.mp4", "0"), ("b.mp4", "10")]),  # ViFi-CLIP, X-CLIP, mmaction2
        ("a.mp4\t0\r\n\r\nb.mp4\t1\r\n", [("a.mp4", "0"), ("b.mp4", "1")]),
        ("a.mp4,0\nb.mp4, 1\n", [("a.mp4", "0"), ("b.mp4", "1")]),  # SlowFast, pytorchvideo
        ("/data/k400/train/a b.mp4 0\n", [("/data/k400/train/a b.mp4", "0")]),
        ('"my, clip.mp4",3\nother.mp4,4\n', [("my, clip.mp4", "3"), ("other.mp4", "4")]),
        ("clips/run_1 163 1\nclips/run_2 64 0\n", [("clips/run_1", "1"), ("clips/run_2", "0")]),  # frames, class
        ("clip 1 0\nclip 2.mp4 1\n", [("clip 1", "0"), ("clip 2.mp4", "1")]),  # not every line has two numbers
        ("Goal_#_2_catch.avi 2\n\ufeffjumps!!_(part 2).avi 7\n", None),
    ],
)
def test_every_separator(tmp_path, text, expected):
    file = written(tmp_path / "train.txt", text)
    assert is_number_list(file)
    if expected is not None:
        assert pairs(file) == expected
    else:  # signs that begin a comment elsewhere are part of a name
        assert [label for _, label in pairs(file)] == ["2", "7"]
        assert pairs(file)[0][0] == "Goal_#_2_catch.avi"


def test_what_is_not_a_list_is_not_taken_for_one(tmp_path):
    for text in ("video,label\na.mp4,0\n", "a.mp4\nb.mp4\n", "", "1 ApplyEyeMakeup\n"):
        assert not is_number_list(written(tmp_path / "train.txt", text))
    assert not is_number_list(written(tmp_path / "train.json", "a.mp4 0\n"))
    assert not is_number_list(tmp_path)


def test_wrong_lines_are_shown(tmp_path):
    file = written(tmp_path / "train.txt", "a.mp4 0\nb.mp4\n")
    with pytest.raises(ValueError, match=r"train.txt has in line 2 'b.mp4': expected a path and the number"):
        read_number_list(file, "train")
    file = written(tmp_path / "train.txt", "a.mp4 0\n\nb.mp4 1 5 7\n")
    with pytest.raises(ValueError, match=r"in line 3 'b.mp4 1 5 7', more numbers than in other lines"):
        read_number_list(file, "train")


def classes_of(tmp_path: Path, listed: str, names: str, file: str = "names.csv") -> list[str]:
    """The class of each video of a list whose videos are all there."""
    videos = tmp_path / "videos"
    for line in listed.splitlines():
        path = videos / line.split()[0]
        if not path.exists():
            video_sets.write_video(path, video_sets.COLOURS[0])
    lists = ListFiles(written(tmp_path / "train.txt", listed), written(tmp_path / "val.txt", listed))
    data = read_labels(videos, Source(lists=lists, names=written(tmp_path / file, names)))
    return [data.classes[video.label] for video in data.train]


def test_numbers_get_the_names_of_the_file(tmp_path):
    listed = "a.mp4 2\nb.mp4 0\n"
    assert classes_of(tmp_path, listed, "id,name\n0,run\n1,jump\n2,brush hair\n") == ["brush hair", "run"]
    assert classes_of(tmp_path, listed, "run\njump\nbrush_hair\n", "names.txt") == ["brush hair", "run"]
    assert classes_of(tmp_path, listed, '{"run": "0", "jump": "1", "brush hair": "2"}', "n.json") == [
        "brush hair",
        "run",
    ]


def test_names_that_count_from_1_for_lists_that_count_from_0(tmp_path):
    names = "1 ApplyEyeMakeup\n2 YoYo\n3 Archery\n"
    assert classes_of(tmp_path, "a.mp4 0\nb.mp4 2\n", names, "classInd.txt") == ["apply eye makeup", "archery"]
    assert classes_of(tmp_path, "a.mp4 1\nb.mp4 3\n", names, "classInd.txt") == ["apply eye makeup", "archery"]
    with pytest.raises(ValueError, match=r"a.mp4 \(train.txt, line 1\) is of the class number 0, which .* not name"):
        classes_of(tmp_path, "a.mp4 0\nb.mp4 3\n", names, "classInd.txt")
    lists = ListFiles(tmp_path / "train.txt", tmp_path / "train.txt")
    for text, said in (("a.mp4 0\n", "number 0 is read as 'ApplyEyeMakeup'"), ("a.mp4 1\n", "counting from 1")):
        written(tmp_path / "train.txt", text)
        remarks = read_labels(tmp_path / "videos", Source(lists=lists, names=tmp_path / "classInd.txt")).remarks
        assert any(said in remark for remark in remarks)


def test_numbers_without_names_are_refused_with_the_option_that_is_missing(tmp_path):
    video_sets.write_video(tmp_path / "videos" / "a.mp4", (1, 2, 3))
    lists = ListFiles(written(tmp_path / "train.txt", "a.mp4 0\n"), written(tmp_path / "val.txt", "a.mp4 0\n"))
    with pytest.raises(ValueError, match=r"are numbers, such as 0 of a.mp4 \(train.txt, line 1\): .*--names FILE"):
        read_labels(tmp_path / "videos", Source(lists=lists))
    table = written(tmp_path / "mine.csv", "video,label,split\na.mp4,0,train\na.mp4,1,test\n")
    with pytest.raises(ValueError, match=r"such as 0 of a.mp4 \(mine.csv, row 1\): .*--names FILE"):
        read_labels(tmp_path / "videos", Source(table))
    names = written(tmp_path / "names.txt", "run\njump\n")
    assert read_labels(tmp_path / "videos", Source(table, names=names)).classes == ["run", "jump"]
    with pytest.raises(ValueError, match=r"train.txt is a list of path and number, which has no column for the split"):
        read_labels(tmp_path / "videos", Source(tmp_path / "train.txt", names=names))


def test_moved_videos_are_found(tmp_path):
    """Absolute paths of another machine, whose last folders may exist here; paths that exist; paths of Windows."""
    videos = tmp_path / "videos"
    for name in ("train/a.mp4", "val/a.mp4", "b.mp4"):
        video_sets.write_video(videos / name, (1, 2, 3))
    apart = video_sets.write_video(tmp_path / "apart" / "c.mp4", (1, 2, 3))
    listed = f"/data/k400/train/a.mp4 0\n/data/k400/val/a.mp4 0\nD:\\clips\\b.mp4 0\n{apart} 0\nd.mp4 0\n"
    lists = ListFiles(written(tmp_path / "train.csv", listed), written(tmp_path / "val.csv", "b.mp4 0\n"))
    data = read_labels(videos, Source(lists=lists, names=written(tmp_path / "names.txt", "run\n")))
    expected = [videos / "train/a.mp4", videos / "val/a.mp4", videos / "b.mp4", apart]
    assert [video.path for video in data.train] == expected
    assert data.missing == "1 of 6 videos are missing and skipped: d.mp4"


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        (["train.csv", "val.csv"], {}, ["train.csv", "val.csv"]),  # SlowFast
        (["train.csv", "val.csv", "test.csv"], {}, ["train.csv", "test.csv"]),
        (
            [f"ucf101_{part}_split_{n}_videos.txt" for part in ("train", "val") for n in (1, 2, 3)],
            {"split": 2},
            ["ucf101_train_split_2_videos.txt", "ucf101_val_split_2_videos.txt"],
        ),  # mmaction2
        (
            [*(f"train1_few_shot_{k}.txt" for k in (2, 4, 8, 16)), "val1.txt", "val2.txt", "val3.txt"],
            {"shots": 8},
            ["train1_few_shot_8.txt", "val1.txt"],
        ),  # ViFi-CLIP
        (["train1_few_shot_2.txt", "validation.txt"], {"shots": 2}, ["train1_few_shot_2.txt", "validation.txt"]),
        (["train1_few_shot_2.txt", "validation.txt"], {}, [None, "validation.txt"]),
        (["kinetics400_train_list_videos.txt", "kinetics400_val_list_videos.txt"], {}, None),
        (["ZS_split1_K600_eval.txt", "ZS_split2_K600_eval.txt"], {"split": 2}, [None, "ZS_split2_K600_eval.txt"]),
    ],
)
def test_lists_are_found_by_their_names(tmp_path, files, options, expected):
    for name in files:
        written(tmp_path / name, "a.mp4 0\n")
    written(tmp_path / "labels.csv", "id,name\n0,run\n")
    written(tmp_path / "notes.txt", "a.mp4 0\n")
    lists = find_lists(tmp_path, **options)
    found = [None if file is None else file.name for file in (lists.train, lists.test)]
    assert found == (files if expected is None else expected)


def test_several_lists_are_not_guessed_among(tmp_path):
    for name in ("train.txt", "train_tiny.txt", "val.txt"):
        written(tmp_path / name, "a.mp4 0\n")
    with pytest.raises(ValueError, match="several lists, train.txt, train_tiny.txt: choose one, --train-list"):
        find_lists(tmp_path)
    assert find_lists(tmp_path / "..") is None
    assert list_splits(tmp_path) == []
    for split in (1, 3):
        written(tmp_path / f"val{split}.txt", "a.mp4 0\n")
    assert list_splits(tmp_path) == [1, 3]


def test_base_and_novel_lists_of_vifi_clip(tmp_path):
    assert find_base_novel_lists(tmp_path, 1) is None
    for name in ("base_train", "base_val", "novel_val", "fs_base_s1_train", "fs_base_s2_train"):
        written(tmp_path / f"{name}.txt", "a.mp4 0\n")
    expected = ListFiles(tmp_path / "fs_base_s2_train.txt", tmp_path / "base_val.txt")
    assert find_base_novel_lists(tmp_path, 2) == BaseNovelLists(expected, tmp_path / "novel_val.txt")
    with pytest.raises(ValueError, match=r"no .*s3_train.txt: --seed 0 takes draw 1.*; there are fs_base_s1_tr"):
        find_base_novel_lists(tmp_path, 3)


def test_a_folder_of_lists_and_names(tmp_path):
    """Lists with absolute paths, commas, and frame counts: the same data set."""
    videos = tmp_path / "videos"
    for name in "ab":
        video_sets.write_video(videos / f"{name}.mp4", (1, 2, 3))
    for text in ("/data/k400/train/{}.mp4 {}\n", "{}.mp4,{}\n", "{}\t163\t{}\n"):
        folder = tmp_path / "lists"
        for split, video, number in (("train", "a", 0), ("val", "b", 1)):
            written(folder / f"{split}.csv", text.format(video, number))
        data = read_labels(videos, Source(folder, names=written(folder / "names.json", '{"run": 0, "jump": 1}')))
        assert data.classes == ["run", "jump"]
        assert [(video.path.name, video.label) for video in data.train + data.test] == [("a.mp4", 0), ("b.mp4", 1)]
        assert data.listed["train"] == [1, 0]
        shutil.rmtree(folder)


def test_comments_and_headers_are_skipped(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    video_sets.write_lines(tmp_path / "names.txt", ["run", "jump"])
    video_sets.write_lines(tmp_path / "lists" / "train.txt", ["# made by hand", "a.mp4 0"])
    video_sets.write_lines(tmp_path / "lists" / "val.txt", ["path label", "# the rest", "b.mp4 1"])
    data = read_labels(tmp_path, Source(tmp_path / "lists", names=tmp_path / "names.txt"))
    assert [(video.path.name, video.label) for video in (*data.train, *data.test)] == [("a.mp4", 0), ("b.mp4", 1)]


def test_a_training_list_with_a_mistake_is_not_left_out(tmp_path):
    (tmp_path / "b.mp4").touch()
    video_sets.write_lines(tmp_path / "lists" / "train.txt", ["a.mp4 run"])
    video_sets.write_lines(tmp_path / "lists" / "val.txt", ["b.mp4 1"])
    with pytest.raises(ValueError, match=r"train.txt has in line 1 'a.mp4 run': expected a path and the number of"):
        read_labels(tmp_path, Source(tmp_path / "lists"))


def test_one_list_is_split_by_share(tmp_path):
    lines = [f"{label}/{number}.mp4 {n}" for n, label in enumerate(("run", "jump")) for number in range(4)]
    for line in lines:
        file = tmp_path / "videos" / line.split()[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    video_sets.write_lines(tmp_path / "all.txt", lines)
    video_sets.write_lines(tmp_path / "names.txt", ["run", "jump"])
    source = Source(tmp_path / "all.txt", names=tmp_path / "names.txt")
    with pytest.raises(ValueError, match=r"all.txt is a list of path and number, .* draw the test videos with --test-"):
        read_labels(tmp_path / "videos", source)
    data = read_labels(tmp_path / "videos", replace(source, test_share=0.25))
    assert (len(data.train), len(data.test)) == (6, 2)


def listed(root: Path, **lists: str) -> Path:
    """A folder of lists, with class names, beside a folder with the videos a.mp4 to d.mp4."""
    for letter in "abcd":
        written(root / "videos" / f"{letter}.mp4", "")
    written(root / "lists" / "names.csv", "id,name\n0,run\n1,jump\n")
    for name, text in lists.items():
        written(root / "lists" / name.replace("__", "."), text)
    return root / "lists"


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train__txt": "a.mp4 0\nb.mp4\n"}, r"train.txt has in line 2 'b.mp4': expected a path and the number"),
        ({"train__txt": "a.mp4 run\n"}, r"train.txt has in line 1 'a.mp4 run': expected a path and the number"),
        ({"train__txt": "a.mp4 0.0\n"}, r"train.txt has in line 1 'a.mp4 0.0': expected a path and the number"),
        ({"train__txt": "a.mp4 0\n", "val__txt": "#videos\nb.mp4 1\n"}, r"val.txt has in line 1 '#videos': expected"),
        ({"train__txt": "a.mp4 0\n", "val__txt": "b.mp4\n"}, r"val.txt has in line 1 'b.mp4': expected a path"),
        ({"train1__txt": "a.mp4 0\n", "val1__txt": "b.mp4 1\n"}, r"lists holds? .*of split 1.*choose another --split"),
    ],
)
def test_the_first_line_that_cannot_be_read_is_shown(tmp_path, lists, message):
    lists = listed(tmp_path, **lists)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "videos", Source(lists, names=lists / "names.csv", split=2))


@pytest.mark.parametrize("val", ["path,label\nb.mp4,1\n", "label\tvideo\n1\tb.mp4\n"])
def test_a_table_with_a_header_beside_a_list(tmp_path, val):
    lists = listed(tmp_path, train__csv="a.mp4 0\n", val__csv=val)
    data = read_labels(tmp_path / "videos", Source(lists, names=lists / "names.csv"))
    assert [(video.path.name, video.label) for video in data.train + data.test] == [("a.mp4", 0), ("b.mp4", 1)]


def test_validation_videos_that_are_not_used_are_said(tmp_path):
    lists = listed(tmp_path, train__txt="a.mp4 0\nb.mp4 1\n", val__txt="c.mp4 1\n", test__txt="d.mp4 1\n")
    data = read_labels(tmp_path / "videos", Source(lists, names=lists / "names.csv"))
    assert [video.path.name for video in data.test] == ["d.mp4"]
    assert data.remarks == (f"{lists / 'val.txt'} is not used, as {lists / 'test.txt'} is tested on",)


def test_lists_that_count_from_one_with_names_that_have_no_numbers(tmp_path):
    lists = listed(tmp_path, train__txt="a.mp4 1\nb.mp4 2\n", val__txt="c.mp4 2\n", names__txt="run\njump\n")
    data = read_labels(tmp_path / "videos", Source(lists, names=lists / "names.txt"))
    assert [video.label for video in data.train + data.test] == [0, 1, 1]
    assert data.remarks == ("the lists count the classes from 1: their number 1 is read as 'run'",)
