"""open_clip's own text towers: how long a text may be, and which column is pooled."""

from __future__ import annotations

import pytest
import torch

from tests.reference.literal import literal_encode_text
from tests.support.architectures import CONTEXT_LENGTH, build, class_ids
from tests.support.cases import CARRIED
from tests.support.exactness import N_CTX, NAME_LENGTHS, relative_error, wrap_tiny


def test_a_name_one_token_longer_than_the_longest_that_fits_is_refused():
    model, reference = wrap_tiny("4/4", **CARRIED)
    ids = class_ids(reference.base, [1, CONTEXT_LENGTH - N_CTX - 1])
    with pytest.raises(ValueError, match=f"context_length={CONTEXT_LENGTH - N_CTX}"):
        model.encode_text(ids)


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


@pytest.mark.parametrize("columns", [9, CONTEXT_LENGTH - N_CTX])
def test_last_pool_takes_the_last_column(columns):
    model, reference = wrap_tiny("last_pool", **CARRIED)
    ids = class_ids(reference.base, NAME_LENGTHS, columns)
    assert relative_error(model.encode_text(ids), reference.encode_text(ids)) <= 1e-5
