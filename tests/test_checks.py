"""Checks that several modules share; their messages are tested beside the modules that use them, too."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from vilt_prompt import checks


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3)])
def test_counts(value):
    assert checks.is_integer(value)
    checks.check_count("frames", value)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float32(2), "2", [2], float("nan"), torch.tensor(2)])
def test_what_is_not_a_count(value):
    assert not checks.is_integer(value)
    with pytest.raises(TypeError, match=f"frames must be an integer or None, got {re.escape(repr(value))}"):
        checks.check_count("frames", value)


def test_none_is_a_count_only_where_it_is_optional():
    checks.check_count("frames", None)
    with pytest.raises(TypeError, match="frames must be an integer, got None"):
        checks.check_count("frames", None, optional=False)


@pytest.mark.parametrize("value", [0, -3])
def test_counts_start_at_1(value):
    with pytest.raises(ValueError, match=f"expected frames of at least 1, got {value}"):
        checks.check_count("frames", value)
    with pytest.raises(ValueError, match=f"expected frames in 1..9, got {value}"):
        checks.check_count("frames", value, "in 1..9")


def test_choices():
    checks.check_choice("color", "red", ["red", "green"])
    checks.check_choice("color", None, ["red", "green"], optional=True)
    with pytest.raises(ValueError, match=r"unknown color 'gren'\. Did you mean 'green'\? Known: red, green"):
        checks.check_choice("color", "gren", ["red", "green"])
    with pytest.raises(ValueError, match=r"unknown color None\. Known: red, green"):
        checks.check_choice("color", None, ["red", "green"])
    with pytest.raises(ValueError, match=r"unknown color \['red'\]"):
        checks.check_choice("color", ["red"], {"red": 1})


def test_strings():
    checks.check_string("name", None)
    checks.check_strings("names", ("a", "b"))
    checks.check_strings("names", [])
    for names in ("ab", {"a"}, iter("ab"), ["a", 1], None):
        with pytest.raises(TypeError, match="names must be a list of strings, got "):
            checks.check_strings("names", names)


def test_values_on_the_meta_device_are_not_read():
    assert checks.is_readable(torch.ones(2))
    assert not checks.is_readable(torch.ones(2, device="meta"))


def test_inputs_are_where_the_weights_are():
    weight, images = nn.Parameter(torch.ones(2)), torch.ones(2)
    checks.check_placed("image", images, weight)
    with pytest.raises(
        TypeError, match=r"image is torch.float64, the model torch.float32: use image.to\(torch.float32"
    ):
        checks.check_placed("image", images.double(), weight)
    with pytest.raises(ValueError, match=r"image is on meta, the model on cpu: use image.to\('cpu'\)"):
        checks.check_placed("image", images.to("meta"), weight)
    checks.check_placed("text", torch.tensor([1, 2]), weight)  # ids have no float type
    with torch.autocast("cpu", dtype=torch.bfloat16):
        checks.check_placed("image", images.double(), weight)


def test_weights_that_say_nothing_of_where_they_will_be():
    images = torch.ones(2).double()
    checks.check_placed("image", images, nn.Parameter(torch.ones(2, device="meta")))
    checks.check_placed("image", images, torch.ones(2))  # as a shard, not an `nn.Parameter`
