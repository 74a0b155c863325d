"""PEFT's verbs on a prompted model, and each of PEFT's traps for a tuner from outside."""

from __future__ import annotations

import copy
import json
import pickle
import socket
import warnings

import numpy as np
import open_clip
import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load as tensors_in
from safetensors.torch import load_file, save_file

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import END, START, build, class_ids, frames
from vilt_prompt import PromptConfig, push_to_hub

SETTINGS = {"K": 2, "n_ctx": 3}


def wrapped(architecture: str = "4/4", seed: int = 0, **settings) -> PeftModel:
    base = build(architecture)
    torch.manual_seed(seed)
    return vilt_prompt.wrap(base, **{**SETTINGS, **settings}).eval()


def trainable(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


IDS = class_ids(build("4/4"), [1, 3, 2])
IMAGES = frames(build("4/4"), 2)


def features(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return model.encode_text(IDS), model.encode_image(IMAGES)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_get_peft_model_is_wrap():
    base = build("4/4")
    torch.manual_seed(0)
    model = get_peft_model(base, PromptConfig(**SETTINGS)).eval()
    assert type(model) is type(wrapped())
    assert same(features(model), features(wrapped()))


@pytest.mark.parametrize("method", vilt_prompt.METHODS)
def test_save_and_load(method, tmp_path):
    model = wrapped(method=method, K=None)
    model.save_pretrained(tmp_path)
    for load in (vilt_prompt.from_pretrained, PeftModel.from_pretrained):
        loaded = load(build("4/4"), str(tmp_path))
        assert same(features(loaded), features(model))
        assert not trainable(loaded)


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"towers": "text"}, {"lead": "own", "mapper": "none", "depth": 10, "K": None}),
        ({"towers": "vision"}, {"lead": "own", "mapper": "none", "depth": 10}),
        ({"lead": "own"}, {"towers": "both", "mapper": "none", "depth": 10}),
        ({"mapper": "none"}, {"towers": "both", "lead": "own", "depth": 10}),
        ({"method": "independent"}, {"lead": "own", "mapper": "none", "depth": None}),
        ({"method": "independent", "lead": "text"}, {"mapper": "shared", "depth": 10, "K": None}),
        ({"method": "vpt_deep"}, {"towers": "vision", "depth": 10}),
        ({"method": "maple", "K": -1}, {"lead": "text", "mapper": "per_layer", "depth": 9, "K": None}),
        ({"K": None, "depth": 7}, {"K": 3, "depth": 7}),
        ({"K": None, "depth": 1}, {"K": 1, "depth": 1}),
    ],
    ids=str,
)
def test_settings_resolve(given, expected):
    config = vilt_prompt.wrap(build("10/12"), **given).peft_config["default"]
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.resolve(text_layers=12, vision_layers=10) == config


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


def test_training_goes_on_from_a_file(tmp_path):
    wrapped().save_pretrained(tmp_path)
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path, is_trainable=True)
    assert trainable(model) == trainable(wrapped())


def test_several_adapters_side_by_side(tmp_path):
    model = wrapped()
    alone = features(model)
    torch.manual_seed(1)
    model.add_adapter("maple", PromptConfig.preset("maple", n_ctx=2))
    assert same(features(model), alone)
    model.set_adapter("maple")
    other = features(model)
    assert not same(other, alone)
    assert all(".maple" in name for name in trainable(model))
    before = copy.deepcopy(learnable_tensors(model, "default"))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.encode_text(IDS).square().sum().backward()
    optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in learnable_tensors(model, "default").items())
    model.save_pretrained(tmp_path)
    model.set_adapter("default")
    assert same(features(model), alone)
    model.load_adapter(str(tmp_path / "maple"), "again")
    model.set_adapter("maple")
    trained = features(model)
    model.set_adapter("again", inference_mode=True)
    assert same(features(model), trained)
    assert not trainable(model)
    model.set_adapter("default")
    model.delete_adapter("maple")
    assert set(model.peft_config) == {"default", "again"}
    assert same(features(model), alone)


def test_deleting_the_active_adapter_makes_another_one_active():
    model = wrapped()
    torch.manual_seed(1)
    model.add_adapter("other", PromptConfig(**SETTINGS))
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        model.delete_adapter("default")
    assert same(features(model), features(wrapped(seed=1)))
    assert trainable(model)
    with pytest.raises(ValueError, match="'other' is the only adapter: .* unwrap"):
        model.delete_adapter("other")


def test_deleting_an_inactive_adapter_leaves_the_active_one_trainable():
    model = wrapped()
    before = trainable(model)
    model.add_adapter("other", PromptConfig(**SETTINGS))
    model.delete_adapter("other")
    assert trainable(model) == before


