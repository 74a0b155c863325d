"""Adapters that were saved before a config recorded more of its base than weights: they give the same numbers as then.

`data/saved_without_base_settings` has one for each method, on the small CLIP of the examples, and its features of one
picture and one text at the time.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

import vilt_prompt
from vilt_prompt import METHODS

SAVED = Path(__file__).parent / "data" / "saved_without_base_settings"
SMALL_CLIP = Path(__file__).parents[2] / "examples" / "small_clip" / "emoji-vit-12x128"
BASE = f"local-dir:{SMALL_CLIP}"
WEIGHTS = "adapter_model.safetensors"


def picture() -> torch.Tensor:
    return torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64).sin()


def test_there_is_one_of_each_method():
    assert {folder.name for folder in SAVED.iterdir()} == {*METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_the_same_numbers(method, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = vilt_prompt.from_pretrained(open_clip.create_model(BASE), SAVED / method)
        again, _, tokenizer = vilt_prompt.create_model_and_transforms(SAVED / method, base_model=BASE)
    expected = json.loads((SAVED / method / "features.json").read_text())
    for loaded in (model, again):
        with torch.no_grad():
            image, text = loaded.encode_image(picture())[0], loaded.encode_text(tokenizer(["playing the guitar"]))[0]
        torch.testing.assert_close(image, torch.tensor(expected["image"]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(text, torch.tensor(expected["text"]), rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path)
    former, now = load_file(SAVED / method / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert former.keys() == now.keys()
    assert all(torch.equal(former[key], now[key]) for key in former)
