"""Names of tensors in checkpoints of other projects."""

from __future__ import annotations

import pytest

from vilt_prompt import convert

REFUSED = {
    "convert CoCoOp": (lambda w: convert(w.folder / "cocoop.pth", w.bare), ValueError, "depend on the image"),
    "convert unknown tensors": (
        lambda w: convert(w.folder / "foreign.pth", w.bare),
        ValueError,
        "belong to no known method, 1 in all: head.weight. Known are",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
