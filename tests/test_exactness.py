"""The library against the literal token-by-token computation: features, gradients, and what training may change."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import open_clip
import pytest
import torch
from torch import Tensor, nn

import vilt_prompt
from tests.reference.literal import (
    METHODS,
    learnable_tensors,
    literal_encode_image,
    literal_encode_text,
    text_blocks,
    vision_blocks,
)
from tests.support import zoo
from tests.support.architectures import (
    ARCHITECTURES,
    CONTEXT_LENGTH,
    DEPTHS,
    END,
    FEATURES,
    build,
    class_ids,
    eos_pooled_id,
    frames,
)
from tests.support.exactness import (
    FRAME_MASK,
    N_CTX,
    NAME_LENGTHS,
    Reference,
    assert_equal,
    assert_exact,
    assert_same_gradients,
    frozen_copy,
    gradients,
    randomise_prompts,
    relative_error,
    wrap_tiny,
)

# Layers paired by relative depth, in towers where the deeper one is the vision tower, the text tower, or neither.
PROPORTIONAL_CASES = [
    (architecture, {"pairing": "proportional", **settings})
    for architecture in ("24/12", "10/12", "4/4", "5/3")
    for settings in ({"K": 1}, {"K": None}, {"K": 3}, {"K": 2, "mapper": "per_layer"}, {"method": "maple"})
]


def depth_cases() -> list:
    """Where the split, the depth and the carried layers may lie, for each pair of tower depths."""
    cases = []
    for architecture in DEPTHS:
        shallowest = min(int(layers) for layers in architecture.split("/"))
        for settings in (
            {"K": 1},
            {"K": shallowest, "n_ctx": 1},
            {"K": 2, "depth": shallowest - 1},
            {"K": 1, "depth": 1},
        ):
            cases.append((architecture, settings))
        for method in METHODS:
            if method != "vilt":
                cases.append((architecture, {"method": method}))
    return cases


SETTING_CASES = [
    {"K": None},
    {"K": None, "depth": 1},
    {"K": 3, "depth": 3, "mapper": "per_layer"},
    {"method": "vilt", "K": 2, "depth": 3, "mapper": "per_layer"},
    {"method": "maple", "depth": 2, "n_ctx": 1},
    {"method": "maple", "mapper": "shared"},
    {"method": "independent", "depth": 2, "n_ctx": 1, "n_ctx_vision": 4},
    {"method": "independent", "towers": "text", "depth": 3},
    {"method": "independent", "towers": "vision", "depth": 3},
    {"method": "coop", "depth": 3},
    {"method": "vpt_shallow", "n_ctx_vision": 2},
    {"method": "vpt_deep", "depth": 2},
]

# One setting whose prompts are carried in both towers, one whose last layers have fresh prompts.
CARRIED = {"K": 1, "depth": 2}
FRESH = {"method": "independent", "n_ctx": 1, "n_ctx_vision": 2}


def case_id(value) -> str | None:
    return "-".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else None


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


# The method's default depth holds whatever else is overridden, in towers of unequal depth too.
UNEQUAL_CASES = [
    ("24/12", {"lead": "own", "mapper": "none"}),
    ("24/12", {"towers": "vision", "lead": "own", "mapper": "none"}),
    ("10/12", {"towers": "text", "lead": "own", "mapper": "none"}),
    ("10/12", {"method": "maple", "towers": "text", "lead": "own", "mapper": "none"}),
    ("24/12", {"method": "independent", "depth": 11}),
]


@pytest.fixture(
    scope="module",
    params=depth_cases() + PROPORTIONAL_CASES + [("4/4", settings) for settings in SETTING_CASES] + UNEQUAL_CASES,
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
    "rows longer than what is left": ([1, 5], CONTEXT_LENGTH - 1),
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


def test_a_name_one_token_longer_than_the_longest_that_fits_is_refused():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, [1, CONTEXT_LENGTH - N_CTX - 1])
    with pytest.raises(ValueError, match=f"context_length={CONTEXT_LENGTH - N_CTX}"):
        model.encode_text(ids)


@pytest.mark.parametrize("architecture", ["4/4", "eos_pool"])
def test_rows_padded_with_the_end_token_are_pooled_at_the_first(architecture):
    model, reference = wrap_tiny(architecture, **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS)
    end = eos_pooled_id(reference.base) or END
    padded = ids.masked_fill(ids == 0, end)
    assert relative_error(model.encode_text(padded), reference.encode_text(ids)) <= 1e-5


def test_the_longest_text_that_fits():
    model, _ = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(build("4/4"), [CONTEXT_LENGTH - N_CTX - 2], CONTEXT_LENGTH - N_CTX)
    assert model.encode_text(ids).shape == (1, 24)


def test_a_short_context_length_will_do_without_prompts_too():
    ids = class_ids(build("4/4"), [1, 3, 2])
    vpt, _ = wrap_tiny("4/4", method="vpt_deep")
    torch.testing.assert_close(vpt.encode_text(ids[:, :6]), vpt.encode_text(ids))
    model, _ = wrap_tiny("4/4", **CARRIED)
    with model.disable_adapter():
        torch.testing.assert_close(model.encode_text(ids[:, :6]), model.encode_text(ids))


def test_a_tower_that_pools_the_last_column_takes_fewer_without_prompts_too():
    model, reference = wrap_tiny("last_pool", **CARRIED)
    ids = class_ids(reference.base, [1, 3, 2], 10)
    with model.disable_adapter():
        features = model.encode_text(ids)
    literal = literal_encode_text(reference.base, ids, [None] * 4)
    torch.testing.assert_close(features, literal, rtol=1e-5, atol=1e-6)


def test_a_convolutional_tower_goes_on_taking_other_sizes():
    model = vilt_prompt.wrap(zoo.build("convnext"), method="coop")
    size = model.visual.image_size[0]
    assert model.encode_image(torch.randn(2, 3, size + 32, size + 32)).shape == (2, 24)


def test_rows_may_start_with_different_tokens():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS)
    ids[1, 0], ids[3, 0] = 5, 6
    got, want = model.encode_text(ids), reference.encode_text(ids)
    assert relative_error(got, want) <= 1e-5
    got_gradients, want_gradients = gradients(learnable_tensors(model), got), gradients(reference.tensors, want)
    assert_same_gradients(got_gradients, want_gradients, 1e-4, "shared")


@pytest.mark.parametrize("columns", [9, CONTEXT_LENGTH - N_CTX])
def test_last_pool_takes_the_last_column(columns):
    model, reference = wrap_tiny("last_pool", **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS, columns)
    assert relative_error(model.encode_text(ids), reference.encode_text(ids)) <= 1e-5


def test_a_class_does_not_depend_on_the_others():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, [1, 9, 4, 4, 0])
    together = model.encode_text(ids)
    apart = torch.cat([model.encode_text(row[None]) for row in ids])
    assert relative_error(together, apart) <= 1e-5
    order = torch.tensor([3, 0, 4, 2, 1])
    assert relative_error(model.encode_text(ids[order]), together[order]) <= 1e-5


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


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
def test_patch_dropout_drops_no_prompt(settings):
    model, reference = wrap_tiny("patch_dropout", **settings)
    model.train()
    reference.base.train()
    images = frames(reference.base, 3)
    torch.manual_seed(0)
    got = model.encode_image(images)
    torch.manual_seed(0)
    want = reference.encode_image(images)
    assert relative_error(got, want) <= 1e-5
    assert relative_error(want, model.eval().encode_image(images)) > 0.1


@pytest.mark.parametrize("architecture", ["4/4", "mean_pool", "attention_pool"])
@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
def test_visual_prompts_may_be_permuted(architecture, settings):
    model, reference = wrap_tiny(architecture, **{**settings, "method": "independent", "n_ctx": 4, "n_ctx_vision": 4})
    images = frames(reference.base, 3)
    before = model.encode_image(images)
    prompts = learnable_tensors(model)["vilt_vision"]
    with torch.no_grad():
        for layer in range(len(prompts)):
            prompts[layer] = prompts[layer][torch.tensor([2, 0, 3, 1]).roll(layer)]
    assert relative_error(model.encode_image(images), before) <= 1e-5
    with torch.no_grad():
        prompts[:, 0] = 0.5
    assert relative_error(model.encode_image(images), before) > 1e-2


def test_video_is_the_mean_over_its_frames():
    model, reference = wrap_tiny("4/4", **CARRIED)
    video = frames(reference.base, 2, 3)
    per_frame = model.encode_video(video, pool=False)
    assert per_frame.shape == (2, 3, 24)
    for index, clip_frames in enumerate(video):
        assert relative_error(per_frame[index], reference.encode_image(clip_frames)) <= 1e-5
    pooled = model.encode_video(video)
    assert relative_error(pooled, reference.encode_video(video)) <= 1e-5
    normalised = model.encode_video(video, normalize=True)
    assert relative_error(normalised, nn.functional.normalize(reference.encode_video(video), dim=-1)) <= 1e-5
    for frames_per_chunk in (1, 2, 5, 6, 100):
        assert relative_error(model.encode_video(video, frames_per_chunk=frames_per_chunk), pooled) <= 1e-5
        chunked = model.encode_video(video, frames_per_chunk=frames_per_chunk, pool=False)
        assert relative_error(chunked, per_frame) <= 1e-5


def test_masked_frames_play_no_part():
    model, reference = wrap_tiny("4/4", **CARRIED)
    video = frames(reference.base, 2, 3)
    masked = model.encode_video(video, frame_mask=FRAME_MASK)
    assert relative_error(masked, model.encode_video(video)) > 0.1
    other = torch.where(FRAME_MASK[:, :, None, None, None], video, torch.nan)
    assert relative_error(model.encode_video(other, frame_mask=FRAME_MASK), masked) <= 1e-5
    every = torch.ones(2, 3, dtype=torch.bool)
    assert relative_error(model.encode_video(video, frame_mask=every), model.encode_video(video)) <= 1e-6


def test_compiled_where_no_value_can_be_read_the_features_are_the_same():
    model, reference = wrap_tiny("2/2", K=1, depth=1)
    ids, video = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 2, 3)
    encode_text = torch.compile(model.get_base_model().encode_text, backend="eager", fullgraph=True)
    encode_video = torch.compile(model.get_base_model().encode_video, backend="eager", fullgraph=True)
    assert relative_error(encode_text(ids), reference.encode_text(ids)) <= 1e-5
    masked = encode_video(video, frame_mask=FRAME_MASK)
    assert relative_error(masked, reference.encode_video(video, FRAME_MASK)) <= 1e-5


@pytest.mark.parametrize("logit_bias", [None, -3.0])
@pytest.mark.parametrize("architecture", ["4/4", "custom_text"])
def test_forward_gives_what_open_clip_gives(architecture, logit_bias):
    model, reference = wrap_tiny(architecture, model={"init_logit_bias": logit_bias}, **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS)
    images, video = frames(reference.base, 3), frames(reference.base, 2, 3)
    want_text = nn.functional.normalize(reference.encode_text(ids), dim=-1)
    want_images = nn.functional.normalize(reference.encode_image(images), dim=-1)
    want_video = nn.functional.normalize(reference.encode_video(video, FRAME_MASK), dim=-1)

    outputs = model(images, ids)
    assert len(outputs) == len(reference.base(images, ids))
    assert relative_error(outputs[0], want_images) <= 1e-5
    assert relative_error(outputs[1], want_text) <= 1e-5
    assert_equal(outputs[2:], reference.base(images, ids)[2:])
    assert relative_error(model(image=images)[0], want_images) <= 1e-5
    assert relative_error(model(video=video, text=ids, frame_mask=FRAME_MASK)[0], want_video) <= 1e-5
    assert relative_error(model(text=ids)[1], want_text) <= 1e-5
    assert model(text=ids)[0] is None

    clip = model.get_base_model()
    clip.output_dict = True
    outputs = model(video, ids, frame_mask=FRAME_MASK)
    reference.base.output_dict = True
    assert outputs.keys() == reference.base(images, ids).keys()
    assert relative_error(outputs["image_features"], want_video) <= 1e-5
    assert relative_error(outputs["text_features"], want_text) <= 1e-5


def test_the_open_clip_object_gives_prompted_features():
    clip = build("4/4")
    base = frozen_copy(clip)
    model = vilt_prompt.wrap(clip, K=1, n_ctx=N_CTX, depth=2)
    randomise_prompts(model)
    reference = Reference(base, model, {"K": 1, "n_ctx": N_CTX, "depth": 2})
    ids, images = class_ids(base, NAME_LENGTHS), frames(base, 3)
    assert relative_error(clip.encode_text(ids), reference.encode_text(ids)) <= 1e-5
    assert relative_error(clip.encode_image(images), reference.encode_image(images)) <= 1e-5
    image_features, text_features, _ = clip(images, ids)
    assert relative_error(image_features, nn.functional.normalize(reference.encode_image(images), dim=-1)) <= 1e-5
    assert relative_error(text_features, nn.functional.normalize(reference.encode_text(ids), dim=-1)) <= 1e-5
    unit_text = nn.functional.normalize(reference.encode_text(ids), dim=-1)
    assert relative_error(model.encode_text(ids, normalize=True), unit_text) <= 1e-5
    assert relative_error(clip.encode_text(ids, normalize=True), unit_text) <= 1e-5


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


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("guard", [nullcontext, torch.no_grad], ids=["grad", "no_grad"])
@pytest.mark.parametrize("architecture", ["4/4", "custom_text", "attention_pool", "layer_scale"])
def test_disable_adapter_is_the_base_bit_for_bit(architecture, guard, training):
    model, reference = wrap_tiny(architecture, **CARRIED)
    model.train(training)
    base = reference.base.train(training)
    ids, images = class_ids(base, NAME_LENGTHS), frames(base, 3)
    requires_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with guard():
        prompted = model.encode_text(ids), model.encode_image(images)
        with model.disable_adapter():
            assert torch.equal(model.encode_text(ids), base.encode_text(ids))
            assert torch.equal(model.encode_image(images), base.encode_image(images))
            assert_equal(model(images, ids), base(images, ids))
        assert torch.equal(model.encode_text(ids), prompted[0])
        assert torch.equal(model.encode_image(images), prompted[1])
    assert relative_error(prompted[0], base.encode_text(ids)) > 0.1
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == requires_grad


def test_disable_adapter_leaves_a_frozen_adapter_frozen():
    model, _ = wrap_tiny("4/4", **CARRIED)
    model.requires_grad_(False)
    with model.disable_adapter():
        pass
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_disable_adapter_runs_rows_that_leave_no_room_for_prompts():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, [CONTEXT_LENGTH - 2, 3])
    with model.disable_adapter():
        assert torch.equal(model.encode_text(ids), reference.base.encode_text(ids))


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


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
@pytest.mark.parametrize("architecture", ["4/4", "custom_text", "mean_pool"])
def test_gradient_checkpointing(architecture, settings):
    model, reference = wrap_tiny(architecture, **settings)
    model.train()
    ids, images = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 3)

    def saved_tensors() -> int:
        count = 0

        def count_saved(tensor: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count_saved, lambda tensor: tensor):
            model.encode_text(ids)
            model.encode_image(images)
        return count

    plain = saved_tensors()
    model.set_grad_checkpointing(True)
    assert saved_tensors() < plain / 2
    assert_exact(model, reference)
    model.set_grad_checkpointing(False)
    assert saved_tensors() == plain


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_carried_prompts_speak_to_the_layers_beyond(depth):
    """The blocks up to the depth are made deaf to other tokens, so that only what is carried on can matter."""
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
