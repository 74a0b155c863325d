"""open_clip's transformer blocks."""

from __future__ import annotations

import pytest

from tests.support import zoo
from vilt_prompt import wrap
from vilt_prompt.towers.open_clip_blocks import OpenClipBlock


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


REFUSED = {
    "LoRA on out_proj": (
        lambda w: wrap(w.lora_on_out_proj.get_base_model(), K=2),
        ValueError,
        r"LoRA, on out_proj inside an nn.MultiheadAttention, which ignores it: adapt the whole attention",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
