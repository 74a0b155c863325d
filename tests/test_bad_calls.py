"""Calls that cannot be carried out, over the whole public API, in one table.

Each is a clear ValueError or TypeError that says what was given, what was expected and what to do, and leaves every
model and every adapter as it was.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from tests.support import zoo
from tests.support.architectures import END, START, VOCABULARY, build, class_ids, frames
from tests.support.state import state
from vilt_prompt import (
    PromptConfig,
    ScenarioGuidedLoss,
    convert,
    create_model_and_transforms,
    describe,
    from_pretrained,
    nearest_tokens,
    protocols,
    push_to_hub,
    scenario_features,
    scenario_loss,
    unwrap,
    wrap,
)

TINY = build("4/4")
IDS = class_ids(TINY, [1, 3, 2])
VIDEO = frames(TINY, 2, 3)
MASK = torch.ones(2, 3, dtype=torch.bool)
SAVED = ("adapter_config.json", "adapter_model.safetensors")


def tokenizer(texts: list[str]) -> Tensor:
    return class_ids(TINY, [2] * len(texts))


class Words:
    """A tokenizer that decodes the ids of the tiny models."""

    def decode(self, ids: list[int]) -> str:
        return str(ids)


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


MODELS = {
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


def saved(folder: Path, name: str, **changes: Any) -> Path:
    """A copy of the saved adapter whose files are changed: to bytes, to None (gone), or a dict of fields of the config.

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
    return copy


def files(folder: Path) -> dict[str, Path]:
    """Adapters, checkpoints, and what looks like them."""
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
    made = {
        "damaged_config": saved(folder, "damaged_config", config=b"{"),
        "list_config": saved(folder, "list_config", config=b"[]"),
        "untyped_config": saved(folder, "untyped_config", config=b"{}"),
        "lora_config": saved(folder, "lora_config", config=b'{"peft_type": "LORA"}'),
        "changed_config": saved(folder, "changed_config", config={"K": 1}),
        "lacking_config": saved(
            folder, "lacking_config", tensors=(folder / "good" / SAVED[1]).read_bytes(), config=None
        ),
        "damaged_tensors": saved(folder, "damaged_tensors", tensors=b"no such thing"),
        "no_tensors_file": saved(folder, "no_tensors_file", tensors=None),
        "pickle": saved(folder, "pickle", tensors=None, pickle=b"\x80\x04."),
        "disguised": saved(folder, "disguised", tensors=b"\x80\x04."),
    }
    content = bytearray((folder / "good" / SAVED[1]).read_bytes())
    content[-1] ^= 1
    made["flipped_bit"] = saved(folder, "flipped_bit", tensors=bytes(content))
    return made


