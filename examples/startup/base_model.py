"""The open_clip model that a script works on."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import open_clip
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose

from vilt_prompt.sharing.activation import check_activation_by_name

ClipModel: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP
Tokenizer = Callable[..., Tensor]
Preprocess = Callable[[Image.Image], Tensor]


def load_clip(model: str, pretrained: str | None, device: torch.device) -> tuple[ClipModel, Compose, Tokenizer]:
    """Loads an open_clip model with its preprocessing of pictures, whose last step is colours, and its tokenizer.

    Raises:
        ValueError: If open_clip has no such model, cannot load it, or would build it with another activation than its
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
