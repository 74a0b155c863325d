"""Zero-shot accuracy of a small CLIP on animated clips of people doing things, clean and wild.

The folder holds `manifest.csv` (alpha, label) and RGBA animated WebP files. "Clean" composes them onto white; "wild"
gives each clip its own scale (0.7-1.4), rotation (20 degrees either way), shift (a quarter of the frame), mirroring,
background (solid, gradient or low-frequency noise), moving camera and moving occluder, all from a seed.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image, ImageSequence
from rendering import affine_grid, backgrounds, occluders, plain, premultiply, uniform
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

TEMPLATE = "a video of a person doing {}."


def load_clip(path: Path, frames: int, size: int) -> Tensor:
    """Reads the centres of equal segments of an animated WebP, RGBA uint8 (T, 4, size, size)."""
    with Image.open(path) as file:
        pictures = [frame.convert("RGBA") for frame in ImageSequence.Iterator(file)]
    centres = [int((index + 0.5) * len(pictures) / frames) for index in range(frames)]
    resized = [pictures[index].resize((size, size), Image.Resampling.BICUBIC) for index in centres]
    return torch.stack([torch.from_numpy(np.array(frame)).permute(2, 0, 1) for frame in resized])


def wild(clip: Tensor, seed: int) -> Tensor:
    """Composes RGBA uint8 frames (T, 4, H, H) into a scene, (T, 3, H, H) in 0..1; the same for the same seed."""
    frames, _, _, size = clip.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pictures = premultiply(clip)
        time = torch.linspace(-0.5, 0.5, frames).unsqueeze(1)  # (T, 1)
        camera = time * torch.empty(1, 2).uniform_(-0.2, 0.2)  # (T, 2), parts of the frame
        every = torch.ones(frames)
        grid = affine_grid(
            every * torch.empty(()).uniform_(0.7, 1.4),
            every * torch.empty(()).uniform_(-20, 20),
            torch.empty(1, 2).uniform_(-0.25, 0.25) + camera,
            every * (torch.randint(2, ()) * 2 - 1),
            size,
        )
        pictures = F.grid_sample(pictures, grid, align_corners=False)
        # A background larger than the frame, so that the camera can move over it.
        backdrop = backgrounds(1, size + size // 4, uniform(1, 0, 1, pictures)).expand(frames, -1, -1, -1)
        window = affine_grid(every * 1.25, every * 0, camera, every, size)
        scene = pictures[:, :3] + (1 - pictures[:, 3:]) * F.grid_sample(backdrop, window, align_corners=False)
        centre = torch.empty(1, 2).uniform_(-0.8, 0.8) + time * torch.empty(1, 2).uniform_(-1, 1)
        extent = torch.empty(1, 2).uniform_(0.1, 0.3)
        turned = every * torch.empty(()).uniform_(0, 180)
        mask = occluders(centre, extent.expand(frames, -1), turned, torch.randint(2, (1,)).bool().expand(frames), size)
        return (scene + mask * (torch.rand(1, 3, 1, 1) - scene)).clamp(0, 1)


@torch.no_grad()
def main() -> None:
    """Prints top-1 and top-5 for clean and wild clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an open_clip name, such as local-dir:examples/small_clip/emoji-vit-12x128")
    parser.add_argument("clips", type=Path, help="folder of manifest.csv and the files it names")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    model, _, preprocess = open_clip.create_model_and_transforms(args.model)
    model.eval()
    tokenizer = open_clip.get_tokenizer(args.model)
    size = model.visual.image_size[0]
    normalise = preprocess.transforms[-1]

    with open(args.clips / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    truth = torch.tensor([labels.index(row["label"]) for row in rows])
    classes = F.normalize(model.encode_text(tokenizer([TEMPLATE.format(label) for label in labels])), dim=-1)

    features: dict[str, list[Tensor]] = {"clean": [], "wild": []}
    for number, row in enumerate(tqdm(rows, desc="clips")):
        clip = load_clip(args.clips / row["alpha"], args.frames, size)
        for name, images in (("clean", plain(clip)), ("wild", wild(clip, args.seed * len(rows) + number))):
            frames = F.normalize(model.encode_image(normalise(images)), dim=-1)  # (T, D)
            features[name].append(F.normalize(frames.mean(0), dim=-1))
    for name, videos in features.items():
        ranking = (torch.stack(videos) @ classes.T).topk(5).indices  # (videos, 5)
        hits = ranking == truth.unsqueeze(1)
        print(f"{name}: top-1 {hits[:, 0].float().mean():.1%}, top-5 {hits.any(1).float().mean():.1%}")


if __name__ == "__main__":
    main()
