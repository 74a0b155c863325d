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

from examples.paper.training import batches, fit
from examples.paper.training.run_folder import RunFolder
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


def write_h264(path: Path, frames: int = 48, gop: int = 8, **options: str) -> Path:
    """Frames that get brighter, with frames between that are written in another order than shown."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", gop
        stream.options = {"bf": "2", "x264-params": "b-adapt=0:scenecut=0"} | options
        for number in range(frames):
            picture = np.full((48, 64, 3), 40 + 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def packets(path: Path) -> list[av.Packet]:
    with av.open(path) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def spoil(path: Path, number: int) -> None:
    """Overwrites one packet."""
    packet = packets(path)[number]
    content = bytearray(path.read_bytes())
    content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize("options", [{}, {"x264-params": "b-adapt=0:scenecut=0:open-gop=1"}])
@pytest.mark.parametrize("gop", [8, 300])
def test_frames_that_are_sought_are_those_of_the_whole_video(tmp_path, name, options, gop):
    path = write_h264(tmp_path / name, gop=gop, **options)
    whole = all_frames(path)
    assert len(whole) == 48
    for chosen in ([0], [47], [7, 8, 9], [3, 30, 30, 5], list(range(48)), [40, 12]):
        pictures = decoding.read_frames(path, lambda total, chosen=chosen: torch.tensor(chosen))
        assert all(np.array_equal(p, whole[n]) for p, n in zip(pictures, chosen, strict=True))


def test_only_the_frames_between_a_key_frame_and_the_wanted_one_are_decoded(tmp_path, monkeypatch):
    path = write_h264(tmp_path / "a.mp4")
    ranges = []
    decode = decoding._decode_ranges
    monkeypatch.setattr(
        decoding, "_decode_ranges", lambda path, own, times: ranges.append(own) or decode(path, own, times)
    )
    monkeypatch.setattr(decoding, "_decode_all", None)
    monkeypatch.setattr(decoding, "torchcodec", lambda: None)
    decoding.read_frames(path, lambda total: torch.tensor([2, 20]))
    ((first, second),) = ranges
    keys = [number for number, packet in enumerate(packets(path)) if packet.is_keyframe]
    assert first[0] == 0 < first[1] < keys[1]
    assert second[0] == keys[2] <= second[1] < keys[3]


def test_one_damaged_packet_does_not_cost_the_video(tmp_path):
    path = write_h264(tmp_path / "a.mp4")
    spoil(path, 10)
    brightness = []
    for count in (1, 4, 16, 48):
        frames = decoding.read_video(path, lambda total, count=count: sample_frames(total, count))
        assert len(frames.pictures) == count
        brightness.append([np.asarray(picture).mean() for picture in frames.pictures])
    assert "a.mp4 is damaged: " in frames.damage
    assert "packets cannot be decoded (Invalid data found when processing input)" in frames.damage
    assert brightness[-1] == sorted(brightness[-1])
    assert brightness[-1][-1] > 200


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"not a video\n", "Invalid data found when processing input"),
        (b"\0" * 5000, "Invalid data found when processing input"),
        (b"", "it is empty"),
    ],
)
def test_the_cause_is_said_without_numbers_of_errors(tmp_path, content, cause):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/a.mp4 cannot be decoded as a video: {cause}$"):
        decoding.read_frames(tmp_path / "a.mp4", lambda total: sample_frames(total, 2))


def test_a_stream_that_gives_no_frame_and_no_error(tmp_path, monkeypatch):
    path = write_h264(tmp_path / "a.mp4", frames=3)
    monkeypatch.setattr(decoding, "torchcodec", lambda: None)
    monkeypatch.setattr(decoding, "_decode_ranges", lambda *arguments: {})
    monkeypatch.setattr(decoding, "_decode_all", lambda *arguments: ({}, 0, None))
    with pytest.raises(ValueError, match="a.mp4 cannot be decoded as a video: none of its 3 frames can be decoded$"):
        decoding.read_frames(path, lambda total: sample_frames(total, 2))


def test_cut_files_give_what_they_have(tmp_path):
    whole = write_h264(tmp_path / "whole.mkv")
    for name, keep in (("a.mkv", 0.5), ("b.mkv", 0.9)):
        (tmp_path / name).write_bytes(whole.read_bytes()[: int(keep * whole.stat().st_size)])
        for count in (1, 8):
            frames = decoding.read_frames(tmp_path / name, lambda total, count=count: sample_frames(total, count))
            assert len(frames) == count
    assert np.asarray(frames[-1]).mean() > 150


def test_a_stream_whose_packets_are_more_than_its_frames_is_sampled_to_its_true_end(tmp_path):
    path = write_h264(tmp_path / "a.mp4", frames=30)
    for number in (25, 26, 27, 28, 29):
        spoil(path, number)
    asked = []

    def choose(total):
        asked.append(total)
        return torch.tensor([0, total - 1])

    frames = decoding.read_video(path, choose)
    assert asked[0] > asked[-1] >= 10
    assert np.asarray(frames.pictures[1]).mean() > np.asarray(frames.pictures[0]).mean() + 50


def test_a_cover_is_not_a_video(tmp_path):
    video_sets.write_sound(tmp_path / "song.mp4", cover=True)
    with pytest.raises(ValueError, match="song.mp4 cannot be decoded as a video: it holds no pictures but a cover"):
        decoding.read_frames(tmp_path / "song.mp4", lambda total: torch.tensor([0]))


@pytest.mark.parametrize(("matrix", "full"), [(1, True), (1, False), (5, True), (5, False)])
def test_colours_are_those_that_the_file_says(tmp_path, matrix, full):
    """BT.709 and BT.601, full and limited range; versions of PyAV before 17 are up to 28 of 255 off."""
    colours = [(250, 20, 30), (20, 200, 60), (30, 40, 220), (128, 128, 128)]
    picture = np.repeat(np.repeat(np.array([colours], np.uint8), 48, 0), 16, 1)  # [48, 64, 3]
    pixels, range_ = ("yuvj420p", 2) if full else ("yuv420p", 1)
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range_
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format=pixels, src_color_range=2, dst_color_range=range_, dst_colorspace=matrix)
        frame.colorspace, frame.color_range = matrix, range_
        container.mux([*stream.encode(frame), *stream.encode()])
    (decoded,) = decoding.read_frames(tmp_path / "a.mp4", lambda total: torch.tensor([0]))
    for place, colour in enumerate(colours):
        middle = np.asarray(decoded)[24, 16 * place + 8].astype(int)
        assert abs(middle - colour).max() <= 8, (colour, middle)


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
    video_sets.write_sound(tmp_path / "sound.mp4")
    with pytest.raises(ValueError, match="sound.mp4 cannot be decoded as a video: it holds no pictures"):
        decoding.read_frames(tmp_path / "sound.mp4", choose)
    empty, damaged = tmp_path / "empty.mp4", video_sets.write_video(tmp_path / "damaged.mp4", (9, 9, 9))
    empty.touch()
    video_sets.damage(damaged)
    with pytest.raises(ValueError, match="empty.mp4 cannot be decoded as a video: it is empty"):
        decoding.read_frames(empty, choose)
    for path in (damaged, video_sets.EXAMPLES / "data" / "manifest.csv"):
        with pytest.raises(ValueError, match=rf"{path.name} cannot be decoded as a video") as error:
            decoding.read_frames(path, choose)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(decoding.torchcodec() is None, reason="torchcodec is not installed with FFmpeg")
@pytest.mark.parametrize("name", ["clip", "a.mp4", "a.mkv", "a.webm"])
def test_torchcodec_and_pyav_agree(tmp_path, name):
    """Within 2 of 255 for each pixel, the bound that `docs/recognition.md` states."""
    path = VIDEO if name == "clip" else tmp_path / name
    if name == "a.webm":
        video_sets.write_video(path, (250, 30, 90), frames=20)
    elif name != "clip":
        write_h264(path)
    for count in (1, 5, 16):
        ours, theirs = (
            read(path, lambda total, count=count: sample_frames(total, count)).pictures
            for read in (decoding.read_with_pyav, decoding._read_with_torchcodec)
        )
        difference = np.stack(ours).astype(int) - np.stack(theirs)
        assert abs(difference).max() <= 2


def test_torchcodec_is_taken_where_it_works(tmp_path, monkeypatch):
    frames = torch.arange(5 * 2 * 2 * 3, dtype=torch.uint8).view(5, 2, 2, 3)

    class Decoder:
        def __init__(self, path, **options):
            assert options == {"stream_index": 0, "dimension_order": "NHWC", "num_ffmpeg_threads": decoding.threads()}

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
        streams = [
            decoding.read_frames(write_h264(tmp_path / name), lambda total: torch.tensor([total - 1]))
            for name in ("a.avi", "a.ts")
        ]
    finally:
        monkeypatch.undo()
        decoding.torchcodec.cache_clear()
    assert [np.asarray(picture).tolist() for picture in pictures] == frames[sample_frames(5, 2)].tolist()
    assert [own[0].size for own in streams] == [(64, 48)] * 2  # PyAV's: torchcodec would return other frames of these


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


def test_a_damaged_packet_is_said_once(tmp_path, capsys):
    paths = [write_h264(tmp_path / "a.mp4", frames=30), write_h264(tmp_path / "b.mp4", frames=30)]
    for number in (25, 26, 27, 28, 29):
        spoil(paths[1], number)
    run = RunFolder(tmp_path / "out", {}, resume=False)
    for _ in range(2):
        clips = batches.EvalClips(paths, 16, pixels), batches.TrainingClips(paths, 16, pixels, seed=0)
        for batch in (*batches.eval_loader(clips[0], 2, 0), batches._collate([clips[1][0, 0], clips[1][0, 1]])):
            assert batch.numbers.tolist() == [0, 1]
            assert batch.failures == ()
            fit.report(batch, run)
    (line,) = (tmp_path / "out" / "damaged.txt").read_text().splitlines()
    assert line.startswith(f"{paths[1]} is damaged: ")
    assert capsys.readouterr().out.splitlines() == [f"used without its damaged part: {line}"]
    assert not (tmp_path / "out" / "skipped.txt").exists()


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
