"""Walking through folders: links, loops, what systems leave there, and the endings of videos."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from examples.paper.lists.video_files import VideoFiles
from examples.video import decoding
from examples.video.files import is_video, walk_files


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    root = tmp_path / "videos"
    touch(root / "own" / "a.mp4")
    touch(tmp_path / "elsewhere" / "b.mp4")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "own" / "up").symlink_to(root)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere")
    names = [str(file.relative_to(root)) for file in walk_files(root)]
    assert names == ["link/b.mp4", "own/a.mp4"]
    assert decoding.find_videos(root) == [root / "link" / "b.mp4", root / "own" / "a.mp4"]
    assert VideoFiles(root).find("b") == root / "link" / "b.mp4"


def test_one_file_under_two_links_is_not_two_files(tmp_path):
    touch(tmp_path / "videos" / "own" / "a.mp4")
    (tmp_path / "videos" / "linked").symlink_to("own")
    assert VideoFiles(tmp_path / "videos").find("a") == tmp_path / "videos" / "linked" / "a.mp4"
    touch(tmp_path / "videos" / "other" / "a.mp4")
    with pytest.raises(ValueError, match=r"^a may be .*linked/a.mp4 or .*other/a.mp4: add its folder"):
        VideoFiles(tmp_path / "videos").find("a")


def test_what_systems_and_editors_leave_is_ignored(tmp_path):
    touch(tmp_path / "videos" / "a.mp4")
    for name in (".ipynb_checkpoints/a-checkpoint.mp4", "._a.mp4", "__MACOSX/._b.mp4", "__MACOSX/b.mp4", "Thumbs.db"):
        touch(tmp_path / "videos" / name)
    assert walk_files(tmp_path / "videos") == [tmp_path / "videos" / "a.mp4"]
    assert VideoFiles(tmp_path / "videos").find("b") is None


def test_every_ending_that_the_decoder_knows():
    for name in ("a.gif", "a.TS", "a.ogv", "a.mts", "a.MOV", "a.3gp", "a.webm", "a.vob", "a.m2ts"):
        assert is_video(Path(name)), name
    for name in ("a.jpg", "a.txt", "a.mp3", "a", "a.json", "a.wav", "._a.mp4"):
        assert not is_video(Path(name)), name


@pytest.mark.parametrize("name", ["a.gif", "a.ts", "a.ogv", "a.mts", "a.webm", "a.mkv", "a.mpg"])
def test_these_endings_are_decoded(tmp_path, name):
    codec = {".gif": "gif", ".ogv": "libvpx", ".webm": "libvpx"}.get(Path(name).suffix, "mpeg2video")
    with av.open(tmp_path / name, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if codec == "gif" else "yuv420p"
        for number in range(60):
            picture = np.full((48, 64, 3), 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    (found,) = decoding.find_videos(tmp_path)
    pictures = decoding.read_frames(found, lambda total: torch.tensor([0, total - 1]))
    assert np.asarray(pictures[1]).mean() > 100 + np.asarray(pictures[0]).mean()


def test_a_folder_without_videos_says_what_it_has(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"and the like; none of its 1 files has, such as notes.txt"):
        decoding.find_videos(tmp_path)
