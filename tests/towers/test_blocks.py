"""The parts of a decomposed block, each against what it is made of."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tests.support import zoo
from vilt_prompt.towers import blocks
from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.families import vision_tower

TOKENS, PROMPTS = 5, 3
B, H, C = 2, 4, 8


def first_block(name: str) -> tuple[Block, int]:
    """The first block of a model's image tower, and the width of its tokens."""
    tower = vision_tower(zoo.build(name))
    block = tower.blocks[0]
    assert isinstance(block, Block)
    return block, tower.width


@pytest.mark.parametrize("batch", [1, 2, 30], ids=lambda batch: f"batch={batch}")
@pytest.mark.parametrize("name", ["vit", "custom_blocks", "siglip"])
def test_tokens_and_prompt_are_projected_together_as_apart(name, batch):
    """There are few tokens for each prompt vector in the small batches, and many in the large one."""
    assert 2 * TOKENS < blocks.FEW_PROMPTS * PROMPTS < 30 * TOKENS
    block, width = first_block(name)
    x, prompt = torch.randn(batch, TOKENS, width), torch.randn(1, PROMPTS, width)
    q, k, v = block.project(x, 0, 3)
    got_q, got_kv, got_prompt = block.qkv(x, prompt)
    expected = torch.stack([k, v])
    torch.testing.assert_close(got_q, q)
    torch.testing.assert_close(got_kv, expected)
    torch.testing.assert_close(got_prompt, block.project(prompt, 1, 3))
    for got, want in zip(block.kv(x, prompt), (got_kv, got_prompt), strict=True):
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(block.q(x), q)
    assert block.qkv(x, None)[2] is None
    assert block.kv(x, None)[1] is None


def test_keys_and_queries_of_tokens_are_rotated_and_prompts_are_not():
    class Rotating(Block):
        def project(self, x: Tensor, first: int, last: int) -> Tensor:
            return torch.stack([x.unflatten(-1, (H, C)).transpose(1, 2) + part for part in range(first, last)])

        def rotate(self, projected: Tensor) -> Tensor:
            return -projected

    block = Rotating(nn.Identity(), None, 0.0)
    x, prompt = torch.randn(B, TOKENS, H * C), torch.randn(1, PROMPTS, H * C)
    heads, prompt_heads = (part.unflatten(-1, (H, C)).transpose(1, 2) for part in (x, prompt))
    q, kv, prompt_kv = block.qkv(x, prompt)
    torch.testing.assert_close(q, -heads)
    torch.testing.assert_close(kv, torch.stack([-(heads + 1), heads + 2]))
    torch.testing.assert_close(prompt_kv, torch.stack([prompt_heads + 1, prompt_heads + 2]))


@pytest.mark.parametrize("scale", [None, 0.25])
@pytest.mark.parametrize("mask", ["none", "bool", "numbers"])
def test_attention_is_a_weighted_mean_of_values(mask, scale):
    block = Block(nn.Identity().eval(), None, 0.5)  # outside training nothing is dropped
    block.scale = scale
    q, kv = torch.randn(B, H, TOKENS, C), torch.randn(2, B, H, TOKENS, C)
    seen = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool).tril()
    added = {"none": None, "bool": seen, "numbers": torch.randn(1, H, TOKENS, TOKENS)}[mask]
    scores = q @ kv[0].mT * (C**-0.5 if scale is None else scale)
    if mask == "bool":
        scores = scores.masked_fill(~seen, float("-inf"))
    elif mask == "numbers":
        scores = scores + added
    torch.testing.assert_close(block.attend(q, kv, added), scores.softmax(dim=-1) @ kv[1])


def test_attention_drops_weights_in_training_alone():
    assert Block(nn.Identity().train(), None, 0.5).dropout == 0.5
    assert Block(nn.Identity().eval(), None, 0.5).dropout == 0.0


@pytest.mark.parametrize(("first", "last"), [(0, 3), (0, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_parts_of_one_matrix(first, last, bias):
    linear = nn.Linear(16, 3 * H * C, bias=bias)
    x = torch.randn(B, TOKENS, 16)
    expected = [part.unflatten(-1, (H, C)).transpose(1, 2) for part in linear(x).chunk(3, dim=-1)]
    got = blocks.project_rows(linear.weight, linear.bias, x, first, last, H)
    torch.testing.assert_close(got, torch.stack(expected[first:last]))


def test_one_linear_map_for_each_part():
    linears, x = [nn.Linear(16, H * C) for _ in range(2)], torch.randn(B, TOKENS, 16)
    got = blocks.project_each(linears, x, H)
    for part, linear in zip(got, linears, strict=True):
        torch.testing.assert_close(blocks.join_heads(part), linear(x))


def test_a_part_of_batch_1_is_joined_to_every_row():
    shared, own = torch.randn(2, 1, H, PROMPTS, C), torch.randn(2, B, H, TOKENS, C)
    joined = blocks.join(None, shared, own)
    for row in range(B):
        assert torch.equal(joined[:, row], torch.cat([shared[:, 0], own[:, row]], dim=2))
    assert blocks.join(own, None) is own


def test_what_peft_has_adapted():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    adapted = get_peft_model(model, LoraConfig(target_modules=["1"])).get_base_model()
    assert [blocks.is_adapted(module) for module in adapted] == [False, True]
