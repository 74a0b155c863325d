"""Saved configs: damaged and hostile ones are refused; a saved adapter is read once, and loaded from that read."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import peft
import pytest
import torch
from peft import PeftModel

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.adapter_files import CONFIG, features, refused, rewrite_config, save_by_peft_alone, wrapped
from tests.support.architectures import build
from vilt_prompt import PromptConfig
from vilt_prompt.sharing import files
from vilt_prompt.sharing.saved_config import SavedConfig, read_config

SETTINGS = {"K": 2, "n_ctx": 3}


def save(folder, seed: int = 0, **settings) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    model = vilt_prompt.wrap(build("4/4"), **{**SETTINGS, **settings})
    model.save_pretrained(folder)
    return tensors(model)


def tensors(model, name: str = "default") -> dict[str, torch.Tensor]:
    return {key: tensor.detach().clone() for key, tensor in learnable_tensors(model, name).items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The files of tensors that are opened."""
    paths = []

    def opening(path, *args):
        paths.append(str(path))
        return safe_open(path, *args)

    safe_open = files.safe_open
    monkeypatch.setattr(files, "safe_open", opening)
    monkeypatch.setattr("peft.utils.save_and_load.safe_load_file", lambda *_, **__: pytest.fail("PEFT reads the file"))
    return paths


@pytest.mark.parametrize("load", [vilt_prompt.from_pretrained, PeftModel.from_pretrained])
def test_a_file_is_read_once(tmp_path, opened, load):
    saved = save(tmp_path)
    model = load(build("4/4"), str(tmp_path))
    assert len(opened) == 1
    assert same(tensors(model), saved)
    model.load_adapter(str(tmp_path), "second")
    assert len(opened) == 2
    assert same(tensors(model, "second"), saved)
    model.load_adapter(str(tmp_path), "second")  # again
    assert len(opened) == 3


def test_a_model_made_for_a_config_loads_what_is_there_by_then(tmp_path, opened):
    save(tmp_path)
    model = peft.get_peft_model(build("4/4"), PromptConfig.from_pretrained(tmp_path))
    newer = save(tmp_path, seed=1)
    model.load_adapter(tmp_path, "default")
    assert same(tensors(model), newer)
    assert len(opened) == 2


@pytest.mark.parametrize("change", ["none", "another adapter", "renamed", "another folder"])
def test_what_a_model_was_made_for_is_not_taken_for_another_adapter(tmp_path, change):
    mine, other = save(tmp_path / "mine"), save(tmp_path / "other", seed=1)
    maple = PromptConfig.preset("maple", n_ctx=3)
    model = peft.get_peft_model(build("4/4"), PromptConfig.from_pretrained(tmp_path / "mine"))
    if change == "another adapter":
        model.add_adapter("maple", maple)
        with pytest.raises(ValueError, match="there is an adapter 'maple' of another structure"):
            model.load_adapter(tmp_path / "mine", "maple")
    elif change == "renamed":
        model.rename_adapter("default", "first")
        model.add_adapter("default", maple)
        with pytest.raises(ValueError, match="there is an adapter 'default' of another structure"):
            model.load_adapter(tmp_path / "mine", "default")
    elif change == "another folder":
        model.load_adapter(tmp_path / "other", "default")
        assert same(tensors(model), other)
    else:
        model.load_adapter(tmp_path / "mine", "default")
        assert same(tensors(model), mine)


def test_the_model_has_a_plain_config(tmp_path):
    save(tmp_path)
    config = PromptConfig.from_pretrained(tmp_path)
    assert isinstance(config, SavedConfig)
    assert config.files.folder == tmp_path
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    assert type(model.peft_config["default"]) is PromptConfig
    assert model.peft_config["default"].to_dict() == config.to_dict()
    assert "files" not in config.to_dict()


def test_a_changed_copy_of_a_saved_config_is_of_no_file(tmp_path):
    save(tmp_path)
    for longer in (
        dataclasses.replace(PromptConfig.from_pretrained(tmp_path), n_ctx=5, n_ctx_vision=5),
        PromptConfig.from_pretrained(tmp_path).replace(n_ctx=5, n_ctx_vision=5),
    ):
        model = peft.get_peft_model(build("4/4"), longer)
        assert model.prompts.vilt_text["default"].shape == (2, 5, 32)


def test_one_config_loads_into_two_models(tmp_path):
    saved = save(tmp_path)
    config = read_config(tmp_path)
    first, second = (
        PeftModel.from_pretrained(build("4/4"), tmp_path, config=copy.copy(config), low_cpu_mem_usage=True)
        for _ in range(2)
    )
    with torch.no_grad():
        for tensor in learnable_tensors(first).values():
            tensor.zero_()
    assert same(tensors(second), saved)


def test_a_reloaded_adapter_is_float32_again_unless_told_otherwise(tmp_path):
    saved = save(tmp_path)
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path).half()
    model.load_adapter(tmp_path, "default", autocast_adapter_dtype=False)
    assert {tensor.dtype for tensor in tensors(model).values()} == {torch.float16}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_adapter(tmp_path, "default")
    assert same(tensors(model), saved)


