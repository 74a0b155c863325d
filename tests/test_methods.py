"""The published methods are what their papers say."""

from __future__ import annotations

import pytest

from vilt_prompt import METHODS, PromptConfig

# Which towers have prompts, which one learns them, in how many layers, and the maps between the towers.
PAPERS = {
    "vilt": ("both", "split", "smaller tower", "shared"),
    "maple": ("both", "text", 9, "per_layer"),
    "independent": ("both", "own", "each tower", "none"),
    "coop": ("text", "own", 1, "none"),
    "vpt_shallow": ("vision", "own", 1, "none"),
    "vpt_deep": ("vision", "own", "each tower", "none"),
}


def test_the_table():
    assert {name: (row.towers, row.lead, row.depth, row.mapper) for name, row in METHODS.items()} == PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_a_preset_is_its_row(name):
    """In towers of 12 text and 24 vision layers."""
    towers, lead, depth, mapper = PAPERS[name]
    config = PromptConfig.preset(name).resolve(text_layers=12, vision_layers=24)
    assert (config.towers, config.lead, config.mapper) == (towers, lead, mapper)
    assert config.depth == {"smaller tower": 12, "each tower": {"both": None, "vision": 24}.get(towers)}.get(
        depth, depth
    )


def test_each_names_its_paper():
    papers = [row.paper for row in METHODS.values()]
    assert len(set(papers)) == len(papers)
    assert all("20" in paper for paper in papers)
