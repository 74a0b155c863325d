"""Frames of video files: decoded with torchcodec where it is installed with FFmpeg, otherwise with PyAV."""

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import av
import torch
from av.stream import Disposition
from PIL import Image
from torch import Tensor

from examples.video.files import is_video, walk_files

# torchcodec seeks by the times in these containers. Of AVI files and MPEG streams it returns other frames than wanted.
_TIMED = {"mov", "mp4", "matroska", "webm"}


class Frames(NamedTuple):
    """Frames of a video.

    Attributes:
        pictures: The frames that were chosen, in that order.
        damage: A line about packets that cannot be decoded, or None. The other frames are there all the same.
    """

    pictures: list[Image.Image]
    damage: str | None


def read_frames(path: Path, choose: Callable[[int], Tensor]) -> list[Image.Image]:
    """Decodes some frames of a video file: the pictures of `read_video`."""
    return read_video(path, choose).pictures


def read_video(path: Path, choose: Callable[[int], Tensor]) -> Frames:
    """Decode some frames of a video file. Damaged packets are left out; a cut file gives its remaining frames.

    Args:
        path: Any file that FFmpeg reads.
        choose: Gets the number of frames in the video and returns the numbers of the frames to decode, of any shape.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: If it is empty or not a video, or none of its frames can be decoded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no video {path}.")
    if not path.stat().st_size:
        raise ValueError(f"{path} cannot be decoded as a video: it is empty")
    try:
        if torchcodec() is not None:
            try:
                return _read_with_torchcodec(path, choose)
            except (RuntimeError, IndexError, ValueError):
                pass  # PyAV reads more formats, and goes on after a damaged packet.
        return read_with_pyav(path, choose)
    except (av.FFmpegError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be decoded as a video: {_cause(error)}") from error


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


def decoder() -> str:
    """Returns the name and version of the library that decodes, for records: colours differ between versions."""
    if torchcodec() is not None:
        return f"torchcodec {version('torchcodec')}"
    return f"PyAV {av.__version__}, FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def threads() -> int:
    """Returns the number of threads for one video: all cores, or this process's share of them in a `DataLoader`."""
    worker = torch.utils.data.get_worker_info()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // (1 if worker is None else worker.num_workers))


def _read_with_torchcodec(path: Path, choose: Callable[[int], Tensor]) -> Frames:
    with av.open(path) as container:
        if not _TIMED & {*container.format.name.split(",")}:
            raise ValueError(f"torchcodec seeks to other frames in files of the format {container.format.name}")
        stream = _moving_pictures(container).index
    decoder = torchcodec()(str(path), stream_index=stream, dimension_order="NHWC", num_ffmpeg_threads=threads())
    numbers = choose(len(decoder)).flatten().tolist()
    return Frames([Image.fromarray(frame.numpy()) for frame in decoder.get_frames_at(indices=numbers).data], None)


class _Packet(NamedTuple):
    """A compressed frame: when it is shown, whether decoding can begin with it, and whether it is shown at all."""

    time: int | None
    key: bool
    shown: bool


