"""Every kind of tower of open_clip's zoo, and what its classes allow beside it, through one matrix."""

from __future__ import annotations

import pytest
from exactness import Reference, assert_exact, randomise_prompts
from zoo import BEYOND_THE_ZOO, MEMBERS, build, text_ids

import vilt_prompt

N_CTX = 3
LENGTHS = [1, 4, 2, 7]
WITH_VIT = [name for name in (*MEMBERS, *BEYOND_THE_ZOO) if name != "vision_no_pool"]
TEXT_SEES_PROMPTS = [name for name in WITH_VIT if name != "text_first_causal"]
COLUMNS = {"text_last_causal": 20, "text_no_pool_causal": 20, "text_no_pool_without_mask": 20}


def wrapped_with_reference(name: str, **settings):
    settings = {"n_ctx": N_CTX, **settings}
    base = build(name).requires_grad_(False)
    model = vilt_prompt.wrap(build(name), **settings)
    randomise_prompts(model)
    return model, Reference(base, model, settings)


def ids_of(name: str, lengths=LENGTHS):
    return text_ids(name, lengths, COLUMNS.get(name))


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"method": "independent"}], ids=str)
@pytest.mark.parametrize("name", TEXT_SEES_PROMPTS)
def test_features_and_gradients_equal_the_literal_computation(name, settings):
    model, reference = wrapped_with_reference(name, **settings)
    assert_exact(model, reference, ids_of(name))
