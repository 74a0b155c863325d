"""Towers with blocks that cannot be decomposed: the same features as the literal computation."""

from __future__ import annotations

import pytest

from tests.support.architectures import of_unknown_kind
from tests.support.every_tower import ids_with_room, wrapped_with_reference
from tests.support.exactness import assert_exact
from vilt_prompt.towers.families import text_tower, vision_tower
from vilt_prompt.towers.whole import WholeBlocks


@pytest.mark.parametrize("settings", [{"K": 2}, {"K": 1, "depth": 3}, {"K": 1, "depth": 1}], ids=str)
@pytest.mark.parametrize("name", ["vit", "coca", "clipa", "custom_blocks", "coca_custom", "text_no_pool_causal"])
def test_blocks_of_an_unknown_kind_run_whole(name, settings):
    model, reference = wrapped_with_reference(name, **settings)
    assert_exact(of_unknown_kind(model), reference, ids_with_room(name))


@pytest.mark.parametrize("layer", [0, -1])
@pytest.mark.parametrize("name", ["vit", "coca", "clipa"])
def test_one_block_of_an_unknown_kind_is_enough(name, layer):
    """Whether blocks are decomposed is decided once for each tower."""
    model, reference = wrapped_with_reference(name, K=1, depth=3)
    towers = (vision_tower(model.get_base_model()), text_tower(model.get_base_model()))
    assert not any(isinstance(tower.blocks, WholeBlocks) for tower in towers)
    for tower in towers:
        of_unknown_kind(tower.blocks[layer].module)
    assert all(isinstance(tower.blocks, WholeBlocks) for tower in towers)
    assert_exact(model, reference, ids_with_room(name))
