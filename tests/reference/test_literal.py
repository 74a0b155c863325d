"""The literal computation against the models themselves, and against other ways to say the same."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from tests.reference.literal import (
    literal_coca,
    literal_encode_image,
    literal_encode_text,
    literal_encode_text_tokens,
    text_blocks,
    text_tower,
    text_width,
    vision_blocks,
    vision_width,
)
from tests.reference.literal_hf import hf_words
from tests.reference.literal_rows import drop_padding
from tests.support.zoo import BEYOND_THE_ZOO, EVERY, MEMBERS, REFUSED, WITHOUT_VIT, build, frames, text_ids

N = 3
LENGTHS = [1, 4, 2, 3, 7]
RUNNABLE = [name for name in EVERY if name not in REFUSED]
WITH_VIT = [*MEMBERS, *BEYOND_THE_ZOO]
COCAS = [name for name in WITH_VIT if EVERY[name].decoder is not None]
# These give out or pool the last column, so that no padding can make room.
NO_CROP = ("text_last_causal", "text_no_pool_causal", "text_no_pool_without_mask")
IN_FRONT = ("clipa", "siglip", "siglip2", "siglip_i18n", "mt5")


@pytest.fixture(scope="module", autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def ids_with_room(name: str) -> Tensor:
    return text_ids(name, LENGTHS, columns=24 - N if name in NO_CROP else None)


def random_prompts(layers: int, width: int, seed: int = 0) -> list[Tensor | None]:
    return list(0.5 * torch.randn(layers, N, width, generator=torch.Generator().manual_seed(seed)))


def text_prompts(clip: nn.Module) -> list[Tensor | None]:
    return random_prompts(len(text_blocks(clip)), text_width(clip))


def vision_prompts(clip: nn.Module) -> list[Tensor | None]:
    return random_prompts(len(vision_blocks(clip)), vision_width(clip), seed=1)


def relative_error(got: Tensor, want: Tensor) -> float:
    assert got.shape == want.shape
    return ((got - want).abs().max() / want.abs().max()).item()


@pytest.mark.parametrize("name", list(EVERY))
def test_members_build_quickly_and_the_same(name):
    first = build(name)
    start = time.process_time()
    second = build(name)
    assert time.process_time() - start < 2
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not first.training


@pytest.mark.parametrize("name", RUNNABLE)
def test_without_prompts_it_is_the_model(name):
    clip = build(name)
    plain = {"normalize": False}
    ids = text_ids(name, LENGTHS)
    no_prompts = [None] * len(text_blocks(clip))
    assert relative_error(literal_encode_text(clip, ids, no_prompts), clip.encode_text(ids, **plain)) <= 1e-5
    if name in WITH_VIT:
        images = frames(clip, 3)
        no_prompts = [None] * len(vision_blocks(clip))
        assert (
            relative_error(literal_encode_image(clip, images, no_prompts), clip.encode_image(images, **plain)) <= 1e-5
        )


@pytest.mark.parametrize("output_labels", [True, False])
@pytest.mark.parametrize("name", COCAS)
def test_without_prompts_it_is_coca(name, output_labels):
    coca = build(name)
    ids, images = text_ids(name, LENGTHS, columns=coca.context_length), frames(coca, len(LENGTHS))
    no_text, no_vision = [None] * len(text_blocks(coca)), [None] * len(vision_blocks(coca))
    got = literal_coca(coca, images, ids, no_text, no_vision, output_labels)
    want = coca(images, ids, output_labels=output_labels)
    assert got.keys() == want.keys()
    for key, tensor in want.items():
        assert relative_error(got[key], tensor) <= 1e-5, key


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_text_prompt_matters(name):
    clip, ids = build(name), ids_with_room(name)
    prompts = text_prompts(clip)
    before = literal_encode_text(clip, ids, prompts)
    assert before.isfinite().all()
    for layer, prompt in enumerate(prompts):
        other = [*prompts[:layer], prompt.flip(-1), *prompts[layer + 1 :]]
        moved = relative_error(literal_encode_text(clip, ids, other), before)
        assert moved == 0 if name == "text_first_causal" else moved > 1e-2


@pytest.mark.parametrize("name", WITH_VIT)
def test_every_vision_prompt_matters(name):
    clip = build(name)
    images, prompts = frames(clip, 3), vision_prompts(clip)
    before = literal_encode_image(clip, images, prompts)
    for layer, prompt in enumerate(prompts):
        other = [*prompts[:layer], prompt.flip(-1), *prompts[layer + 1 :]]
        assert relative_error(literal_encode_image(clip, images, other), before) > 1e-2


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", WITH_VIT)
def test_vision_prompts_may_be_permuted(name, depth):
    clip = build(name)
    images, prompts = frames(clip, 3), vision_prompts(clip)
    prompts[depth:] = [None] * (len(prompts) - depth)
    permuted = [prompt if prompt is None else prompt.roll(1, 0) for prompt in prompts]
    before = literal_encode_image(clip, images, prompts)
    assert relative_error(literal_encode_image(clip, images, permuted), before) <= 1e-5


@pytest.mark.parametrize("name", RUNNABLE)
def test_prompts_that_are_words_are_those_words(name):
    """Carried from the first layer on, so that masks, positions, room and pooling are the model's own work."""
    clip, ids = build(name), ids_with_room(name)
    tower = text_tower(clip)
    if isinstance(tower, HFTextEncoder):
        embedding, columns = hf_words(tower), ids.shape[1] + N
    else:
        embedding = tower.token_embedding
        columns = len(tower.positional_embedding) - (getattr(tower, "cls_emb", None) is not None)
    if name == "mt5":  # words have relative positions, prompts do not
        tower.transformer.block[0].layer[0].SelfAttention.relative_attention_bias.weight.zero_()

    words = torch.tensor([5, 40, 61])
    at = 0 if name in IN_FRONT else 1
    with_words = torch.cat([ids[:, :at], words.expand(len(ids), -1), ids[:, at:]], dim=1)[:, :columns]
    want = clip.encode_text(with_words, normalize=False)
    if want.ndim == 3:
        want = torch.cat([want[:, :at], want[:, at + N :]], dim=1)
    if "mean_pooler" in EVERY[name].text.values():  # the mean goes over words, never over prompts
        output = tower.transformer(
            input_ids=with_words, attention_mask=(with_words != tower.config.pad_token_id).long()
        )
        x = output.last_hidden_state
        x = torch.cat([x[:, :at], x[:, at + N :]], dim=1)
        valid = (ids != tower.config.pad_token_id).float()[:, :, None]
        want = tower.proj((x * valid).sum(1) / valid.sum(1))
    prompts = [embedding(words), *[None] * (len(text_blocks(clip)) - 1)]
    assert relative_error(literal_encode_text(clip, ids, prompts), want) <= 1e-5


