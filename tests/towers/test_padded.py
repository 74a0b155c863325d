"""Texts in one padded tensor, where packing would save nothing."""

from __future__ import annotations

import pytest

from tests.support.architectures import ids_of
from tests.support.exactness import assert_exact, wrap_tiny


@pytest.mark.parametrize("names", [[[5, 6], [7, 8]], [[5, 6, 7]]])
def test_texts_that_packing_saves_nothing_of(names):
    model, reference = wrap_tiny("4/4", K=2)
    assert_exact(model, reference, ids_of(names))
