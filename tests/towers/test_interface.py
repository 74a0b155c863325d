"""Every registered family has all members of the interface, and their values fit each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support import zoo
from vilt_prompt.towers.blocks import Block
from vilt_prompt.towers.families import TEXT_TOWERS, VISION_TOWERS, text_tower, vision_tower
from vilt_prompt.towers.interface import TextTower, Tower, VisionTower
from vilt_prompt.towers.whole import WholeBlocks

# A model with each registered class as one of its towers.
NAMES = ["vit", "siglip", "roberta"]


def members(protocol: type) -> set[str]:
    """The names that an interface asks for."""
    return {name for kind in (Tower, protocol) for name in vars(kind) if not name.startswith("_")}


def towers(name: str) -> list[tuple[type, Tower, nn.Module]]:
    model = zoo.build(name)
    text = getattr(model, "text", model)
    return [(VisionTower, vision_tower(model), model.visual), (TextTower, text_tower(model), text)]


def test_all_registered_families_are_tested():
    found = {type(tower) for name in NAMES for _, tower, _ in towers(name)}
    assert found == {*VISION_TOWERS, *TEXT_TOWERS}


def test_the_interfaces_name_their_members():
    assert {"family", "layers", "width", "blocks", "stands_for", "encode", "owns", "refusal"} <= members(Tower)
    assert "image_size" in members(VisionTower)
    assert {"embedding", "vocabulary", "positions", "check", "runs_alone"} <= members(TextTower)


@pytest.mark.parametrize("name", NAMES)
def test_every_family_has_all_members(name):
    for protocol, tower, module in towers(name):
        assert not [member for member in members(protocol) if not hasattr(tower, member)]
        assert type(tower).owns(module)
        assert any(isinstance(part, type(tower).module_classes) for part in module.modules())
        assert type(tower).refusal(module) is None
        assert not type(tower).owns(nn.Identity())


@pytest.mark.parametrize("name", NAMES)
def test_values_fit_each_other(name):
    for _, tower, _ in towers(name):
        assert len(tower.blocks) == tower.layers > 0
        assert isinstance(tower.blocks, WholeBlocks) or all(isinstance(block, Block) for block in tower.blocks)
        assert all(isinstance(module, nn.Module) for module in tower.stands_for)
    (_, vision, _), (_, text, _) = towers(name)
    assert vision.image_size is None or len(vision.image_size) == 2
    assert text.embedding.weight.shape == (text.vocabulary, text.width)
    ids = zoo.text_ids(name, [2, 4])
    assert ids.shape[1] <= text.positions
    assert text.runs_alone(text.positions)
    assert text.runs_alone(text.positions - 1) is (name != "vit")  # open_clip's CLIP takes all columns or none
    with torch.no_grad():
        features, tokens = text.encode(ids, [None] * text.layers, True)
    assert features.shape[0] == tokens.shape[0] == 2
    assert tokens.shape[-1] == text.width
