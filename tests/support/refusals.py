"""Calls that the library must refuse, and the proof that they change nothing.

A test module lists its refused calls in a table, `REFUSED`: for each name the call, the exact type of the error and a
pattern of its text. The fixture `refuses` makes a call with the models and files of `World`, which all tests share, and
compares every model that exists with its state before. A new refusal is one entry beside the module that refuses:

    REFUSED = {"no videos": (lambda w: w.model.encode_video(VIDEO[:0]), ValueError, "video is empty")}


    @pytest.mark.parametrize("name", REFUSED)
    def test_refused_calls(name, refuses):
        refuses(*REFUSED[name])
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from tests.support import zoo
from tests.support.architectures import build, class_ids, frames
from tests.support.state import state
from vilt_prompt import PromptConfig, unwrap, wrap

TINY = build("4/4")
IDS = class_ids(TINY, [1, 3, 2])
VIDEO = frames(TINY, 2, 3)
MASK = torch.ones(2, 3, dtype=torch.bool)
SAVED = ("adapter_config.json", "adapter_model.safetensors")


def tokenizer(texts: list[str]) -> Tensor:
    return class_ids(TINY, [2] * len(texts))


class Words:
    """A tokenizer of the tiny models' 100 ids, each of which reads as its number."""

    encoder = {f"w{i}": i for i in range(100)}

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"w{i}" for i in ids)


class UnknownTextTower(nn.Module):
    """A text tower of a class that no family owns."""


def unknown_text_tower() -> nn.Module:
    model = build("custom_text")
    model.text = UnknownTextTower()
    return model


def with_adapters() -> PeftModel:
    """One active adapter, one of the same structure, one of another."""
    model = wrap(build("4/4"), K=2, n_ctx=3).eval()
    model.add_adapter("twin", PromptConfig(K=2, n_ctx=3))
    model.add_adapter("coop", PromptConfig(method="coop", n_ctx=2))
    return model


def diverged() -> PeftModel:
    model = wrap(build("2/2"), method="coop", n_ctx=3)
    with torch.no_grad():
        model.get_base_model().prompts.vilt_text["default"].fill_(float("nan"))
    return model


def unwrapped() -> PeftModel:
    model = wrap(build("2/2"), method="coop")
    unwrap(model)
    return model


def ids(*row: int) -> Tensor:
    return torch.tensor([row])


def in_use(model: PeftModel, call: Any) -> None:
    with model.use_adapter("twin"):
        call()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "bare": lambda: build("4/4").train(),
    "compiled": lambda: torch.compile(build("2/2")),
    "equal_widths": lambda: build("equal_widths"),
    "deep": lambda: build("12/12"),
    "resnet": lambda: zoo.build("resnet"),
    "convnext": lambda: zoo.build("convnext"),
    "no_pool": lambda: zoo.build("vision_no_pool"),
    "unknown_text": unknown_text_tower,
    "scaled_cosine": lambda: zoo.build("scaled_cosine"),
    "lora": lambda: get_peft_model(build("4/4"), LoraConfig(target_modules=["c_fc"])),
    "lora_on_out_proj": lambda: get_peft_model(build("4/4"), LoraConfig(target_modules=["out_proj"])),
    "model": with_adapters,
    "alone": lambda: wrap(build("4/4"), K=2, n_ctx=3).eval(),
    "coop": lambda: wrap(build("4/4"), method="coop", n_ctx=3).eval(),
    "vpt": lambda: wrap(build("4/4"), method="vpt_deep", n_ctx=3).eval(),
    "eos": lambda: wrap(build("eos_pool"), K=2, n_ctx=3).eval(),
    "coca": lambda: wrap(zoo.build("coca"), K=2, n_ctx=3).eval(),
    "siglip": lambda: wrap(zoo.build("siglip"), K=2, n_ctx=3).eval(),
    "roberta": lambda: wrap(zoo.build("roberta"), K=2, n_ctx=3).eval(),
    "diverged": diverged,
    "unwrapped": unwrapped,
    "meta": lambda: wrap(build("2/2").to("meta"), method="coop", n_ctx=3),
}


