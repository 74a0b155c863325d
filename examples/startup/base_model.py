"""The open_clip model that a script works on."""

import argparse
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from PIL import Image
from torch import Tensor, nn

from vilt_prompt.sharing.activation import check_activation_by_name

SMALL_CLIP = Path(__file__).parents[1] / "small_clip" / "emoji-vit-12x128"
Tokenizer = Callable[..., Tensor]
Preprocess = Callable[[Image.Image], Tensor]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """`--model`, `--pretrained`, `--device`."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="ViT-B-16-quickgelu",
        help="a name of open_clip, local-dir:FOLDER or hf-hub:REPOSITORY (default: %(default)s)",
    )
    group.add_argument("--pretrained", help='its weights, such as "openai"; local-dir: and hf-hub: bring their own')
    group.add_argument("--device", help="cpu or cuda (default: a GPU where there is one)")


def load_clip(model: str, pretrained: str | None, device: torch.device) -> tuple[nn.Module, Preprocess, Tokenizer]:
    """The open_clip model, its transform of pictures, and its tokenizer.

    Raises:
        ValueError: open_clip has no such model, cannot load it, or would build it with another activation than its
            weights need.
    """
    kind, _, folder = model.partition(":")
    if kind == "local-dir" and not (Path(folder) / "open_clip_config.json").is_file():
        raise ValueError(f"{folder} is not a folder of an open_clip model: it has no open_clip_config.json")
    if not folder and model not in open_clip.list_models():
        raise ValueError(f"open_clip has no model {model!r}: see open_clip.list_models(), or give local-dir:FOLDER")
    if not folder and pretrained is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(f"{model} needs --pretrained, a file or one of: {tags}")
    check_activation_by_name(model, pretrained)
    try:
        clip, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # open_clip and the Hub raise many kinds.
        raise ValueError(f"open_clip cannot load {model} {pretrained or ''}: {error}") from error
    return clip, preprocess, tokenizer
