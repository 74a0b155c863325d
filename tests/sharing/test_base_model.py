"""Whether prompts meet the weights that they were trained on: the same verdict in all precisions, with all adapters."""

from __future__ import annotations

import copy
import json
import time
import warnings

import open_clip
import peft
import pytest
import torch
from peft import PeftModel

import vilt_prompt
from tests.support.architectures import build, class_ids
from vilt_prompt import PromptConfig, from_pretrained
from vilt_prompt.sharing.base_model import check_base, fingerprint

PRECISIONS = [torch.float32, torch.float16, torch.bfloat16]
VISION = {"layers": 4, "width": 48, "head_width": 16, "image_size": 16, "patch_size": 8}
TEXT = {"context_length": 24, "vocab_size": 100, "width": 32, "heads": 2, "layers": 4}


def untrained(seed: int, **vision) -> open_clip.CLIP:
    """A model as open_clip initialises it: norms 1, biases 0, matrices of small numbers."""
    torch.manual_seed(seed)
    return open_clip.CLIP(24, {**VISION, **vision}, TEXT)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether an adapter that was trained on the first would load onto the second."""
    config = PromptConfig(base_fingerprint=json.loads(json.dumps(fingerprint(first))))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verdict = check_base(second, config, strict=False)
    assert verdict is not any("other weights" in str(warning.message) for warning in caught)
    return verdict


@pytest.mark.parametrize("make", [build, lambda _, seed=0: untrained(seed)], ids=["trained", "untrained"])
@pytest.mark.parametrize("second", PRECISIONS, ids=str)
@pytest.mark.parametrize("first", PRECISIONS, ids=str)
def test_the_verdict_is_the_same_in_all_precisions(first, second, make):
    assert same(make("4/4").to(first), make("4/4").to(second))
    assert same(make("4/4").to(first).to(torch.bfloat16), make("4/4").to(torch.float16).to(second))
    assert not same(make("4/4").to(first), make("4/4", seed=1).to(second))


def test_values_too_small_for_half_precision():
    tiny = build("4/4")
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.mul_(1e-7)
    for precision in PRECISIONS:
        assert same(tiny, copy.deepcopy(tiny).to(precision))


@pytest.mark.needs("peft", "0.15", "LoRA on nn.MultiheadAttention")
def test_what_does_not_change_it():
    base = build("4/4")
    expected = fingerprint(base)
    with torch.no_grad():
        base.logit_scale.fill_(0.5)
    base.register_buffer("running_mean", torch.randn(3))
    assert fingerprint(base) == expected
    model = vilt_prompt.wrap(base, K=2, n_ctx=3)
    model.add_adapter("other", PromptConfig(K=2, n_ctx=2))
    assert fingerprint(base) == expected
    assert model.peft_config["default"].base_fingerprint == model.peft_config["other"].base_fingerprint == expected
    vilt_prompt.unwrap(model)
    assert fingerprint(base) == expected
    modules = ["attn", "out_proj", "c_fc", "c_proj"]
    lora = peft.get_peft_model(base, peft.LoraConfig(target_modules=modules, init_lora_weights=False))
    assert fingerprint(base) == expected
    lora(image=torch.randn(1, 3, 16, 16), text=class_ids(base, [2]))
    assert fingerprint(base) == expected
    lora.unload()
    assert fingerprint(base) == expected


def test_other_image_sizes_and_context_lengths_are_the_same_weights():
    larger = untrained(0, image_size=32)
    state = untrained(0).state_dict()
    state["visual.positional_embedding"] = larger.state_dict()["visual.positional_embedding"]
    larger.load_state_dict(state)
    assert same(untrained(0), larger)


@pytest.mark.parametrize("part", ["visual.conv1", "transformer.resblocks.3", "visual.transformer.resblocks.0"])
def test_a_part_of_the_weights_is_others(part):
    changed = build("4/4")
    with torch.no_grad():
        for parameter in changed.get_submodule(part).parameters():
            parameter.mul_(1.01)
    assert not same(build("4/4"), changed)


def test_there_is_none_on_the_meta_device():
    assert fingerprint(build("4/4").to("meta")) is None
    assert vilt_prompt.wrap(build("4/4").to("meta"), K=2).peft_config["default"].base_fingerprint is None
    config = PromptConfig(base_fingerprint=fingerprint(build("4/4")))
    assert check_base(build("4/4", seed=1).to("meta"), config, strict=True)
    with pytest.raises(ValueError, match="another architecture"):
        check_base(build("2/2").to("meta"), config, strict=True)


def test_it_takes_milliseconds_for_a_large_model():
    with torch.device("meta"):
        large = open_clip.CLIP(**open_clip.get_model_config("ViT-H-14"))
    large = large.to_empty(device="cpu")  # 4 GB, of which only the sampled pages are ever touched
    assert sum(parameter.numel() for parameter in large.parameters()) > 9e8
    times = []
    for _ in range(5):
        started = time.process_time()
        found = fingerprint(large)
        times.append(time.process_time() - started)
    assert min(times) < 0.1, times
    assert 3000 < len(json.dumps(found)) < 8000


def save(tmp_path, **settings) -> PeftModel:
    model = vilt_prompt.wrap(build("4/4"), **{"K": 2, "n_ctx": 3, **settings})
    model.save_pretrained(tmp_path)
    return model


def test_other_weights_of_the_same_shape(tmp_path):
    save(tmp_path, base_model="ViT-B-16", base_pretrained="laion2b_s34b_b88k")
    message = r"other weights \(its base: ViT-B-16 laion2b_s34b_b88k\): 32 of 32 sampled .* or pass strict_base=False"
    for load in (vilt_prompt.from_pretrained, PeftModel.from_pretrained):
        other = build("4/4", seed=1)
        with pytest.raises(ValueError, match=message):
            load(other, str(tmp_path))
        assert type(other) is type(build("4/4"))
        with pytest.warns(UserWarning, match="loaded all the same"):
            loaded = load(other, str(tmp_path), strict_base=False)
        # An adapter that is saved from here on belongs to these weights.
        config = loaded.peft_config["default"]
        assert config.base_fingerprint == fingerprint(other)
        assert config.base_model is config.base_pretrained is None
    model = vilt_prompt.wrap(build("4/4", seed=1), K=2, n_ctx=3)
    with pytest.raises(ValueError, match=message):
        model.load_adapter(str(tmp_path), "other")
    with pytest.warns(UserWarning, match="loaded all the same"):
        model.load_adapter(str(tmp_path), "other", strict_base=False)
    assert list(model.peft_config) == ["default", "other"]


def test_the_fingerprint_is_taken_before_training(tmp_path):
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    with torch.no_grad():  # a user who unfreezes a part of the base
        model.get_base_model().visual.proj.mul_(2)
    model.save_pretrained(tmp_path)
    vilt_prompt.from_pretrained(build("4/4"), tmp_path)


def test_half_precision_bases_take_an_adapter_of_a_full_one(tmp_path):
    save(tmp_path)
    for precision in PRECISIONS[1:]:
        vilt_prompt.from_pretrained(build("4/4").to(precision), tmp_path)


REFUSED = {
    "another architecture": (
        lambda w: from_pretrained(w.equal_widths, w.folder / "good"),
        ValueError,
        r"another architecture .*conv1.weight is 1 x \(48, 3, 8, 8\) there, 1 x \(32, 3, 8, 8\) in",
    ),
    "a deeper model": (
        lambda w: from_pretrained(w.deep, w.folder / "good"),
        ValueError,
        r"resblocks.\*.attn.in_proj_weight is 4 x .* there, 12 x .* in this model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
