"""The towers of the zoo that take prompts, each wrapped and with its literal reference."""

from __future__ import annotations

import vilt_prompt
from tests.support.exactness import Reference, randomise_prompts
from tests.support.zoo import BEYOND_THE_ZOO, MEMBERS, build, text_ids

N_CTX = 3
LENGTHS = [1, 4, 2, 7]
WITH_VIT = [name for name in (*MEMBERS, *BEYOND_THE_ZOO) if name != "vision_no_pool"]
TEXT_SEES_PROMPTS = [name for name in WITH_VIT if name != "text_first_causal"]
# These give out or pool the last column, so that no padding can make room.
NO_CROP = ("text_last_causal", "text_no_pool_causal", "text_no_pool_without_mask")


def wrapped_with_reference(name: str, **settings):
    settings = {"n_ctx": N_CTX, **settings}
    base = build(name).requires_grad_(False)
    model = vilt_prompt.wrap(build(name), **settings)
    randomise_prompts(model)
    return model, Reference(base, model, settings)


def ids_with_room(name: str, lengths=LENGTHS):
    return text_ids(name, lengths, 20 if name in NO_CROP else None)
