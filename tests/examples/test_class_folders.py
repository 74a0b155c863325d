"""Class folders: with and without train and test, nested ones, and files that are not taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.paper.lists.label_files import Source, read_labels
from tests.support import video_sets


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_class_folders_without_train_and_test_are_split_by_share(tmp_path):
    for label in ("BrushHair", "YoYo"):
        for group in range(1, 6):
            for clip in (1, 2):
                touch(tmp_path / label / f"v_{label}_g0{group}_c0{clip}.avi")
    with pytest.raises(ValueError, match=r"a folder for each class, but neither train/ nor test/: .* --test-share 0.2"):
        read_labels(tmp_path, Source())
    data = read_labels(tmp_path, Source(test_share=0.2, seed=3))
    assert data.classes == ["brush hair", "yo yo"]
    assert (len(data.train), len(data.test), data.listed["train"]) == (16, 4, [8, 8])
    assert not {video.group for video in data.train} & {video.group for video in data.test}
    assert {video.label for video in data.test} == {0, 1}
    assert data == read_labels(tmp_path, Source(test_share=0.2, seed=3))
    assert any(data.test != read_labels(tmp_path, Source(test_share=0.2, seed=seed)).test for seed in range(3))


def test_a_table_without_splits_is_split_by_share_too(tmp_path):
    for number in range(10):
        touch(tmp_path / f"{number}.mp4")
    table = [(f"{number}.mp4", "run", number // 2) for number in range(10)]
    mine = video_sets.write_csv(tmp_path / "mine.csv", ["video", "label", "group"], table)
    data = read_labels(tmp_path, Source(mine, test_share=0.4))
    assert (len(data.train), len(data.test)) == (6, 4)
    assert not {video.group for video in data.train} & {video.group for video in data.test}


def test_a_nested_class_folder_is_named(tmp_path):
    touch(tmp_path / "train" / "run" / "a.mp4")
    touch(tmp_path / "train" / "sports" / "ski" / "b.mp4")
    with pytest.raises(ValueError, match=r"class folder .*sports holds no videos itself, but ski/b.mp4: put videos"):
        read_labels(tmp_path, Source())


def test_files_that_are_not_taken_are_counted_and_named(tmp_path):
    for part in ("train", "test"):
        touch(tmp_path / part / "run" / "a.mp4")
    for name in ("notes.txt", "a.jpg", "b.jpg", "c.jpg", "Thumbs.db", "._a.mp4", "old/d.mp4"):
        touch(tmp_path / "train" / "run" / name)
    touch(tmp_path / "train" / ".ipynb_checkpoints" / "a.mp4")
    data = read_labels(tmp_path, Source())
    assert data.classes == ["run"]
    assert data.remarks == (
        "4 files in class folders are not taken for videos: train/run/a.jpg, train/run/b.jpg, train/run/c.jpg, ...",
        "1 videos are not taken, as they are in a folder inside a class folder: train/run/old/d.mp4",
    )


def test_linked_class_folders_count(tmp_path):
    touch(tmp_path / "store" / "run" / "a.mp4")
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "run").symlink_to(tmp_path / "store" / "run")
    data = read_labels(tmp_path / "set", Source())
    assert [len(data.train), len(data.test)] == [1, 1]


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "validation"), ("TRAIN", "valid")])
def test_split_folders_under_other_names(tmp_path, train, test):
    touch(tmp_path / train / "run" / "a.mp4")
    touch(tmp_path / test / "run" / "b.mp4")
    data = read_labels(tmp_path, Source())
    assert [video.path.name for video in (*data.train, *data.test)] == ["a.mp4", "b.mp4"]


def test_a_class_may_be_called_train(tmp_path):
    for label in ("bus", "train"):
        for number in range(4):
            touch(tmp_path / label / f"{number}.mp4")
    data = read_labels(tmp_path, Source(tmp_path, test_share=0.25))
    assert data.classes == ["bus", "train"]
    assert (len(data.train), len(data.test)) == (6, 2)


def test_videos_outside_of_class_folders_are_counted_and_named(tmp_path):
    for name in ("train/run/a.mp4", "test/run/b.mp4", "train/stray.mp4", "extra/run/c.mp4", "val/run/d.mp4"):
        touch(tmp_path / name)
    (tmp_path / "train" / "jump").mkdir()
    (tmp_path / "train" / "run" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    data = read_labels(tmp_path, Source())
    assert (len(data.train), len(data.test), data.tested) == (1, 1, "test")
    assert data.remarks == (
        "1 files in class folders are not taken for videos: train/run/gone.mp4",
        "2 videos are not taken, as they are not in the folder of a class: train/stray.mp4, extra/run/c.mp4",
        "1 class folders hold no videos: train/jump",
        "1 rows of the split 'val' are not used, as 'test' is tested on",
    )


def test_a_loop_of_links_ends(tmp_path):
    touch(tmp_path / "train" / "run" / "a.mp4")
    touch(tmp_path / "test" / "run" / "b.mp4")
    (tmp_path / "train" / "run" / "loop").symlink_to(tmp_path / "train")
    data = read_labels(tmp_path, Source())
    assert [len(data.train), len(data.test)] == [1, 1]


def test_a_share_beside_splits_is_said_to_be_unused(tmp_path):
    for part in ("train", "test"):
        touch(tmp_path / part / "run" / "a.mp4")
    (line,) = read_labels(tmp_path, Source(test_share=0.5)).remarks
    assert line.startswith("--test-share is not used: ")


def test_the_cause_is_named_where_every_class_folder_is_nested(tmp_path):
    touch(tmp_path / "run" / "day 1" / "a.mp4")
    touch(tmp_path / "ski" / "day 1" / "b.mp4")
    for share in (None, 0.2):
        with pytest.raises(ValueError, match="class folder .*run holds no videos itself, but day 1/a.mp4: put videos"):
            read_labels(tmp_path, Source(test_share=share))


def test_folders_without_classes(tmp_path):
    (tmp_path / ".DS_Store").touch()
    with pytest.raises(ValueError, match=f"^{tmp_path} is empty$"):
        read_labels(tmp_path, Source())
    touch(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="holds videos, such as a.mp4, but does not say their classes: put them into"):
        read_labels(tmp_path, Source())


def test_classes_without_training_videos_are_counted(tmp_path):
    for name in ("train/run/a.mp4", "train/ski/b.mp4", "test/run/c.mp4", "test/sky/d.mp4"):
        touch(tmp_path / name)
    data = read_labels(tmp_path, Source())
    assert data.remarks == ("1 classes have no training videos: sky",)
    assert read_labels(tmp_path, Source(tests_only=True)).remarks == ()
