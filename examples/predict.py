"""Names what happens in a video file, or in all of a folder, with your own class names and a trained adapter.

Prints the most likely classes, and writes a table of all probabilities and a strip of the frames for each video.

Examples:
  python -m examples.predict my_video.mp4 --adapter runs/ucf101-16/last --classes "riding a horse" surfing archery
  python -m examples.predict folder_of_videos --adapter someone/ucf101-16shot --class-file names.txt
"""

import argparse
import csv
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt
from examples.startup import ranks
from examples.startup.base_model import Preprocess, load_clip
from examples.startup.command_line import run_script
from examples.video.decoding import find_videos, read_frames
from examples.video.sampling import sample_frames
from examples.video.strip import draw_strip

SHOWN = 5


def load_videos(paths: Sequence[Path], frames: int, preprocess: Preprocess) -> Tensor:
    """Decodes the centre frames of video files, ready for the model, (B, T, 3, H, W)."""
    videos = [read_frames(path, lambda total: sample_frames(total, frames)) for path in paths]
    return torch.stack([torch.stack([preprocess(frame) for frame in video]) for video in videos])


@torch.no_grad()
def classify(model: PeftModel, videos: Tensor, class_features: Tensor, temperature: float = 0.07) -> Tensor:
    """Probabilities of C classes for B videos, (B, C).

    Args:
        model: What `wrap` or `from_pretrained` returned.
        videos: Preprocessed frames, (B, T, 3, H, W).
        class_features: The model's features of the class names, normalised, (C, D).
        temperature: As in training.
    """
    video_features = model.encode_video(videos, normalize=True)
    return (video_features @ class_features.T / temperature).softmax(-1)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "videos", type=Path, nargs="+", metavar="VIDEO", help="files that FFmpeg can decode, or folders"
    )
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument("--classes", nargs="+", metavar="NAME", help="what may happen in them")
    classes.add_argument("--class-file", type=Path, metavar="FILE", help="the same, one name a line")
    parser.add_argument(
        "--adapter", required=True, help="folder that save_pretrained wrote, or a repository of the Hub"
    )
    parser.add_argument("--model", help="the open_clip model, where it is not the one that the adapter names")
    parser.add_argument("--pretrained", help="its weights, where the adapter does not name them")
    parser.add_argument("--device", help="cpu or cuda (default: a GPU where there is one)")
    parser.add_argument("--frames", type=int, default=8, help="frames of each video (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.07, help="as in training (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        help="folder for the table and the strips (default: %(default)s)",
    )
    return parser.parse_args()


def class_names(args: argparse.Namespace) -> list[str]:
    """The classes, from the command line or the file."""
    if args.class_file is None:
        return list(args.classes)
    try:
        text = args.class_file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{args.class_file} is not a text in UTF-8: {error}") from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{args.class_file} holds no class names: write one a line")
    return names


def load_model(args: argparse.Namespace, device: torch.device) -> tuple[PeftModel, Preprocess, Callable[..., Tensor]]:
    """The adapter on the model that it names, or on the one that is given."""
    config = vilt_prompt.PromptConfig.from_pretrained(args.adapter)
    name = args.model or config.base_model
    if name is None:
        raise ValueError(f"the adapter {args.adapter} does not name its open_clip model: add --model, and --pretrained")
    pretrained = args.pretrained or (None if args.model else config.base_pretrained)
    clip, preprocess, tokenizer = load_clip(name, pretrained, device)
    return vilt_prompt.from_pretrained(clip, args.adapter).to(device), preprocess, tokenizer


def guesses(row: Tensor, classes: Sequence[str]) -> list[str]:
    """The most likely classes of one video."""
    best = row.topk(min(SHOWN, len(classes)))
    return [f"{classes[c]} {p:.0%}" for p, c in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def main() -> None:
    """Prints the most likely classes of each video, and writes the rest to files."""
    args = arguments()
    if args.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {args.frames}")
    if not 0 < args.temperature < math.inf:
        raise ValueError(f"--temperature must be positive and finite, got {args.temperature}")
    classes = class_names(args)
    paths = [file for path in args.videos for file in find_videos(path)]
    device = ranks.start(args.device)
    model, preprocess, tokenizer = load_model(args, device)
    with torch.no_grad():
        class_features = model.encode_text(tokenizer(classes).to(device), normalize=True)
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "probabilities.csv"
    predicted = 0
    with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as lines:
        writer = csv.writer(lines)
        writer.writerow(["video", *classes])
        for path in tqdm(paths, unit="video", disable=len(paths) == 1):
            try:
                pictures = read_frames(path, lambda total: sample_frames(total, args.frames))
            except (OSError, ValueError) as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                continue
            video = torch.stack([preprocess(picture) for picture in pictures]).unsqueeze(0)  # [1, T, 3, H, W]
            row = classify(model, video.to(device), class_features, args.temperature)[0].cpu()
            writer.writerow([path, *(f"{p:.9g}" for p in row.tolist())])  # enough digits to read float32 back
            tqdm.write(f"{path.name}  {', '.join(guesses(row, classes))}")
            predicted += 1
            draw_strip(
                strip_path(args.out, path, predicted), pictures, [path.name, ", ".join(guesses(row, classes)[:3])]
            )
    if not predicted:
        raise ValueError(f"none of the {len(paths)} videos can be decoded")
    print(f"Wrote {table}, and the frames of {predicted} of {len(paths)} videos beside it.")


def strip_path(folder: Path, video: Path, number: int) -> Path:
    """A file for each video: those in different folders may have one name, and names a limit of 255 bytes."""
    return folder / f"{number:04} {video.stem[:60]}.png"


if __name__ == "__main__":
    run_script(main)
