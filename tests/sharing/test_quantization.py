"""Quantised bases: wrapped, trained, saved, and loaded onto the float base and back.

A tensor of our own in torchao's manner runs everywhere. torchao's and bitsandbytes' own formats run where they are
installed: `pip install torchao bitsandbytes`.
"""

from __future__ import annotations

import json
import warnings
from functools import partial

import open_clip
import pytest
import torch
from torch import nn

import vilt_prompt
from tests.support.architectures import build, class_ids, frames
from tests.support.state import state
from vilt_prompt import PromptConfig
from vilt_prompt.sharing.base_model import check_base, fingerprint
from vilt_prompt.sharing.quantization import is_quantized

VISION = {"layers": 2, "width": 64, "head_width": 16, "image_size": 16, "patch_size": 8}
TEXT = {"context_length": 24, "vocab_size": 100, "width": 64, "heads": 4, "layers": 2}


class Int8Tensor(torch.Tensor):
    """Rows of int8 with a scale each. They compute as the matrix that they stand for, and cannot be indexed."""

    @staticmethod
    def __new__(cls, matrix: torch.Tensor) -> Int8Tensor:
        made = torch.Tensor._make_wrapper_subclass(cls, matrix.shape, dtype=matrix.dtype, requires_grad=False)
        made.scale = matrix.abs().amax(dim=1, keepdim=True) / 127
        made.packed = (matrix / made.scale).round().to(torch.int8)
        return made

    def dequantize(self) -> torch.Tensor:
        return self.packed.float() * self.scale

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (nn.functional.linear, torch.Tensor.matmul):
            args = [arg.dequantize() if isinstance(arg, Int8Tensor) else arg for arg in args]
            return func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{func} of packed values")


class StrangeTensor(Int8Tensor):
    """An unknown format."""


def in_our_format(model: nn.Module, kind: type[torch.Tensor] = Int8Tensor) -> None:
    for module in model.modules():
        if type(module) is nn.Linear:
            module.weight = nn.Parameter(kind(module.weight.detach()), requires_grad=False)


def by_torchao(name: str, model: nn.Module) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    if name == "int4":
        options = {"weight_dtype": torch.int4, "granularity": quantization.PerGroup(32)}
        config = quantization.IntxWeightOnlyConfig(**options)
    else:
        config = getattr(quantization, name)()
    quantization.quantize_(model, config)


def by_bitsandbytes(kind: str, model: nn.Module) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                options = {"bias": child.bias is not None}
                if kind == "int8":
                    new = bitsandbytes.nn.Linear8bitLt(
                        child.in_features, child.out_features, has_fp16_weights=False, **options
                    )
                else:
                    new = bitsandbytes.nn.Linear4bit(
                        child.in_features, child.out_features, quant_type=kind, compute_dtype=torch.float32, **options
                    )
                new.load_state_dict(child.state_dict())
                new.int8_original_dtype = torch.float32  # where open_clip looks for the type to compute in
                setattr(module, name, new.to("cpu"))


FORMATS = {
    "our own": in_our_format,
    "torchao int8": partial(by_torchao, "Int8WeightOnlyConfig"),
    "torchao int8 dynamic": partial(by_torchao, "Int8DynamicActivationInt8WeightConfig"),
    "torchao float8": partial(by_torchao, "Float8WeightOnlyConfig"),
    "torchao int4": partial(by_torchao, "int4"),
    "bitsandbytes int8": partial(by_bitsandbytes, "int8"),
    "bitsandbytes nf4": partial(by_bitsandbytes, "nf4"),
    "bitsandbytes fp4": partial(by_bitsandbytes, "fp4"),
}