def test_locking_the_towers_leaves_prompts_trainable():
    model = wrapped("custom_text")
    before = trainable(model)
    model.lock_image_tower()
    model.lock_text_tower()
    assert trainable(model) == before


def test_deleting_a_frozen_adapter_trains_no_other(tmp_path):
    wrapped().save_pretrained(tmp_path)
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    model.load_adapter(str(tmp_path), "other")
    with pytest.warns(UserWarning, match="Setting active adapter to other"):
        model.delete_adapter("default")
    assert not trainable(model)


def test_an_adapter_may_have_any_name_that_cannot_be_mistaken(tmp_path):
    model = wrapped()
    for name in ("F", "text", "0", "UCF-101 16 shot", "visual", "transformer"):
        model.add_adapter(name, PromptConfig(**SETTINGS))
    model.save_pretrained(tmp_path)
    assert all(len(load_file(path)) == 6 for path in tmp_path.rglob("*.safetensors"))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 7


@pytest.mark.parametrize(
    "name",
    [
        "",
        "vilt_text",
        "vilt_F",
        "prompts",
        "model",
        "base_model",
        "weight",
        "v",
        "vilt",
        "a.b",
        "a/b",
        "a:b",
        "a\0b",
        "a" * 256,
        "keys",
        "training",
    ],
)
def test_names_that_can_be_mistaken_are_refused(name):
    with pytest.raises(ValueError, match="adapter name .* is refused"):
        vilt_prompt.wrap(build("4/4"), K=2, adapter_name=name)
    model = wrapped()
    with pytest.raises(ValueError, match="adapter name .* is refused"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.add_adapter(name, PromptConfig(**SETTINGS))
    assert list(model.peft_config) == ["default"]


def test_disable_adapter_leaves_requires_grad_alone(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    frozen = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    for candidate in (model, frozen):
        before = trainable(candidate)
        with candidate.disable_adapter():
            assert same(features(candidate), features(build("4/4").requires_grad_(False)))
        assert trainable(candidate) == before
        assert not same(features(candidate), features(build("4/4")))


def test_unload_is_unwrap():
    base = build("4/4")
    model = vilt_prompt.wrap(base, **SETTINGS)
    assert model.unload() is base
    assert type(base) is type(build("4/4"))
    with pytest.raises(TypeError, match="still wrapped"):
        vilt_prompt.unwrap(model)
    assert vilt_prompt.unwrap(vilt_prompt.wrap(base, **SETTINGS)) is base


@pytest.mark.parametrize("verb", ["merge_adapter", "unmerge_adapter", "merge_and_unload"])
def test_merging_is_refused(verb):
    with pytest.raises(ValueError, match="prompts cannot be merged"):
        getattr(wrapped(), verb)()


def test_two_active_adapters_are_refused():
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    with pytest.raises(ValueError, match="one adapter can be active at a time"):
        model.base_model.set_adapter(["default", "other"])
    with pytest.raises(ValueError, match="one adapter can be active at a time"):
        model.set_adapter(["default", "other"])
    with pytest.raises(ValueError, match="no adapter 'third'; there are: default, other"):
        model.base_model.set_adapter("third")
    assert model.active_adapters == ["default"]


def test_the_active_adapter_may_come_as_a_list_of_one():
    model = wrapped()
    model.add_adapter("other", PromptConfig(**SETTINGS))
    model.set_adapter(["other"])
    assert (model.active_adapter, model.active_adapters) == ("other", ["other"])
    model.base_model.set_adapter(["default"])
    assert model.base_model.active_adapters == ["default"]
    with pytest.raises(ValueError, match=r"one adapter can be active at a time, got \[\]"):
        model.set_adapter([])
    with pytest.raises(TypeError, match="an adapter name must be a string, got 3"):
        model.set_adapter([3])


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy(tmp_path, integer):
    given = {"n_ctx": integer(3), "K": integer(2), "depth": integer(4), "ctx_init": [integer(60), 61]}
    model = vilt_prompt.wrap(build("4/4"), **given).eval()
    config = model.peft_config["default"]
    assert (config.n_ctx, config.K, config.depth, config.ctx_init) == (3, 2, 4, [60, 61])
    for value in (config.n_ctx, config.n_ctx_vision, config.K, config.depth, *config.ctx_init):
        assert type(value) is int
    model.save_pretrained(tmp_path)
    assert same(features(vilt_prompt.from_pretrained(build("4/4"), tmp_path)), features(model))
    own = PromptConfig.preset("independent", n_ctx=2, n_ctx_vision=integer(3))
    assert type(own.n_ctx_vision) is int
    video = torch.randn(1, 3, 3, *model.visual.image_size)
    chunked = model.encode_video(video, frames_per_chunk=integer(2))
    torch.testing.assert_close(chunked, model.encode_video(video))
    with pytest.raises(ValueError, match="n_ctx=0 is out of range"):
        PromptConfig(n_ctx=integer(0))
    for value in (np.bool_(True), np.float64(3), torch.tensor(3)):
        with pytest.raises(TypeError, match="n_ctx must be an integer"):
            PromptConfig(n_ctx=value)


def test_a_name_that_is_taken():
    model = wrapped()
    before = features(model)
    with pytest.raises(ValueError, match="there is an adapter 'default' already: choose another name"):
        model.add_adapter("default", PromptConfig(**SETTINGS))
    assert same(features(model), before)


def test_an_adapter_that_does_not_fit_is_not_added():
    model = wrapped()
    before = features(model)
    with pytest.raises(ValueError, match="K=9 is out of range"):
        model.add_adapter("other", PromptConfig(K=9))
    assert list(model.peft_config) == ["default"]
    assert same(features(model), before)
    assert all(len(tensors) == 1 for tensors in (model.prompts.vilt_text, model.prompts.vilt_F))


def test_an_adapter_for_each_sample_is_refused():
    with pytest.raises(ValueError, match="adapter_names="):
        wrapped()(text=IDS, adapter_names=["default"] * len(IDS))


@pytest.mark.parametrize("load", [vilt_prompt.from_pretrained, PeftModel.from_pretrained])
def test_tensors_that_do_not_fit_are_an_error(load, tmp_path):
    wrapped().save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = tensors_in(path.read_bytes())  # `load_file` maps the file that is overwritten
    text = "base_model.model.prompts.vilt_text"
    for broken, message in (
        ({key: tensor for key, tensor in tensors.items() if key != text}, "vilt_text is missing"),
        ({**tensors, "base_model.model.prompts.vilt_extra": tensors[text].clone()}, "vilt_extra is one too many"),
        ({**tensors, text: tensors[text][:, :2].clone()}, r"vilt_text is of shape \(2, 2, 32\), \(2, 3, 32\) was"),
    ):
        save_file(broken, path)
        base = build("4/4")
        with pytest.raises(ValueError, match=message):
            load(base, str(tmp_path))
        assert type(base) is type(build("4/4"))
        model = wrapped()
        before = features(model)
        with pytest.raises(ValueError, match=message):
            model.load_adapter(str(tmp_path), "other")
        assert list(model.peft_config) == list(model.prompts.tables) == ["default"]
        assert same(features(model), before)


@pytest.mark.parametrize("load", [vilt_prompt.from_pretrained, PeftModel.from_pretrained])
def test_a_pickle_is_never_loaded_nor_saved(load, tmp_path):
    with pytest.raises(ValueError, match="never as pickles"):
        wrapped().save_pretrained(tmp_path, safe_serialization=False)
    assert not list(tmp_path.iterdir())
    wrapped().save_pretrained(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(weights), tmp_path / "adapter_model.bin")
    weights.unlink()
    base = build("4/4")
    with pytest.raises(ValueError, match="holds adapter_model.bin but no .*: pickles are never loaded"):
        load(base, str(tmp_path))
    (tmp_path / "adapter_model.bin").rename(weights)
    with pytest.raises(ValueError, match="is a pickle, not safetensors"):
        load(base, str(tmp_path))
    assert type(base) is type(build("4/4"))


def test_a_config_of_a_newer_version_loads_with_a_warning(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"field_of_the_future": 1}))
    with pytest.warns(UserWarning, match="field_of_the_future"):
        loaded = vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    assert same(features(loaded), features(model))


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


