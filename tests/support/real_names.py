"""Real names and tags of open_clip around small models. Downloads give a random checkpoint of the right shapes.

The checkpoints are like the real ones where random weights usually are not: half precision, and a logit scale of 100.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import open_clip
import pytest
import torch

LOGIT_SCALE = math.log(100)
# The sizes that are reduced in a model; image size, patches, context length, vocabulary and masks stay as they are.
SMALL_VISION = {"layers": 2, "width": 64}
SMALL_TEXT = {"layers": 2, "width": 64, "heads": 1}


@contextlib.contextmanager
def small_models(folder: Path, names: Iterable[str], layers: int = 2) -> Iterator[None]:
    """Lets open_clip build small models under these names, and load random weights for any tag of them."""
    configs = open_clip.factory._MODEL_CONFIGS
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            full = configs[name]
            vision = {**full["vision_cfg"], **SMALL_VISION, "layers": layers}
            text = {**full["text_cfg"], **SMALL_TEXT, "layers": layers}
            small = {**full, "embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
            patch.setitem(configs, name, small)
        repositories = {}
        for name in names:
            for tag in open_clip.list_pretrained_tags_by_model(name):
                repositories[open_clip.get_pretrained_cfg(name, tag)["hf_hub"]] = name

        def download(pretrained_cfg: dict, **_: object) -> str:
            return str(_checkpoint(folder, repositories[pretrained_cfg["hf_hub"]]))

        patch.setattr(open_clip.factory, "download_pretrained", download)
        yield


def _checkpoint(folder: Path, name: str) -> Path:
    path = folder / f"{name}.pt"
    if not path.exists():
        torch.manual_seed(0)
        model = open_clip.create_model(name)
        with torch.no_grad():
            model.logit_scale.fill_(LOGIT_SCALE)
        torch.save({key: tensor.half() for key, tensor in model.state_dict().items()}, path)
    return path
