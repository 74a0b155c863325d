"""Command-line options that the training scripts share, and the settings that they become."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn

import vilt_prompt
from examples.paper.training.fit import PRECISIONS, Plan
from vilt_prompt import METHODS

# Those that may differ after a restart without changing the result.
NOT_SETTINGS = {"out", "resume", "workers", "device", "save_every", "test_every", "grad_checkpointing", "adapter"}


def add_training_options(parser: argparse.ArgumentParser, **presets: Any) -> None:
    """All that decides how prompts are trained; the presets are the defaults."""
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--method", choices=sorted(METHODS), default="vilt", help="how prompts are coupled")
    prompts.add_argument("--n-ctx", type=int, help="prompt vectors in each layer")
    depth = presets["depth"] or "all"
    prompts.add_argument(
        "--depth",
        type=int,
        help=f"layers with prompts of their own (default: {depth} for vilt, for other methods their own depth)",
    )
    prompts.add_argument("--K", type=int, help="text leads in layers 1..K, vision in the rest")

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, help="times that each video is seen")
    training.add_argument("--batch", type=int, help="videos in a step, of all processes together")
    training.add_argument("--lr", type=float, help="learning rate at the start, of a cosine to 0")
    training.add_argument("--weight-decay", type=float, help="of AdamW")
    training.add_argument(
        "--flip", action="store_true", help="mirror half of the clips; not where left and right count"
    )
    training.add_argument("--precision", choices=list(PRECISIONS), help="default: bf16 on a GPU, fp32 on a CPU")
    training.add_argument("--grad-checkpointing", action="store_true", help="less memory, more time")
    training.add_argument("--seed", type=int, help="of prompts, shots, order, frames and crops")

    video = parser.add_argument_group("video")
    video.add_argument("--frames", type=int, help="frames of each clip")
    video.add_argument("--stride", type=int, help="take frames this far apart (default: one of each of T segments)")
    video.add_argument("--workers", type=int, help="processes that decode videos")

    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, required=True, help="folder for adapters, logs and the checkpoint")
    run.add_argument("--adapter", help="test this adapter, a folder or a repository of the Hub, instead of training")
    run.add_argument("--resume", action="store_true", help="go on where a killed run stopped, if there is one in --out")
    run.add_argument("--save-every", type=int, help="steps between checkpoints; each epoch ends with one, too")
    run.add_argument("--test-every", type=int, help="epochs between tests; the last one ends with one, too")
    parser.set_defaults(seed=0, workers=4, save_every=200, test_every=5, weight_decay=1e-3, **presets | {"depth": None})


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the result, as plain values."""
    chosen = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS}
    plain: dict[str, Any] = json.loads(json.dumps(chosen, default=str))  # paths, also those in lists, as text
    return plain


def plan(args: argparse.Namespace, device: torch.device) -> Plan:
    """How to train, from the options."""
    least = dict.fromkeys(("epochs", "batch", "frames", "stride", "save_every", "test_every"), 1) | {"workers": 0}
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {bound}, got {value}")
    precision = args.precision or ("bf16" if device.type == "cuda" else "fp32")
    return Plan(args.epochs, args.lr, args.weight_decay, precision, device, args.save_every, args.test_every)


def prompted(clip: nn.Module, args: argparse.Namespace) -> PeftModel:
    """The model with new prompts, or with the adapter that is given."""
    if args.grad_checkpointing:
        clip.set_grad_checkpointing()
    if args.adapter is not None:
        return vilt_prompt.from_pretrained(clip, args.adapter)
    return vilt_prompt.wrap(
        clip,
        K=args.K,
        n_ctx=args.n_ctx,
        method=args.method,
        depth=args.depth,
        base_model=args.model,
        base_pretrained=args.pretrained,
    )
