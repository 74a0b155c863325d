"""The benchmark of decoding: its clips are as described, and every way reads the same frames of them."""

from __future__ import annotations

import sys

import av
import numpy as np
import torch

from benchmarks import decoding


def test_clips_are_as_long_and_large_as_they_should_be(tmp_path):
    path = decoding.write_clip(tmp_path / "a.mp4", 64, 36, seconds=1, key_frames=10)
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = list(container.decode(video=0))
    assert len(frames) == 30
    assert (frames[0].width, frames[0].height) == (64, 36)
    assert [number for number, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20]


def test_every_way_reads_the_same_frames(tmp_path):
    path = decoding.write_clip(tmp_path / "a.mp4", 64, 36, seconds=1)
    ways = decoding.readers()
    plain, ours = (ways[name](path, lambda total: torch.tensor([3, 17])) for name in ("plain PyAV", "examples/video"))
    assert all(np.array_equal(one, other) for one, other in zip(plain, ours.pictures, strict=True))


def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decoding, "SIZES", {"tiny": (64, 36)})
    monkeypatch.setattr(sys, "argv", ["decoding.py", "--seconds", "1", "--rounds", "2", "--frames", "4"])
    decoding.main()
    first, clip, *table = capsys.readouterr().out.splitlines()
    assert "4 frames of each clip" in first
    assert clip.startswith("tiny, ")
    assert [line[2:18].strip() for line in table] == list(decoding.readers())
    assert table[-1].endswith("videos per second, examples/video 1.00 times as fast")