@pytest.mark.parametrize("name", COCAS)
def test_coca_decodes_one_token_for_each_id(name):
    coca = build(name)
    ids, images = text_ids(name, LENGTHS), frames(coca, len(LENGTHS))
    prompts = text_prompts(coca)
    _, tokens = literal_encode_text_tokens(coca, ids, prompts)
    assert tokens.shape == (*ids.shape, text_width(coca))
    logits = literal_coca(coca, images, ids, prompts, vision_prompts(coca))["logits"]
    assert logits.shape[:2] == ids[:, 1:].shape

    dropped = 0 if isinstance(coca.text, HFTextEncoder) else N
    kept = ids.shape[1] - dropped
    assert not tokens[:, kept:].any()
    assert tokens[:, :kept].any(dim=-1).all()
    short = literal_coca(coca, images, ids[:, :kept], prompts, vision_prompts(coca))["logits"]
    assert relative_error(logits[:, : kept - 1], short) <= 1e-5


@pytest.mark.parametrize("name", ["eva02", "pe_core", "pe_core_gigantic", "rope_registers"])
def test_rotary_embeddings_turn_patches_and_never_prompts(name):
    """The same with the prompts in front of the patches, among the tokens that timm does not rotate."""
    clip = build(name)
    images, prompts = frames(clip, 3), vision_prompts(clip)
    trunk = clip.visual.trunk
    x, rope = trunk._pos_embed(trunk.patch_embed(images))
    at = trunk.num_prefix_tokens
    x = trunk.norm_pre(torch.cat([x[:, :at], prompts[0].expand(3, -1, -1), x[:, at:]], dim=1))
    for block, prompt in zip(copy.deepcopy(trunk.blocks), [None, *prompts[1:]], strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :at], prompt.expand(3, -1, -1), x[:, at + N :]], dim=1)
        block.attn.num_prefix_tokens += N
        x = block(x, rope=rope)
    x = trunk.norm(torch.cat([x[:, :at], x[:, at + N :]], dim=1))
    want = clip.visual.head(trunk.forward_head(x))
    assert relative_error(literal_encode_image(clip, images, prompts), want) <= 1e-5


