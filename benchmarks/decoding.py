"""Measures how many videos a second are decoded, which is what training on videos often waits for.

Two H.264 clips of 10 seconds are generated, 360p and 1080p, 30 frames a second. T frames are taken from each, as
`examples/video` takes them for training and tests: one from each of T equal segments. The ways to read them take turns,
so that a change in the machine's load meets all of them:

  plain PyAV       the whole video decoded in FFmpeg's default threads, the wanted frames made into arrays
  torchcodec       `VideoDecoder.get_frames_at`, in as many threads as `examples/video` uses; where it is installed
  examples/video   `read_frames`, with PyAV

  python -m benchmarks.decoding
  python -m benchmarks.decoding --frames 8 --rounds 20 --key-frames 12
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from examples.video import decoding
from examples.video.sampling import sample_frames

SIZES = {"360p": (640, 360), "1080p": (1920, 1080)}
RATE = 30  # frames per second
Reader = Callable[[Path, Callable[[int], Tensor]], object]


def write_clip(path: Path, width: int, height: int, seconds: float = 10, key_frames: int = 250) -> Path:
    """Writes an H.264 clip: a texture that moves, with a little noise, as x264's defaults compress it.

    Args:
        path: The file to write.
        width: Of the frames, in pixels.
        height: Likewise.
        seconds: Length of the clip.
        key_frames: The largest distance of key frames, in frames; 250 is x264's default.
    """
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (height // 20 + 1, width // 10 + 1, 3), np.uint8)
    texture = coarse.repeat(20, 0).repeat(20, 1)[:height] // 2  # [height, at least 2 * width, 3]
    noise = draw.integers(0, 24, (8, height, width, 1), np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": str(key_frames), "preset": "veryfast", "bf": "3"}
        for number in range(round(seconds * RATE)):
            left = 3 * number % width
            picture = texture[:, left : left + width] + noise[number % len(noise)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def read_plainly(path: Path, choose: Callable[[int], Tensor]) -> list[np.ndarray]:
    """Decodes the whole video, as most scripts that use PyAV do."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = list(container.decode(stream))
    return [frames[number].to_ndarray(format="rgb24") for number in choose(len(frames)).tolist()]


def readers() -> dict[str, Reader]:
    """The ways to read a video, by name."""
    ways: dict[str, Reader] = {"plain PyAV": read_plainly}
    if decoding.torchcodec() is not None:

        def read_with_torchcodec(path: Path, choose: Callable[[int], Tensor]) -> object:
            decoder = decoding.torchcodec()(str(path), num_ffmpeg_threads=decoding.threads())
            return decoder.get_frames_at(indices=choose(len(decoder)).tolist())

        ways["torchcodec"] = read_with_torchcodec
    ways["examples/video"] = decoding.read_with_pyav
    return ways


def measure(path: Path, frames: int, rounds: int) -> dict[str, float]:
    """Videos per second of each way: the inverse of the median time of `rounds` turns.

    Args:
        path: A video.
        frames: T, how many frames are taken from it.
        rounds: How many times each way takes its turn, after one that does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in readers()}
    for turn in range(rounds + 1):
        for name, read in readers().items():
            start = time.perf_counter()
            read(path, lambda total: sample_frames(total, frames))
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: 1 / statistics.median(own) for name, own in times.items()}


def main() -> None:
    """Prints a table of the videos per second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16, help="frames taken from each video (default: 16)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each way (default: 10)")
    parser.add_argument("--seconds", type=float, default=10, help="length of the clips (default: 10)")
    parser.add_argument("--key-frames", type=int, default=250, help="frames between key frames (default: 250)")
    args = parser.parse_args()
    print(f"{decoding.decoder()}; {decoding.threads()} threads; {args.frames} frames of each clip")
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            path = write_clip(Path(folder) / f"{name}.mp4", *size, args.seconds, args.key_frames)
            speeds = measure(path, args.frames, args.rounds)
            ours = speeds["examples/video"]
            print(f"{name}, {path.stat().st_size / 2**20:.1f} MB:")
            for way, speed in speeds.items():
                print(f"  {way:16}{speed:8.2f} videos per second, examples/video {ours / speed:.2f} times as fast")


if __name__ == "__main__":
    main()