def test_loading_onto_the_meta_device_makes_no_values(tmp_path):
    save(tmp_path)
    for low_cpu_mem_usage in (False, True):
        model = PeftModel.from_pretrained(build("4/4").to("meta"), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
        assert all(tensor.is_meta for tensor in learnable_tensors(model).values())


def test_settings_from_a_folder_may_be_trained_anew(tmp_path):
    wrapped(seed=1).save_pretrained(tmp_path / "a")
    wrapped(seed=2).save_pretrained(tmp_path / "b")
    model = peft.get_peft_model(build("4/4"), PromptConfig.from_pretrained(tmp_path / "a")).eval()
    assert not torch.equal(features(model), features(wrapped(seed=1)))
    model.load_adapter(tmp_path / "b", "default")
    assert torch.equal(features(model), features(wrapped(seed=2)))


DAMAGED_CONFIGS = {
    "cut": b'{"peft_type": "VILT_PROMPT", "n_c',
    "no JSON": b"\x80\x04.",
    "not UTF-8": b'{"peft_type": "\xff"}',
    "nested": b"[" * 200_000,
    "a list": b"[1]",
    "a number for a name": b'{"peft_type": 3}',
    "a list for a name": b'{"peft_type": []}',
    "huge": b'{"peft_type": "VILT_PROMPT", "x": "' + b"x" * 2**21 + b'"}',
    "a long number": b'{"peft_type": "VILT_PROMPT", "K": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", DAMAGED_CONFIGS.values(), ids=DAMAGED_CONFIGS)
def test_damaged_configs(content, tmp_path):
    wrapped().save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_bytes(content)
    refused(tmp_path, "adapter_config.json is damaged .*: copy it again")


HOSTILE_SETTINGS = [
    ({"n_ctx": ...}, "lacks n_ctx"),
    ({"K": ..., "depth": ...}, "lacks depth, K"),
    ({"n_ctx": "3"}, "n_ctx must be an integer, got '3'"),
    ({"n_ctx": 3.0}, "n_ctx must be an integer, got 3.0"),
    ({"n_ctx": True}, "n_ctx must be an integer, got True"),
    ({"n_ctx": []}, "n_ctx must be an integer"),
    ({"n_ctx": 0}, "expected n_ctx of at least 1, got 0"),
    ({"n_ctx": -3}, "expected n_ctx of at least 1, got -3"),
    ({"n_ctx": 4, "n_ctx_vision": 4}, r"vilt_text is of shape \(2, 3, 32\), expected \(2, 4, 32\)"),
    ({"n_ctx": 10**30, "n_ctx_vision": 10**30}, "leaves no room"),
    ({"K": 3}, r"vilt_text is of shape \(2, 3, 32\), expected \(3, 3, 32\)"),
    ({"K": 10**30}, "expected K in 1..*, got 10+"),
    ({"K": "2"}, "K must be an integer or None"),
    ({"depth": 3}, r"vilt_vision is of shape \(2, 3, 48\), expected \(1, 3, 48\)"),
    ({"depth": 10**30}, "expected depth in 1..*, got 10+"),
    ({"towers": "all"}, "unknown towers 'all'"),
    ({"towers": 5}, "unknown towers 5"),
    ({"lead": ["split"]}, r"unknown lead \['split'\]"),
    ({"mapper": {}}, "unknown mapper"),
    ({"mapper": "per_layer"}, r"vilt_F.weight is of shape"),
    ({"method": None}, "unknown method None"),
    ({"ctx_init": "a photo"}, "expected a list of token ids"),
    ({"ctx_init": [-1]}, "ctx_init must be a text or a list of token ids"),
    ({"base_model": 7}, "base_model must be a string or None, got 7"),
    ({"base_fingerprint": "none"}, "base_fingerprint must be a dict or None"),
    ({"base_fingerprint": {}}, "base_fingerprint is damaged"),
    ({"base_fingerprint": {"shapes": {"a": 1}, "values": {}}}, "base_fingerprint is damaged"),
    ({"base_fingerprint": {"shapes": {}, "values": {"a": "b"}}}, "base_fingerprint is damaged"),
    ({"peft_type": "LORA"}, "of type LORA, not VILT_PROMPT"),
]


@pytest.mark.filterwarnings("ignore:.*was changed after it was saved")
@pytest.mark.parametrize(("changes", "message"), HOSTILE_SETTINGS, ids=lambda value: str(value)[:40])
def test_hostile_settings(changes, message, tmp_path):
    save_by_peft_alone(wrapped(), tmp_path / "by PEFT")
    rewrite_config(tmp_path / "by PEFT", **changes)
    refused(tmp_path / "by PEFT", message)
    wrapped().save_pretrained(tmp_path / "by us")
    rewrite_config(tmp_path / "by us", **changes)
    if set(changes) & {"method", *vilt_prompt.config.STRUCTURE}:
        message += f"|do not belong together: .*{next(iter(changes))} is .* was saved. Copy both files again"
    refused(tmp_path / "by us", message)
