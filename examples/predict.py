"""Names what happens in a video file, or in all of a folder, with your own class names and a trained adapter.

Prints the most likely classes, and writes a table of all probabilities and a picture of the frames for each video.

Examples:
  python -m examples.predict my_video.mp4 --adapter runs/ucf101-16 --classes "riding a horse" surfing archery
  python -m examples.predict folder_of_videos --adapter someone/ucf101-16shot --class-file names.txt
"""

import argparse
from pathlib import Path

from examples.startup.command_line import before_imports, run_script
from examples.startup.model_options import check_temperature, check_weight, is_temperature, number_or_model

SHOWN = 5
FRAMES = 8


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("videos", type=Path, nargs="+", metavar="VIDEO", help="files that FFmpeg can decode, or folders")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        "--classes", nargs="+", metavar="NAME", help="what may happen in them (default: the classes of the training)"
    )
    classes.add_argument(
        "--class-file",
        type=Path,
        metavar="FILE",
        help="the same: one name a line, rows id,name, lines `1 Name`, or JSON, as for training",
    )
    add("--adapter", required=True, help="folder of a run or of save_pretrained, or a repository of the Hub")
    add("--model", help="the open_clip model, where it is not the one that the adapter names")
    add("--pretrained", help="its weights, where the adapter does not name them")
    add("--device", help="cpu or cuda (default: a GPU where there is one)")
    add("--frames", type=int, help=f"frames of each video (default: as in training, or {FRAMES} if that is unknown)")
    add(
        "--temperature",
        type=number_or_model,
        help="divides the cosines: a number, or `model` (default: as in training, or `model` if unknown)",
    )
    add(
        "--frozen-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="share of the frozen model: scores are (1 - W) * prompted + W * frozen (default: %(default)s)",
    )
    add("--out", type=Path, default=Path("predictions"), help="folder for the results (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    before_imports(arguments)

import csv
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt
from examples.paper.lists.names_files import read_names
from examples.startup import ranks
from examples.startup.base_model import Preprocess, load_clip
from examples.startup.trained import base_of, find_adapter, training_settings
from examples.video.class_names import clean_names
from examples.video.decoding import find_videos, read_frames, read_video
from examples.video.sampling import sample_frames
from examples.video.strip import draw_strip


def load_videos(paths: Sequence[Path], frames: int, preprocess: Preprocess) -> Tensor:
    """Decodes the centre frames of video files, ready for the model, (B, T, 3, H, W)."""
    videos = [read_frames(path, lambda total: sample_frames(total, frames)) for path in paths]
    return torch.stack([torch.stack([preprocess(frame) for frame in video]) for video in videos])


@torch.no_grad()
def classify(
    model: vilt_prompt.PromptPeftModel,
    videos: Tensor,
    class_features: Tensor,
    temperature: float | None = None,
    frozen_class_features: Tensor | None = None,
    weight: float = 0.0,
) -> Tensor:
    """Returns the probabilities of C classes for B videos, (B, C).

    Args:
        model: A wrapped model.
        videos: Preprocessed frames, (B, T, 3, H, W).
        class_features: The model's normalised features of the class names, (C, D).
        temperature: Divides the cosines. None: the model's own, `1 / logit_scale.exp()`.
        frozen_class_features: Normalised features of the frozen model, from `scenario_features`, (C, D). None: the
            frozen model is not used.
        weight: W, the share of the frozen model: cosines are `(1 - W) * prompted + W * frozen`.
    """
    cosines = model.encode_video(videos, normalize=True) @ class_features.T  # [B, C]
    if frozen_class_features is not None:
        with model.disable_adapter():
            frozen = model.encode_video(videos, normalize=True) @ frozen_class_features.T  # [B, C]
        cosines = (1 - weight) * cosines + weight * frozen
    logits = cosines * model.logit_scale.exp() if temperature is None else cosines / temperature
    return logits.softmax(-1)


def class_names(args: argparse.Namespace, config: vilt_prompt.PromptConfig) -> tuple[list[str], list[str]]:
    """Returns the class names as they were given, and as the model reads them: cleaned as in training.

    Raises:
        ValueError: If no names are given, or the model reads two of them as the same text.
    """
    if args.classes is None and args.class_file is None:
        recorded = config.class_names
        if not recorded:
            raise ValueError("the adapter does not record the classes of its training: add --classes or --class-file")
        print(f"the classes are the {len(recorded)} of the training", file=sys.stderr)
        return list(recorded), list(recorded)
    given = list(read_names(args.class_file).names.values()) if args.class_file else list(args.classes)
    return given, clean_names(given)


def load_model(
    args: argparse.Namespace, config: vilt_prompt.PromptConfig, device: torch.device
) -> tuple[vilt_prompt.PromptPeftModel, Preprocess, Callable[..., Tensor]]:
    """Loads the adapter onto the model that it names, or onto the one that is given."""
    name, pretrained = base_of(args.adapter, config, args.model, args.pretrained)
    clip, preprocess, tokenizer = load_clip(name, pretrained, device)
    return vilt_prompt.from_pretrained(clip, args.adapter).to(device), preprocess, tokenizer


def as_in_training(args: argparse.Namespace) -> None:
    """Fills in the frames and the temperature, and prints where they come from.

    Raises:
        ValueError: If the adapter records a value that is not possible.
    """
    known = training_settings(args.adapter)
    for name, usual in (("frames", FRAMES), ("temperature", "model")):
        if getattr(args, name) is not None:
            continue
        value = known.get(name, usual)
        is_possible = is_temperature(value) if name == "temperature" else isinstance(value, int) and value >= 1
        if not is_possible:
            raise ValueError(f"the training.json of {args.adapter} has {name} {value!r}: set it with --{name}")
        setattr(args, name, value)
        shown = "the model's own" if value == "model" else f"{value:g}"
        where = "as in training" if name in known else "default: not found in training.json"
        print(f"{name}: {shown} ({where})", file=sys.stderr)


def guesses(row: Tensor, classes: Sequence[str]) -> list[str]:
    """Returns the most likely classes of one video, with their probabilities."""
    best = row.topk(min(SHOWN, len(classes)))
    return [f"{classes[c]} {p:.0%}" for p, c in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def strip_path(folder: Path, video: Path, number: int) -> Path:
    """Returns a file for a video's picture: videos may share a name, and names have a limit of 255 bytes."""
    return folder / f"{number:04} {video.stem[:60]}.png"


def remove_old_strips(folder: Path, table: Path) -> None:
    """Remove the pictures that an earlier call left in a folder, one for each video in its table."""
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        videos = [row[0] for row in list(csv.reader(lines))[1:] if row]
    for number, video in enumerate(videos, 1):
        strip_path(folder, Path(video), number).unlink(missing_ok=True)


def main() -> None:
    """Prints the most likely classes of each video, and writes the rest to files."""
    args = arguments()
    if args.frames is not None and args.frames < 1:
        raise ValueError(f"--frames must be at least 1, got {args.frames}")
    if args.temperature is not None:
        check_temperature(args.temperature)
    check_weight(args.frozen_weight)
    paths = [file for path in args.videos for file in find_videos(path)]
    device = ranks.start(args.device)
    args.adapter = find_adapter(args.adapter)
    config = vilt_prompt.PromptConfig.from_pretrained(args.adapter)
    shown, read = class_names(args, config)
    as_in_training(args)
    model, preprocess, tokenizer = load_model(args, config, device)
    temperature = None if args.temperature == "model" else args.temperature
    with torch.no_grad():
        class_features = model.encode_text(tokenizer(read).to(device), normalize=True)
    template = config.template or vilt_prompt.TEMPLATE
    frozen = None if args.frozen_weight == 0 else vilt_prompt.scenario_features(model, tokenizer, read, template)
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "probabilities.csv"
    remove_old_strips(args.out, table)
    predicted, missing = 0, ""
    with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as lines:
        writer = csv.writer(lines)
        writer.writerow(["video", *shown])
        for path in tqdm(paths, unit="video", disable=len(paths) == 1):
            try:
                pictures, damage = read_video(path, lambda total: sample_frames(total, args.frames))
            except (OSError, ValueError) as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                continue
            if damage is not None:
                tqdm.write(f"used without its damaged part: {damage}", file=sys.stderr)
            video = torch.stack([preprocess(picture) for picture in pictures]).unsqueeze(0)  # [1, T, 3, H, W]
            row = classify(model, video.to(device), class_features, temperature, frozen, args.frozen_weight)[0].cpu()
            writer.writerow([path, *(f"{p:.9g}" for p in row.tolist())])  # enough digits to read float32 back
            lines.flush()  # The table names all pictures, also where the script is stopped.
            tqdm.write(f"{path.name}  {', '.join(guesses(row, shown))}")
            predicted += 1
            caption = [path.name, ", ".join(guesses(row, shown)[:3])]
            missing += draw_strip(strip_path(args.out, path, predicted), pictures, caption)
    if not predicted:
        raise ValueError(f"none of the {len(paths)} videos can be decoded")
    if missing:
        characters = "".join(dict.fromkeys(missing))
        print(f"no font here has {characters}: the pictures show escapes, the table is complete", file=sys.stderr)
    print(f"Classified {predicted} of {len(paths)} videos. Wrote {table} and a picture of each in the same folder.")


if __name__ == "__main__":
    run_script(main)
