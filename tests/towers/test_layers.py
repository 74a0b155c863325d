"""How a prompt enters a layer, and layers that are computed again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.reference.literal import learnable_tensors
from tests.support.architectures import class_ids, frames
from tests.support.cases import CARRIED, FRESH
from tests.support.exactness import NAME_LENGTHS, assert_exact, wrap_tiny


def test_gradients_of_some_tensors_alone_under_checkpointing():
    """torch's older kind of checkpoint refuses `torch.autograd.grad`."""
    model, reference = wrap_tiny("4/4", K=2)
    model.set_grad_checkpointing(True)
    tensors = list(learnable_tensors(model).values())
    features = model.encode_image(frames(reference.base, 2))
    assert any(gradient.any() for gradient in torch.autograd.grad(features.sum(), tensors, materialize_grads=True))


@pytest.mark.parametrize("settings", [CARRIED, FRESH], ids=["carried", "fresh"])
@pytest.mark.parametrize("architecture", ["4/4", "custom_text", "mean_pool"])
def test_gradient_checkpointing(architecture, settings):
    model, reference = wrap_tiny(architecture, **settings)
    model.train()
    ids, images = class_ids(reference.base, NAME_LENGTHS), frames(reference.base, 3)

    def saved_tensors() -> int:
        count = 0

        def count_saved(tensor: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count_saved, lambda tensor: tensor):
            model.encode_text(ids)
            model.encode_image(images)
        return count

    plain = saved_tensors()
    model.set_grad_checkpointing(True)
    assert saved_tensors() < plain / 2
    assert_exact(model, reference)
    model.set_grad_checkpointing(False)
    assert saved_tensors() == plain
