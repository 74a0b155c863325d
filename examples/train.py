"""Trains prompts on a folder of videos, with a folder for each class, and saves them as an adapter.

  python -m examples.train videos --out riding                     # videos/riding_a_horse/a.mp4, videos/surfing/b.mp4
  python -m examples.train videos --validate other_videos --out riding

Copy this file and change it as you like. It needs only the packages vilt_prompt, av and tqdm. To use the adapter, call
`vilt_prompt.create_model_and_transforms("riding")`, or run examples/predict.py.
"""

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("videos", type=Path, help="folder that has a folder of videos for each class, with the name of the class")
    add("--validate", type=Path, metavar="FOLDER", help="such a folder to validate on (default: a fifth is held out)")
    add("--out", type=Path, default=Path("adapter"), help="folder to save the adapter to (default: %(default)s)")
    model = "an open_clip name, or local-dir:FOLDER, or hf-hub:REPOSITORY (default: %(default)s)"
    add("--model", default="ViT-B-16-quickgelu", help=model)
    add("--pretrained", help="weights of --model (default: openai); local-dir: and hf-hub: bring their own")
    add("--device", help="such as cpu or cuda (default: a GPU where there is one)")
    add("--frames", type=int, default=8, help="frames of each video (default: %(default)s)")
    add("--batch", type=int, default=8, help="videos in each training step (default: %(default)s)")
    add("--epochs", type=int, default=10, help="passes over the training videos (default: %(default)s)")
    add("--lr", type=float, default=8e-3, help="learning rate at the start, which falls to 0 (default: %(default)s)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add("--workers", type=int, default=cores, help="decoding processes; 0: only this one (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    arguments()  # Before the imports that take seconds: --help and wrong options are answered at once.

import av
import open_clip
import torch
from av.stream import Disposition
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt

SUFFIXES = {".3gp", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
IGNORED = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}
Files = list[tuple[Path, int]]  # videos, each with the number of its class


class Videos(Dataset[tuple[Tensor, int]]):
    """Videos (T, 3, H, W) with labels. Each of T equal segments gives one frame: a random one, or the middle one."""

    def __init__(self, files: Files, preprocess: Callable[..., Tensor], frames: int, is_random: bool) -> None:
        self.files, self.preprocess, self.frames, self.is_random = files, preprocess, frames, is_random

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.files[index]
        within = torch.rand(self.frames) if self.is_random else torch.full((self.frames,), 0.5)  # 0: start of a segment
        pictures = {}
        try:
            with av.open(file) as container:
                # Music may have a picture, too: its cover.
                streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
                stream = streams[0].index
                # Headers only estimate the number of frames. To count the packets takes no decoding.
                total = sum(packet.size > 0 for packet in container.demux(streams[0]))
            chosen = ((torch.arange(self.frames) + within) * total / self.frames).long().tolist()
            with av.open(file) as container:
                for number, frame in enumerate(itertools.islice(container.decode(stream), chosen[-1] + 1)):
                    if number in chosen:
                        pictures[number] = self.preprocess(frame.to_image().rotate(frame.rotation, expand=True))
            last = max(pictures)  # A damaged video ends early. Its last picture stands in for the missing ones.
        except (av.FFmpegError, IndexError, ValueError) as error:
            raise ValueError(f"{file} cannot be decoded as a video: convert or remove it") from error
        return torch.stack([pictures[min(number, last)] for number in chosen]), label


def is_ignored(name: str) -> bool:
    """Whether a file or folder belongs to an operating system or an editor, such as `.DS_Store` or `__MACOSX`."""
    return name.startswith(".") or name.lower() in IGNORED


def find_videos(folder: Path) -> tuple[list[str], Files]:
    """The classes, which are the names of the folders in `folder`, and the videos in these folders."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one that has a folder of videos for each class")
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_ignored(path.name))
    if {"train", "test"} <= {*classes}:
        raise ValueError(f"{folder} holds train and test: use {folder / 'train'} --validate {folder / 'test'}")
    if len(classes) < 2:
        expected = f"{folder} must have a folder for each of 2 or more classes, such as {folder / 'swimming' / 'a.mp4'}"
        raise ValueError(f"{expected}, got {classes or 'no folders'}")
    every: Files = []
    for label, name in enumerate(classes):
        paths = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
        every += [(path, label) for path in paths if not any(map(is_ignored, path.relative_to(folder).parts))]
    files = [(path, label) for path, label in every if path.suffix.lower() in SUFFIXES]
    if len(files) < len(every):
        print(f"{len(every) - len(files)} of {len(every)} files in {folder} are not videos: they are left out")
    if empty := sorted({*classes} - {classes[label] for _, label in files}):
        raise ValueError(f"{folder} has folders without videos, {empty}: add videos or remove these folders")
    return classes, files


def hold_out(files: Files) -> tuple[Files, Files]:
    """Splits the videos into training and validation: a random fifth of each class, at least one video."""
    held_out: set[tuple[Path, int]] = set()
    for label in sorted({label for _, label in files}):
        own = [file for file in files if file[1] == label]
        if len(own) == 1:
            raise ValueError(f"{own[0][0]} is alone in its class: add another video, or give others with --validate")
        held_out |= {own[number] for number in torch.randperm(len(own))[: max(1, len(own) // 5)]}
    return [file for file in files if file not in held_out], [file for file in files if file in held_out]


def in_words(folder: str) -> str:
    """The name of a class: "HorseRiding" and "horse_riding" become "horse riding", "BMXRiding" becomes "bmx riding"."""
    words = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})", " ", folder)
    return " ".join(words.replace("_", " ").lower().split())


def read_data(args: argparse.Namespace) -> tuple[list[str], Files, Files]:
    """The names of the classes, the videos to train on, and the videos to validate on."""
    folders, train = find_videos(args.videos)
    if args.validate:
        others, validation = find_videos(args.validate)
        if others != folders:
            raise ValueError(f"{args.validate} must hold the folders {folders}, got {others}")
    else:
        train, validation = hold_out(train)
    names = [in_words(folder) for folder in folders]
    if len({*names}) < len(names):
        raise ValueError(f"two of the folders {folders} have the same name in plain words")
    print(f"{len(names)} classes, {len(train)} videos to train on, {len(validation)} to validate")
    return names, train, validation


@torch.no_grad()
def accuracy(model: vilt_prompt.PromptPeftModel, loader: DataLoader[tuple[Tensor, int]], classes: Tensor) -> float:
    """The percentage of videos that are nearest to their own class, among its text features `classes` (C, D)."""
    right = []
    for videos, labels in tqdm(loader, desc="validation", unit="batch", leave=False):
        features = model.encode_video(videos.to(classes.device), normalize=True)
        right.append((features @ classes.T).argmax(dim=-1).cpu() == labels)
    return 100 * torch.cat(right).float().mean().item()


def main() -> None:
    """Trains, validates after each epoch, and saves."""
    args = arguments()
    if (args.out / "adapter_config.json").exists():
        raise ValueError(f"{args.out} holds an adapter already: choose another --out")
    if min(args.frames, args.batch, args.epochs) < 1:
        raise ValueError("--frames, --batch and --epochs must be at least 1")
    if ":" in args.model and args.pretrained:
        raise ValueError(f"{args.model} brings its own weights: leave out --pretrained")
    pretrained = None if ":" in args.model else args.pretrained or "openai"
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)  # for the prompts, and the choice and order of videos and frames
    names, train_files, validation_files = read_data(args)
    try:
        clip, _, preprocess = open_clip.create_model_and_transforms(args.model, pretrained=pretrained, device=device)
    except RuntimeError as error:
        raise ValueError(f"open_clip cannot load {args.model}: {error}") from error
    model = vilt_prompt.wrap(clip, K=6, n_ctx=10, base_model=args.model, base_pretrained=pretrained)
    # Persistent workers are started once, not in each epoch.
    options = {"batch_size": args.batch, "num_workers": args.workers, "persistent_workers": args.workers > 0}
    train = DataLoader(Videos(train_files, preprocess, args.frames, is_random=True), shuffle=True, **options)
    validation = DataLoader(Videos(validation_files, preprocess, args.frames, is_random=False), **options)

    # Zero-shot is frozen CLIP with "a video of a person doing {}."; the loss keeps prompted texts near its features.
    tokenizer = open_clip.get_tokenizer(args.model)
    criterion = vilt_prompt.ScenarioGuidedLoss.for_classes(model, tokenizer, names)
    with model.eval().disable_adapter():
        score = accuracy(model, validation, criterion.scenario_features)
    of_all = f"of the {len(validation_files)} validation videos right"
    print(f"zero-shot: {score:.1f}% {of_all}")
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(train))
    tokens = tokenizer(names).to(device)
    for epoch in range(1, args.epochs + 1):
        model.train()
        losses = []
        for videos, labels in tqdm(train, desc=f"epoch {epoch} of {args.epochs}", unit="batch", leave=False):
            loss = criterion(model.encode_video(videos.to(device)), model.encode_text(tokens), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        with torch.no_grad():
            classes = model.eval().encode_text(tokens, normalize=True)
        score = accuracy(model, validation, classes)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}, {score:.1f}% {of_all}")

    # Others need the names and the template to run the adapter.
    metrics = {f"top-1 accuracy in % on {len(validation_files)} validation videos": score}
    model.save_pretrained(args.out, class_names=names, template=vilt_prompt.TEMPLATE, metrics=metrics)
    settings = {"frames": args.frames, "temperature": criterion.temperature}  # predict.py takes them over
    (args.out / "training.json").write_text(json.dumps(settings))
    print(f"saved to the folder {args.out}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("train.py: stopped", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        # From a process of the loader, the text of the error is a traceback that ends with the message.
        message = " ".join(str(error).rpartition("ValueError: ")[2].split())
        sys.exit(f"train.py: error: {message}")
