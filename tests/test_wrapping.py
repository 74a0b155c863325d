"""`wrap` and `unwrap`."""

from __future__ import annotations

import copy

import open_clip
import pytest
import torch

import vilt_prompt
from tests.support.architectures import build, class_ids, frames
from tests.support.cases import CARRIED
from tests.support.exactness import N_CTX, NAME_LENGTHS, assert_equal, randomise_prompts
from vilt_prompt import unwrap


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("architecture", ["4/4", "sin_cos", "custom_text", "attention_pool_parallel"])
def test_unwrap_gives_the_base_back_bit_for_bit(architecture, training):
    clip = build(architecture).train(training)
    clip.visual.lock(unlocked_groups=2)
    clip.visual.ln_post.train(not training)
    before = copy.deepcopy(clip)
    model = vilt_prompt.wrap(clip, n_ctx=N_CTX, **CARRIED)
    randomise_prompts(model)
    ids, images = class_ids(before, NAME_LENGTHS), frames(before, 3)
    (model.encode_text(ids).sum() + model.encode_image(images).sum()).backward()
    model.train(not training).requires_grad_(True)
    restored = vilt_prompt.unwrap(model)

    assert restored is clip
    assert vars(restored).keys() == vars(before).keys()
    assert [name for name, _ in restored.named_modules()] == [name for name, _ in before.named_modules()]
    assert list(restored.state_dict()) == list(before.state_dict())
    assert_equal(restored.state_dict().values(), before.state_dict().values())
    assert [p.requires_grad for p in restored.parameters()] == [p.requires_grad for p in before.parameters()]
    assert [m.training for m in restored.modules()] == [m.training for m in before.modules()]
    assert torch.equal(restored.encode_text(ids), before.encode_text(ids))
    assert torch.equal(restored.encode_image(images), before.encode_image(images))
    restored, before = restored.requires_grad_(False), before.requires_grad_(False)
    assert_equal(restored(images, ids), before(images, ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_vit_b_16_trains_864512_parameters_in_float32(dtype):
    with torch.device("meta"):
        clip = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16")).to(dtype)
    model = vilt_prompt.wrap(clip, K=6, n_ctx=10)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trainable) == 864_512
    assert model.get_nb_trainable_parameters()[0] == 864_512
    assert {parameter.dtype for parameter in trainable} == {torch.float32}


REFUSED = {
    "unwrap a model without prompts": (
        lambda w: unwrap(w.bare),
        TypeError,
        r"expected a model that wrap\(\) returned, still wrapped, got CLIP",
    ),
    "unwrap None": (lambda w: unwrap(None), TypeError, "still wrapped, got NoneType"),
    "unwrap twice": (
        lambda w: unwrap(w.unwrapped),
        TypeError,
        r"expected a model that wrap\(\) returned, still wrapped",
    ),
    "unwrap the object inside": (
        lambda w: unwrap(w.model.get_base_model()),
        TypeError,
        r"expected a model that wrap\(\) returned, still wrapped, got PromptedCLIP",
    ),
    "unwrap LoRA": (lambda w: unwrap(w.lora), TypeError, r"expected a model that wrap\(\) returned"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