@pytest.fixture(scope="module")
def w(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    world = SimpleNamespace(**{name: make() for name, make in MODELS.items()}, **files(folder), folder=folder)
    world.models = {name: getattr(world, name) for name in MODELS}
    world.before = {name: state(model) for name, model in world.models.items()}
    return world


def ids(*row: int) -> Tensor:
    return torch.tensor([row])


def in_use(model: PeftModel, call: Any) -> None:
    with model.use_adapter("twin"):
        call()


WRAP = {
    "K beyond the depth": (lambda w: wrap(w.bare, K=5), ValueError, r"K=5 is out of range: choose K in 1\.\.4"),
    "K=0": (lambda w: wrap(w.bare, K=0), ValueError, r"K=0 is out of range: choose K in 1\.\.depth"),
    "K negative": (lambda w: wrap(w.bare, K=-1), ValueError, r"K=-1 is out of range"),
    "K beyond a given depth": (lambda w: wrap(w.bare, K=3, depth=2), ValueError, r"choose K in 1\.\.2"),
    "K beyond the text tower": (
        lambda w: wrap(w.bare, K=5, pairing="proportional"),
        ValueError,
        r"K=5 is out of range: choose K in 1\.\.4 \(the text tower's layers\)",
    ),
    "K is a float": (lambda w: wrap(w.bare, K=2.0), TypeError, "K must be an integer or None, got 2.0"),
    "K is a string": (lambda w: wrap(w.bare, K="2"), TypeError, "K must be an integer or None, got '2'"),
    "depth beyond the towers": (
        lambda w: wrap(w.bare, K=2, depth=5),
        ValueError,
        r"depth=5 is out of range: choose depth in 1\.\.4",
    ),
    "depth=0": (lambda w: wrap(w.bare, depth=0), ValueError, r"depth=0 is out of range: choose depth in 1\.\.N"),
    "depth is a float": (lambda w: wrap(w.bare, depth=1.5), TypeError, "depth must be an integer or None, got 1.5"),
    "n_ctx=0": (lambda w: wrap(w.bare, n_ctx=0), ValueError, "n_ctx=0 is out of range: it must be at least 1"),
    "n_ctx is true": (lambda w: wrap(w.bare, n_ctx=True), TypeError, "n_ctx must be an integer, got True"),
    "n_ctx is None": (lambda w: wrap(w.bare, n_ctx=None), TypeError, "n_ctx must be an integer, got None"),
    "n_ctx of numpy": (
        lambda w: wrap(w.bare, n_ctx=np.int64(3)),
        TypeError,
        r"n_ctx must be an integer, got (np\.int64\(3\)|3)",
    ),
    "K is NaN": (lambda w: wrap(w.bare, K=float("nan")), TypeError, "K must be an integer or None, got nan"),
    "n_ctx fills the tower": (
        lambda w: wrap(w.bare, K=2, n_ctx=23),
        ValueError,
        r"n_ctx=23 leaves no room .* choose n_ctx in 1\.\.22",
    ),
    "n_ctx_vision=0": (
        lambda w: wrap(w.bare, method="independent", n_ctx_vision=0),
        ValueError,
        "n_ctx_vision=0 is out of range: it must be at least 1",
    ),
    "unknown method": (
        lambda w: wrap(w.bare, method="mapel"),
        ValueError,
        r"unknown method 'mapel'\. Did you mean 'maple'\? Known: vilt, maple",
    ),
    "method is a list": (
        lambda w: wrap(w.bare, method=["vilt"]),
        ValueError,
        r"unknown method \['vilt'\]\. .*Known: vilt",
    ),
    "unknown field": (
        lambda w: wrap(w.bare, dept=2),
        TypeError,
        r"unexpected keyword argument 'dept'\. Did you mean 'depth'\? Known: ",
    ),
    "a field of PEFT's": (
        lambda w: wrap(w.bare, target_modules=["attn"]),
        TypeError,
        "unexpected keyword argument 'target_modules'.*Known: n_ctx, ",
    ),
    "unknown towers": (
        lambda w: wrap(w.bare, towers="image"),
        ValueError,
        r"unknown towers 'image'\. Known: both, text, vision",
    ),
    "unknown lead": (lambda w: wrap(w.bare, lead="vision"), ValueError, "unknown lead 'vision'.*split, text, own"),
    "unknown mapper": (lambda w: wrap(w.bare, mapper="mlp"), ValueError, "unknown mapper 'mlp'.*shared, per_layer"),
    "unknown pairing": (lambda w: wrap(w.bare, pairing="depth"), ValueError, "unknown pairing 'depth'.*layer, prop"),
    "one tower cannot lead another": (
        lambda w: wrap(w.bare, towers="text", lead="split"),
        ValueError,
        'lead="split" maps between the towers, but towers="text": leave lead at "own"',
    ),
    "own prompts are not mapped": (
        lambda w: wrap(w.bare, lead="own", mapper="shared"),
        ValueError,
        'lead="own" goes with mapper="none"',
    ),
    "a lead needs a map": (
        lambda w: wrap(w.bare, lead="text", mapper="none"),
        ValueError,
        'lead="text" with mapper="none"',
    ),
    "pairing without a map": (
        lambda w: wrap(w.bare, method="independent", pairing="proportional"),
        ValueError,
        'lead="own" maps nothing: leave pairing at "layer"',
    ),
    "pairing of a part": (
        lambda w: wrap(w.bare, depth=2, pairing="proportional"),
        ValueError,
        'depth=2, but pairing="proportional" puts prompts into all layers: leave depth at None',
    ),
    "mapped prompts of two lengths": (
        lambda w: wrap(w.bare, K=2, n_ctx_vision=4),
        ValueError,
        "n_ctx_vision=4 differs from n_ctx=10.*leave n_ctx_vision at None",
    ),
    "ctx_init without text prompts": (
        lambda w: wrap(w.bare, method="vpt_deep", ctx_init=[1]),
        ValueError,
        'towers="vision" has no text prompts: leave ctx_init at None',
    ),
    "ctx_init too long": (
        lambda w: wrap(w.bare, K=2, n_ctx=2, ctx_init=[1, 2, 3]),
        ValueError,
        "3 tokens, but there are n_ctx=2",
    ),
    "ctx_init empty": (lambda w: wrap(w.bare, K=2, ctx_init=[]), ValueError, r"give 1\.\.10 tokens"),
    "ctx_init an empty text": (
        lambda w: wrap(w.bare, K=2, ctx_init="", tokenizer=lambda texts: class_ids(TINY, [0] * len(texts))),
        ValueError,
        r"ctx_init has 0 tokens, .*give 1\.\.10 tokens",
    ),
    "ctx_init outside the vocabulary": (
        lambda w: wrap(w.bare, K=2, ctx_init=[100]),
        ValueError,
        "ctx_init has token ids up to 100, the vocabulary ends at 99: are they of this model's tokenizer",
    ),
    "ctx_init is a text of no known vocabulary": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo"),
        ValueError,
        "pass wrap.*tokenizer=",
    ),
    "ctx_init in a tuple": (
        lambda w: wrap(w.bare, K=2, ctx_init=(1, 2)),
        TypeError,
        r"a text or a list of token ids, got \(1, 2\)",
    ),
    "ctx_init in a tensor": (
        lambda w: wrap(w.bare, K=2, ctx_init=torch.tensor([1, 2])),
        TypeError,
        r"a text or a list of token ids, got tensor\(\[1, 2\]\)",
    ),
    "ctx_init negative": (
        lambda w: wrap(w.bare, K=2, ctx_init=[-1]),
        TypeError,
        r"a text or a list of token ids, got \[-1\]",
    ),
    "ctx_init is a number": (
        lambda w: wrap(w.bare, K=2, ctx_init=7),
        TypeError,
        "a text or a list of token ids, got 7",
    ),
    "ctx_init of floats": (lambda w: wrap(w.bare, K=2, ctx_init=[1.5]), TypeError, r"list of token ids, got \[1.5\]"),
    "tokenizer cannot be called": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo", tokenizer=7),
        TypeError,
        r"tokenizer must be the model's, open_clip.get_tokenizer\(...\), got int",
    ),
    "tokenizer returns lists": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo", tokenizer=lambda texts: [[1]]),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got list",
    ),
    "tokenizer returns one row of ids": (
        lambda w: wrap(w.bare, K=2, ctx_init="a photo", tokenizer=lambda texts: torch.tensor([1, 2])),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got torch.Size\(\[2\]\)",
    ),
    "base_model is no name": (
        lambda w: wrap(w.bare, K=2, base_model=7),
        TypeError,
        "base_model must be a string or None, got 7",
    ),
    "base_pretrained is no name": (
        lambda w: wrap(w.bare, K=2, base_pretrained=7),
        TypeError,
        "base_pretrained must be a string or None, got 7",
    ),
    "base_fingerprint is a string": (
        lambda w: wrap(w.bare, K=2, base_fingerprint="a"),
        TypeError,
        "base_fingerprint must be a dict or None, got 'a'",
    ),
    "adapter name is no string": (
        lambda w: wrap(w.bare, K=2, adapter_name=7),
        TypeError,
        "adapter name must be a string, got 7",
    ),
    "adapter name with a dot": (
        lambda w: wrap(w.bare, K=2, adapter_name="a.b"),
        ValueError,
        "adapter name 'a.b' is refused: .*choose another +one, such as",
    ),
    "adapter name of a folder's parent": (
        lambda w: wrap(w.bare, K=2, adapter_name=".."),
        ValueError,
        "adapter name '..' is refused",
    ),
    "adapter name of the root": (
        lambda w: wrap(w.bare, K=2, adapter_name="/"),
        ValueError,
        "adapter name '/' is refused",
    ),
    "adapter name without end": (
        lambda w: wrap(w.bare, K=2, adapter_name="x" * 256),
        ValueError,
        "adapter name 'x{40}' is refused: .*at most 255 bytes",
    ),
    "adapter name is empty": (lambda w: wrap(w.bare, K=2, adapter_name=""), ValueError, "adapter name '' is refused"),
    "adapter name of a parameter": (
        lambda w: wrap(w.bare, K=2, adapter_name="weight"),
        ValueError,
        "adapter name 'weight' is refused",
    ),
    "model is a layer": (
        lambda w: wrap(nn.Linear(2, 2), method="vpt_deep"),
        TypeError,
        r"expected an open_clip model \(CLIP, CustomTextCLIP or CoCa\), such as open_clip.create_model.*got Linear",
    ),
    "model is a name": (lambda w: wrap("ViT-B-16"), TypeError, "expected an open_clip model .*got str"),
    "model is None": (lambda w: wrap(None), TypeError, "expected an open_clip model .*got NoneType"),
    "model is compiled": (lambda w: wrap(w.compiled), TypeError, "got OptimizedModule"),
    "wrapping twice": (
        lambda w: wrap(w.model, K=2),
        ValueError,
        r"wrapped already: use wrapped.add_adapter.*or unwrap\(wrapped\) first",
    ),
    "wrapping twice, inside": (
        lambda w: wrap(w.model.get_base_model(), K=2),
        ValueError,
        "wrapped already: use wrapped.add_adapter",
    ),
    "wrapping around LoRA": (
        lambda w: wrap(w.lora, K=2),
        TypeError,
        r"PEFT's already \(.*LORA.*\): wrap the open_clip model inside, wrap\(model.get_base_model",
    ),
    "LoRA on out_proj": (
        lambda w: wrap(w.lora_on_out_proj.get_base_model(), K=2),
        ValueError,
        r"LoRA, on out_proj inside an nn.MultiheadAttention, which ignores it: adapt the whole attention",
    ),
    "a ResNet": (
        lambda w: wrap(w.resnet, K=2),
        ValueError,
        "vision tower ModifiedResNet cannot take prompts: it belongs to no known family. Known vision towers: "
        'VisionTransformer, Eva, VisionTransformerRelPos; .*towers="text".*CONTRIBUTING.md',
    ),
    "a ConvNeXt": (
        lambda w: wrap(w.convnext, method="vpt_deep"),
        ValueError,
        "vision tower ConvNeXt of TimmModel cannot take prompts: it belongs to no known family",
    ),
    "a ViT that does not pool": (
        lambda w: wrap(w.no_pool, K=2),
        ValueError,
        "VisionTransformer cannot take prompts: it does not pool its tokens",
    ),
    "attention that cannot run": (lambda w: wrap(w.scaled_cosine, K=2), ValueError, "cannot take prompts: .*scaled"),
    "an unknown text tower": (
        lambda w: wrap(w.unknown_text, K=2),
        ValueError,
        "text tower UnknownTextTower cannot take prompts: it belongs to no known family. Known text towers: CLIP, "
        'TextTransformer, HFTextEncoder; vision prompts alone: towers="vision". How to add one: CONTRIBUTING.md',
    ),
    "an unknown text tower for CoOp": (
        lambda w: wrap(w.unknown_text, method="coop"),
        ValueError,
        "text tower UnknownTextTower cannot take prompts",
    ),
    "an unknown text tower with a start": (
        lambda w: wrap(w.unknown_text, K=2, ctx_init="a photo", tokenizer=tokenizer),
        ValueError,
        "text tower UnknownTextTower cannot take prompts",
    ),
    "get_peft_model": (
        lambda w: get_peft_model(w.bare, PromptConfig(K=9)),
        ValueError,
        r"K=9 is out of range: choose K in 1\.\.4",
    ),
    "get_peft_model of another kind around prompts": (
        lambda w: get_peft_model(w.model, LoraConfig(target_modules=["c_fc"])),
        TypeError,
        r"a LoraConfig cannot go around a model with prompts: put it on the open_clip model inside",
    ),
}

CONFIG = {
    "unknown preset": (
        lambda w: PromptConfig.preset("mapel"),
        ValueError,
        r"unknown method 'mapel'\. Did you mean 'maple'\?",
    ),
    "preset None": (lambda w: PromptConfig.preset(None), ValueError, "unknown method None. Known: vilt"),
    "preset with an unknown field": (
        lambda w: PromptConfig.preset("maple", n_cxt=2),
        TypeError,
        r"unexpected keyword argument 'n_cxt'\. Did you mean 'n_ctx'\? Known: ",
    ),
    "preset with another method": (
        lambda w: PromptConfig.preset("maple", method="vilt"),
        TypeError,
        r"preset\(\) got an unexpected keyword argument 'method'",
    ),
    "config with an unknown field": (
        lambda w: PromptConfig(n_cxt=2),
        TypeError,
        "got an unexpected keyword argument 'n_cxt'",
    ),
    "config of nothing": (
        lambda w: PromptConfig.from_pretrained(w.folder / "empty"),
        ValueError,
        "holds no adapter_config.json",
    ),
}

