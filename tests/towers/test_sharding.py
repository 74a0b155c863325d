"""Towers whose parameters are sharded; `tests/system/test_distributed.py` runs them in two processes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def test_a_build_of_torch_without_processes(monkeypatch):
    """The module is run again, because it looks once, when it is imported."""
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    spec = importlib.util.spec_from_file_location("sharding_alone", ROOT / "vilt_prompt" / "towers" / "sharding.py")
    sharding = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sharding)
    assert not hasattr(sharding, "register_fsdp_forward_method")
    linear = torch.nn.Linear(2, 3)
    assert sharding.class_of(linear) is torch.nn.Linear
    assert sharding.gathered([linear], lambda a, b: a - b, 5, 3) == 2
