"""Hugging Face's encoders in pieces, without prompts, against the encoders' own forward."""

from __future__ import annotations

import pytest
import torch

from tests.support import zoo
from vilt_prompt.towers.hugging_face_encoders import ENCODERS, _finite


@pytest.mark.parametrize("kind", ENCODERS)
def test_pieces_one_after_another_are_the_encoder(kind):
    """Without padding: masks are the tower's business."""
    transformer = transformer_of(kind)
    ids = torch.randint(3, zoo.LANGUAGE, (2, 9), generator=torch.Generator().manual_seed(0))
    expected = transformer(ids).last_hidden_state
    encoder = ENCODERS[kind](transformer)
    places = encoder.first_place + torch.arange(9).expand(2, -1)  # [c, l]
    x = encoder.embed(encoder.embedding(ids), places)
    for block in encoder.blocks(9):
        q, kv, prompt_kv = block.qkv(x, None)
        assert prompt_kv is None
        x = block.add_mlp(block.add_attention(x, block.attend(q, kv, block.bias)))
    actual = encoder.finish(x)
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


def transformer_of(kind: str) -> torch.nn.Module:
    """A small encoder of this kind out of the zoo."""
    members = (name for name, member in zoo.EVERY.items() if member.text.get("hf") == kind)
    return zoo.build(next(members)).text.transformer


def test_every_kind_counts_its_positions():
    """RoBERTa's and M2M100's ids of positions begin after that of padding, which is 1; mT5 has none."""
    counted = {
        kind: (cls(transformer_of(kind)).first_place, cls(transformer_of(kind)).positions)
        for kind, cls in ENCODERS.items()
    }
    assert counted.pop("mt5")[1] > 10**9
    assert counted == {"bert": (0, 32), "roberta": (2, 32), "xlm-roberta": (2, 32), "m2m_100": (2, 32)}


def test_only_half_precision_is_kept_from_overflowing():
    x = torch.tensor([1.0, 1e30])
    assert torch.equal(_finite(x), x)
    assert torch.equal(_finite(x.half()), torch.tensor([1.0, 65504 - 1000]).half())