UNWRAP = {
    "unwrap a model without prompts": (
        lambda w: unwrap(w.bare),
        TypeError,
        r"expected what wrap\(\) returned, still wrapped, got CLIP",
    ),
    "unwrap None": (lambda w: unwrap(None), TypeError, "still wrapped, got NoneType"),
    "unwrap twice": (lambda w: unwrap(w.unwrapped), TypeError, r"expected what wrap\(\) returned, still wrapped"),
    "unwrap the object inside": (
        lambda w: unwrap(w.model.get_base_model()),
        TypeError,
        r"expected what wrap\(\) returned, still wrapped, got PromptedCLIP",
    ),
    "unwrap LoRA": (lambda w: unwrap(w.lora), TypeError, r"expected what wrap\(\) returned"),
}

IMAGES_AND_VIDEOS = {
    "video of images": (
        lambda w: w.model.encode_video(VIDEO[0]),
        ValueError,
        r"shape \(B, T, 3, H, W\).*use encode_image",
    ),
    "image of a video": (
        lambda w: w.model.encode_image(VIDEO),
        ValueError,
        r"shape \(B, 3, H, W\).*use encode_video",
    ),
    "video of rank 3": (
        lambda w: w.model(VIDEO[0, 0]),
        ValueError,
        r"a video \(B, T, 3, H, W\) or images \(B, 3, H, W\), got \(3, 16, 16\)",
    ),
    "video of rank 3 alone": (
        lambda w: w.model.encode_video(VIDEO[0, 0]),
        ValueError,
        r"video must be of shape \(B, T, 3, H, W\), got \(3, 16, 16\)",
    ),
    "video for a tower without prompts": (lambda w: w.coop.encode_image(VIDEO), ValueError, "use encode_video"),
    "image uint8 for a tower without prompts": (
        lambda w: w.coop(VIDEO[0].byte()),
        TypeError,
        "image must be float, as open_clip's preprocess returns it, got torch.uint8",
    ),
    "video with one channel": (lambda w: w.model.encode_video(VIDEO[:, :, :1]), ValueError, "3 channels"),
    "video channels last": (
        lambda w: w.model.encode_video(VIDEO.permute(0, 1, 3, 4, 2)),
        ValueError,
        r"3 channels, \(B, T, 3, H, W\), got \(2, 3, 16, 16, 3\)",
    ),
    "video of another size": (
        lambda w: w.model.encode_video(VIDEO[..., :8]),
        ValueError,
        r"model's size \(16, 16\), got .*use its preprocess",
    ),
    "image of another size for timm": (
        lambda w: w.siglip.encode_image(VIDEO[0]),
        ValueError,
        r"model's size \(24, 24\), got \(3, 3, 16, 16\)",
    ),
    "video uint8": (lambda w: w.model.encode_video(VIDEO.byte()), TypeError, "video must be float, .*preprocess"),
    "video in double precision": (
        lambda w: w.model.encode_video(VIDEO.double()),
        TypeError,
        r"video is torch.float64, the model torch.float32: use video.to\(torch.float32\), or torch.autocast",
    ),
    "images in half precision": (
        lambda w: w.coop.encode_image(VIDEO[0].half()),
        TypeError,
        "image is torch.float16, the model torch.float32",
    ),
    "video on another device": (
        lambda w: w.model.encode_video(VIDEO.to("meta")),
        ValueError,
        r"video is on meta, the model on cpu: use video.to\('cpu'\)",
    ),
    "video without frames": (
        lambda w: w.model.encode_video(VIDEO[:, :0]),
        ValueError,
        "video is empty: its shape is .*; pass at least one frame",
    ),
    "no video": (lambda w: w.model.encode_video(VIDEO[:0]), ValueError, r"video is empty: its shape is \(0, 3, "),
    "video is a list": (
        lambda w: w.model.encode_video([VIDEO]),
        TypeError,
        r"video must be a float tensor \(B, T, 3, H, W\), got list",
    ),
    "video is a generator": (
        lambda w: w.model.encode_video(frame for frame in VIDEO),
        TypeError,
        r"video must be a float tensor \(B, T, 3, H, W\), got generator",
    ),
    "video is complex": (
        lambda w: w.model.encode_video(VIDEO.to(torch.complex64)),
        TypeError,
        "video must be float, as open_clip's preprocess returns it, got torch.complex64",
    ),
    "video is None": (lambda w: w.model.encode_video(None), TypeError, "video must be a float tensor .*got NoneType"),
    "image is an array": (
        lambda w: w.model.encode_image(VIDEO[0].numpy()),
        TypeError,
        r"image must be a float tensor \(B, 3, H, W\), got ndarray",
    ),
    "video and image": (
        lambda w: w.model(VIDEO, image=VIDEO[0]),
        ValueError,
        "two names of one argument: pass one of them",
    ),
    "forward of strings": (lambda w: w.model("a.mp4"), TypeError, r"expected a video .* or images .*, got str"),
    "forward of an unknown argument": (
        lambda w: w.model(videos=VIDEO),
        TypeError,
        "unexpected keyword argument 'videos'",
    ),
    "mask of another shape": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.T),
        ValueError,
        r"frame_mask must be of shape \(B, T\) = \(2, 3\), got \(3, 2\)",
    ),
    "mask of numbers": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.float()),
        TypeError,
        r"frame_mask must be a bool tensor \(B, T\), got torch.float32",
    ),
    "mask is a list": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.tolist()),
        TypeError,
        r"frame_mask must be a bool tensor \(B, T\), got list",
    ),
    "mask on another device": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=MASK.to("meta")),
        ValueError,
        r"frame_mask is on meta, the video on cpu: use frame_mask.to\('cpu'\)",
    ),
    "mask without a frame": (
        lambda w: w.model.encode_video(VIDEO, frame_mask=torch.tensor([[True] * 3, [False] * 3])),
        ValueError,
        "masks every frame of video 1: leave out the video, or keep a frame",
    ),
    "mask for images": (
        lambda w: w.model(VIDEO[0], frame_mask=MASK),
        ValueError,
        "frame_mask belongs to a video .*, got images",
    ),
    "mask alone": (
        lambda w: w.model(text=IDS, frame_mask=MASK),
        ValueError,
        "frame_mask was passed without a video: pass both, or neither",
    ),
    "frames_per_chunk is a float": (
        lambda w: w.model.encode_video(VIDEO, frames_per_chunk=1.5),
        TypeError,
        "frames_per_chunk must be an integer or None, got 1.5",
    ),
    "frames_per_chunk is true": (
        lambda w: w.model.encode_video(VIDEO, frames_per_chunk=True),
        TypeError,
        "frames_per_chunk must be an integer or None, got True",
    ),
    "frames_per_chunk=0": (
        lambda w: w.model.encode_video(VIDEO, frames_per_chunk=0),
        ValueError,
        "frames_per_chunk=0 is out of range: it must be at least 1",
    ),
}

