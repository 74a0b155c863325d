"""Which prompt enters which layer, and the maps between the towers: Eq. 10 and 11."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import vilt_prompt
from tests.reference.literal import learnable_tensors, text_blocks, vision_blocks
from tests.support import cases
from tests.support.architectures import build, class_ids, frames
from tests.support.cases import case_id
from tests.support.exactness import N_CTX, NAME_LENGTHS, randomise_prompts, relative_error, wrap_tiny


@pytest.fixture(
    scope="module",
    params=cases.ALL,
    ids=lambda case: f"{case[0]}-{case_id(case[1])}",
)
def setting(request):
    architecture, settings = request.param
    return settings, *wrap_tiny(architecture, **settings)


def test_table(setting):
    settings, model, reference = setting
    tensors = learnable_tensors(model)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == reference.shapes()
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(tensor) for tensor in tensors.values()}

    prompts = model.layer_prompts()
    for ours, literal in zip((prompts.text, prompts.vision), reference.prompts(), strict=True):
        assert len(ours) == len(literal)
        assert [prompt is None for prompt in ours] == [prompt is None for prompt in literal]
        for got, want in zip(ours, literal, strict=True):
            if want is not None:
                assert relative_error(got, want) <= 1e-6
                assert got.requires_grad

    config = model.peft_config["default"]
    for name in ("towers", "lead", "mapper", "K"):
        assert getattr(config, name) == reference.settings[name], name
    depth = reference.settings["text_depth"] or reference.settings["vision_depth"]
    if settings.get("pairing") == "proportional":
        assert config.depth is None
    elif settings.get("method") != "independent" or "depth" in settings:
        assert config.depth == depth


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_carried_prompts_speak_to_the_layers_beyond(depth):
    """Blocks up to the depth ignore other tokens, so that only carried prompts can have an effect."""
    clip = build("4/4")
    for block in [*text_blocks(clip)[:depth], *vision_blocks(clip)[:depth]]:
        nn.init.zeros_(block.attn.out_proj.weight)
        nn.init.zeros_(block.attn.out_proj.bias)
    model = vilt_prompt.wrap(clip, method="independent", n_ctx=N_CTX, depth=depth)
    randomise_prompts(model)
    ids, images = class_ids(clip, NAME_LENGTHS), frames(clip, 3)
    text, image = model.encode_text(ids), model.encode_image(images)
    (text.sum() + image.sum()).backward()
    for name, prompts in learnable_tensors(model).items():
        assert prompts.grad[depth - 1].abs().max() > 1e-3, name
        assert not prompts.grad[: depth - 1].any(), f"{name}: a replaced prompt cannot matter"

    with torch.no_grad():
        for prompts in learnable_tensors(model).values():
            prompts[depth - 1] = prompts[depth - 1].flip(-1)
    assert relative_error(model.encode_text(ids), text) > 1e-2
    assert relative_error(model.encode_image(images), image) > 1e-2


@pytest.mark.parametrize("mapper", ["shared", "per_layer"])
def test_maps_start_as_linear_layers_do(mapper):
    torch.manual_seed(0)
    model = vilt_prompt.wrap(build("12/12"), K=6, n_ctx=10, mapper=mapper)
    for name, tensor in learnable_tensors(model).items():
        if name.startswith(("vilt_F.", "vilt_F_tilde.")):
            bound = 1 / math.sqrt({"vilt_F": 32, "vilt_F_tilde": 48}[name.split(".")[0]])
            assert 0.9 * bound < tensor.abs().max() <= bound, name
            assert tensor.min() < -0.8 * bound, name
            assert tensor.max() > 0.8 * bound, name
        else:
            assert tensor.std().item() == pytest.approx(0.02, rel=0.1), name
            assert abs(tensor.mean().item()) < 0.002, name
