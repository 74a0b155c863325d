"""Saving the adapters of a model to folders. `tests/sharing/` tests the files, and pushing them to a Hub."""

from __future__ import annotations

import json
import socket
import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file

import vilt_prompt
from tests.support.architectures import build
from tests.support.wrapped import SETTINGS, features, same, wrapped
from vilt_prompt import push_to_hub


def test_a_saved_config_is_resolved_and_loads_again(tmp_path):
    model = wrapped(K=None, base_model="ViT-B-16", base_pretrained="laion2b_s34b_b88k")
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    expected = {
        "towers": "both",
        "lead": "split",
        "mapper": "shared",
        "depth": 4,
        "K": 2,
        "n_ctx": 3,
        "n_ctx_vision": 3,
    }
    expected |= {"peft_type": "VILT_PROMPT", "base_model": "ViT-B-16", "base_pretrained": "laion2b_s34b_b88k"}
    assert {name: saved[name] for name in expected} == expected
    assert peft.PeftConfig.from_pretrained(tmp_path).K == 2


def test_a_file_holds_prompts_and_maps_under_keys_without_the_adapter_name(tmp_path):
    for name in ("default", "ucf101"):
        wrapped(adapter_name=name).save_pretrained(tmp_path)
    first = load_file(tmp_path / "adapter_model.safetensors")
    second = load_file(tmp_path / "ucf101" / "adapter_model.safetensors")
    names = ["vilt_F.bias", "vilt_F.weight", "vilt_F_tilde.bias", "vilt_F_tilde.weight", "vilt_text", "vilt_vision"]
    assert sorted(first) == sorted(second) == [f"base_model.model.prompts.{name}" for name in names]
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_adapter_of_another_name_is_found_in_its_subfolder(tmp_path):
    model = wrapped(adapter_name="ucf101")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no adapter_config.json; its subfolders with an adapter are: ucf101"):
        vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    assert same(features(vilt_prompt.from_pretrained(build("4/4"), tmp_path, subfolder="ucf101")), features(model))


def test_saving_makes_no_network_call(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    base = build("4/4")
    base.name_or_path = "somebody/some-model"  # PEFT would ask the Hub about it
    model = vilt_prompt.wrap(base, **SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT swallows a failed look-up and warns
        model.save_pretrained(tmp_path)
        model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "adapter_model.safetensors")


REFUSED = {
    "save to a file": (
        lambda w: w.model.save_pretrained(w.folder / "file"),
        ValueError,
        "file is a file: give a folder",
    ),
    "save to None": (lambda w: w.model.save_pretrained(None), TypeError, "save_directory must be a folder, got None"),
    "save a pickle": (
        lambda w: w.model.save_pretrained(w.folder / "new", safe_serialization=False),
        ValueError,
        "never as pickles: leave safe_serialization=True",
    ),
    "save an adapter by its bare name": (
        lambda w: w.model.save_pretrained(w.folder / "new", selected_adapters="twin"),
        TypeError,
        r"selected_adapters must be a list of names, such as \['twin'\], got 'twin'",
    ),
    "push with an unknown argument": (
        lambda w: w.model.push_to_hub("me/prompts", metric=1),
        TypeError,
        "unexpected keyword argument 'metric'",
    ),
    "push to None": (lambda w: push_to_hub(w.model, None), TypeError, "repo_id must be a string.*got None"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