def test_the_seed_alone_decides_the_first_values():
    assert same(features(wrapped(seed=3)), features(wrapped(seed=3)))
    assert not same(features(wrapped(seed=3)), features(wrapped(seed=4)))
    prompts = wrapped("12/12", n_ctx=10, K=6).prompts
    assert prompts.vilt_text["default"].std().item() == pytest.approx(0.02, rel=0.1)
    bound = prompts.vilt_F["default"].in_features ** -0.5
    assert prompts.vilt_F["default"].weight.abs().max().item() == pytest.approx(bound, rel=0.1)


def test_prompts_are_float32_under_another_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        model = vilt_prompt.wrap(build("4/4"), K=2, mapper="per_layer")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in learnable_tensors(model).values()} == {torch.float32}


def test_start_from_a_text():
    text_cfg = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 4}
    base = open_clip.CLIP(24, {"layers": 4, "width": 48, "head_width": 16, "image_size": 16, "patch_size": 8}, text_cfg)
    ids = open_clip.get_tokenizer("ViT-B-32")(["a photo of"])[0, 1:4].tolist()
    model = vilt_prompt.wrap(base, K=2, n_ctx=5, ctx_init="a photo of")
    assert torch.equal(model.prompts.vilt_text["default"][0, :3], base.token_embedding.weight[ids])
    assert not model.prompts.vilt_text["default"][0, 3:].eq(0).any()
    assert model.peft_config["default"].ctx_init == ids


