"""An adapter remembers what its base computes beyond its weights: recorded, built again, compared."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

import vilt_prompt
from tests.support import zoo
from tests.support.architectures import build
from tests.support.state import state
from vilt_prompt import PromptConfig
from vilt_prompt.sharing.base_settings import base_settings, building_arguments

SMALL_CLIP = Path(__file__).parents[2] / "examples" / "small_clip" / "emoji-vit-12x128"
BASE = "local-dir:small clip"
CONFIG = "adapter_config.json"
# An argument for building the base, and the message about a base that was built without it.
FORCED = {
    "image size": ({"force_image_size": 96}, "image size: 96 x 96 in training, 64 x 64 here"),
    "rectangle": ({"force_image_size": (96, 64)}, "image size: 96 x 64 in training, 64 x 64 here"),
    "mean and std": (
        {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.25, 0.5, 0.5)},
        r"mean of the pixels: 0.5, 0.5, 0.5 in training, 0.48.* here; standard deviation of the pixels: 0.25",
    ),
    "interpolation": (
        {"image_interpolation": "bilinear"},
        "interpolation of images: bilinear in training, bicubic here",
    ),
    "resize mode": ({"image_resize_mode": "squash"}, "resize mode of images: squash in training, shortest here"),
    "activation": (
        {"force_quick_gelu": True},
        "activation of the text tower: QuickGELU in training, GELU here; activation of the vision tower: QuickGELU in",
    ),
    "context length": ({"force_context_length": 60}, "context length: 60 in training, 40 here"),
}


@pytest.fixture(autouse=True, scope="module")
def small_clip(tmp_path_factory):
    """The small CLIP in float32, in the working directory: open_clip cannot resize half precision on a CPU."""
    folder = tmp_path_factory.mktemp("base")
    shutil.copytree(SMALL_CLIP, folder / "small clip")
    for file in (folder / "small clip").glob("*.safetensors"):
        save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def made(**settings):
    clip, _, preprocess = open_clip.create_model_and_transforms(BASE, **settings)
    return clip, preprocess


def written(preprocess) -> str:
    """Its steps; open_clip keeps the mean as a list or as a tuple."""
    return str(preprocess).translate({ord("["): "(", ord("]"): ")"})


def picture():
    from PIL import Image

    return Image.linear_gradient("L").resize((150, 110)).convert("RGB")


@torch.no_grad()
def features(model, preprocess, tokenizer):
    return model.encode_image(preprocess(picture())[None]), model.encode_text(tokenizer(["playing the guitar"]))


@pytest.mark.parametrize(("settings", "message"), FORCED.values(), ids=FORCED)
def test_a_base_made_otherwise_is_built_again(settings, message, tmp_path):
    clip, preprocess = made(**settings)
    model = vilt_prompt.wrap(clip, n_ctx=2, base_model=BASE).eval()
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, same_preprocess, tokenizer = vilt_prompt.create_model_and_transforms(tmp_path)
        onto_the_same = vilt_prompt.from_pretrained(made(**settings)[0], tmp_path)
    assert str(same_preprocess).replace("[", "(").replace("]", ")") == str(preprocess).replace("[", "(").replace(
        "]", ")"
    )
    expected = features(model, preprocess, tokenizer)
    assert expected[0].shape == (1, 128)
    for loaded in (again, onto_the_same):
        for now, then in zip(features(loaded, same_preprocess, tokenizer), expected, strict=True):
            assert torch.equal(now, then)
    if "force_context_length" in settings:
        assert tokenizer(["a"]).shape == (1, 60)

    plain, _ = made()
    before = state(plain)
    for load in (vilt_prompt.from_pretrained, PeftModel.from_pretrained):
        with pytest.raises(ValueError, match=f"{message}.*or pass strict_base=False"):
            load(plain, str(tmp_path))
        assert state(plain) == before
    wrapped = vilt_prompt.wrap(made()[0], n_ctx=2)
    with pytest.raises(ValueError, match=message):
        wrapped.load_adapter(str(tmp_path), "other")
    with pytest.warns(UserWarning, match=f"{message}.*loaded all the same"):
        loaded = vilt_prompt.from_pretrained(plain, tmp_path, strict_base=False)
    assert loaded.peft_config["default"].base_settings == base_settings(made()[0])
    assert loaded.peft_config["default"].base_model == BASE


def test_what_is_recorded():
    config = vilt_prompt.wrap(made()[0], base_model=BASE).peft_config["default"]
    assert json.loads(json.dumps(config.base_settings)) == config.base_settings
    assert config.base_settings == {
        "image_size": [64, 64],
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_interpolation": "bicubic",
        "image_resize_mode": "shortest",
        "context_length": 40,
        "text_activation": "gelu",
        "vision_activation": "gelu",
        "text_heads": [3],
        "vision_heads": [4],
        "precision": "fp32",
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "pure_fp16", "pure_bf16"])
def test_precision_is_recorded_and_not_compared(precision, tmp_path):
    model = vilt_prompt.wrap(open_clip.create_model(BASE, precision=precision), n_ctx=2, base_model=BASE)
    assert model.peft_config["default"].base_settings["precision"] == precision
    model.save_pretrained(tmp_path)
    again, _, _ = vilt_prompt.create_model_and_transforms(tmp_path)
    assert again.visual.conv1.weight.dtype == torch.float32


def test_patch_dropout_is_built_again_and_not_compared(tmp_path):
    vilt_prompt.wrap(made(force_patch_dropout=0.5)[0], n_ctx=2, base_model=BASE).save_pretrained(tmp_path)
    again, _, _ = vilt_prompt.create_model_and_transforms(tmp_path)
    assert again.visual.patch_dropout.prob == 0.5
    vilt_prompt.from_pretrained(made()[0], tmp_path)


@pytest.mark.parametrize(
    ("vision", "text", "message"),
    [
        ({"head_width": 24}, {}, "attention heads of the vision tower: 2 in training, 3 here"),
        ({}, {"heads": 4}, "attention heads of the text tower: 4 in training, 2 here"),
    ],
)
def test_other_attention_heads(vision, text, message, tmp_path):
    def model(vision, text):
        torch.manual_seed(0)
        vision = {"layers": 2, "width": 48, "head_width": 16, "image_size": 16, "patch_size": 8, **vision}
        text = {"layers": 2, "width": 32, "heads": 2, "vocab_size": 100, "context_length": 24, **text}
        return open_clip.CLIP(24, vision, text)

    vilt_prompt.wrap(model(vision, text), K=1, n_ctx=2).save_pretrained(tmp_path)
    vilt_prompt.from_pretrained(model(vision, text), tmp_path)
    with pytest.raises(ValueError, match=message):
        vilt_prompt.from_pretrained(model({}, {}), tmp_path)


def test_arguments_of_the_call_win(tmp_path):
    vilt_prompt.wrap(made(force_image_size=96)[0], n_ctx=2, base_model=BASE).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, _, _ = vilt_prompt.create_model_and_transforms(tmp_path, force_image_size=32)
    assert model.visual.image_size == (32, 32)
    assert model.peft_config["default"].base_settings["image_size"] == [32, 32]
    with pytest.raises(ValueError, match="QuickGELU"):  # only overridden settings are not compared
        vilt_prompt.from_pretrained(made(force_image_size=96, force_quick_gelu=True)[0], tmp_path)


def test_settings_survive_a_chain_of_loading_and_saving(tmp_path):
    vilt_prompt.wrap(made(force_image_size=96)[0], n_ctx=2, base_model=BASE).save_pretrained(tmp_path / "a")
    vilt_prompt.create_model_and_transforms(tmp_path / "a")[0].save_pretrained(tmp_path / "b")
    for name in (CONFIG, "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_file_of_before_stays_without(tmp_path):
    vilt_prompt.wrap(build("4/4"), K=2, n_ctx=2).save_pretrained(tmp_path)
    for path in (tmp_path / CONFIG,):
        config = json.loads(path.read_text())
        del config["base_settings"]
        path.write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="base_settings is 'missing'"):  # the copy in the other file still has it
        model = vilt_prompt.from_pretrained(build("4/4", quick_gelu=True), tmp_path)
    assert model.peft_config["default"].base_settings is None


@pytest.mark.parametrize(
    "damage",
    [
        {"image_size": 64},
        {"image_size": [64]},
        {"image_mean": ["a"]},
        {"image_std": [1]},
        {"image_interpolation": 3},
        {"context_length": "77"},
        {"text_heads": 3},
        {"vision_activation": ["gelu"]},
    ],
    ids=str,
)
def test_a_damaged_record(damage, tmp_path):
    vilt_prompt.wrap(made()[0], n_ctx=2, base_model=BASE).save_pretrained(tmp_path)
    path = tmp_path / CONFIG
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_settings": {**config["base_settings"], **damage}}))
    clip, _ = made()
    before = state(clip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="base_settings is damaged"):
            vilt_prompt.from_pretrained(clip, tmp_path)
        assert state(clip) == before
        with pytest.raises(ValueError, match="base_settings is damaged"):
            vilt_prompt.create_model_and_transforms(tmp_path)
    with pytest.raises(TypeError, match="base_settings must be a dict or None, got 'gelu'"):
        PromptConfig(base_settings="gelu")


@pytest.mark.parametrize("name", zoo.MEMBERS)
def test_every_family_has_settings_that_stay(name):
    """Read from a bare and from a wrapped model they are equal, and plain values."""
    clip = zoo.build(name)
    settings = base_settings(clip)
    assert json.loads(json.dumps(settings)) == settings
    assert settings["vision_heads"]
    assert settings["text_heads"]
    building_arguments(settings)
    towers = "text" if name in zoo.WITHOUT_VIT else "both"
    try:
        model = vilt_prompt.wrap(clip, K=None, n_ctx=2, towers=towers)
    except ValueError:
        pytest.skip("takes no prompts")
    assert base_settings(model.get_base_model()) == settings == model.peft_config["default"].base_settings