TEXTS = {
    "text is strings": (
        lambda w: w.model.encode_text(["walking"]),
        TypeError,
        r"text must be a tensor of token ids \(C, L\), got list: pass tokenizer\(texts\)",
    ),
    "text is None": (lambda w: w.model.encode_text(None), TypeError, r"got NoneType: pass tokenizer\(texts\)"),
    "text is strings in forward": (lambda w: w.model(VIDEO, ["walking"]), TypeError, r"got list: pass tokenizer"),
    "text is strings for a tower without prompts": (
        lambda w: w.vpt.encode_text(["walking"]),
        TypeError,
        r"got list: pass tokenizer\(texts\)",
    ),
    "text is float": (
        lambda w: w.model.encode_text(IDS.float()),
        TypeError,
        "int64 or int32, got a tensor of torch.float32: pass tokenizer.texts",
    ),
    "text is bytes": (
        lambda w: w.model.encode_text(IDS.byte()),
        TypeError,
        "int64 or int32, got a tensor of torch.uint8",
    ),
    "text is an array": (
        lambda w: w.model.encode_text(IDS.numpy()),
        TypeError,
        r"got ndarray: pass tokenizer\(texts\)",
    ),
    "text without columns": (lambda w: w.model.encode_text(IDS[:, :0]), ValueError, r"text is empty: .*\(3, 0\)"),
    "text is a mask": (lambda w: w.model.encode_text(IDS > 0), TypeError, "got a tensor of torch.bool"),
    "text of one row": (
        lambda w: w.model.encode_text(IDS[0]),
        ValueError,
        r"shape \(C, L\), got \(24,\): pass tokenizer\(texts\)",
    ),
    "text of rank 3": (lambda w: w.model.encode_text(IDS[None]), ValueError, r"shape \(C, L\), got \(1, 3, 24\)"),
    "no text": (lambda w: w.model.encode_text(IDS[:0]), ValueError, "text is empty: .*pass at least one text"),
    "text on another device": (
        lambda w: w.model.encode_text(IDS.to("meta")),
        ValueError,
        r"text is on meta, the model on cpu: use text.to\('cpu'\)",
    ),
    "too many columns": (
        lambda w: w.model.encode_text(nn.functional.pad(IDS, (0, 1))),
        ValueError,
        r"25 columns, the tower has 24 positions: use tokenizer\(texts, context_length=24\)",
    ),
    "too many columns for a tower without prompts": (
        lambda w: w.vpt.encode_text(nn.functional.pad(IDS, (0, 1))),
        ValueError,
        "25 columns, the tower has 24 positions",
    ),
    "too long with the prompts in": (
        lambda w: w.model.encode_text(ids(START, *[5] * 20, END)),
        ValueError,
        r"22 tokens, but 21 are left .*use tokenizer\(texts, context_length=21\)",
    ),
    "too long for a tower without a mask": (
        lambda w: w.siglip.encode_text(zoo.text_ids("siglip", [22])),
        ValueError,
        r"takes 23 tokens, but 21 are left once the 3 prompts are in.*context_length=21",
    ),
    "too long for CoCa": (
        lambda w: w.coca.encode_text(zoo.text_ids("coca", [20])),
        ValueError,
        r"tokens, but \d+ are left once the 3 prompts are in",
    ),
    "too long for a Hugging Face tower": (
        lambda w: w.roberta.encode_text(zoo.text_ids("roberta", [29], columns=32)),
        ValueError,
        "takes 31 tokens, but 29 are left",
    ),
    "nothing but padding": (
        lambda w: w.roberta.encode_text(torch.ones(2, 8, dtype=torch.long)),
        ValueError,
        r"text 0 is nothing but padding \(id 1\): pass tokenizer\(texts\)",
    ),
    "no end token": (
        lambda w: w.model.encode_text(ids(START, 5, 6)),
        ValueError,
        r"text 0 has no end token after its start token: pass tokenizer\(texts\)",
    ),
    "no end token under eos pooling": (
        lambda w: w.eos.encode_text(torch.tensor([[1, 5, 2], [1, 5, 3]])),
        ValueError,
        "text 1 has no end token",
    ),
    "id beyond the vocabulary": (
        lambda w: w.model.encode_text(ids(START, VOCABULARY, END)),
        ValueError,
        r"in 0\.\.99, got 98\.\.100: is it the tokenizer of this model",
    ),
    "negative id": (lambda w: w.model.encode_text(ids(START, -1, END)), ValueError, r"in 0\.\.99, got -1\.\.99"),
}

COCA = {
    "CoCa: video and image": (
        lambda w: w.coca(VIDEO, image=VIDEO[0]),
        ValueError,
        "two names of one argument",
    ),
    "CoCa: mask for images": (
        lambda w: w.coca(VIDEO[0], IDS, frame_mask=MASK),
        ValueError,
        "frame_mask belongs to a video",
    ),
    "CoCa: mask without a frame": (
        lambda w: w.coca(VIDEO, IDS[:2], frame_mask=~MASK),
        ValueError,
        "masks every frame of video 0",
    ),
    "CoCa: video uint8": (lambda w: w.coca(VIDEO.byte(), IDS), TypeError, "video must be float"),
    "CoCa: video of another size": (lambda w: w.coca(VIDEO[..., :8], IDS), ValueError, r"model's size \(16, 16\)"),
    "CoCa: text is strings": (lambda w: w.coca(VIDEO, ["walking"]), TypeError, r"pass tokenizer\(texts\)"),
    "CoCa: no images": (
        lambda w: w.coca(None, IDS),
        ValueError,
        r"CoCa's forward needs images or a video, or image_latent= and image_embs=: .*encode_text\(text\)",
    ),
    "CoCa: half of the image": (
        lambda w: w.coca(None, IDS, image_latent=torch.randn(3, 32)),
        ValueError,
        "CoCa's forward needs images or a video, or image_latent= and image_embs=",
    ),
    "CoCa: video in double precision": (
        lambda w: w.coca(VIDEO.double(), IDS[:2]),
        TypeError,
        "video is torch.float64, the model torch.float32",
    ),
    "CoCa: id beyond the vocabulary": (
        lambda w: w.coca(VIDEO, ids(START, VOCABULARY, END)),
        ValueError,
        r"token ids must be in 0\.\.99",
    ),
}

C_CLIP = nn.functional.normalize(torch.randn(3, 24), dim=-1)
V = torch.randn(2, 24)
LABELS = torch.tensor([0, 2])
LOSS = ScenarioGuidedLoss(C_CLIP)
NAN = torch.full((3, 24), float("nan"))


def with_temperature(temperature) -> ScenarioGuidedLoss:
    criterion = ScenarioGuidedLoss(C_CLIP)
    criterion.temperature = temperature
    return criterion


LOSSES = {
    "no class": (
        lambda w: scenario_features(w.model, tokenizer, []),
        ValueError,
        "class_names is empty: give at least one class",
    ),
    "a bare string": (
        lambda w: scenario_features(w.model, tokenizer, "walking"),
        TypeError,
        "list of strings, got 'walking'",
    ),
    "numbers": (lambda w: scenario_features(w.model, tokenizer, [1, 2]), TypeError, r"list of strings, got \[1, 2\]"),
    "a generator": (
        lambda w: scenario_features(w.model, tokenizer, (n for n in "ab")),
        TypeError,
        "list of strings, got <generator",
    ),
    "None": (lambda w: scenario_features(w.model, tokenizer, None), TypeError, "list of strings, got None"),
    "no slot": (
        lambda w: scenario_features(w.model, tokenizer, ["a"], "a video."),
        ValueError,
        "template must have one {}.*got 'a video.'",
    ),
    "two slots": (
        lambda w: scenario_features(w.model, tokenizer, ["a"], "{} {}"),
        ValueError,
        "template must have one {}",
    ),
    "an escaped slot": (
        lambda w: scenario_features(w.model, tokenizer, ["a"], "a {{}}"),
        ValueError,
        "must have one {}",
    ),
    "a named slot": (
        lambda w: scenario_features(w.model, tokenizer, ["a"], "{} {x}"),
        ValueError,
        "must have one {}",
    ),
    "tokenizer of lists": (
        lambda w: scenario_features(w.model, list, ["a"]),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got list",
    ),
    "tokenizer of the first text alone": (
        lambda w: scenario_features(w.model, lambda texts: IDS[:1], ["a", "b"]),
        TypeError,
        r"tokenizer must return a tensor of ids \(C, L\), got torch.Size\(\[1, 24\]\)",
    ),
    "no tokenizer": (
        lambda w: scenario_features(w.model, None, ["a"]),
        TypeError,
        r"tokenizer must be the model's, open_clip.get_tokenizer\(...\), got NoneType",
    ),
    "tokenizer of another model": (
        lambda w: scenario_features(w.model, open_clip.SimpleTokenizer(context_length=20), ["a"]),
        ValueError,
        r"token ids must be in 0\.\.99, .*is it the tokenizer of this model",
    ),
    "model without prompts": (
        lambda w: scenario_features(w.bare, tokenizer, ["a"]),
        TypeError,
        r"a model that wrap\(\) returned, still wrapped, got CLIP",
    ),
    "label too large": (
        lambda w: LOSS(V, C_CLIP, LABELS + 1),
        ValueError,
        r"labels must be in 0\.\.2, got 1\.\.3",
    ),
    "label negative": (lambda w: LOSS(V, C_CLIP, LABELS - 1), ValueError, r"labels must be in 0\.\.2, got -1\.\.1"),
    "labels float": (
        lambda w: LOSS(V, C_CLIP, LABELS.float()),
        TypeError,
        "labels must be a tensor of integers, got torch.float32",
    ),
    "labels in a list": (lambda w: LOSS(V, C_CLIP, [0, 2]), TypeError, r"tensor of integers, got \[0, 2\]"),
    "too few labels": (lambda w: LOSS(V, C_CLIP, LABELS[:1]), ValueError, r"of shape \(2,\), got \(1,\)"),
    "another number of classes": (
        lambda w: LOSS(V, C_CLIP[:2], LABELS),
        ValueError,
        r"\(2, 24\) and .*\(3, 24\) must be of one shape",
    ),
    "another width": (lambda w: LOSS(V[:, :8], C_CLIP, LABELS), ValueError, "must have the same D"),
    "features of rank 1": (lambda w: LOSS(V[0], C_CLIP, LABELS), ValueError, r"shape \(rows, D\).*got \(24,\)"),
    "features of integers": (
        lambda w: scenario_loss(C_CLIP, C_CLIP.long()),
        TypeError,
        "scenario_features must be a float tensor, got torch.int64",
    ),
    "features are None": (
        lambda w: scenario_loss(None, C_CLIP),
        TypeError,
        "text_features must be a float tensor, got NoneType",
    ),
    "no features": (
        lambda w: ScenarioGuidedLoss(C_CLIP[:0]),
        ValueError,
        r"with at least one row, got \(0, 24\)",
    ),
    "NaN in the video features": (
        lambda w: LOSS(NAN[:2], C_CLIP, LABELS),
        ValueError,
        "video_features has NaN or infinite values: lower the learning rate",
    ),
    "NaN in the text features": (lambda w: LOSS(V, NAN, LABELS), ValueError, "text_features has NaN"),
    "NaN in the scenario": (lambda w: scenario_loss(C_CLIP, NAN), ValueError, "scenario_features has NaN"),
    "alpha negative": (
        lambda w: ScenarioGuidedLoss(C_CLIP, alpha=-1),
        ValueError,
        "alpha=-1 is out of range: it must be at least 0 and finite",
    ),
    "alpha NaN": (lambda w: ScenarioGuidedLoss(C_CLIP, alpha=float("nan")), ValueError, "alpha=nan is out of range"),
    "alpha is a string": (
        lambda w: ScenarioGuidedLoss(C_CLIP, alpha="8"),
        TypeError,
        "alpha must be a number, got '8'",
    ),
    "temperature is None": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=None),
        TypeError,
        "temperature must be a number or a 0-dim tensor, got None",
    ),
    "temperature 0": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=0),
        ValueError,
        "temperature=0 is out of range: it must be positive and finite",
    ),
    "temperature infinite": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=float("inf")),
        ValueError,
        "temperature=inf",
    ),
    "temperatures": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=torch.ones(2)),
        ValueError,
        r"0-dim tensor, got shape \(2,\)",
    ),
    "temperature changed": (
        lambda w: with_temperature(torch.zeros(()))(V, C_CLIP, LABELS),
        ValueError,
        "temperature=0.0",
    ),
}