def tokenizer(texts: list[str]) -> torch.Tensor:
    return torch.cat([IDS[1:2] if text else torch.tensor([[START, END] + [0] * 22]) for text in texts])


def test_start_from_ids_is_for_new_adapters_alone(tmp_path):
    model = wrapped(ctx_init=[60, 61])
    assert torch.equal(model.prompts.vilt_text["default"][0, :2], model.token_embedding.weight[[60, 61]])
    with_tokenizer = vilt_prompt.wrap(build("4/4"), **SETTINGS, ctx_init="ab", tokenizer=tokenizer)
    assert with_tokenizer.peft_config["default"].ctx_init == IDS[1, 1:4].tolist()
    with torch.no_grad():
        model.prompts.vilt_text["default"].mul_(2)
    model.save_pretrained(tmp_path)
    trimmed = build("4/4")
    trimmed.token_embedding = torch.nn.Embedding(50, 32)
    loaded = vilt_prompt.from_pretrained(trimmed, tmp_path)
    assert torch.equal(loaded.prompts.vilt_text["default"], model.prompts.vilt_text["default"])
    assert loaded.peft_config["default"].ctx_init == [60, 61]
    anew = get_peft_model(build("4/4"), PromptConfig.from_pretrained(tmp_path))
    assert torch.equal(anew.prompts.vilt_text["default"][0, :2], anew.token_embedding.weight[[60, 61]])


def test_open_clips_conversion_to_half_precision_after_wrap():
    model = wrapped()
    open_clip.model.convert_weights_to_lp(model.get_base_model(), torch.bfloat16)
    features = model.encode_text(IDS)
    assert features.dtype == torch.bfloat16
    features.sum().backward()
    assert all(p.grad.isfinite().all() for name, p in learnable_tensors(model).items() if "text" in name)


def test_prompts_have_no_weight_or_bias():
    prompts = wrapped().prompts
    assert not hasattr(prompts, "weight")
    assert not hasattr(prompts, "bias")


def test_an_old_handle_leaves_a_new_adapter_alone():
    first = wrapped()
    second = vilt_prompt.wrap(vilt_prompt.unwrap(first), **SETTINGS)
    with pytest.raises(TypeError, match="still wrapped"):
        vilt_prompt.unwrap(first)
    vilt_prompt.unwrap(second)


def test_an_adapter_loaded_beside_another_may_be_trained(tmp_path):
    wrapped(seed=1).save_pretrained(tmp_path)
    model = wrapped()
    model.load_adapter(str(tmp_path), "frozen")
    before = trainable(model)
    assert before == trainable(wrapped())
    model.load_adapter(str(tmp_path), "second", is_trainable=True)
    assert trainable(model) == before | {name.replace("default", "second") for name in before}
    assert model.active_adapter == "default"
    assert same(features(model), features(wrapped()))


def test_no_active_adapter_is_the_base():
    model = wrapped()
    model.get_base_model().prompts.set_adapter([])
    assert same(features(model), features(build("4/4").requires_grad_(False)))
    with pytest.raises(ValueError, match=r"no adapter is active: add one with add_adapter\(\.\.\.\) and set_adapter"):
        model.layer_prompts()


def test_copies_and_pickles_work_alone():
    model = wrapped()
    expected = features(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(features(copied), expected)
        with torch.no_grad():
            copied.prompts.vilt_text["default"].add_(1)
        assert not same(features(copied), expected)
        assert same(features(model), expected)
        assert type(vilt_prompt.unwrap(copied)) is type(build("4/4"))


def test_low_cpu_mem_usage_loads_the_same(tmp_path):
    model = wrapped()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build("4/4"), str(tmp_path), low_cpu_mem_usage=True)
    assert same(features(loaded), features(model))


REFUSED = {
    "load anew into another structure": (
        lambda w: w.model.load_adapter(w.folder / "good", "coop"),
        ValueError,
        r"there is an adapter 'coop' of another structure \(towers is 'text' and 'both'.*: choose another name, or",
    ),
    "load a deeper adapter": (
        lambda w: w.model.load_adapter(w.folder / "deep", "third"),
        ValueError,
        "depth=12 is out of range",
    ),
    "load with an unknown argument": (
        lambda w: w.model.load_adapter(w.folder / "good", "third", strict=False),
        TypeError,
        "unexpected keyword argument 'strict'. Did you mean 'strict_base'",
    ),
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
