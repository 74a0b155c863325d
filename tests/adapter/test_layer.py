"""The parameters of all adapters of a model."""

from __future__ import annotations

import pytest

REFUSED = {
    "activate two adapters below": (
        lambda w: w.model.base_model.set_adapter(["default", "twin"]),
        ValueError,
        "one adapter can be active at a time",
    ),
    "activate an unknown adapter below": (
        lambda w: w.model.base_model.set_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
