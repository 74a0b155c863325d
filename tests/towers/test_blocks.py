"""Exactness where few go: blocks that run whole, names of repeated words, towers without prompts, first values."""

from __future__ import annotations

import pytest

from tests.support.architectures import of_unknown_kind
from tests.support.every_tower import ids_with_room, wrapped_with_reference
from tests.support.exactness import assert_exact


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("name", ["vit", "coca", "clipa", "custom_blocks", "coca_custom", "text_no_pool_causal"])
def test_blocks_of_an_unknown_kind_run_whole(name, settings):
    model, reference = wrapped_with_reference(name, **settings)
    assert_exact(of_unknown_kind(model), reference, ids_with_room(name))
