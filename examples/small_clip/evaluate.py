"""Zero-shot accuracy of a CLIP on the example clips of people doing things: clean, on white, and in varied scenes.

Without options it measures the small CLIP on the clips in this repository, as its model card says.
"""

import argparse
from pathlib import Path

from examples.startup.command_line import before_imports, run_script

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default=f"local-dir:{HERE / 'emoji-vit-12x128'}", help="an open_clip name")
    parser.add_argument("--clips", type=Path, default=HERE.parent / "data", help="folder with a manifest.csv")
    parser.add_argument("--frames", type=int, default=4, help="of each clip, the centres of as many segments")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    return parser.parse_args()


if __name__ == "__main__":
    before_imports(arguments)

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from examples.data.clips import read_manifest
from examples.miniature.shots import Shots, Studio
from examples.miniature.wild import Dice
from examples.small_clip.rendering import plain
from examples.video.sampling import sample_frames
from vilt_prompt import TEMPLATE


@torch.no_grad()
def main() -> None:
    """Prints top-1 and top-5 for clean and wild clips."""
    args = arguments()
    model, _, preprocess = open_clip.create_model_and_transforms(args.model)
    model.eval()
    size = model.visual.image_size[0]
    colours = preprocess.transforms[-1]
    manifest = [clip for clip in read_manifest(args.clips) if clip.has_alpha]
    labels = sorted({clip.label for clip in manifest})
    shots = Shots.read(manifest, labels, sorted({clip.person for clip in manifest}))
    texts = open_clip.get_tokenizer(args.model)([TEMPLATE.format(label) for label in labels])
    classes = model.encode_text(texts, normalize=True)

    centres = shots.clips[:, sample_frames(shots.clips.shape[1], args.frames)]
    clean = F.interpolate(plain(centres.flatten(0, 1)), size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    videos = {
        "clean": colours(clean).unflatten(0, (len(centres), args.frames)),
        "wild": Studio(args.frames, size, colours, Dice(args.seed)).scenes(shots, repeats=1),
    }
    print(f"{len(centres)} clips of {len(labels)} actions, {args.frames} frames")
    for name, scenes in videos.items():
        features = torch.cat([encode_video(model, part) for part in tqdm(torch.split(scenes, 32), name, leave=False)])
        hits = (features @ classes.T).topk(5).indices == shots.labels.unsqueeze(1)
        print(f"{name}: top-1 {hits[:, 0].float().mean():.1%}, top-5 {hits.any(1).float().mean():.1%}")


def encode_video(model: open_clip.CLIP, videos: Tensor) -> Tensor:
    """Mean over the frames of (B, T, 3, H, W), normalised, (B, D)."""
    features: Tensor = model.encode_image(videos.flatten(0, 1)).unflatten(0, videos.shape[:2])
    return F.normalize(features.mean(1), dim=-1)


if __name__ == "__main__":
    run_script(main)