LOAD = {
    "no folder": (
        lambda w: from_pretrained(w.bare, w.folder / "nowhere"),
        ValueError,
        r"there is no folder .*nowhere: give the folder that save_pretrained\(...\) wrote, or a repository id",
    ),
    "no name": (lambda w: from_pretrained(w.bare, None), TypeError, "path_or_repo must be .*a repository id.*got None"),
    "a number for a name": (lambda w: from_pretrained(w.bare, 7), TypeError, "path_or_repo must be .*got 7"),
    "a name that is none": (
        lambda w: from_pretrained(w.bare, "a/b/c"),
        ValueError,
        'there is no folder a/b/c: .*a repository id like "user/name"',
    ),
    "a repository that is not in the cache": (
        lambda w: from_pretrained(w.bare, "me/nothing", local_files_only=True, cache_dir=w.folder / "cache"),
        ValueError,
        "it is not in the cache, and local_files_only or HF_HUB_OFFLINE forbids to look further. Fetch it once online",
    ),
    "a file": (
        lambda w: from_pretrained(w.bare, w.folder / "file"),
        ValueError,
        "is a file: give the folder that it is in",
    ),
    "an empty folder": (
        lambda w: from_pretrained(w.bare, w.folder / "empty"),
        ValueError,
        r"empty holds no adapter_config.json: give the folder that save_pretrained\(...\) wrote",
    ),
    "a folder of folders": (
        lambda w: from_pretrained(w.bare, w.folder / "holder"),
        ValueError,
        r"its subfolders with an adapter are: ucf101 \(pass subfolder=\)",
    ),
    "no subfolder": (
        lambda w: from_pretrained(w.bare, w.folder / "holder", subfolder="hmdb"),
        ValueError,
        "there is no folder .*hmdb",
    ),
    "a subfolder outside": (
        lambda w: from_pretrained(w.bare, w.folder / "holder", subfolder="../good"),
        ValueError,
        "subfolder='../good' leads out of the folder or repository: give a path inside of it",
    ),
    "a subfolder that is no string": (
        lambda w: from_pretrained(w.bare, w.folder / "holder", subfolder=7),
        TypeError,
        "subfolder must be a string or None, got 7",
    ),
    "a damaged config": (
        lambda w: from_pretrained(w.bare, w.damaged_config),
        ValueError,
        "adapter_config.json is damaged .*: copy it again, or fetch it anew with force_download=True",
    ),
    "a config of a list": (lambda w: from_pretrained(w.bare, w.list_config), ValueError, "is damaged .*no peft_type"),
    "a config without a type": (lambda w: from_pretrained(w.bare, w.untyped_config), ValueError, "no peft_type"),
    "a config of LoRA": (
        lambda w: from_pretrained(w.bare, w.lora_config),
        ValueError,
        "of type LORA, not VILT_PROMPT, .*PeftModel.from_pretrained loads those",
    ),
    "a config of other tensors": (
        lambda w: from_pretrained(w.bare, w.changed_config),
        ValueError,
        "do not belong together: K is 1, 2 was saved. Copy both files again",
    ),
    "no config": (
        lambda w: from_pretrained(w.bare, w.lacking_config),
        ValueError,
        "holds no adapter_config.json",
    ),
    "damaged tensors": (
        lambda w: from_pretrained(w.bare, w.damaged_tensors),
        ValueError,
        "adapter_model.safetensors is damaged .*: copy it again",
    ),
    "a flipped bit": (
        lambda w: from_pretrained(w.bare, w.flipped_bit),
        ValueError,
        r"adapter_model.safetensors is damaged \(its checksum differs\): copy it again",
    ),
    "no tensors": (
        lambda w: from_pretrained(w.bare, w.no_tensors_file),
        ValueError,
        "holds no adapter_model.safetensors",
    ),
    "a pickle": (
        lambda w: from_pretrained(w.bare, w.pickle),
        ValueError,
        r"pickles are never loaded. Save the adapter again with save_pretrained\(...\)",
    ),
    "a pickle in disguise": (
        lambda w: from_pretrained(w.bare, w.disguised),
        ValueError,
        "is a pickle, not safetensors: pickles are never loaded",
    ),
    "another architecture": (
        lambda w: from_pretrained(w.equal_widths, w.folder / "good"),
        ValueError,
        r"another architecture .*conv1.weight is 1 x \(48, 3, 8, 8\) there, 1 x \(32, 3, 8, 8\) in",
    ),
    "another architecture, not strictly": (
        lambda w: from_pretrained(w.equal_widths, w.folder / "good", strict_base=False),
        ValueError,
        "another architecture",
    ),
    "a deeper model": (
        lambda w: from_pretrained(w.deep, w.folder / "good"),
        ValueError,
        r"resblocks.\*.attn.in_proj_weight is 4 x .* there, 12 x .* in this model",
    ),
    "a deeper adapter": (
        lambda w: from_pretrained(w.bare, w.folder / "deep"),
        ValueError,
        r"depth=12 is out of range: choose depth in 1\.\.4",
    ),
    "load bytes": (lambda w: from_pretrained(w.bare, b"good"), TypeError, "path_or_repo must be .*got b'good'"),
    "load with model and path exchanged": (
        lambda w: from_pretrained(w.folder / "good", w.bare),
        TypeError,
        "expected an open_clip model .*got PosixPath",
    ),
    "load onto no model": (
        lambda w: from_pretrained("ViT-B-16", w.folder / "good"),
        TypeError,
        "expected an open_clip model .*got str",
    ),
    "load onto a wrapped model": (
        lambda w: from_pretrained(w.model, w.folder / "good"),
        ValueError,
        "wrapped already: use wrapped.add_adapter",
    ),
    "load under a refused name": (
        lambda w: from_pretrained(w.bare, w.folder / "good", adapter_name="a/b"),
        ValueError,
        "adapter name 'a/b' is refused",
    ),
    "PEFT's own loading": (
        lambda w: PeftModel.from_pretrained(w.bare, w.damaged_tensors),
        ValueError,
        "adapter_model.safetensors is damaged",
    ),
    "rebuild from nothing": (
        lambda w: create_model_and_transforms(w.folder / "empty"),
        ValueError,
        "holds no adapter_config.json",
    ),
    "rebuild without a base": (
        lambda w: create_model_and_transforms(w.folder / "good"),
        ValueError,
        "does not record its base: base_model is missing in its config. Pass base_model=",
    ),
    "rebuild without weights": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model="ViT-B-16"),
        ValueError,
        "given by its architecture 'ViT-B-16', but not by its weights.*Pass base_pretrained=",
    ),
    "rebuild an unknown base": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model="ViT-Q-1", base_pretrained="openai"),
        ValueError,
        "open_clip cannot build 'ViT-Q-1' with weights 'openai', .*Pass base_model= and base_pretrained=",
    ),
    "rebuild a base that is no name": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model=7, base_pretrained="openai"),
        TypeError,
        "base_model must be a string or None, got 7",
    ),
    "rebuild from weights in a path": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model="ViT-B-32", base_pretrained=w.folder),
        TypeError,
        "base_pretrained must be a string or None, got PosixPath",
    ),
    "rebuild under a refused name": (
        lambda w: create_model_and_transforms(w.folder / "good", adapter_name="prompts"),
        ValueError,
        "adapter name 'prompts' is refused",
    ),
    "rebuild with an unknown argument": (
        lambda w: create_model_and_transforms(
            w.folder / "good",
            base_model="local-dir:" + str(Path(__file__).parents[1] / "examples/small_clip/emoji-vit-12x128"),
            image_siz=64,
        ),
        ValueError,
        "open_clip cannot build 'local-dir.*unexpected keyword argument 'image_siz'",
    ),
}

