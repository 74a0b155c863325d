"""Exactness where few go: blocks that run whole, names of repeated words, towers without prompts, first values."""

from __future__ import annotations

import math

import open_clip
import pytest
import torch
from torch import nn

import vilt_prompt
from tests.reference.literal import learnable_tensors, literal_encode_text, text_blocks
from tests.support import zoo
from tests.support.architectures import CONTEXT_LENGTH, END, START, build, class_ids, frames
from tests.support.exactness import assert_exact, relative_error, with_reference, wrap_tiny
from tests.towers.test_families import ids_with_room, wrapped_with_reference
from vilt_prompt.towers.open_clip_blocks import OpenClipBlock


def of_unknown_kind(model: nn.Module) -> nn.Module:
    """Gives the attentions a class that no piece of the library knows, so that their blocks run whole."""
    for module in model.modules():
        if type(module) in (nn.MultiheadAttention, open_clip.transformer.Attention):
            module.__class__ = type("Unknown", (type(module),), {})
    return model


@pytest.mark.parametrize("name", ["vit", "custom_blocks"])
@pytest.mark.parametrize("unknown", ["block", "attention", "projections"])
def test_only_blocks_of_known_classes_are_taken_apart(name, unknown):
    """A subclass may compute something else; torch's attention for keys of another width has three matrices."""
    block = zoo.build(name).visual.transformer.resblocks[0]
    assert OpenClipBlock.fits(block)
    if unknown == "block":
        block.__class__ = type("Unknown", (type(block),), {})
    elif unknown == "attention":
        block.attn.__class__ = type("Unknown", (type(block.attn),), {})
    else:
        block.attn.in_proj_weight = None
    assert not OpenClipBlock.fits(block)


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("name", ["vit", "coca", "clipa", "custom_blocks", "coca_custom", "text_no_pool_causal"])
def test_blocks_of_an_unknown_kind_run_whole(name, settings):
    model, reference = wrapped_with_reference(name, **settings)
    assert_exact(of_unknown_kind(model), reference, ids_with_room(name))


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["in pieces", "whole"])
@pytest.mark.parametrize("name", ["vit", "coca"])
def test_texts_of_different_starts(name, whole, settings):
    model, reference = wrapped_with_reference(name, **settings)
    ids = ids_with_room(name).clone()
    ids[1, 0], ids[2, 0] = 5, 6
    assert_exact(of_unknown_kind(model) if whole else model, reference, ids)


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["in pieces", "whole"])
@pytest.mark.parametrize("name", ["text_first_without_mask", "text_eos_without_mask", "siglip2"])
def test_a_tower_that_masks_its_padding(name, whole, settings):
    clip, ids = zoo.build(name), ids_with_room(name)
    unmasked = clip.encode_text(ids)
    clip.text.use_pad_mask = True
    assert relative_error(clip.encode_text(ids), unmasked) > 1e-3
    model, reference = with_reference(clip, n_ctx=3, **settings)
    assert_exact(of_unknown_kind(model) if whole else model, reference, ids)


@pytest.mark.parametrize("names", [[[5, 5, 5], [5, 5]], [[5, 5], [7, 5], [5], [5, 5, 7, 7, 7]], [[99 - 4] * 9, []]])
def test_words_that_repeat(names):
    model, reference = wrap_tiny("4/4", K=2)
    ids = torch.zeros(len(names), CONTEXT_LENGTH, dtype=torch.long)
    for row, name in zip(ids, names, strict=True):
        row[: len(name) + 2] = torch.tensor([START, *name, END])
    assert_exact(model, reference, ids)


@pytest.mark.parametrize("lengths", [[3], [3, 3], [1, 3, 2]], ids=str)
@pytest.mark.parametrize("whole", [False, True], ids=["in pieces", "whole"])
def test_short_texts_without_any_prompt(lengths, whole):
    """open_clip itself takes texts of its full length alone."""
    model, reference = wrap_tiny("4/4", K=2)
    whole and of_unknown_kind(model)
    full = class_ids(reference.base, lengths)
    short = class_ids(reference.base, lengths, columns=9)
    want = literal_encode_text(reference.base, full, [None] * len(text_blocks(reference.base)))
    with model.disable_adapter():
        assert relative_error(model.encode_text(short), want) <= 1e-5


def test_gradients_of_some_tensors_alone_under_checkpointing():
    """torch's older kind of checkpoint refuses `torch.autograd.grad`."""
    model, reference = wrap_tiny("4/4", K=2)
    model.set_grad_checkpointing(True)
    tensors = list(learnable_tensors(model).values())
    features = model.encode_image(frames(reference.base, 2))
    assert any(gradient.any() for gradient in torch.autograd.grad(features.sum(), tensors, materialize_grads=True))


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
