"""Frames of video files: decoded with torchcodec where it is installed with FFmpeg, otherwise with PyAV."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
from PIL import Image
from torch import Tensor

from examples.video.files import is_video, walk_files


def read_frames(path: Path, choose: Callable[[int], Tensor]) -> list[Image.Image]:
    """Decodes some frames of a video file.

    Args:
        path: Any file that FFmpeg reads.
        choose: Gets the number of frames in the video and returns the numbers of the frames to decode, of any shape.

    Returns:
        A picture for each number, in that order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: If it is not a video, or an empty or damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no video {path}.")
    decode = _read_with_pyav if torchcodec() is None else _read_with_torchcodec
    try:
        return decode(path, choose)
    except (av.FFmpegError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be decoded as a video: {' '.join(str(error).split())}") from error


def find_videos(path: Path) -> list[Path]:
    """A video file itself, or all in a folder and the folders below it, in the order of their names.

    Raises:
        ValueError: There is none.
    """
    if path.is_dir():
        files = walk_files(path)
        found = sorted(file for file in files if is_video(file))
        if not found:
            others = f"; none of its {len(files)} files has, such as {files[0].name}" if files else ""
            raise ValueError(f"{path} holds no videos, whose names end in .mp4, .avi, .webm, .mov and the like{others}")
        return found
    if not path.is_file():
        raise ValueError(f"there is no video or folder {path}")
    return [path]


@functools.cache
def torchcodec() -> Any:
    """torchcodec's `VideoDecoder`; None where it, or the FFmpeg that it needs, is not installed."""
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]
    except (ImportError, OSError, RuntimeError):  # RuntimeError: no FFmpeg, or one of another version.
        return None
    return VideoDecoder


def _read_with_torchcodec(path: Path, choose: Callable[[int], Tensor]) -> list[Image.Image]:
    decoder = torchcodec()(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    numbers = choose(len(decoder)).flatten().tolist()
    return [Image.fromarray(frame.numpy()) for frame in decoder.get_frames_at(indices=numbers).data]


def _read_with_pyav(path: Path, choose: Callable[[int], Tensor]) -> list[Image.Image]:
    # The header's count is an estimate in some files and missing in others. Packets are counted without decoding; only
    # where decoding then ends early (packed or damaged streams) is the choice made again, from the true number.
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError("it holds no pictures")
        total = sum(1 for packet in container.demux(video=0) if packet.size)
    numbers = choose(total).flatten().tolist()
    pictures, total = _decode(path, set(numbers))
    if len(pictures) < len(set(numbers)):
        numbers = choose(total).flatten().tolist()
        pictures, _ = _decode(path, set(numbers))
    return [pictures[number] for number in numbers]


def _decode(path: Path, wanted: set[int]) -> tuple[dict[int, Image.Image], int]:
    """The wanted frames by number, and how many were decoded to get them: all, where some were not found."""
    pictures: dict[int, Image.Image] = {}
    decoded = 0
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1  # Every worker would take all cores.
        for frame in container.decode(video=0):
            if decoded in wanted:
                picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                # Phones film lying on their side, and write down how to turn the picture.
                pictures[decoded] = picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
            decoded += 1
            if len(pictures) == len(wanted):
                break
    return pictures, decoded
