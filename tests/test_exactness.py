"""The library against the literal token-by-token computation: features, gradients, and what training may change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import vilt_prompt
from tests.reference.literal import (
    learnable_tensors,
    literal_encode_image,
    literal_encode_text,
    text_blocks,
    vision_blocks,
)
from tests.support import cases
from tests.support.architectures import (
    ARCHITECTURES,
    CONTEXT_LENGTH,
    FEATURES,
    build,
    class_ids,
    frames,
)
from tests.support.cases import CARRIED, FRESH, case_id
from tests.support.exactness import (
    FRAME_MASK,
    N_CTX,
    NAME_LENGTHS,
    Reference,
    assert_exact,
    assert_same_gradients,
    frozen_copy,
    gradients,
    randomise_prompts,
    relative_error,
    wrap_tiny,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_literal_computation_without_prompts_is_the_base_model(architecture):
    clip = build(architecture)
    ids, images = class_ids(clip, NAME_LENGTHS), frames(clip, 3)
    text = literal_encode_text(clip, ids, [None] * len(text_blocks(clip)))
    image = literal_encode_image(clip, images, [None] * len(vision_blocks(clip)))
    assert relative_error(text, clip.encode_text(ids)) <= 1e-6
    assert relative_error(image, clip.encode_image(images).flatten(1)) <= 1e-6


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=case_id)
def test_literal_prompts_move_the_features_and_padding_does_not(settings):
    _, reference = wrap_tiny("4/4", **settings)
    ids, images = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 3)
    text, image = reference.encode_text(ids), reference.encode_image(images)
    assert relative_error(text, reference.base.encode_text(ids)) > 0.1
    assert relative_error(image, reference.base.encode_image(images)) > 0.1

    padded = ids.clone()
    for row, length in zip(padded, NAME_LENGTHS, strict=True):
        row[length + 2 :] = 7
    assert relative_error(reference.encode_text(padded), text) <= 1e-6


@pytest.fixture(
    scope="module",
    params=cases.ALL,
    ids=lambda case: f"{case[0]}-{case_id(case[1])}",
)
def setting(request):
    architecture, settings = request.param
    return settings, *wrap_tiny(architecture, **settings)


def test_settings(setting):
    _, model, reference = setting
    assert_exact(model, reference)


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
@pytest.mark.parametrize("architecture", FEATURES)
def test_architectures(architecture, settings):
    assert_exact(*wrap_tiny(architecture, **settings))


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("12/12", {"K": 6}),
        ("24/12", {"K": 4, "depth": 6}),
        ("10/12", {"method": "maple"}),
        ("4/4", {"K": 2, "mapper": "per_layer"}),
        *((architecture, {"K": 1, "depth": 3}) for architecture in FEATURES),
    ],
    ids=case_id,
)
def test_float64(architecture, settings):
    assert_exact(*wrap_tiny(architecture, torch.float64, **settings))


TEXT_CASES = {
    "equal lengths": ([3, 3, 3], CONTEXT_LENGTH),
    "one class": ([2], CONTEXT_LENGTH),
    "one class without a name": ([0], CONTEXT_LENGTH),
    "short rows": ([1, 4, 2], 8),
    "rows that end with the end token": ([6, 6], 8),
    "rows longer than the room that is left": ([1, 5], CONTEXT_LENGTH - 1),
    "the longest name that fits": ([1, CONTEXT_LENGTH - N_CTX - 2], CONTEXT_LENGTH),
    "the longest name in the shortest rows": ([CONTEXT_LENGTH - N_CTX - 2, 2], CONTEXT_LENGTH - N_CTX),
}


@pytest.mark.parametrize("settings", [{"K": 2, "depth": 3}, {"method": "maple"}], ids=case_id)
@pytest.mark.parametrize("architecture", ["4/4", "custom_text_eos_pool"])
@pytest.mark.parametrize("case", TEXT_CASES)
def test_text_rows(case, architecture, settings):
    model, reference = wrap_tiny(architecture, **settings)
    ids = class_ids(reference.base, *TEXT_CASES[case])
    got, want = model.encode_text(ids), reference.encode_text(ids)
    assert relative_error(got, want) <= 1e-5
    got_gradients, want_gradients = gradients(learnable_tensors(model), got), gradients(reference.tensors, want)
    assert_same_gradients(got_gradients, want_gradients, 1e-4, reference.settings["mapper"])


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
def test_without_gradients_the_features_are_the_same(settings, guard):
    model, reference = wrap_tiny("12/12", **settings)
    ids, images = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 3)
    with guard():
        text, image = model.encode_text(ids), model.encode_image(images)
        assert not text.requires_grad
        assert not image.requires_grad
        assert relative_error(text, reference.encode_text(ids)) <= 1e-5
        assert relative_error(image, reference.encode_image(images)) <= 1e-5


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
def test_training_mode_changes_nothing(settings):
    model, reference = wrap_tiny("4/4", **settings)
    model.train()
    assert_exact(model, reference)


@pytest.mark.slow
@pytest.mark.one_graph
def test_compiled_where_no_value_can_be_read_the_features_are_the_same():
    model, reference = wrap_tiny("2/2", K=1, depth=1)
    ids, video = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 2, 3)
    encode_text = torch.compile(model.get_base_model().encode_text, backend="eager", fullgraph=True)
    encode_video = torch.compile(model.get_base_model().encode_video, backend="eager", fullgraph=True)
    assert relative_error(encode_text(ids), reference.encode_text(ids)) <= 1e-5
    masked = encode_video(video, frame_mask=FRAME_MASK)
    assert relative_error(masked, reference.encode_video(video, FRAME_MASK)) <= 1e-5


@pytest.mark.parametrize("settings", [CARRIED, {"method": "maple"}, FRESH], ids=case_id)
def test_a_step_of_the_optimiser_changes_the_prompts_and_maps_only(settings):
    model, reference = wrap_tiny("attention_pool", **settings)
    ids, video = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 2, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learnable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(learnable) == len(learnable_tensors(model))

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    model.train()
    logits = model.encode_video(video, normalize=True) @ model.encode_text(ids, normalize=True).T
    nn.functional.cross_entropy(logits / 0.07, torch.tensor([0, 3])).backward()
    optimiser.step()

    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == learnable
    assert_exact(model, Reference(reference.base, model, {"n_ctx": N_CTX, **settings}))


def test_half_precision_base():
    clip = build("4/4").bfloat16()
    base = frozen_copy(clip).float()
    model = vilt_prompt.wrap(clip, K=1, n_ctx=N_CTX, depth=2)
    randomise_prompts(model)
    reference = Reference(base, model, {"K": 1, "n_ctx": N_CTX, "depth": 2})
    ids, images = class_ids(base, NAME_LENGTHS), frames(base, 3)
    text, image = model.encode_text(ids), model.encode_image(images.bfloat16())
    assert text.dtype == image.dtype == torch.bfloat16
    assert relative_error(text.float(), reference.encode_text(ids)) <= 0.1
    assert relative_error(image.float(), reference.encode_image(images)) <= 0.1
    (text.float().sum() + image.float().sum()).backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in learnable_tensors(model).values())