def base(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    clip = open_clip.CLIP(32, VISION, TEXT).eval()
    with torch.no_grad():
        for parameter in clip.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return clip


def quantized(form: str, seed: int = 0) -> nn.Module:
    clip = base(seed)
    FORMATS[form](clip)
    return clip


def recorded(model: nn.Module) -> PromptConfig:
    return PromptConfig(base_fingerprint=json.loads(json.dumps(fingerprint(model))))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_weights_are_recognised_and_others_are_not(form):
    full, packed = base(), quantized(form)
    assert any(is_quantized(parameter) for parameter in packed.parameters())
    others = base(seed=1), quantized(form, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first in (full, packed):
            for second in (full, packed):
                assert check_base(second, recorded(first), strict=True)
    for first in (full, packed):
        for second in others:
            if first is full and second is others[0]:
                continue
            with pytest.raises(ValueError, match="trained on other weights"):
                check_base(second, recorded(first), strict=True)


def test_a_format_whose_error_is_not_known_is_not_compared():
    full, packed = base(), base(seed=1)
    in_our_format(packed, StrangeTensor)
    config = recorded(full)
    for name in list(config.base_fingerprint["values"]):  # the remaining weights are quantised
        if not is_quantized(packed.get_parameter(name)):
            del config.base_fingerprint["values"][name]
    with pytest.warns(UserWarning, match="could not be compared .* in the format StrangeTensor, whose error is not"):
        assert check_base(packed, config, strict=True)
    assert not set(fingerprint(packed)["values"]) & set(config.base_fingerprint["values"])


@pytest.mark.parametrize("form", FORMATS)
def test_wrap_train_save_and_load(form, tmp_path):
    packed = quantized(form).requires_grad_(False)
    images, ids = frames(packed, 2), class_ids(packed, [1, 3])
    plain = packed.encode_image(images), packed.encode_text(ids)
    model = vilt_prompt.wrap(packed, K=1, n_ctx=2)
    with model.disable_adapter():
        assert torch.equal(model.encode_image(images), plain[0])
        assert torch.equal(model.encode_text(ids), plain[1])
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in trainable.values())
    before = {name: p.detach().clone() for name, p in trainable.items()}
    optimizer = torch.optim.SGD(trainable.values(), lr=1.0)
    model.train()
    image, text, _ = model(images.unsqueeze(1), ids)
    (image * text).sum().backward()
    optimizer.step()
    assert all(not torch.equal(before[name], p) for name, p in trainable.items())
    model.eval()
    with torch.no_grad():
        expected = model.encode_image(images), model.encode_text(ids)
    model.save_pretrained(tmp_path / "quantised")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = vilt_prompt.from_pretrained(quantized(form), tmp_path / "quantised")
        onto_float = vilt_prompt.from_pretrained(base(), tmp_path / "quantised")
        onto_float.save_pretrained(tmp_path / "float")
        vilt_prompt.from_pretrained(quantized(form), tmp_path / "float")
    with torch.no_grad():
        found = again.encode_image(images), again.encode_text(ids)
    assert all(map(torch.equal, found, expected))
    # The float base gives features that the quantisation moved a little.
    assert torch.cosine_similarity(onto_float.encode_image(images), expected[0]).min() > 0.9
    vilt_prompt.unwrap(model)
    assert torch.equal(packed.encode_image(images), plain[0])


def test_an_adapter_of_the_float_base_goes_onto_the_quantised_one(tmp_path):
    vilt_prompt.wrap(base(), K=1, n_ctx=2).save_pretrained(tmp_path)
    vilt_prompt.from_pretrained(quantized("our own"), tmp_path)
    other = quantized("our own", seed=1)
    with pytest.raises(ValueError, match="trained on other weights .* or pass strict_base=False"):
        vilt_prompt.from_pretrained(other, tmp_path)
    with pytest.warns(UserWarning, match="loaded all the same"):
        vilt_prompt.from_pretrained(other, tmp_path, strict_base=False)


def test_quantising_after_wrap_leaves_the_maps():
    quantization = pytest.importorskip("torchao.quantization")
    model = vilt_prompt.wrap(base(), K=1, n_ctx=2)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    own = [p for name, p in model.named_parameters() if "vilt_" in name]
    assert len(own) == 6
    assert all(type(p) is nn.Parameter and p.requires_grad for p in own)
    assert is_quantized(model.transformer.resblocks[0].mlp.c_fc.weight)


def test_a_quantised_map_is_refused_when_saving(tmp_path):
    model = vilt_prompt.wrap(base(), K=1, n_ctx=2)
    model.save_pretrained(tmp_path)
    former = (tmp_path / "adapter_model.safetensors").read_bytes()
    layer = model.prompts.vilt_F["default"]
    layer.weight = nn.Parameter(Int8Tensor(layer.weight.detach()), requires_grad=False)
    with pytest.raises(ValueError, match=r"vilt_F.weight is quantised \(Int8Tensor\).* Quantise the open_clip"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == former


def test_strict_base_overrides_all_but_the_shapes_that_prompts_need(tmp_path):
    vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3).save_pretrained(tmp_path)
    narrow = open_clip.CLIP(  # a narrower MLP: another architecture in which the prompts fit
        24,
        {"layers": 4, "width": 48, "head_width": 16, "mlp_ratio": 1.0, "image_size": 16, "patch_size": 8},
        {"context_length": 24, "vocab_size": 100, "width": 32, "heads": 2, "layers": 4, "mlp_ratio": 2.0},
    )
    with pytest.raises(ValueError, match="another architecture .* or pass strict_base=False"):
        vilt_prompt.from_pretrained(narrow, tmp_path)
    with pytest.warns(UserWarning, match="another architecture .*loaded all the same"):
        loaded = vilt_prompt.from_pretrained(narrow, tmp_path, strict_base=False)
    assert loaded.peft_config["default"].base_fingerprint == fingerprint(narrow)
    wide = build("equal_widths")
    before = state(wide)
    with pytest.warns(UserWarning, match="another architecture"), pytest.raises(ValueError, match="do not fit"):
        vilt_prompt.from_pretrained(wide, tmp_path, strict_base=False)
    assert state(wide) == before


def test_fingerprints_of_float_bases_have_no_errors():
    assert set(fingerprint(base())) == {"shapes", "values"}
    assert set(fingerprint(quantized("our own"))) == {"shapes", "values", "errors"}