def _moving_pictures(container: Any) -> Any:
    """The first stream of a video that is not the cover of a piece of music."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError("it holds no pictures" + " but a cover" * bool(container.streams.video))


def _packets(container: Any) -> Iterator[Any]:
    """The packets of the video, up to where the file is cut."""
    try:
        for packet in container.demux(_moving_pictures(container)):
            if packet.size:
                yield packet
    except av.FFmpegError:
        return


def read_with_pyav(path: Path, choose: Callable[[int], Tensor]) -> Frames:
    """Decodes some frames as `read_video` does, whether torchcodec is installed or not.

    Raises:
        ValueError: The file has no moving pictures, or none of them can be decoded.
        av.FFmpegError: It is not a video.
    """
    with av.open(path) as container:
        packets = [_Packet(packet.pts, packet.is_keyframe, not packet.is_discard) for packet in _packets(container)]
        # AVI files have no times. FFmpeg's made-up times are wrong if frames are not stored in the order shown.
        has_times = container.format.name != "avi" and None not in {packet.time for packet in packets}
    if not packets:
        raise ValueError("it holds no pictures")
    # The header's count is an estimate in some files and missing in others; packets are counted without decoding.
    shown = [packet for packet in packets if packet.shown] or packets
    numbers = choose(len(shown)).flatten().tolist()
    if has_times and packets[0].key and len({packet.time for packet in packets}) == len(packets):
        in_order = sorted(packet.time for packet in shown if packet.time is not None)
        times = {in_order[number]: number for number in set(numbers)}
        pictures = _decode_ranges(path, _ranges(packets, set(times)), times)
        if len(pictures) == len(times):
            return Frames([pictures[number] for number in numbers], None)
    pictures, total, damage = _decode_all(path, set(numbers))
    if len(pictures) < len(set(numbers)):  # Packed or damaged streams have fewer frames than packets.
        if not total:
            raise ValueError(f"none of its {len(packets)} frames can be decoded" + (f": {damage}" if damage else ""))
        numbers = choose(total).flatten().tolist()
        pictures, _, damage = _decode_all(path, set(numbers), to_the_end=True)
    return Frames([pictures[number] for number in numbers], damage and f"{path} is damaged: {damage}")


def _ranges(packets: list[_Packet], wanted: set[int]) -> list[tuple[int, int]]:
    """Which packets to decode for the frames shown at these times: (first, last) in the order of the file.

    Each range begins with a key frame that is not shown after the frame wanted, for frames shown before a key frame but
    written after it may need the one before.
    """
    ranges: list[tuple[int, int]] = []
    keys: list[tuple[int, int]] = []  # place and time
    for place, (time, key, _) in enumerate(packets):
        assert time is not None
        if key:
            keys.append((place, time))
        if time in wanted:
            start = next((at for at, shown in reversed(keys) if shown <= time), 0)
            while ranges and start <= ranges[-1][1] + 1:
                start = min(start, ranges.pop()[0])
            ranges.append((start, place))
    return ranges


def _decode_ranges(path: Path, ranges: list[tuple[int, int]], times: dict[int, int]) -> dict[int, Image.Image]:
    """The frames shown at these times, by number. Frames that cannot be decoded are missing."""
    pictures: dict[int, Image.Image] = {}
    with av.open(path) as container:
        context = _moving_pictures(container).codec_context
        context.thread_type, context.thread_count = "AUTO", threads()
        waiting = iter(ranges)
        first, last = next(waiting)

        def keep(frames: list[Any]) -> None:
            for frame in frames:
                if frame.pts in times:
                    pictures[times[frame.pts]] = _picture(frame)

        try:
            for place, packet in enumerate(_packets(container)):
                if place < first:
                    continue
                # Frames that no other frame is predicted from need no decoding, unless they are wanted themselves.
                context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
                keep(context.decode(packet))
                if place == last:
                    keep(context.decode(None))  # The decoder holds frames back, to put them into order.
                    context.flush_buffers()
                    following = next(waiting, None)
                    if following is None:
                        break
                    first, last = following
        except av.FFmpegError:
            pass  # Missing frames are found by decoding everything.
    return pictures


def _decode_all(
    path: Path, wanted: set[int], to_the_end: bool = False
) -> tuple[dict[int, Image.Image], int, str | None]:
    """The wanted frames by number, the number of frames, and the damage. Decoding stops at the last wanted frame."""
    pictures: dict[int, Image.Image] = {}
    decoded, damaged, first = 0, 0, ""
    with av.open(path) as container:
        context = _moving_pictures(container).codec_context
        context.thread_type, context.thread_count = "AUTO", threads()
        for packet in itertools.chain(_packets(container), [None]):
            try:
                frames = context.decode(packet)
            except av.FFmpegError as error:
                damaged += 1
                first = first or _cause(error)
                continue
            for frame in frames:
                if decoded in wanted:
                    pictures[decoded] = _picture(frame)
                decoded += 1
            if len(pictures) == len(wanted) and not to_the_end:
                break
    return pictures, decoded, f"{damaged} of its packets cannot be decoded ({first})" if damaged else None


def _cause(error: Exception) -> str:
    """What FFmpeg says, without numbers of errors and names of its functions; the message of other errors."""
    said = error.strerror if isinstance(error, av.FFmpegError) else None
    return " ".join((said or str(error)).split())


def _picture(frame: Any) -> Image.Image:
    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    # Phones film lying on their side, and write down how to turn the picture.
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture
