"""Adapters on disk: how tests write them, change them, and see that every way of loading refuses them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import peft
import pytest
import torch
from packaging.version import Version
from peft import PeftModel

import vilt_prompt
from tests.support.architectures import build, class_ids, frames

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
IDS = class_ids(build("4/4"), [1, 3, 2])
IMAGES = frames(build("4/4"), 2)


def wrapped(seed: int = 0, **settings) -> PeftModel:
    base = build("4/4")
    torch.manual_seed(seed)
    return vilt_prompt.wrap(base, **{"K": 2, "n_ctx": 3, **settings}).eval()


def features(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model.encode_text(IDS), model.encode_image(IMAGES)])


def rewrite_config(folder: Path, **changes) -> None:
    path = folder / CONFIG
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


def save_by_peft_alone(model: PeftModel, folder: Path) -> None:
    """PEFT's own saving, which knows nothing of what our files hold beside the tensors. Skips where PEFT cannot."""
    if Version(peft.__version__) < Version("0.21"):
        pytest.skip("PEFT's own saving of prompts needs peft 0.21")
    PeftModel.save_pretrained(model, str(folder))


def refused(folder: Path, message: str) -> None:
    """That a folder is refused with a message, quickly, by every way of loading, and that no model changes."""
    started = time.process_time()
    base = build("4/4")
    with pytest.raises(ValueError, match=message):
        vilt_prompt.from_pretrained(base, folder)
    assert type(base) is type(build("4/4"))
    model = wrapped(seed=5)
    before = features(model)
    with pytest.raises(ValueError, match=message):
        model.load_adapter(str(folder), "other")
    with pytest.raises(ValueError, match=message):
        model.load_adapter(str(folder), "default")
    assert list(model.peft_config) == ["default"]
    assert torch.equal(features(model), before)
    assert time.process_time() - started < 5
