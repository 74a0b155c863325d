"""Every kind of tower of open_clip's zoo, and what its classes allow beside it, through one matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import vilt_prompt
from tests.reference.literal import (
    learnable_tensors,
    literal_encode_text,
    text_blocks,
)
from tests.support.every_tower import (
    LENGTHS,
    N_CTX,
    NO_CROP,
    TEXT_SEES_PROMPTS,
    WITH_VIT,
    ids_with_room,
    wrapped_with_reference,
)
from tests.support.exactness import (
    assert_equal,
    assert_exact,
    assert_same_gradients,
    gradients,
    randomise_prompts,
    relative_error,
)
from tests.support.refusals import tokenizer
from tests.support.zoo import WITHOUT_VIT, build, frames, text_ids
from vilt_prompt import wrap


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"method": "independent"}], ids=str)
@pytest.mark.parametrize("name", TEXT_SEES_PROMPTS)
def test_features_and_gradients_equal_the_literal_computation(name, settings):
    model, reference = wrapped_with_reference(name, **settings)
    assert_exact(model, reference, ids_with_room(name))


# -- Nothing but the prompts: the base itself, and what moves -------------------------------------------------------


def both_features(model, name: str):
    images = frames(model, 2)
    return model.encode_text(ids_with_room(name), normalize=False), model.encode_image(images, normalize=False)


@pytest.mark.parametrize("name", WITH_VIT)
def test_disabled_and_unwrapped_it_is_the_base_bit_for_bit(name):
    clip, base = build(name), build(name)
    ids, images = text_ids(name, LENGTHS), frames(base, 2)

    def plain_features(clip) -> tuple[Tensor, Tensor]:
        return clip.encode_text(ids, normalize=False), clip.encode_image(images, normalize=False)

    with torch.no_grad():
        before = plain_features(base)
        frozen = plain_features(base.requires_grad_(False))  # kernels may differ where weights want gradients
        model = vilt_prompt.wrap(clip, K=2, n_ctx=N_CTX)
        randomise_prompts(model)
        prompted = both_features(model, name)
        with model.disable_adapter():
            assert_equal(plain_features(model), frozen)
        assert relative_error(prompted[1], before[1].reshape(prompted[1].shape)) > 1e-2
        assert name in NO_CROP or (relative_error(prompted[0], before[0]) < 1e-5) == (name == "text_first_causal")
        assert vilt_prompt.unwrap(model) is clip
        assert_equal(plain_features(clip), before)
    assert list(clip.state_dict()) == list(base.state_dict())
    assert_equal(clip.state_dict().values(), base.state_dict().values())
    assert [p.requires_grad for p in clip.parameters()] == [p.requires_grad for p in build(name).parameters()]
    assert [m.training for m in clip.modules()] == [m.training for m in base.modules()]


@pytest.mark.parametrize("name", TEXT_SEES_PROMPTS)
def test_a_step_moves_prompts_and_maps_only_and_they_are_what_is_saved(name, tmp_path):
    model = vilt_prompt.wrap(build(name), K=2, n_ctx=N_CTX)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    model.train()
    text, image = both_features(model, name)
    (text.square().sum() + image.square().sum()).backward()
    optimiser.step()
    moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert moved == {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(moved) == len(learnable_tensors(model))

    model.eval().save_pretrained(tmp_path)
    loaded = vilt_prompt.from_pretrained(build(name), tmp_path)
    with torch.no_grad():
        assert_equal(both_features(loaded, name), both_features(model, name))


# -- Ways to run: checkpointing, training mode, half precision, order of the prompts --------------------------------


@pytest.mark.parametrize("name", WITH_VIT)
def test_checkpointing_changes_nothing_but_memory(name):
    model = vilt_prompt.wrap(build(name), K=1, depth=2, n_ctx=N_CTX)
    randomise_prompts(model)
    kept = []
    results = []
    for checkpointing in (False, True):
        if checkpointing:
            model.set_grad_checkpointing(True)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, saved=saved: saved.append(1) or x, lambda x: x):
            features = both_features(model, name)
        kept.append(len(saved))
        model.zero_grad()
        sum(feature.square().sum() for feature in features).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([*(feature.detach() for feature in features), *gradients])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))
    assert kept[1] < kept[0] / 1.5


@pytest.mark.parametrize("name", WITH_VIT)
def test_prompts_in_float32_run_on_a_base_in_half_precision(name):
    model = vilt_prompt.wrap(build(name).bfloat16(), K=2, n_ctx=N_CTX)
    text = model.encode_text(ids_with_room(name), normalize=False)
    image = model.encode_image(frames(model, 2).bfloat16(), normalize=False)
    assert text.dtype == image.dtype == torch.bfloat16
    (text.float().square().sum() + image.float().square().sum()).backward()
    assert text.isfinite().all()
    assert image.isfinite().all()
    for key, tensor in learnable_tensors(model).items():
        assert tensor.dtype == tensor.grad.dtype == torch.float32, key
        assert tensor.grad.isfinite().all(), key


@pytest.mark.parametrize("settings", [{}, {"depth": 2}], ids=["fresh", "carried"])
@pytest.mark.parametrize("name", WITH_VIT)
def test_visual_prompts_may_be_permuted(name, settings):
    model = vilt_prompt.wrap(build(name), n_ctx=N_CTX, method="vpt_deep", **settings)
    randomise_prompts(model)
    images = frames(model, 2)
    with torch.no_grad():
        before = model.encode_image(images, normalize=False)
        prompts = learnable_tensors(model)["vilt_vision"]
        prompts.copy_(prompts.roll(1, dims=1))
        assert relative_error(model.encode_image(images, normalize=False), before) <= 1e-5
        prompts.copy_(prompts.flip(-1))
        assert relative_error(model.encode_image(images, normalize=False), before) > 1e-2


# -- Texts: too long, exactly fitting, shorter; what makes room -----------------------------------------------------

# Rows of this many words fit, with the prompts in, into the 24 positions of these towers; one more does not. A causal
# tower counts start and end token; without a mask, or with CoCa's, one token of padding is kept where the end token is
# none.
ROOM = {
    "vit": 19,
    "clipa": 19,
    "siglip": 20,
    "siglip2": 19,
    "mobileclip2_large": 18,
    "text_eos_without_mask": 18,
    "coca": 17,
}


@pytest.mark.parametrize(("name", "words"), ROOM.items(), ids=ROOM)
def test_texts_that_just_fit_and_texts_that_do_not(name, words):
    model, reference = wrapped_with_reference(name, K=2)
    ids = text_ids(name, [words, 2])
    assert relative_error(model.encode_text(ids, normalize=False), reference.encode_text(ids)) <= 1e-5
    with pytest.raises(ValueError, match=r"a text takes \d+ tokens, but 2[01] are left once the 3 prompts are in"):
        model.encode_text(text_ids(name, [words + 1, 2]))


@pytest.mark.parametrize("name", NO_CROP)
def test_columns_that_are_given_out_never_make_room(name):
    model, reference = wrapped_with_reference(name, K=2)
    ids = text_ids(name, LENGTHS, columns=21)
    assert relative_error(model.encode_text(ids), reference.encode_text(ids)) <= 1e-5
    with pytest.raises(ValueError, match=r"a text takes 22 tokens, but 21 are left"):
        model.encode_text(text_ids(name, LENGTHS, columns=22))


@pytest.mark.parametrize("name", [name for name in TEXT_SEES_PROMPTS if name not in NO_CROP])
def test_texts_of_fewer_columns(name):
    model, reference = wrapped_with_reference(name, K=2)
    ids = text_ids(name, LENGTHS, columns=12)
    assert relative_error(model.encode_text(ids, normalize=False), reference.encode_text(ids)) <= 1e-5
    with model.disable_adapter():
        got = model.encode_text(ids, normalize=False)
    try:
        want = reference.base.encode_text(ids, normalize=False)
    except RuntimeError:  # the library's own forward takes them where the tower's does not
        without = [None] * len(text_blocks(reference.base))
        assert relative_error(got, literal_encode_text(reference.base, ids, without)) <= 1e-5
    else:
        torch.testing.assert_close(got, want, rtol=0, atol=0)


# -- Models that take prompts in their text tower only, and models that take none ----------------------------------


@pytest.mark.parametrize("settings", [{"towers": "text", "depth": 4}, {"method": "coop"}], ids=["text", "coop"])
@pytest.mark.parametrize("name", WITHOUT_VIT)
def test_text_prompts_beside_an_image_tower_that_is_no_vit(name, settings):
    model, reference = wrapped_with_reference(name, lead="own", mapper="none", **settings)
    ids, images = text_ids(name, LENGTHS), frames(model, 2)
    got, want = model.encode_text(ids, normalize=False), reference.encode_text(ids)
    assert relative_error(got, want) <= 1e-5
    got_gradients, want_gradients = gradients(learnable_tensors(model), got), gradients(reference.tensors, want)
    assert_same_gradients(got_gradients, want_gradients, 1e-4, "none")
    assert torch.equal(model.encode_image(images), reference.base.encode_image(images))
    with pytest.raises(
        ValueError, match='cannot take prompts.*text prompts alone need no ViT: towers="text", or method'
    ):
        vilt_prompt.wrap(build(name), K=2)


@pytest.mark.parametrize("name", ["eva02", "pe_core", "relpos", "relpos_shared"])
def test_blocks_with_positions_that_are_replaced_after_wrapping_are_an_error(name):
    model, _ = wrapped_with_reference(name, K=2)
    images = frames(model, 2)
    attention = model.visual.trunk.blocks[1].attn
    known = type(attention)
    attention.__class__ = type("Other", (known,), {})
    with pytest.raises(ValueError, match=r"has been changed since .*blocks are \w+ with Other.*block.compile\(\)"):
        model.encode_image(images)
    attention.__class__ = known
    assert model.encode_image(images).isfinite().all()


REFUSED = {
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
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
