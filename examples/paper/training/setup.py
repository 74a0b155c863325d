"""Turn the options of the training scripts into a plan and a model with prompts."""

import argparse

import torch

import vilt_prompt
from examples.paper.training.fit import Plan
from examples.startup.base_model import ClipModel
from examples.startup.trained import find_adapter


def plan(args: argparse.Namespace, device: torch.device) -> Plan:
    """How to train, from the options."""
    counts = ("batch", "frames", "stride", "save_every", "test_every", "micro_batch", "frames_per_chunk")
    least = dict.fromkeys(counts, 1) | {"workers": 0, "epochs": 0}
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {bound}, got {value}")
    precision = args.precision or ("bf16" if device.type == "cuda" else "fp32")
    return Plan(
        epochs=args.epochs,
        lr=args.lr,
        weight_decay=args.weight_decay,
        precision=precision,
        device=device,
        save_every=args.save_every,
        test_every=args.test_every,
        micro_batch=args.micro_batch,
        frames_per_chunk=args.frames_per_chunk,
    )


def prompted(clip: ClipModel, args: argparse.Namespace) -> vilt_prompt.PromptPeftModel:
    """The model with new prompts, or with the adapter that is given."""
    if args.grad_checkpointing:
        clip.set_grad_checkpointing()
    if args.adapter is not None:
        return vilt_prompt.from_pretrained(clip, find_adapter(args.adapter))
    return vilt_prompt.wrap(
        clip,
        K=args.K,
        n_ctx=args.n_ctx,
        method=args.method,
        depth=args.depth,
        base_model=args.model,
        base_pretrained=args.pretrained,
    )
