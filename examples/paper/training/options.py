"""Command-line options that the scripts which train have in common.

Nothing slow is imported here, so that `--help` is quick.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from examples.startup.model_options import cores

METHODS = ("coop", "independent", "maple", "vilt", "vpt_deep", "vpt_shallow")  # vilt_prompt.METHODS
PRECISIONS = ("fp32", "bf16", "fp16")
# Those that may differ after a restart without changing the result.
NOT_SETTINGS = {
    *("out", "resume", "workers", "device", "save_every", "test_every", "adapter", "evaluate_before"),
    *("grad_checkpointing", "micro_batch", "frames_per_chunk"),
}


def add_training_options(parser: argparse.ArgumentParser, **presets: Any) -> None:
    """All that decides how prompts are trained; the presets are the defaults."""
    prompts = parser.add_argument_group("prompts")
    prompts.add_argument("--method", choices=METHODS, default="vilt", help="how prompts are coupled")
    prompts.add_argument("--n-ctx", type=int, help="prompt vectors in each layer")
    depth = presets["depth"] or "all"
    prompts.add_argument(
        "--depth",
        type=int,
        help=f"layers with prompts of their own (default: {depth} for vilt, for other methods their own depth)",
    )
    prompts.add_argument("--K", type=int, help="text leads in layers 1..K, vision in the rest")

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, help="times that each video is seen; 0: test the frozen model alone")
    training.add_argument("--batch", type=int, help="videos in a step, of all processes together")
    training.add_argument("--lr", type=float, help="learning rate at the start, of a cosine to 0")
    training.add_argument("--weight-decay", type=float, help="of AdamW")
    training.add_argument(
        "--flip", action="store_true", help="mirror half of the clips; not where left and right count"
    )
    training.add_argument("--precision", choices=PRECISIONS, help="default: bf16 on a GPU, fp32 on a CPU")
    training.add_argument(
        "--micro-batch",
        type=int,
        metavar="N",
        help="videos in one pass of each process; gradients are added up, so the result is that of the whole batch",
    )
    training.add_argument(
        "--frames-per-chunk",
        type=int,
        metavar="N",
        help="frames that the image encoder computes at once, in training once more for the gradients "
        "(default: all in training, 256 in tests)",
    )
    training.add_argument("--grad-checkpointing", action="store_true", help="less memory, more time")
    training.add_argument("--seed", type=int, help="of prompts, shots, order, frames and crops")

    video = parser.add_argument_group("video")
    video.add_argument("--frames", type=int, help="frames of each clip")
    video.add_argument("--stride", type=int, help="take frames this far apart (default: one of each of T segments)")
    video.add_argument("--workers", type=int, help="processes that decode videos, of each training process")

    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, required=True, help="folder for adapters, logs and the checkpoint")
    run.add_argument("--adapter", help="test this adapter, a folder or a repository of the Hub, instead of training")
    run.add_argument(
        "--evaluate-before",
        action="store_true",
        help="test the frozen model before the training, not after it",
    )
    run.add_argument("--resume", action="store_true", help="go on where a killed run stopped, if there is one in --out")
    run.add_argument("--save-every", type=int, help="steps between checkpoints; each epoch ends with one, too")
    run.add_argument("--test-every", type=int, help="epochs between tests; the last one ends with one, too")
    parser.set_defaults(
        seed=0, workers=cores(), save_every=200, test_every=5, weight_decay=1e-3, **presets | {"depth": None}
    )


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that decide the result, as plain values.

    Where files are is none of them: a run may move. Which videos they list is compared by `record.fingerprint`.
    """
    return {
        name: value
        for name, value in all_options(args).items()
        if name not in NOT_SETTINGS and not _holds_paths(getattr(args, name))
    }


def all_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns all options as plain values, paths as text."""
    plain: dict[str, Any] = json.loads(json.dumps(vars(args), default=str))
    return plain


def _holds_paths(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, list) and all(map(_holds_paths, value)))


def trains(args: argparse.Namespace) -> bool:
    """Whether a run trains prompts; else it tests an adapter, or the frozen model."""
    return args.adapter is None and args.epochs > 0


def compared_with_paper(
    args: argparse.Namespace, paper: dict[str, Any], others: dict[str, str], defaults: dict[str, Any]
) -> list[str]:
    """Says which settings are the paper's, which differ, and which the paper does not give.

    Args:
        args: The options.
        paper: Names of options and the paper's values.
        others: Names of options that the paper does not give, each with the origin of its default.
        defaults: The defaults of these options.
    """

    def shown(name: str) -> str:
        value = getattr(args, name)
        return f"{name.replace('_', '-')} {'all' if name == 'depth' and value is None else value}"

    same = [name for name, value in paper.items() if getattr(args, name) == value]
    changed = [name for name in paper if name not in same]
    lines = [f"as in the paper: {', '.join(map(shown, same)) or 'nothing'}"]
    if changed:
        values = [f"{shown(name)} (paper: {'all' if paper[name] is None else paper[name]})" for name in changed]
        lines.append(f"not as in the paper: {', '.join(values)}")
    origins = {name: why if getattr(args, name) == defaults[name] else "yours" for name, why in others.items()}
    lines.append(f"not given in the paper: {', '.join(f'{shown(name)} ({why})' for name, why in origins.items())}")
    return lines
