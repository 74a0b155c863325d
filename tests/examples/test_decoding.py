"""Decoding, the frames and crops of training and tests."""

from __future__ import annotations

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

from examples.paper.training import batches
from examples.video import decoding
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
    with pytest.raises(ValueError, match="bare holds no videos, whose names end in .mp4, .avi, .*and the like$"):
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
