"""The library raises the errors that `docs/troubleshooting.md` explains."""

from __future__ import annotations

import re
from pathlib import Path

import open_clip
import pytest
import torch

import vilt_prompt

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
BASE = f"local-dir:{ROOT / 'examples' / 'small_clip' / 'emoji-vit-12x128'}"
NAMES = ["walking", "swimming"]
# Raised by Python, torch, PEFT, CUDA and the Hub's client, or tested where the library reads files of others.
ELSEWHERE = {
    "No module named 'av'",
    "No module named 'examples'",
    "optimizer got an empty parameter list",
    "Expected to have finished reduction",
    "CUDA out of memory",
    "KeyError: 'VILT_PROMPT'",
    "it is not in the cache",
    "there is no token, or it is not valid",
    "holds more than tensors",
}


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.get_tokenizer(BASE)


@pytest.fixture(scope="module")
def model():
    return vilt_prompt.wrap(open_clip.create_model(BASE))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def scenario_loss(model, tokenizer, video, labels):
    criterion = vilt_prompt.ScenarioGuidedLoss(vilt_prompt.scenario_features(model, tokenizer, NAMES))
    return criterion(model.encode_video(video), model.encode_text(tokenizer(NAMES)), torch.tensor(labels))


def other_weights():
    torch.manual_seed(1)
    clip = open_clip.create_model(BASE)
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(torch.randn_like(parameter))
    return clip


VIDEO = torch.randn(1, 2, 3, 64, 64)
OF_A_BASE_IN_GELU = {"base_model": "ViT-B-16", "base_pretrained": "openai"}
CALLS = {
    "expected K in 1..12 (the number of prompted layers), got 13": lambda m, t, f: vilt_prompt.wrap(
        open_clip.create_model(BASE), K=13
    ),
    "got an unexpected keyword argument": lambda m, t, f: vilt_prompt.wrap(open_clip.create_model(BASE), n_ctxt=4),
    "the model is wrapped already": lambda m, t, f: vilt_prompt.wrap(m.get_base_model()),
    "cannot take prompts": lambda m, t, f: vilt_prompt.wrap(open_clip.create_model("RN50", device="meta")),
    "were trained with QuickGELU": lambda m, t, f: vilt_prompt.wrap(
        open_clip.create_model("ViT-B-16", device="meta"), **OF_A_BASE_IN_GELU
    ),
    "is a text, but the vocabulary of": lambda m, t, f: vilt_prompt.wrap(open_clip.create_model(BASE), ctx_init="a"),
    "must be of the model's size": lambda m, t, f: m.encode_video(torch.randn(1, 2, 3, 224, 224)),
    "must be float, as open_clip's preprocess returns it": lambda m, t, f: m.encode_video(VIDEO.byte()),
    "must be of shape (B, T, 3, H, W)": lambda m, t, f: m.encode_video(VIDEO[0]),
    "video is on": lambda m, t, f: m.encode_video(VIDEO.to("meta")),
    "text is on": lambda m, t, f: m.encode_text(t(NAMES).to("meta")),
    "is torch.float16, the model torch.float32": lambda m, t, f: m.encode_video(VIDEO.half()),
    "text must be a tensor of token ids": lambda m, t, f: m.encode_text(NAMES),
    "are left once the": lambda m, t, f: m.encode_text(t(["juggling five balls while walking " * 9])),
    "columns, the tower has": lambda m, t, f: m.encode_text(torch.zeros(1, 77, dtype=torch.long)),
    "frame_mask masks every frame": lambda m, t, f: m.encode_video(
        VIDEO, frame_mask=torch.zeros(1, 2, dtype=torch.bool)
    ),
    "labels must be in": lambda m, t, f: scenario_loss(m, t, VIDEO, [2]),
    "has NaN or infinite values": lambda m, t, f: scenario_loss(m, t, VIDEO * float("nan"), [1]),
    "does not record its base": lambda m, t, f: vilt_prompt.create_model_and_transforms(f),
    "was trained on another architecture": lambda m, t, f: vilt_prompt.from_pretrained(
        open_clip.create_model("ViT-B-32", device="meta"), f
    ),
    "was trained on other weights": lambda m, t, f: vilt_prompt.from_pretrained(other_weights(), f),
    "same weights, but other settings": lambda m, t, f: vilt_prompt.from_pretrained(
        open_clip.create_model_and_transforms(BASE, image_mean=(0.0, 0.0, 0.0))[0], f
    ),
    "there is no adapter": lambda m, t, f: m.set_adapter("other"),
    "one adapter can be active at a time": lambda m, t, f: m.set_adapter(["default", "other"]),
    "prompts cannot be merged into the weights": lambda m, t, f: m.merge_and_unload(),
}


@pytest.mark.parametrize("message", CALLS)
def test_the_call_raises_what_the_page_says(message, model, tokenizer, folder):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        CALLS[message](model, tokenizer, folder)


def test_every_message_of_the_page_is_tried():
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), flags=re.MULTILINE)
    messages = {message for row in rows for message in re.findall(r"`(.*?)`", row)}
    assert messages == CALLS.keys() | ELSEWHERE
