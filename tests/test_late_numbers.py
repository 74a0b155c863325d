"""Numbers on a GPU are read one call late; a stand-in for a GPU counts how often a call waits."""

from __future__ import annotations

import pickle

import torch

from vilt_prompt.late_numbers import LateNumbers


def test_numbers_on_the_cpu_are_read_at_once():
    late = LateNumbers()
    assert late.exchange(torch.tensor([1, 2]), 3) == [([1, 2], 3)]
    assert late.exchange(torch.tensor([4]), 5) == [([4], 5)]


def test_numbers_on_a_gpu_are_read_at_the_next_call(stand_in_gpu):
    late = LateNumbers()
    assert late.exchange(stand_in_gpu.tensor([1, 2]), 3) == []
    assert stand_in_gpu.waits == 0
    assert late.exchange(stand_in_gpu.tensor([4]), 5) == [([1, 2], 3)]
    assert late.exchange(torch.tensor([6]), 7) == [([4], 5), ([6], 7)]
    assert late.exchange(torch.tensor([6]), 7) == [([6], 7)]
    late.exchange(stand_in_gpu.tensor([1]), 1)
    assert pickle.loads(pickle.dumps(late)).exchange(torch.tensor([6]), 7) == [([6], 7)]


def test_nothing_is_read_while_a_cuda_graph_is_captured(stand_in_gpu):
    late = LateNumbers()
    late.exchange(stand_in_gpu.tensor([1]), 1)
    stand_in_gpu.capturing = True
    assert late.exchange(stand_in_gpu.tensor([2]), 1) == []
    assert stand_in_gpu.waits == 0
