"""A family that the library does not know is one class in a file and one entry in a list; nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from open_clip import CustomTextCLIP
from torch import nn

import vilt_prompt
from tests.reference.literal import learnable_tensors, literal_prompts
from tests.support import architectures
from tests.support.exactness import GRADIENT_TOLERANCE, assert_equal, assert_same_gradients, gradients, relative_error
from tests.support.state import state
from tests.support.toy_towers import (
    COLUMNS,
    IMAGE,
    LAYERS,
    WORDS,
    ToyImageTower,
    ToyTextModule,
    ToyTextTower,
    literal_image,
    literal_text,
    toy_clip,
)
from vilt_prompt.towers import families as towers

N_CTX = 2
IDS = torch.randint(WORDS, (4, COLUMNS - N_CTX), generator=torch.Generator().manual_seed(0))
VIDEO = torch.randn(2, 3, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(1))
SETTINGS = {"fresh": {"K": 2, "depth": None}, "carried": {"K": 1, "depth": 2}}


@pytest.fixture
def registered(monkeypatch):
    """The one line for each family."""
    monkeypatch.setattr(towers, "VISION_TOWERS", [*towers.VISION_TOWERS, ToyImageTower])
    monkeypatch.setattr(towers, "TEXT_TOWERS", [*towers.TEXT_TOWERS, ToyTextTower])


def wrapped(**settings) -> torch.nn.Module:
    torch.manual_seed(3)
    model = vilt_prompt.wrap(toy_clip(), n_ctx=N_CTX, **settings)
    with torch.no_grad():
        for tensor in learnable_tensors(model).values():
            tensor.copy_(0.5 * torch.randn(tensor.shape))
    return model


def prompts_of(tensors: dict, K: int, depth: int | None) -> tuple[list, list]:
    """What enters each layer of both towers according to the literal table."""
    depths = {"text_depth": depth or LAYERS, "vision_depth": depth or LAYERS}
    structure = {"towers": "both", "lead": "split", "mapper": "shared", "pairing": "layer"}
    return literal_prompts(tensors, text_layers=LAYERS, vision_layers=LAYERS, K=K, **depths, **structure)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_features_and_gradients_equal_the_literal_computation(registered, settings):
    model, base = wrapped(**settings), toy_clip()
    tensors = {name: tensor.detach().clone().requires_grad_() for name, tensor in learnable_tensors(model).items()}
    pairs = [
        (model.encode_text(IDS), lambda text, _: literal_text(base, IDS, text)),
        (model.encode_image(VIDEO[0]), lambda _, vision: literal_image(base, VIDEO[0], vision)),
        (
            model.encode_video(VIDEO),
            lambda _, vision: torch.stack([literal_image(base, video, vision).mean(0) for video in VIDEO]),
        ),
    ]
    for got, literal in pairs:
        want = literal(*prompts_of(tensors, **settings))
        assert relative_error(got, want) <= 1e-5
        want_gradients = gradients(tensors, want)
        got_gradients = gradients(learnable_tensors(model), got)
        assert_same_gradients(got_gradients, want_gradients, GRADIENT_TOLERANCE[torch.float32], "shared")
    assert relative_error(model.encode_text(IDS), base.encode_text(IDS)) > 1e-2
    assert relative_error(model.encode_image(VIDEO[0]), base.encode_image(VIDEO[0])) > 1e-2


def test_disabled_and_unwrapped_it_is_the_base_bit_for_bit(registered):
    clip = toy_clip()
    base = copy.deepcopy(clip)
    model = vilt_prompt.wrap(clip, K=2, n_ctx=N_CTX)
    with model.disable_adapter():
        assert torch.equal(model.encode_text(IDS), base.encode_text(IDS))
        assert torch.equal(model.encode_image(VIDEO[0]), base.encode_image(VIDEO[0]))
    assert vilt_prompt.unwrap(model) is clip
    assert list(clip.state_dict()) == list(base.state_dict())
    assert_equal(clip.state_dict().values(), base.state_dict().values())
    assert torch.equal(clip.encode_text(IDS), base.encode_text(IDS))


def test_save_and_load(registered, tmp_path):
    model = wrapped(K=2)
    model.save_pretrained(tmp_path)
    loaded = vilt_prompt.from_pretrained(toy_clip(), tmp_path)
    assert torch.equal(loaded.encode_text(IDS), model.encode_text(IDS))
    assert torch.equal(loaded.encode_video(VIDEO), model.encode_video(VIDEO))


def test_its_errors_are_those_of_the_others(registered):
    model = wrapped(K=2)
    with pytest.raises(ValueError, match=rf"a text takes {COLUMNS} tokens, but {COLUMNS - N_CTX} are left"):
        model.encode_text(IDS[:, :1].expand(-1, COLUMNS))
    with pytest.raises(ValueError, match=rf"expected depth in 1\.\.{LAYERS} "):
        vilt_prompt.wrap(toy_clip(), K=2, depth=LAYERS + 1)


@pytest.mark.parametrize(
    ("settings", "tower", "known"),
    [
        ({"K": 2}, "vision tower ToyImageModule", "VisionTransformer, Eva, VisionTransformerRelPos"),
        ({"method": "coop"}, "text tower ToyTextModule", "CLIP, TextTransformer, HFTextEncoder"),
    ],
    ids=["vision", "text"],
)
def test_without_the_line_the_error_leads_to_the_page(settings, tower, known):
    model = toy_clip().train()
    before = state(model)
    message = f"the {tower} cannot take prompts: it belongs to no known family.*: {known}; .*{towers.ADD_A_TOWER}"
    with pytest.raises(ValueError, match=message):
        vilt_prompt.wrap(model, **settings)
    assert state(model) == before


def test_the_tower_beside_the_prompted_one_may_be_of_any_kind():
    text_alone = CustomTextCLIP(24, architectures.VISION, architectures.TEXT)
    text_alone.visual = nn.Sequential(nn.Flatten(), nn.Linear(3 * IMAGE * IMAGE, 24))  # no convolution to compare with
    want = text_alone.encode_image(VIDEO[0])
    model = vilt_prompt.wrap(text_alone, method="coop", n_ctx=N_CTX)
    assert torch.equal(model.encode_image(VIDEO[0]), want)
    torch.testing.assert_close(model.encode_video(VIDEO)[0], want.mean(0))

    vision_alone = CustomTextCLIP(24, architectures.VISION, architectures.TEXT)
    vision_alone.text = ToyTextModule(24)
    want = vision_alone.encode_text(IDS)
    model = vilt_prompt.wrap(vision_alone, method="vpt_deep", n_ctx=N_CTX)
    assert torch.equal(model.encode_text(IDS), want)


def test_the_page_exists():
    page, heading = towers.ADD_A_TOWER.split(", ")
    assert f"\n## {heading}\n" in (Path(towers.__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