class BiasBetweenTokens(nn.Module):
    """timm's unfused path adds a bias to the scores; this one adds to those between tokens only."""

    def __init__(self, bias: Tensor):
        super().__init__()
        self.bias = bias

    def forward(self, scores: Tensor, shared_rel_pos: Tensor | None = None) -> Tensor:
        tokens = self.bias.shape[-1]
        scores = scores.clone()
        scores[..., :tokens, :tokens] += self.bias
        return scores


@pytest.mark.parametrize("name", ["relpos", "relpos_shared"])
def test_relative_positions_are_between_patches_only(name):
    clip = build(name)
    images, prompts = frames(clip, 3), vision_prompts(clip)
    trunk = clip.visual.trunk
    patches = trunk.patch_embed(images)
    x = torch.cat([trunk.cls_token.expand(3, -1, -1), patches, prompts[0].expand(3, -1, -1)], dim=1)
    for block, prompt in zip(copy.deepcopy(trunk.blocks), [None, *prompts[1:]], strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :-N], prompt.expand(3, -1, -1)], dim=1)
        block.attn.rel_pos = BiasBetweenTokens((block.attn.rel_pos or trunk.shared_rel_pos).get_bias())
        block.attn.fused_attn = False
        x = block(x)
    want = clip.visual.head(trunk.forward_head(trunk.norm(x[:, :-N])))
    assert relative_error(literal_encode_image(clip, images, prompts), want) <= 1e-5


def test_mt5_has_relative_positions_between_words_only():
    clip, ids = build("mt5"), text_ids("mt5", LENGTHS)
    prompts = text_prompts(clip)
    before = literal_encode_text(clip, ids, prompts)
    reordered = [prompt.roll(1, 0) for prompt in prompts]
    assert relative_error(literal_encode_text(clip, ids, reordered), before) <= 1e-5
    clip.text.transformer.block[0].layer[0].SelfAttention.relative_attention_bias.weight.mul_(2)
    assert relative_error(literal_encode_text(clip, ids, prompts), before) > 1e-2


@pytest.mark.parametrize("name", ["roberta", "xlm_roberta"])
def test_padding_that_is_not_attended_to_may_go(name):
    clip = build(name)
    prompts = text_prompts(clip)
    full = literal_encode_text(clip, text_ids(name, LENGTHS, columns=32), prompts)
    assert relative_error(full, literal_encode_text(clip, text_ids(name, LENGTHS), prompts)) <= 1e-5


@pytest.mark.parametrize("name", ["clipa", "siglip", "siglip2", "mobileclip2_large", "coca", "text_eos_without_mask"])
def test_without_room_for_prompts_it_is_too_long(name):
    clip = build(name)
    prompts = text_prompts(clip)
    columns = text_ids(name, [0]).shape[1]
    start, end, padding = EVERY[name].tokens
    special = (start is not None) + (end != padding)
    # of the padding, one stays; CoCa's class embedding stands beside the ids and takes none of their columns
    longest = columns - N - special - 1
    literal_encode_text(clip, text_ids(name, [longest, 2]), prompts)
    with pytest.raises(ValueError, match="row 0: 3 columns must go, its padding has 3 and keeps one"):
        literal_encode_text(clip, text_ids(name, [longest + 1, 2]), prompts)


@pytest.mark.parametrize("name", NO_CROP)
def test_columns_that_are_given_out_never_go(name):
    clip = build(name)
    with pytest.raises(ValueError, match=r"leave no room for 3 prompts in 24|EOS would stand at column 26 of 24"):
        literal_encode_text(clip, text_ids(name, LENGTHS), text_prompts(clip))


def test_only_padding_is_dropped():
    ids = torch.tensor([[1, 2, 0, 0, 0], [1, 3, 3, 3, 3]])
    drop_padding(ids, 3)
    with pytest.raises(ValueError, match="row 0: 3 columns must go, its padding has 3 and keeps one"):
        drop_padding(ids, 2)
    with pytest.raises(ValueError, match="row 1: 1 columns must go, its padding has 1 and keeps one"):
        drop_padding(torch.tensor([[1, 2, 0, 0], [1, 2, 3, 4]]), 3)


def test_scaled_cosine_attention_cannot_run():
    clip = build("scaled_cosine")
    with pytest.raises(RuntimeError, match="must be a 3D tensor"):
        clip.encode_image(frames(clip, 1))
    with pytest.raises(RuntimeError, match="must be a 3D tensor"):
        clip.encode_text(text_ids("scaled_cosine", [1]))


def test_a_model_without_vit_has_no_vision_blocks():
    for name in WITHOUT_VIT:
        assert vision_blocks(build(name)) == []