CONVERT = {
    "convert no file": (
        lambda w: convert(w.folder / "nowhere.pth", w.bare),
        ValueError,
        "there is no file .*nowhere.pth: give the checkpoint itself",
    ),
    "convert None": (lambda w: convert(None, w.bare), TypeError, "path must be that of a checkpoint.*got None"),
    "convert tensors": (
        lambda w: convert({"ctx": torch.randn(4, 32)}, w.bare),
        TypeError,
        "path must be that of a checkpoint.*got {'ctx': tensor",
    ),
    "convert for no model": (
        lambda w: convert(w.folder / "coop.pth", nn.Linear(2, 2)),
        TypeError,
        "expected an open_clip model",
    ),
    "convert what is no checkpoint": (
        lambda w: convert(w.folder / "file", w.bare),
        ValueError,
        r"is no checkpoint that torch.load\(..., weights_only=True\) reads",
    ),
    "convert without tensors": (
        lambda w: convert(w.folder / "no_tensors.pth", w.bare),
        ValueError,
        "holds no tensors by name: expected a state dict.*got a dict of epoch",
    ),
    "convert a fine-tuned CLIP": (
        lambda w: convert(w.folder / "fine_tuned.pth", w.bare),
        ValueError,
        "holds no prompts. Is it a fine-tuned CLIP",
    ),
    "convert CoCoOp": (lambda w: convert(w.folder / "cocoop.pth", w.bare), ValueError, "depend on the image"),
    "convert a context for each class": (
        lambda w: convert(w.folder / "per_class.pth", w.bare),
        ValueError,
        r"a context for each of 5 classes \(CSC=True\)",
    ),
    "convert unknown tensors": (
        lambda w: convert(w.folder / "foreign.pth", w.bare),
        ValueError,
        "belong to no known method, 1 in all: head.weight. Known are",
    ),
    "convert layers with a gap": (
        lambda w: convert(w.folder / "gap.pth", w.bare),
        ValueError,
        r"text prompts of layers \[1, 3\]: expected 1 to the last",
    ),
    "convert prompts that diverged": (
        lambda w: convert(w.folder / "nan.pth", w.bare),
        ValueError,
        "vilt_text holds NaN or infinity. Training has diverged.*go back to an earlier state",
    ),
    "convert prompts of another width": (
        lambda w: convert(w.folder / "wide.pth", w.bare),
        ValueError,
        "text prompts of width 512, the text tower of the model is 32 wide: it was trained on another model",
    ),
    "convert under a name that is taken": (
        lambda w: convert(w.folder / "coop.pth", w.model, adapter_name="twin"),
        ValueError,
        "there is an adapter 'twin' already",
    ),
    "convert under a refused name": (
        lambda w: convert(w.folder / "coop.pth", w.bare, adapter_name="a.b"),
        ValueError,
        "adapter name 'a.b' is refused",
    ),
    "convert with a base that is no name": (
        lambda w: convert(w.folder / "coop.pth", w.bare, base_model=7),
        TypeError,
        "base_model must be a string or None, got 7",
    ),
}

