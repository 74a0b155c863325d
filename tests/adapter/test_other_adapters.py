"""PEFT's LoRA beside prompts, in the same open_clip model: it counts in every feature, or an error says that not."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from torch import nn

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support import zoo
from tests.support.architectures import build, class_ids, frames
from vilt_prompt import PromptConfig

SETTINGS = {"K": 2, "n_ctx": 3}
IDS = class_ids(build("4/4"), [1, 3, 2])
IMAGES = frames(build("4/4"), 2)
ON_ATTENTION = pytest.mark.needs("peft", "0.15", "LoRA on nn.MultiheadAttention")
WORKS = [
    ["c_fc", "c_proj"],
    ["conv1"],
    ["token_embedding"],
    pytest.param(["attn"], marks=ON_ATTENTION),
    pytest.param(["attn", "c_fc", "conv1", "token_embedding"], marks=ON_ATTENTION),
]
IGNORED = [LoraConfig(target_modules=["out_proj"])]
IGNORED_NAMES = ["out_proj"]
MESSAGE = r"on out_proj inside an nn.MultiheadAttention, which ignores it: adapt the whole attention, .*\[\"attn\"\]"


def lora(target_modules: list[str] | str) -> LoraConfig:
    return LoraConfig(target_modules=target_modules, r=2, init_lora_weights=False)  # else it starts as nothing


def wrap(base: nn.Module) -> PeftModel:
    torch.manual_seed(0)
    return vilt_prompt.wrap(base, **SETTINGS).eval()


def adapt(base: nn.Module, target_modules: list[str] | str, inject: bool) -> PeftModel | None:
    torch.manual_seed(1)
    if inject:
        inject_adapter_in_model(lora(target_modules), base).eval()
        return None
    return get_peft_model(base, lora(target_modules)).eval()


def features(model) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.encode_text(IDS), model.encode_image(IMAGES)]


def close(first, second) -> bool:
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(first, second, strict=True))


def merged(target_modules: list[str]) -> nn.Module:
    """The base model with the same LoRA in its weights."""
    return adapt(build("4/4"), target_modules, inject=False).merge_and_unload()


@pytest.mark.parametrize("inject", [False, True], ids=["get_peft_model", "inject_adapter_in_model"])
@pytest.mark.parametrize("before", [True, False], ids=["before wrap", "after wrap"])
@pytest.mark.parametrize("target_modules", WORKS, ids=" ".join)
def test_lora_counts_as_if_merged(target_modules, before, inject):
    base = build("4/4")
    if before:
        adapt(base, target_modules, inject)
        model = wrap(base)
    else:
        model = wrap(base)
        adapt(base, target_modules, inject)
    assert close(features(model), features(wrap(merged(target_modules))))
    assert not close(features(model), features(wrap(build("4/4"))))
    assert {type(config) for config in model.peft_config.values()} == {PromptConfig}
    with model.disable_adapter():  # the prompts, not LoRA
        assert close(features(model), features(merged(target_modules)))
    assert close(features(model), features(wrap(merged(target_modules))))
    assert vilt_prompt.unwrap(model) is base
    assert close(features(base), features(merged(target_modules)))


@pytest.mark.parametrize("before", [True, False], ids=["before wrap", "after wrap"])
@pytest.mark.parametrize(
    ("name", "target_modules"),
    [(name, ["qkv"]) for name in ("siglip", "pe_core", "relpos")] + [("eva01", ["proj", "fc1", "fc2"])],
)
def test_lora_in_timms_blocks_counts_as_if_merged(name, target_modules, before):
    def images_of(model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return model.encode_image(zoo.frames(model, 2))

    base = zoo.build(name)
    if before:
        adapt(base, target_modules, inject=True)
    model = wrap(base)
    if not before:
        adapt(base, target_modules, inject=True)
    same = adapt(zoo.build(name), target_modules, inject=False).merge_and_unload()
    with model.disable_adapter():
        torch.testing.assert_close(images_of(model), images_of(same), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(images_of(model), images_of(wrap(same)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(images_of(model), images_of(wrap(zoo.build(name))), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("config", IGNORED, ids=IGNORED_NAMES)
def test_lora_on_an_output_projection_before_wrap_is_refused(config):
    base = build("4/4")
    get_peft_model(base, copy.deepcopy(config))
    keys = list(base.state_dict())
    with pytest.raises(ValueError, match=MESSAGE):
        vilt_prompt.wrap(base, **SETTINGS)
    assert type(base) is type(build("4/4"))
    assert list(base.state_dict()) == keys
    assert type(base.peft_config["default"]) is LoraConfig


@pytest.mark.parametrize("config", IGNORED, ids=IGNORED_NAMES)
def test_lora_on_an_output_projection_after_wrap_is_refused_at_the_next_call(config):
    model = wrap(build("4/4"))
    get_peft_model(model.get_base_model(), copy.deepcopy(config))
    for encode, inputs in ((model.encode_text, IDS), (model.encode_image, IMAGES)):
        with pytest.raises(ValueError, match=MESSAGE):
            encode(inputs)


@ON_ATTENTION
def test_an_ignored_adapter_is_refused_beside_a_block_that_is_called_as_it_is():
    """An adapter around one attention lets the whole tower run plainly, where the other adapter would be ignored."""
    model = wrap(build("4/4"))
    adapt(model.get_base_model(), ["resblocks.0.attn.out_proj", "resblocks.1.attn"], inject=True)
    for encode, inputs in ((model.encode_text, IDS), (model.encode_image, IMAGES)):
        with pytest.raises(ValueError, match=MESSAGE):
            encode(inputs)


def test_lora_that_evas_attention_ignores_is_refused():
    message = r"on qkv inside an EvaAttention, which ignores it: adapt .*\[\"proj\", \"fc1\", \"fc2\"\]"
    base = zoo.build("eva01")
    adapt(base, ["qkv"], inject=True)
    with pytest.raises(ValueError, match=message):
        wrap(base)
    assert vilt_prompt.wrap(base, method="coop").encode_image(zoo.frames(base, 2)).shape == (2, 24)
    model = wrap(zoo.build("eva01"))
    adapt(model.get_base_model(), ["qkv"], inject=True)
    with pytest.raises(ValueError, match=message):
        model.encode_image(zoo.frames(model, 2))


def test_lora_that_attention_pooling_ignores_is_refused():
    base = zoo.build("coca")
    adapt(base, r"visual\.attn_pool\.attn\.out_proj", inject=True)
    with pytest.raises(ValueError, match=MESSAGE):
        wrap(base)
    vilt_prompt.wrap(base, method="coop")


@pytest.mark.slow
def test_a_compiled_model_refuses_it_too():
    model = wrap(build("2/2"))
    compiled = torch.compile(model.encode_image, backend="eager")
    compiled(IMAGES)
    get_peft_model(model.get_base_model(), LoraConfig(target_modules=["out_proj"]))
    with pytest.raises(ValueError, match=MESSAGE):
        compiled(IMAGES)
    torch._dynamo.reset()


def test_a_tower_without_prompts_may_have_lora_there():
    base = build("4/4")
    get_peft_model(base, LoraConfig(target_modules=r"visual\..*\.out_proj", init_lora_weights=False)).eval()
    model = vilt_prompt.wrap(base, method="coop", n_ctx=3).eval()
    torch.testing.assert_close(features(model)[1], features(build("4/4"))[1])  # torch ignores it
    vilt_prompt.unwrap(model)
    with pytest.raises(ValueError, match=MESSAGE):
        vilt_prompt.wrap(base, method="vpt_deep", n_ctx=3)


def test_each_tuner_keeps_its_configs_and_its_switches(tmp_path):
    base = build("4/4")
    lora_model = adapt(base, ["c_fc"], inject=False)
    model = wrap(base)
    both, prompts_alone = features(model), features(wrap(build("4/4")))
    assert list(lora_model.peft_config) == list(model.peft_config) == ["default"]
    assert type(lora_model.peft_config["default"]) is LoraConfig
    before = [parameter.requires_grad for parameter in base.parameters()]
    with model.disable_adapter():
        pass
    assert [parameter.requires_grad for parameter in base.parameters()] == before
    model.base_model.disable_adapter_layers()
    assert close(features(model), features(merged(["c_fc"])))
    model.base_model.enable_adapter_layers()
    with lora_model.disable_adapter():
        assert close(features(model), features(build("4/4")))  # PEFT's own switches all adapters in the model
    assert close(features(model), both)
    model.add_adapter("other", PromptConfig(**SETTINGS))
    model.delete_adapter("other")
    lora_model.add_adapter("second", lora(["c_proj"]))
    lora_model.delete_adapter("second")
    assert close(features(model), both)
    model.save_pretrained(tmp_path / "prompts")
    lora_model.save_pretrained(tmp_path / "lora")
    assert close(features(vilt_prompt.from_pretrained(build("4/4"), tmp_path / "prompts")), prompts_alone)
    again = PeftModel.from_pretrained(build("4/4"), tmp_path / "lora")
    assert close(features(vilt_prompt.from_pretrained(again.get_base_model(), tmp_path / "prompts")), both)
    lora_model.merge_and_unload()
    assert close(features(model), both)
    assert type(vilt_prompt.unwrap(model)) is type(build("4/4"))


FREEZES_ALL = pytest.mark.needs("peft", "0.21", "LoRA that leaves prompts trainable")


@pytest.mark.parametrize("before", [True, pytest.param(False, marks=FREEZES_ALL)], ids=["before wrap", "after wrap"])
def test_lora_and_prompts_train_together(before):
    base = build("4/4")
    if before:
        adapt(base, ["c_fc"], inject=False)
        model = wrap(base)
        assert not any(p.requires_grad for name, p in base.named_parameters() if "lora_" in name)
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or "lora_" in name)
    else:
        model = wrap(base)
        adapt(base, ["c_fc"], inject=False)
    (model.encode_text(IDS).square().sum() + model.encode_image(IMAGES).square().sum()).backward()
    gradients = {name: p.grad for name, p in base.named_parameters() if p.requires_grad}
    assert {name.split(".")[-3] for name in gradients if "lora_" in name} == {"lora_A", "lora_B"}
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients.values())
    assert all(tensor.grad is not None for tensor in learnable_tensors(model).values())


def test_a_peft_model_is_not_wrapped_nor_put_around():
    lora_model = adapt(build("4/4"), ["c_fc"], inject=False)
    with pytest.raises(TypeError, match=r"PEFT's already .*LORA.*: wrap the open_clip model inside, .*get_base_model"):
        vilt_prompt.wrap(lora_model, **SETTINGS)
    model = wrap(build("4/4"))
    before = features(model)
    with pytest.raises(TypeError, match=r"LoraConfig cannot go around a model with prompts: .*wrapped.get_base_model"):
        get_peft_model(model, lora(["c_fc"]))
    assert type(model.peft_config["default"]) is PromptConfig
    assert close(features(model), before)


@pytest.mark.needs("peft", "0.21", "a LoRA file with the tensors of all tuners")
@pytest.mark.parametrize("adapter_name", ["default", "mlp"])
def test_the_prompts_in_a_lora_file_replace_no_others(adapter_name, tmp_path):
    model = wrap(build("4/4"))
    lora_model = get_peft_model(model.get_base_model(), lora(["c_fc"]), adapter_name)
    lora_model.save_pretrained(tmp_path)
    folder = tmp_path / adapter_name if adapter_name != "default" else tmp_path
    other = vilt_prompt.wrap(build("4/4"), **SETTINGS)
    before = copy.deepcopy(learnable_tensors(other))
    message = r"another kind, and prompts \(prompts.vilt_.*Load that adapter before the model is wrapped"
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(other.get_base_model(), folder, adapter_name=adapter_name)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learnable_tensors(other).items())
    first = PeftModel.from_pretrained(build("4/4"), folder, adapter_name=adapter_name)
    assert close(features(wrap(first.get_base_model())), features(model))


REFUSED = {
    "get_peft_model of another kind around prompts": (
        lambda w: get_peft_model(w.model, LoraConfig(target_modules=["c_fc"])),
        TypeError,
        r"a LoraConfig cannot go around a model with prompts: put it on the open_clip model inside",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
