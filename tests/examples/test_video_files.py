"""Decoding, the frames and crops of training and tests, and every layout of labels and captions."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from examples.paper.lists import caption_files, label_files, video_files
from examples.paper.training import batches
from examples.video import class_names, decoding
from examples.video.sampling import frame_views, sample_frames
from tests.support import video_sets

VIDEO = sorted((video_sets.EXAMPLES / "data" / "mp4").iterdir())[0]


def all_frames(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def pixels(picture: Image.Image) -> torch.Tensor:
    return pil_to_tensor(picture.resize((8, 8))).float()


def test_frames_are_those_that_were_chosen():
    whole = all_frames(VIDEO)
    for count in (1, 4, len(whole) + 5):
        pictures = decoding.read_frames(VIDEO, lambda total, count=count: sample_frames(total, count))
        expected = [whole[number] for number in sample_frames(len(whole), count).tolist()]
        assert len(pictures) == count
        assert all(np.array_equal(picture, frame) for picture, frame in zip(pictures, expected, strict=True))
    views = decoding.read_frames(VIDEO, lambda total: frame_views(total, 3, 2))
    expected = [whole[number] for number in frame_views(len(whole), 3, 2).flatten().tolist()]
    assert all(np.array_equal(picture, frame) for picture, frame in zip(views, expected, strict=True))


def test_a_stream_that_ends_early_is_sampled_to_its_true_end(monkeypatch):
    asked = []
    demux = av.container.InputContainer.demux

    class TooMany:
        """A container whose packets are more than its frames."""

        def __init__(self, path):
            self.container = av.open(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.container.close()

        def __getattr__(self, name):
            return getattr(self.container, name)

        def demux(self, **stream):
            yield from demux(self.container, **stream)
            yield from [SimpleNamespace(size=1)] * 7

    whole = all_frames(VIDEO)
    monkeypatch.setattr(decoding, "av", SimpleNamespace(open=TooMany, FFmpegError=av.FFmpegError))

    def choose(total):
        asked.append(total)
        return torch.tensor([0, total - 1])

    first, last = decoding.read_frames(VIDEO, choose)
    assert asked == [len(whole) + 7, len(whole)]
    assert np.array_equal(first, whole[0])
    assert np.array_equal(last, whole[-1])


def test_what_a_phone_filmed_upright_is_upright(tmp_path):
    path = video_sets.write_video(tmp_path / "phone.mp4", (250, 0, 0))
    content = bytearray(path.read_bytes())
    upright, turned = (0x10000, 0, 0, 0, 0x10000, 0), (0, 0x10000, 0, -0x10000, 0, 0)
    place = content.index(struct.pack(">9i", *upright, 0, 0, 0x40000000), content.index(b"tkhd"))
    content[place : place + 36] = struct.pack(">9i", *turned, 0, 0, 0x40000000)  # a quarter, clockwise
    path.write_bytes(content)
    (picture,) = decoding.read_frames(path, lambda total: torch.tensor([0]))
    assert picture.size == (64, 80)
    red = np.asarray(picture)[:, :, 1] < 60  # the bar, at the left of the first frame, is at its top now
    assert red[:20].all()
    assert not red[40:].any()


def test_what_is_no_video_is_named(tmp_path):
    def choose(total):
        return sample_frames(total, 4)

    with pytest.raises(FileNotFoundError, match="There is no video nowhere"):
        decoding.read_frames(Path("nowhere.mp4"), choose)
    with av.open(tmp_path / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(ValueError, match="sound.mp4 cannot be decoded as a video: it holds no pictures"):
        decoding.read_frames(tmp_path / "sound.mp4", choose)
    empty, damaged = tmp_path / "empty.mp4", video_sets.write_video(tmp_path / "damaged.mp4", (9, 9, 9))
    empty.touch()
    video_sets.damage(damaged)
    for path in (empty, damaged, video_sets.EXAMPLES / "data" / "manifest.csv"):
        with pytest.raises(ValueError, match=rf"{path.name} cannot be decoded as a video") as error:
            decoding.read_frames(path, choose)
        assert "\n" not in str(error.value)


def test_torchcodec_is_taken_where_it_works(monkeypatch):
    frames = torch.arange(5 * 2 * 2 * 3, dtype=torch.uint8).view(5, 2, 2, 3)

    class Decoder:
        def __init__(self, path, **options):
            assert options == {"dimension_order": "NHWC", "num_ffmpeg_threads": 1}

        def __len__(self):
            return len(frames)

        def get_frames_at(self, indices):
            return SimpleNamespace(data=frames[indices])

    module = ModuleType("torchcodec.decoders")
    module.VideoDecoder = Decoder
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    decoding.torchcodec.cache_clear()
    try:
        pictures = decoding.read_frames(VIDEO, lambda total: sample_frames(total, 2))
    finally:
        monkeypatch.undo()
        decoding.torchcodec.cache_clear()
    assert [np.asarray(picture).tolist() for picture in pictures] == frames[sample_frames(5, 2)].tolist()


def test_folders_of_videos(tmp_path):
    video_sets.folders(tmp_path)
    assert [file.name for file in decoding.find_videos(tmp_path / "train")] == ["0.mp4", "1.mp4"] * 2
    assert decoding.find_videos(VIDEO) == [VIDEO]
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="bare holds no videos: looked for .3gp, .avi"):
        decoding.find_videos(tmp_path / "bare")
    with pytest.raises(ValueError, match="there is no video or folder nowhere"):
        decoding.find_videos(Path("nowhere"))


# --- clips --------------------------------------------------------------------------------------------------------


def test_views_are_frames_by_crops(tmp_path):
    path = video_sets.write_video(tmp_path / "a.mp4", (250, 0, 0), frames=9)
    clips = batches.EvalClips([path], 2, pixels, views=batches.Views(4, 3))
    stack = clips[0].video
    assert stack.shape == (12, 2, 3, 8, 8)
    whole = [Image.fromarray(frame) for frame in all_frames(path)]
    for temporal, numbers in enumerate(frame_views(9, 2, 4).tolist()):
        for spatial, left in enumerate((0, 8, 16)):
            expected = [pixels(whole[number].crop((left, 0, left + 64, 64))) for number in numbers]
            assert torch.equal(stack[temporal * 3 + spatial], torch.stack(expected))
    single = batches.EvalClips([path], 2, pixels)[0].video
    expected = [pixels(whole[number]) for number in sample_frames(9, 2).tolist()]
    assert torch.equal(single, torch.stack(expected).unsqueeze(0))
    dense = batches.EvalClips([path], 2, pixels, stride=1)[0].video
    assert torch.equal(dense[0], torch.stack([pixels(whole[4]), pixels(whole[5])]))


def test_training_clips_depend_on_seed_epoch_and_video_alone(tmp_path):
    paths = [video_sets.write_video(tmp_path / f"{n}.mp4", video_sets.COLOURS[n], frames=30) for n in range(3)]
    clips = batches.TrainingClips(paths, 4, pixels, seed=0, flip=True)
    first = clips[0, 1].video
    torch.manual_seed(7)
    assert torch.equal(first, clips[0, 1].video)
    assert not torch.equal(first, clips[1, 1].video)
    assert not torch.equal(first, batches.TrainingClips(paths, 4, pixels, seed=1, flip=True)[0, 1].video)
    flipped = [
        torch.equal(clips[epoch, 1].video.flip(-1), batches.TrainingClips(paths, 4, pixels, seed=0)[epoch, 1].video)
        for epoch in range(12)
    ]
    assert 2 <= sum(flipped) <= 10


def test_the_next_video_stands_in_for_a_damaged_one(tmp_path):
    paths = [video_sets.write_video(tmp_path / f"{n}.mp4", video_sets.COLOURS[n]) for n in range(4)]
    video_sets.damage(paths[1])
    video_sets.damage(paths[2])
    clips = batches.TrainingClips(paths, 2, pixels, seed=0)
    item = clips[0, 1]
    assert item.number == 3
    assert torch.equal(item.video, clips[0, 3].video)
    assert [line.split(" cannot")[0] for line in item.failures] == [str(paths[1]), str(paths[2])]
    # In retrieval, a video stands there once for each of its captions.
    captioned = batches.TrainingClips([paths[1]] * batches.TRIES + paths[2:], 2, pixels, seed=0)
    assert captioned[0, 0].number == batches.TRIES + 1
    assert len(captioned[0, 0].failures) == 2
    for path in paths:
        video_sets.damage(path)
    assert clips[0, 1].video is None
    assert len(clips[0, 1].failures) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_every_video_is_tested_once(tmp_path, workers):
    paths = [video_sets.write_video(tmp_path / f"{n}.mp4", video_sets.COLOURS[n]) for n in range(5)]
    video_sets.damage(paths[3])
    loader = batches.eval_loader(batches.EvalClips(paths, 2, pixels), 2, workers)
    found = list(loader)
    assert torch.cat([batch.numbers for batch in found]).tolist() == [0, 1, 2, 4]
    assert [len(batch.failures) for batch in found] == [0, 1, 0]
    assert found[0].videos.shape == (2, 1, 2, 3, 8, 8)


def test_processes_share_the_tests(monkeypatch):
    clips = batches.EvalClips([Path("never opened")] * 7, 2, pixels)
    monkeypatch.setattr(batches.ranks, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(batches.ranks, "rank", lambda rank=rank: rank)
        shares.append([number for batch in batches.eval_loader(clips, 4, 0).batch_sampler for number in batch])
    assert sorted(number for share in shares for number in share) == list(range(7))


def test_training_order_goes_on_where_it_stopped(monkeypatch):
    order = batches.TrainOrder(10, 4, seed=3)
    epochs = []
    for epoch in range(2):
        order.epoch, order.first = epoch, 0
        epochs.append(list(order))
    assert [len(batch) for batch in epochs[0]] == [4, 4, 2]
    assert sorted(number for batch in epochs[0] for _, number in batch) == list(range(10))
    assert epochs[0] != [[(0, number) for _, number in batch] for batch in epochs[1]]
    order.epoch, order.first = 0, 2
    assert list(order) == epochs[0][2:]
    # Two processes share the batches of one, and neither is left without a part.
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(batches.ranks, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(batches.ranks, "world_size", lambda: 2)
        order.epoch, order.first = 0, 0
        parts.append(list(order))
    for whole, one, other in zip(epochs[0], *parts, strict=True):
        assert len(one) == len(other)
        assert sorted(whole) == sorted(one + other)
    odd = batches.TrainOrder(9, 4, seed=3)
    assert [len(batch) for batch in odd] == [2, 2, 1]
    with pytest.raises(ValueError, match="a batch of 3 cannot be shared by 2 processes: choose a multiple"):
        batches.TrainOrder(9, 3, seed=3)


# --- labels -------------------------------------------------------------------------------------------------------


def shape(data: label_files.LabelledVideos) -> tuple[list[str], list[tuple[str, int]], list[tuple[str, int]]]:
    return data.classes, *([(v.path.name, v.label) for v in part] for part in (data.train, data.test))


def test_ucf101(tmp_path):
    classes, train, test = shape(data := label_files.read_labels(*video_sets.ucf101(tmp_path), split=2))
    assert classes == ["apply eye makeup", "yo yo", "archery"]
    assert train[:2] == [("v_ApplyEyeMakeup_g08_c01.avi", 0), ("v_ApplyEyeMakeup_g08_c02.avi", 0)]
    assert [label for _, label in train] == [0] * 4 + [1] * 4 + [2] * 4
    assert test[1] == ("v_YoYo_g01_c01.avi", 1)
    assert [video.group for video in data.train[:4]] == ["ApplyEyeMakeup g08"] * 2 + ["ApplyEyeMakeup g09"] * 2
    assert data.missing is None


def test_hmdb51(tmp_path):
    classes, train, test = shape(data := label_files.read_labels(*video_sets.hmdb51(tmp_path)))
    assert classes == ["brush hair", "climb", "dive", "wave"]
    assert [label for _, label in train] == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert [label for _, label in test] == [0, 1, 2, 3]
    assert test[0][0] == "April_00_brush_hair_u_nm_np1_ba_goo_0.avi"
    assert data.train[0].group == "brush_hair April_02"
    with pytest.raises(ValueError, match=r"no files of split 4, \*_test_split4.txt"):
        label_files.read_labels(tmp_path / "hmdb51", tmp_path / "splits", split=4)


def test_ssv2(tmp_path):
    classes, train, test = shape(label_files.read_labels(*video_sets.ssv2(tmp_path)))
    assert classes == ["pushing something from left to right", "holding something"]
    assert train == [("100.webm", 1), ("101.webm", 1), ("0.webm", 0), ("1.webm", 0)]
    assert test == [("102.webm", 1), ("2.webm", 0)]


def test_kinetics(tmp_path):
    classes, train, test = shape(data := label_files.read_labels(*video_sets.kinetics(tmp_path)))
    assert classes == ["air drumming", "playing tv games"]
    assert [label for _, label in train] == [0, 0, 0, 1, 1]
    assert [label for _, label in test] == [0, 1]
    assert train[1][0] == "t0_-1xxxxxx_000010_000020.mp4"
    assert data.missing == "1 of 8 videos are missing and skipped, such as t1_-2xxxxxx_000020_000030.mp4"


def test_folders_and_csv(tmp_path):
    root = video_sets.folders(tmp_path)
    classes, train, test = shape(label_files.read_labels(root))
    assert classes == ["action 0", "action 1"]
    assert train == test == [("0.mp4", 0), ("1.mp4", 0), ("0.mp4", 1), ("1.mp4", 1)]
    rows = [
        ("train/action_0/0.mp4", "b", "train", "x"),
        ("val/action_1/1", "a", "test", "y"),
        ("none", "a", "unused", ""),
    ]
    table = video_sets.write_csv(tmp_path / "mine.csv", ["video", "label", "split", "group"], rows)
    data = label_files.read_labels(root, table)
    assert data.classes == ["a", "b"]
    assert [(v.path, v.label, v.group) for v in data.train] == [(root / "train/action_0/0.mp4", 1, "x")]
    assert [(v.path.name, v.label) for v in data.test] == [("1.mp4", 0)]


def test_tests_are_never_mixed_with_validation(tmp_path):
    root = video_sets.folders(tmp_path)
    video_sets.write_video(root / "test" / "action_0" / "only.mp4", (1, 2, 3))
    assert [video.path.name for video in label_files.read_labels(root).test] == ["only.mp4"]
    for split in ("train", "val", "test"):
        rows = [["running", f"id_{split}", 0, 10, split]]
        header = ["label", "youtube_id", "time_start", "time_end", "split"]
        video_sets.write_csv(tmp_path / "k400" / f"{split}.csv", header, rows)
        video_sets.write_video(tmp_path / "k400" / f"id_{split}.mp4", (1, 2, 3))
    kinetics = label_files.read_labels(tmp_path / "k400", tmp_path / "k400")
    assert [video.path.name for video in kinetics.train + kinetics.test] == ["id_train.mp4", "id_val.mp4"]


def test_a_missing_video_is_not_taken_from_another_class(tmp_path):
    root = video_sets.folders(tmp_path / "videos")
    (root / "val" / "action_1" / "1.mp4").rename(root / "val" / "action_1" / "1.avi")
    (root / "train" / "action_0" / "1.mp4").unlink()
    files = video_files.VideoFiles(root)
    assert files.find("train/action_0/1.mp4") is None  # nor from the tests
    assert files.find("val/action_1/1.mp4") == root / "val" / "action_1" / "1.avi"
    assert files.find("elsewhere/val/action_1/1.mp4") == root / "val" / "action_1" / "1.avi"
    assert files.report() == "1 of 3 videos are missing and skipped, such as train/action_0/1.mp4"
    for name in ("0", "0.mp4", "action_0/0.mp4", "elsewhere/0.webm"):
        with pytest.raises(ValueError, match=rf"^{name} may be .*/0.mp4 or .*/0.mp4: add its folder to the annot"):
            files.find(name)


def test_what_lies_beside_a_video_is_not_taken_for_it(tmp_path):
    for name in ("a.mp4", "b.webm", "b.avi"):
        video_sets.write_video(tmp_path / "videos" / name, (1, 2, 3))
    for name in ("a.jpg", "a.info.json", "b.aac", "c.jpg"):
        _written(tmp_path / "videos" / name, "no video")
    files = video_files.VideoFiles(tmp_path)
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
            label_files.read_labels(folder, annotations)

    refused("there is no folder of videos nowhere", lists, Path("nowhere"))
    refused("there are no annotations .*nowhere", tmp_path / "nowhere")
    refused(r"UCF-101 holds no annotations that are known: UCF-101 \(classInd.txt\)", None)
    (tmp_path / "bare").mkdir()
    refused("none of the 15 videos is in .*bare, such as ApplyEyeMakeup/v_", lists, tmp_path / "bare")
    refused("readme.txt is no CSV file", _written(tmp_path / "readme.txt", "hello"))
    refused("has the columns a, split: expected video,label", _written(tmp_path / "wrong.csv", "a,split\n1,train\n"))
    unknown = (
        "name no videos of a split that is known, train or test, val, .* in the column `split`, or in its own name"
    )
    for table in ("", "video,label,split\n", "video,label\na,b\n", "video;label;split\na;b;train\n"):
        refused(unknown, _written(tmp_path / "empty.csv", table))
    refused(
        "rows.csv has no label in row 2", _written(tmp_path / "rows.csv", "video,split,label\na,train,b\nc,train\n")
    )
    refused("rows.csv has no video in row 1", _written(tmp_path / "rows.csv", "video,label,split\n,b,train\n"))
    times = "label,youtube_id,time_start,time_end,split\na,id,,10,train\n"
    refused("rows.csv has no time_start in row 1", _written(tmp_path / "rows.csv", times))
    _written(lists / "trainlist01.txt", "Juggling/a.avi 4\n")
    refused("Juggling/a.avi is of the class 'Juggling', which .*lists does not list", lists)
    (lists / "trainlist01.txt").unlink()
    refused("there is no .*trainlist01.txt", lists)
    _written(lists / "classInd.txt", "1\n")
    refused("the annotations in .* are damaged: IndexError", lists)
    (tmp_path / "json").mkdir()
    _written(tmp_path / "json" / "labels.json", "{not json")
    refused("are damaged: JSONDecodeError", tmp_path / "json")
    _written(tmp_path / "json" / "labels.json", '{"a": "0"}')
    _written(tmp_path / "json" / "train.json", '[{"id": "1", "template": null}]')
    refused("are damaged: AttributeError", tmp_path / "json")
    (tmp_path / "hmdb").mkdir()
    _written(tmp_path / "hmdb" / "wave_test_split1.txt", "clip.avi\n")
    refused("split1.txt has the line 'clip.avi': expected a video and 0, 1 or 2", tmp_path / "hmdb")


def test_annotations_that_went_through_an_editor(tmp_path):
    """A byte order mark, carriage returns, blank lines, spaces after commas: nothing of it is part of a name."""
    layouts = (video_sets.ucf101, video_sets.hmdb51, video_sets.ssv2, video_sets.kinetics)
    captioned = (video_sets.msrvtt, video_sets.msvd, video_sets.lsmdc, video_sets.didemo)
    for layout in layouts + captioned:
        videos, annotations = layout(tmp_path / layout.__name__)
        read = label_files.read_labels if layout in layouts else caption_files.read_captions
        before = read(videos, annotations)
        for file in annotations.iterdir():
            text = "\ufeff" + "\n".join(file.read_text().splitlines()) + "\n\n"
            file.write_bytes(text.replace("\n", "\r\n").encode())
        assert read(videos, annotations) == before
    folder = video_sets.folders(tmp_path / "folders")
    table = _written(tmp_path / "mine.csv", "\ufeffvideo, label, split\n\ntrain/action_0/0.mp4, a b, train\n\n")
    assert label_files.read_labels(folder, table).classes == ["a b"]


def test_names_with_spaces(tmp_path):
    name = "my clip (1) é.avi"
    videos, lists = video_sets.ucf101(tmp_path / "ucf101")
    (videos / "YoYo" / "v_YoYo_g01_c01.avi").rename(videos / "YoYo" / name)
    for file in lists.iterdir():
        _written(file, file.read_text().replace("v_YoYo_g01_c01.avi", name).replace("2 YoYo", "2  YoYo "))
    _written(lists / "trainlist01.txt", (lists / "trainlist01.txt").read_text() + f"YoYo/{name} 2\n")
    data = label_files.read_labels(videos, lists)
    assert name in [video.path.name for video in data.test]
    assert data.train[-1].path.name == name
    videos, splits = video_sets.hmdb51(tmp_path / "hmdb51")
    (videos / "dive" / "April_00_dive_u_nm_np1_ba_goo_0.avi").rename(videos / "dive" / name)
    _written(splits / "dive_test_split1.txt", f"{name} 2 \n")
    assert name in [video.path.name for video in label_files.read_labels(videos, splits).test]


def test_other_tables_beside_folders_or_lists(tmp_path):
    root = video_sets.folders(tmp_path / "folders")
    data = label_files.read_labels(root)
    video_sets.write_csv(root / "metadata.csv", ["fps"], [[25]])
    assert label_files.read_labels(root) == data
    videos, annotations = video_sets.kinetics(tmp_path / "kinetics")
    data = label_files.read_labels(videos, annotations)
    video_sets.write_csv(annotations / "classes.csv", ["id", "name"], [[0, "air drumming"]])
    # The labels of its tests are secret.
    video_sets.write_csv(
        annotations / "test.csv", ["youtube_id", "time_start", "time_end", "split"], [["a", 0, 9, "test"]]
    )
    assert label_files.read_labels(videos, annotations) == data


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- captions -----------------------------------------------------------------------------------------------------


def pairs(captions: caption_files.Captions) -> list[tuple[str, str]]:
    return [(captions.paths[v].name, text) for v, text in zip(captions.videos, captions.texts, strict=True)]


def test_msrvtt(tmp_path):
    data = caption_files.read_captions(*video_sets.msrvtt(tmp_path))
    assert pairs(data.train) == [(f"video{n}.mp4", f"caption {k} of {n}") for n in range(4) for k in (0, 1)]
    assert pairs(data.test) == [(f"video{n}.mp4", f"test caption of {n}") for n in (4, 5, 6)]


def test_msvd(tmp_path):
    data = caption_files.read_captions(*video_sets.msvd(tmp_path))
    for split, numbers in ((data.train, (0, 1)), (data.test, (2, 3))):
        texts = ("a man runs", 'he says "hi", then runs')
        assert pairs(split) == [(f"-id{n}_{n}_{n + 5}.avi", f"{n} {text}") for n in numbers for text in texts]


def test_lsmdc(tmp_path):
    data = caption_files.read_captions(*video_sets.lsmdc(tmp_path))
    assert data.train.texts == ["SOMEONE opens door 0.", "SOMEONE opens door 1."]
    assert data.test.texts == ["SOMEONE opens door 2.", "SOMEONE opens door 3."]
    assert data.test.paths[0].parent.name == "101_MOVIE"
    annotations = tmp_path / "annotations"
    (annotations / "LSMDC16_annos_training.csv").rename(annotations / "LSMDC16_annos_val.csv")
    assert caption_files.read_captions(tmp_path / "videos", annotations) == data


def test_didemo(tmp_path):
    data = caption_files.read_captions(*video_sets.didemo(tmp_path))
    assert pairs(data.train)[0] == ("12@N00_34_ab.mov", "moment 0 of 12@N00 moment 1 of 12@N00")
    assert [path.suffix for path in data.test.paths] == [".mov", ".mp4"]


def test_caption_csv_and_what_is_wrong(tmp_path):
    videos = video_sets.captioned_files(tmp_path, ["a.mp4", "b.mp4"])
    rows = [("a.mp4", "one", "train"), ("b.mp4", "two", "val"), ("b.mp4", "three", "val"), ("c.mp4", "four", "val")]
    table = video_sets.write_csv(tmp_path / "mine.csv", ["video", "caption", "split"], rows)
    data = caption_files.read_captions(videos, table)
    assert (pairs(data.train), pairs(data.test)) == ([("a.mp4", "one")], [("b.mp4", "two"), ("b.mp4", "three")])
    assert data.missing == "1 of 3 videos are missing and skipped, such as c.mp4"
    for file, message in (
        (tmp_path / "nowhere", "there are no annotations"),
        (videos, "holds no annotations that are known: MSR-VTT"),
        (
            _written(tmp_path / "wrong.csv", "a,split\n1,train\n"),
            "has the columns a, split: expected video,caption,split",
        ),
        (
            _written(tmp_path / "half.csv", "video,caption,split\na.mp4,one,train\n"),
            "name no videos to test on, or all are",
        ),
        (_written(tmp_path / "row.csv", "video,split,caption\na.mp4,train\n"), "row.csv has no caption in row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            caption_files.read_captions(videos, file)
    folder = tmp_path / "didemo"
    folder.mkdir()
    (folder / "train_data.json").write_text(json.dumps([{"film": "a"}]))
    with pytest.raises(ValueError, match="damaged: KeyError: 'video'"):
        caption_files.read_captions(videos, folder)
    (folder / "train_data.json").unlink()
    (folder / "LSMDC16_annos_training.csv").write_text("clip and caption\n")
    with pytest.raises(ValueError, match="the line 'clip and caption': expected tabs between clip, times and caption"):
        caption_files.read_captions(videos, folder)