ADAPTERS = {
    "activate an unknown adapter": (
        lambda w: w.model.set_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "activate two adapters": (
        lambda w: w.model.set_adapter(["default", "twin"]),
        ValueError,
        r"one adapter can be active at a time, got \['default', 'twin'\]: choose one of them",
    ),
    "activate two adapters below": (
        lambda w: w.model.base_model.set_adapter(["default", "twin"]),
        ValueError,
        "one adapter can be active at a time",
    ),
    "activate an unknown adapter below": (
        lambda w: w.model.base_model.set_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "activate None": (
        lambda w: w.model.set_adapter(None),
        TypeError,
        "an adapter name must be a string, got None; there are: default, twin, coop",
    ),
    "use an unknown adapter": (
        lambda w: w.model.use_adapter("third").__enter__(),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "use a list": (
        lambda w: w.model.use_adapter(["twin"]).__enter__(),
        TypeError,
        r"an adapter name must be a string, got \['twin'\]; there are: default, twin, coop",
    ),
    "add an adapter whose name is taken": (
        lambda w: w.model.add_adapter("twin", PromptConfig(K=2)),
        ValueError,
        "there is an adapter 'twin' already: choose another name than default, twin, coop",
    ),
    "add an adapter under a refused name": (
        lambda w: w.model.add_adapter("vilt_F", PromptConfig(K=2)),
        ValueError,
        "adapter name 'vilt_F' is refused",
    ),
    "add an adapter without a name": (
        lambda w: w.model.add_adapter(7, PromptConfig(K=2)),
        TypeError,
        "an adapter name must be a string, got 7",
    ),
    "add an adapter that does not fit": (
        lambda w: w.model.add_adapter("third", PromptConfig(K=9)),
        ValueError,
        r"K=9 is out of range: choose K in 1\.\.4",
    ),
    "add an adapter of another kind": (
        lambda w: w.model.add_adapter("third", LoraConfig(target_modules=["c_fc"])),
        TypeError,
        r"expected a PromptConfig, got LoraConfig: .*get_base_model\(\)",
    ),
    "add an adapter by its method": (
        lambda w: w.model.add_adapter("third", "maple"),
        TypeError,
        "expected a PromptConfig, got 'maple': .*PromptConfig.preset",
    ),
    "load an adapter from nowhere": (
        lambda w: w.model.load_adapter(w.folder / "nowhere", "third"),
        ValueError,
        "there is no folder .*nowhere",
    ),
    "load no adapter": (
        lambda w: w.model.load_adapter(None, "third"),
        TypeError,
        "path_or_repo must be .*got None",
    ),
    "load an adapter under a refused name": (
        lambda w: w.model.load_adapter(w.folder / "good", "a.b"),
        ValueError,
        "adapter name 'a.b' is refused",
    ),
    "load an adapter under a name that is none": (
        lambda w: w.model.load_adapter(w.folder / "good", None),
        TypeError,
        "an adapter name must be a string, got None",
    ),
    "load damaged tensors": (
        lambda w: w.model.load_adapter(w.flipped_bit, "third"),
        ValueError,
        "checksum differs",
    ),
    "load anew into another structure": (
        lambda w: w.model.load_adapter(w.folder / "good", "coop"),
        ValueError,
        r"there is an adapter 'coop' of another structure \(towers is 'text' and 'both'.*: choose another name, or",
    ),
    "load a deeper adapter": (
        lambda w: w.model.load_adapter(w.folder / "deep", "third"),
        ValueError,
        "depth=12 is out of range",
    ),
    "load with an unknown argument": (
        lambda w: w.model.load_adapter(w.folder / "good", "third", strict=False),
        TypeError,
        "unexpected keyword argument 'strict'. Did you mean 'strict_base'",
    ),
    "delete an unknown adapter": (
        lambda w: w.model.delete_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "delete the only adapter": (
        lambda w: w.alone.delete_adapter("default"),
        ValueError,
        "'default' is the only adapter: add another one first, or take all out with unwrap",
    ),
    "delete an adapter in use": (
        lambda w: in_use(w.model, lambda: w.model.delete_adapter("twin")),
        ValueError,
        "the adapter 'twin' is in use: leave",
    ),
    "rename an unknown adapter": (
        lambda w: w.model.rename_adapter("third", "fourth"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "rename to a name that is taken": (
        lambda w: w.model.rename_adapter("twin", "coop"),
        ValueError,
        "there is an adapter 'coop' already",
    ),
    "rename to a refused name": (
        lambda w: w.model.rename_adapter("twin", "a.b"),
        ValueError,
        "adapter name 'a.b' is refused",
    ),
    "rename to a number": (
        lambda w: w.model.rename_adapter("twin", 7),
        TypeError,
        "an adapter name must be a string, got 7",
    ),
    "rename an adapter in use": (
        lambda w: in_use(w.model, lambda: w.model.rename_adapter("twin", "other")),
        ValueError,
        "the adapter 'twin' is in use: leave",
    ),
    "combine a string": (
        lambda w: w.model.combine("default", adapter_name="mean"),
        TypeError,
        r"adapter_names must be a list of names, such as \[\"a\", \"b\"\], got 'default'",
    ),
    "combine nothing": (
        lambda w: w.model.combine([], adapter_name="mean"),
        ValueError,
        "there is nothing to combine: name some of the adapters default, twin, coop",
    ),
    "combine an unknown adapter": (
        lambda w: w.model.combine(["default", "third"], adapter_name="mean"),
        ValueError,
        "no adapter 'third'; there are",
    ),
    "combine a generator": (
        lambda w: w.model.combine((name for name in ["default", "twin"]), adapter_name="mean"),
        TypeError,
        "adapter_names must be a list of names, .*got <generator",
    ),
    "combine with weights in a tensor": (
        lambda w: w.model.combine(["default", "twin"], torch.tensor([1.0, 2.0]), adapter_name="mean"),
        TypeError,
        r"weights must be a list of numbers, one for each adapter, got tensor\(\[1., 2.\]\)",
    ),
    "combine different structures": (
        lambda w: w.model.combine(["default", "coop"], adapter_name="mean"),
        ValueError,
        "'default' and 'coop' differ in structure and have no mean: .*n_ctx is 3 and 2.*same settings",
    ),
    "combine with too few weights": (
        lambda w: w.model.combine(["default", "twin"], [1], adapter_name="mean"),
        ValueError,
        "1 weights were given for 2 adapters: give one for each",
    ),
    "combine with a negative weight": (
        lambda w: w.model.combine(["default", "twin"], [1, -1], adapter_name="mean"),
        ValueError,
        r"must be finite, at least 0, and not all 0, got \[1, -1\]",
    ),
    "combine with weights of 0": (
        lambda w: w.model.combine(["default", "twin"], [0, 0], adapter_name="mean"),
        ValueError,
        "not all 0",
    ),
    "combine with NaN": (
        lambda w: w.model.combine(["default", "twin"], [1, float("nan")], adapter_name="mean"),
        ValueError,
        "must be finite",
    ),
    "combine with weights of text": (
        lambda w: w.model.combine(["default", "twin"], ["1", "2"], adapter_name="mean"),
        TypeError,
        "weights must be numbers, got '1'",
    ),
    "combine with one number": (
        lambda w: w.model.combine(["default", "twin"], 0.5, adapter_name="mean"),
        TypeError,
        "weights must be a list of numbers, one for each adapter, got 0.5",
    ),
    "combine into a name that is taken": (
        lambda w: w.model.combine(["default", "twin"], adapter_name="coop"),
        ValueError,
        "there is an adapter 'coop' already",
    ),
    "combine into a refused name": (
        lambda w: w.model.combine(["default", "twin"], adapter_name="bias"),
        ValueError,
        "adapter name 'bias' is refused",
    ),
    "an adapter for each sample": (
        lambda w: w.model(VIDEO, adapter_names=["default", "twin"]),
        ValueError,
        r"adapter_names= \(an adapter for each sample\) is not supported: use set_adapter\(name\)",
    ),
    "merge": (
        lambda w: w.model.merge_adapter(),
        ValueError,
        "prompts cannot be merged into the weights: keep the adapter, or take it out with unwrap",
    ),
    "merge and unload": (lambda w: w.model.merge_and_unload(), ValueError, "prompts cannot be merged"),
    "unmerge": (lambda w: w.model.unmerge_adapter(), ValueError, "prompts cannot be merged"),
}

SAVE = {
    "save to a file": (
        lambda w: w.model.save_pretrained(w.folder / "file"),
        ValueError,
        "file is a file: give a folder",
    ),
    "save to None": (lambda w: w.model.save_pretrained(None), TypeError, "save_directory must be a folder, got None"),
    "save a pickle": (
        lambda w: w.model.save_pretrained(w.folder / "new", safe_serialization=False),
        ValueError,
        "never as pickles: leave safe_serialization=True",
    ),
    "save an unknown adapter": (
        lambda w: w.model.save_pretrained(w.folder / "new", selected_adapters=["third"]),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "save an adapter by its bare name": (
        lambda w: w.model.save_pretrained(w.folder / "new", selected_adapters="twin"),
        TypeError,
        r"selected_adapters must be a list of names, such as \['twin'\], got 'twin'",
    ),
    "save what diverged": (
        lambda w: w.diverged.save_pretrained(w.folder / "new"),
        ValueError,
        "vilt_text holds NaN or infinity. Training has diverged",
    ),
    "save with metrics of text": (
        lambda w: w.model.save_pretrained(w.folder / "new", metrics={"top-1": "high"}),
        TypeError,
        r"metrics\['top-1'\] must be a number, got 'high'",
    ),
    "save with metrics of NaN": (
        lambda w: w.model.save_pretrained(w.folder / "new", metrics={"top-1": float("nan")}),
        ValueError,
        r"metrics\['top-1'\] must be finite, got nan",
    ),
    "save with metrics without names": (
        lambda w: w.model.save_pretrained(w.folder / "new", metrics=[93.1]),
        TypeError,
        r'metrics must be names and values, such as \{"accuracy": 93\.1\}, got \[93\.1\]',
    ),
    "save with class names of a generator": (
        lambda w: w.model.save_pretrained(w.folder / "new", class_names=(name for name in "ab")),
        TypeError,
        "class_names must be a list of strings, got <generator",
    ),
    "save with class names in one string": (
        lambda w: w.model.save_pretrained(w.folder / "new", class_names="walking"),
        TypeError,
        "class_names must be .*got 'walking'",
    ),
    "save with a template that is none": (
        lambda w: w.model.save_pretrained(w.folder / "new", template=7),
        TypeError,
        "template must be a string",
    ),
    "push what is not wrapped": (
        lambda w: push_to_hub(w.bare, "me/prompts"),
        TypeError,
        r"expected what wrap\(\) returned, got CLIP",
    ),
    "push an unknown adapter": (
        lambda w: push_to_hub(w.model, "me/prompts", adapter_name="third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "push what diverged": (
        lambda w: push_to_hub(w.diverged, "me/prompts"),
        ValueError,
        "Training has diverged",
    ),
    "push with metrics of text": (
        lambda w: push_to_hub(w.model, "me/prompts", metrics={"top-1": "high"}),
        TypeError,
        "must be a number, got 'high'",
    ),
    "push with an unknown argument": (
        lambda w: w.model.push_to_hub("me/prompts", metric=1),
        TypeError,
        "unexpected keyword argument 'metric'",
    ),
    "push to no repository": (
        lambda w: push_to_hub(w.model, "a/b/c"),
        ValueError,
        "cannot be pushed to 'a/b/c': this is no repository id .*It looks like 'user/name'",
    ),
    "push to None": (lambda w: push_to_hub(w.model, None), TypeError, "repo_id must be a string.*got None"),
}

INSPECT = {
    "describe what is not wrapped": (
        lambda w: describe(w.bare),
        TypeError,
        r"expected a model that wrap\(\) returned, still wrapped, got CLIP",
    ),
    "describe None": (lambda w: describe(None), TypeError, "still wrapped, got NoneType"),
    "describe what was unwrapped": (lambda w: describe(w.unwrapped), TypeError, "a model that wrap.. returned, still"),
    "words of what is not wrapped": (lambda w: nearest_tokens(w.bare, Words()), TypeError, "still wrapped, got CLIP"),
    "words without a tokenizer": (
        lambda w: nearest_tokens(w.model, None),
        TypeError,
        r"a tokenizer with decode\(ids\), such as open_clip.get_tokenizer\(...\) returns, got NoneType",
    ),
    "words of a tokenizer that cannot decode": (
        lambda w: nearest_tokens(w.model, tokenizer),
        TypeError,
        r"a tokenizer with decode\(ids\), .*got function",
    ),
    "words of another model's tokenizer": (
        lambda w: nearest_tokens(w.model, open_clip.SimpleTokenizer()),
        ValueError,
        "the tokenizer has 49408 ids, the model 100: is it the tokenizer of this model",
    ),
    "no words": (
        lambda w: nearest_tokens(w.model, Words(), k=0),
        ValueError,
        "k=0 is out of range: it must be at least 1",
    ),
    "words by a truth value": (
        lambda w: nearest_tokens(w.model, Words(), k=True),
        TypeError,
        "k must be an integer, got True",
    ),
    "half a word": (
        lambda w: nearest_tokens(w.model, Words(), k=1.5),
        TypeError,
        "k must be an integer, got 1.5",
    ),
    "more words than there are": (
        lambda w: nearest_tokens(w.model, Words(), k=101),
        ValueError,
        r"k=101 is out of range: choose k in 1\.\.100",
    ),
    "words on the meta device": (
        lambda w: nearest_tokens(w.meta, Words()),
        ValueError,
        "on the meta device, its embeddings have no values: load its weights first",
    ),
}

SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
PAIRS = torch.tensor([0, 1])

PROTOCOLS = {
    "frames of a counted float": (
        lambda w: protocols.sample_frames(40.0, 4),
        TypeError,
        "total must be an integer, got 40.0",
    ),
    "frames of NaN": (
        lambda w: protocols.sample_frames(float("nan"), 4),
        TypeError,
        "total must be an integer, got nan",
    ),
    "frames of a string": (lambda w: protocols.sample_frames("40", 4), TypeError, "total must be an integer, got '40'"),
    "frames of an empty video": (lambda w: protocols.sample_frames(0, 4), ValueError, "total=0 is out of range"),
    "no frames of a video": (lambda w: protocols.frame_views(40, 0, 1), ValueError, "frames=0 is out of range"),
    "half a stride": (
        lambda w: protocols.sample_dense_frames(40, 4, 1.5),
        TypeError,
        "stride must be an integer, got 1.5",
    ),
    "one and a half views": (
        lambda w: protocols.dense_frame_views(40, 4, 2, 1.5),
        TypeError,
        "views must be an integer, got 1.5",
    ),
    "crops of a counted float": (
        lambda w: protocols.crop_boxes(320.0, 240, 3),
        TypeError,
        "width must be an integer, got 320.0",
    ),
    "crops of nothing": (
        lambda w: protocols.crop_boxes(320, 0, 3),
        ValueError,
        "height=0 is out of range: it must be at least 1",
    ),
    "views of a list": (
        lambda w: protocols.average_views([[[1.0]]]),
        TypeError,
        "logits must be a float tensor, got list",
    ),
    "views of integers": (
        lambda w: protocols.average_views(torch.ones(1, 2, 3, dtype=torch.long)),
        TypeError,
        "logits must be a float tensor, got torch.int64",
    ),
    "views without views": (
        lambda w: protocols.average_views(SCORES),
        ValueError,
        r"logits must be of shape \(B, V, C\) with at least one row, got \(2, 2\)",
    ),
    "one and a half shots": (
        lambda w: protocols.sample_shots([0, 0, 1, 1], 1.5),
        TypeError,
        "shots must be an integer, got 1.5",
    ),
    "no shot": (lambda w: protocols.sample_shots([0, 1], 0), ValueError, "shots=0 is out of range"),
    "more shots than videos": (
        lambda w: protocols.sample_shots([0, 0, 1], 2),
        ValueError,
        "class 1 has 1 videos, fewer than shots=2: ask for fewer shots",
    ),
    "one class to split": (lambda w: protocols.base_novel_split([4]), ValueError, "needs at least 2 classes, got 1"),
    "a negative accuracy": (lambda w: protocols.harmonic_mean(-1, 1), ValueError, "must not be negative or NaN"),
    "scores in an array": (
        lambda w: protocols.top_k_accuracy(SCORES.numpy(), PAIRS),
        TypeError,
        "scores must be a float tensor, got float32",
    ),
    "labels in a list for scores": (
        lambda w: protocols.top_k_accuracy(SCORES, [0, 1]),
        TypeError,
        r"labels must be a tensor of integers, got \[0, 1\]",
    ),
    "labels between classes": (
        lambda w: protocols.top_k_accuracy(SCORES, torch.tensor([0.5, 1.0])),
        TypeError,
        "labels must be a tensor of integers, got torch.float32",
    ),
    "labels for other scores": (
        lambda w: protocols.top_k_accuracy(SCORES, PAIRS[:1]),
        ValueError,
        r"labels must be of shape \(2,\), got \(1,\)",
    ),
    "top one and a half": (
        lambda w: protocols.top_k_accuracy(SCORES, PAIRS, k=1.5),
        TypeError,
        "k must be an integer, got 1.5",
    ),
    "top 3 of 2": (
        lambda w: protocols.top_k_accuracy(SCORES, PAIRS, k=3),
        ValueError,
        r"k=3 is out of range: it must be in 1\.\.2, the number of classes",
    ),
    "similarity in a list": (
        lambda w: protocols.retrieval_metrics([[1.0]]),
        TypeError,
        "similarity must be a float tensor, got list",
    ),
    "similarity of NaN": (
        lambda w: protocols.retrieval_metrics(SCORES * float("nan")),
        ValueError,
        "similarity has NaN values: nothing can be counted",
    ),
    "pairs in a list": (
        lambda w: protocols.retrieval_metrics(SCORES, [0, 1]),
        TypeError,
        r"relevant, unless it is bool \(C, B\), must be a tensor of integers, got \[0, 1\]",
    ),
    "a video that is not there": (
        lambda w: protocols.retrieval_metrics(SCORES, PAIRS + 1),
        ValueError,
        r"relevant, .*, must be in 0\.\.1, got 1\.\.2",
    ),
    "ranks of NaN": (
        lambda w: protocols.ranks(SCORES * float("nan"), torch.eye(2).bool()),
        ValueError,
        "similarity has NaN values",
    ),
    "ranks of another shape": (
        lambda w: protocols.ranks(SCORES, torch.eye(3).bool()),
        ValueError,
        r"relevant must be bool of shape \(2, 2\), got tensor\(\[\[ True",
    ),
    "ranks of numbers": (
        lambda w: protocols.ranks(SCORES, torch.eye(2)),
        ValueError,
        r"relevant must be bool of shape \(2, 2\), got tensor\(\[\[1\.",
    ),
    "metrics of a list": (
        lambda w: protocols.RetrievalMetrics.of([1, 2]),
        ValueError,
        r"ranks must be of shape \(Q,\), each at least 1, got \[1, 2\]",
    ),
}

TABLES = (
    WRAP,
    CONFIG,
    UNWRAP,
    IMAGES_AND_VIDEOS,
    TEXTS,
    COCA,
    LOSSES,
    LOAD,
    CONVERT,
    ADAPTERS,
    SAVE,
    INSPECT,
    PROTOCOLS,
)
CALLS = {name: call for table in TABLES for name, call in table.items()}


@pytest.mark.parametrize("name", CALLS)
def test_bad_call(name, w):
    call, error, message = CALLS[name]
    with pytest.raises(error, match=message) as caught:
        call(w)
    assert type(caught.value) is error
    after = {each: state(model) for each, model in w.models.items()}
    w.before, before = after, w.before  # so that one call that changes a model fails alone
    assert after == before
    assert not (w.folder / "new").exists()


def test_there_are_many_and_each_once():
    assert len(CALLS) == sum(len(table) for table in TABLES) >= 150


def test_the_models_are_good_for_good_calls(w):
    """The calls fail for what is wrong with them, and not for the models."""
    for model in (w.model, w.coop, w.vpt):
        assert model.encode_video(VIDEO, frame_mask=MASK).shape == (2, 24)
        assert model.encode_text(IDS).shape == (3, 24)
    assert w.coca(VIDEO[0], IDS[:, :23])["logits"].shape[0] == 3
    assert w.siglip.encode_text(zoo.text_ids("siglip", [19])).shape == (1, 48)
    assert w.roberta.encode_text(zoo.text_ids("roberta", [27], columns=32)).shape == (1, 24)
    assert w.eos.encode_text(torch.tensor([[1, 5, 2], [1, 5, 2]])).shape == (2, 24)
    assert scenario_features(w.model, tokenizer, ["a", "b"]).shape == (2, 24)
    assert LOSS(V, C_CLIP, LABELS).isfinite()
    with w.model.use_adapter("twin"):
        assert len(nearest_tokens(w.model, Words()).vectors) == 12
    from_pretrained(build("4/4"), w.folder / "good", strict_base=False)
    convert(w.folder / "coop.pth", build("4/4"))


@pytest.mark.parametrize("change", ["value", "grad", "mode", "hook", "config", "active", "disabled", "buffer", "child"])
def test_the_fingerprint_sees(change):
    model = with_adapters()
    before = state(model)
    assert state(model) == before
    parameter = model.get_base_model().prompts.vilt_text["twin"]
    if change == "value":
        parameter.data[0, 0, 0] += 1
    elif change == "grad":
        parameter.requires_grad_(not parameter.requires_grad)
    elif change == "mode":
        model.get_base_model().visual.train()
    elif change == "hook":
        model.get_base_model().visual.register_forward_hook(lambda *_: None)
    elif change == "config":
        model.peft_config["twin"].K = 1
    elif change == "active":
        model.set_adapter("twin")
        model.set_adapter("default")
        model.base_model.set_adapter("twin")
    elif change == "disabled":
        model.get_base_model().prompts.enable_adapters(False)
    elif change == "buffer":
        model.get_base_model().attn_mask[0, 0] = -1
    else:
        model.get_base_model().prompts.tables["new"] = None
    assert state(model) != before
