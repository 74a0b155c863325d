"""Names what happens in video files, with prompts that `save_pretrained` wrote.

Example:
    python examples/classify.py a.mp4 b.mp4 --adapter quickstart-out/adapter --classes running swimming juggling
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
from clips import read_video
from peft import PeftModel
from PIL import Image
from torch import Tensor

import vilt_prompt

MODEL = Path(__file__).parent / "small_clip" / "emoji-vit-12x128"


def load_videos(paths: Sequence[Path], frames: int, preprocess: Callable[[Image.Image], Tensor]) -> Tensor:
    """Decodes the centre frames of video files, ready for the model, (B, T, 3, H, W)."""
    return torch.stack([torch.stack([preprocess(frame) for frame in read_video(path, frames)]) for path in paths])


@torch.no_grad()
def classify(model: PeftModel, videos: Tensor, class_tokens: Tensor, temperature: float = 0.07) -> Tensor:
    """Probabilities of C classes for B videos, (B, C).

    Args:
        model: What `wrap` or `from_pretrained` returned.
        videos: Preprocessed frames, (B, T, 3, H, W).
        class_tokens: Token ids of the class names, (C, L).
        temperature: As in training.
    """
    video_features = model.encode_video(videos, normalize=True)
    class_features = model.encode_text(class_tokens, normalize=True)
    return (video_features @ class_features.T / temperature).softmax(-1)


def check_folder(folder: Path, needed: str, what: str) -> None:
    """Ends the program with one line if a folder lacks a file that tells it is the right one."""
    if not (folder / needed).is_file():
        sys.exit(f"{Path(sys.argv[0]).name}: error: {folder} is no folder of {what}: it holds no {needed}.")


def main() -> None:
    """Prints the most likely classes of each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="files that FFmpeg can decode")
    parser.add_argument("--classes", nargs="+", required=True, metavar="NAME", help="what may happen in them")
    parser.add_argument("--adapter", type=Path, required=True, help="folder that save_pretrained wrote")
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="folder of the open_clip model (default: %(default)s)"
    )
    parser.add_argument("--frames", type=int, default=4, help="frames of each video (default: %(default)s)")
    parser.add_argument(
        "--save", type=Path, help="also write the probabilities, a (videos, classes) tensor, to this file"
    )
    args = parser.parse_args()
    check_folder(args.model, "open_clip_config.json", "an open_clip model")
    check_folder(args.adapter, "adapter_config.json", "an adapter")

    name = f"local-dir:{args.model}"
    clip, _, preprocess = open_clip.create_model_and_transforms(name)
    try:
        model = vilt_prompt.from_pretrained(clip, args.adapter)
        videos = load_videos(args.videos, args.frames, preprocess)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"classify.py: error: {error}")
    probabilities = classify(model, videos, open_clip.get_tokenizer(name)(args.classes))

    width = max(len(path.name) for path in args.videos)
    for path, row in zip(args.videos, probabilities, strict=True):
        best = row.topk(min(3, len(args.classes)))
        guesses = [
            f"{args.classes[c]} {p:.0%}" for p, c in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        print(f"{path.name:{width}}  {', '.join(guesses)}")
    if args.save:
        torch.save(probabilities, args.save)


if __name__ == "__main__":
    main()
