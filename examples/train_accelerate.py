"""Trains prompts with Hugging Face Accelerate, in one process or several, on CPUs or GPUs.

Example:
    accelerate launch --cpu --num-processes 2 -m examples.train_accelerate --steps 20
"""

from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

from examples.startup.launched import read_options

ADAPTER = "the folder of an adapter"
arguments = partial(read_options, __doc__, "accelerate-out", ADAPTER, "--batch", 5, "videos at once in each process")
if __name__ == "__main__":
    arguments()  # Before the imports that take seconds: --help and wrong options are answered at once.

import open_clip
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

import vilt_prompt
from examples.data.clips import read_manifest
from examples.startup.model_options import SMALL_CLIP
from examples.video.dataset import VideoDataset


def main() -> None:
    """Trains on two kinds of person, tests on the third, and saves the prompts once."""
    args = arguments()
    # Left to itself, Accelerate takes no notice of torchrun where there is no GPU, and each process trains alone; and
    # it takes one step of the schedule for each process.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), step_scheduler_with_optimizer=False)
    set_seed(0)

    name = f"local-dir:{SMALL_CLIP}"
    clip, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    manifest = read_manifest(Path(__file__).parent / "data")
    classes = sorted({row.label for row in manifest if row.split == "base"})
    train = DataLoader(VideoDataset(manifest, classes, ["man", "woman"], preprocess, random=True), args.batch, True)
    test = DataLoader(VideoDataset(manifest, classes, ["person"], preprocess), args.batch)

    if args.resume:
        model = vilt_prompt.from_pretrained(clip, args.resume, is_trainable=True)
    else:
        model = vilt_prompt.wrap(clip, K=6, n_ctx=10, base_model=name)
    criterion = vilt_prompt.ScenarioGuidedLoss.for_classes(model, tokenizer, classes).to(accelerator.device)
    tokens = tokenizer(classes).to(accelerator.device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    model, optimizer, train, test = accelerator.prepare(model, optimizer, train, test)

    batches = chain.from_iterable(repeat(train))  # one epoch after the other
    for step, (videos, labels) in enumerate(islice(batches, args.steps), start=1):
        video_features, class_features, _ = model(videos, tokens)  # what DDP calls; model.module.encode_video is not
        loss = criterion(video_features, class_features, labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
        accelerator.print(f"step {step}: loss {loss.item():.3f}")

    right = []
    with torch.no_grad():
        for videos, labels in test:
            video_features, class_features, _ = model(videos, tokens)
            right.append(accelerator.gather_for_metrics((video_features @ class_features.T).argmax(-1) == labels))
    accelerator.print(f"{int(torch.cat(right).sum())} of {len(torch.cat(right))} test videos right")
    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(model)
        trained.save_pretrained(args.out, class_names=classes, template=vilt_prompt.TEMPLATE)
    accelerator.end_training()


if __name__ == "__main__":
    main()