def saved(folder: Path, name: str, **changes: Any) -> None:
    """Copies the saved adapter and changes its files: to bytes, to None (gone), or a dict of fields of the config.

    Files are named by "config", "tensors" and "pickle".
    """
    copy = folder / name
    shutil.copytree(folder / "good", copy)
    paths = {"config": copy / SAVED[0], "tensors": copy / SAVED[1], "pickle": copy / "adapter_model.bin"}
    for part, change in changes.items():
        if change is None:
            paths[part].unlink()
        elif isinstance(change, dict):
            paths[part].write_text(json.dumps({**json.loads(paths[part].read_text()), **change}))
        else:
            paths[part].write_bytes(change)


def write_files(folder: Path) -> None:
    """Adapters and checkpoints, good and damaged, each in a file or folder of its own name."""
    wrap(build("4/4"), K=2, n_ctx=3).save_pretrained(folder / "good")
    deep = wrap(build("12/12"), n_ctx=3)
    deep.peft_config["default"].base_fingerprint = None
    deep.save_pretrained(folder / "deep")
    (folder / "empty").mkdir()
    (folder / "holder").mkdir()
    shutil.copytree(folder / "good", folder / "holder" / "ucf101")
    (folder / "file").write_text("a file")
    width = 32
    checkpoints = {
        "coop": {"prompt_learner.ctx": torch.randn(4, width)},
        "wide": {"prompt_learner.ctx": torch.randn(4, 512)},
        "per_class": {"prompt_learner.ctx": torch.randn(5, 4, width)},
        "foreign": {"prompt_learner.ctx": torch.randn(4, width), "head.weight": torch.randn(2, 2)},
        "fine_tuned": {"image_encoder.conv1.weight": torch.randn(48, 3, 8, 8)},
        "cocoop": {
            "prompt_learner.meta_net.linear2.weight": torch.randn(4, 4),
            "prompt_learner.ctx": torch.randn(4, 32),
        },
        "gap": {"ctx": torch.randn(2, width), "compound_prompts_text.1": torch.randn(2, width)},
        "nan": {"prompt_learner.ctx": torch.full((4, width), float("nan"))},
        "no_tensors": {"epoch": 5},
    }
    for name, tensors in checkpoints.items():
        torch.save({"state_dict": tensors}, folder / f"{name}.pth")
    saved(folder, "damaged_config", config=b"{")
    saved(folder, "list_config", config=b"[]")
    saved(folder, "untyped_config", config=b"{}")
    saved(folder, "lora_config", config=b'{"peft_type": "LORA"}')
    saved(folder, "changed_config", config={"K": 1})
    saved(folder, "lacking_config", config=None)
    saved(folder, "damaged_tensors", tensors=b"no such thing")
    saved(folder, "no_tensors_file", tensors=None)
    saved(folder, "pickle", tensors=None, pickle=b"\x80\x04.")
    saved(folder, "disguised", tensors=b"\x80\x04.")
    content = bytearray((folder / "good" / SAVED[1]).read_bytes())
    content[-1] ^= 1
    saved(folder, "flipped_bit", tensors=bytes(content))


class World:
    """Models and files for refused calls, made when a call first needs them: `w.model`, `w.damaged_config`, `w.folder`.

    Attributes:
        models: The models that exist, by name.
        before: For each of them, a hash of everything that a refused call must leave alone.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.models: dict[str, nn.Module] = {}
        self.before: dict[str, str] = {}

    @cached_property
    def folder(self) -> Path:
        """The folder of the files; tests expect that no call makes `new` in it."""
        write_files(self.root)
        return self.root

    def __getattr__(self, name: str) -> Any:
        if name in MODELS:
            model = self.models[name] = MODELS[name]()
            self.before[name] = state(model)
            setattr(self, name, model)
            return model
        if (self.folder / name).is_dir():
            return self.folder / name
        raise AttributeError(f"no model and no folder is named {name}")

    def refuse(self, call: Callable[[World], object], error: type[Exception], message: str) -> None:
        """Asserts that the call raises exactly `error`, with a text like `message`, and changes no model.

        Raises:
            AssertionError: The call does something else.
        """
        with pytest.raises(error, match=message) as caught:
            call(self)
        assert type(caught.value) is error
        after = {name: state(model) for name, model in self.models.items()}
        before, self.before = self.before, after  # so that one call that changes a model fails alone
        assert after == before
        assert not (self.root / "new").exists()
