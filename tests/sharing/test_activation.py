"""A base with GELU around weights that need QuickGELU, or the other way round, is refused by name.

open_clip's download is replaced by a random checkpoint of the right shapes, which is what tells real weights from
others here: open_clip believes in the tag.
"""

from __future__ import annotations

import argparse
import functools
import warnings

import open_clip
import pytest
import torch

import vilt_prompt
from examples.startup import base_model as example
from examples.startup.model_options import add_model_options
from tests.support.architectures import build
from tests.support.state import state
from vilt_prompt.sharing.activation import activation, check_activation, check_activation_by_name, has_quick_gelu

QUICK_TAGS = ["openai", "metaclip_400m", "dfn2b"]
LAION = "laion2b_s34b_b79k"


@functools.cache
def checkpoint(folder: str, architecture: str) -> str:
    torch.manual_seed(0)
    path = f"{folder}/{architecture}.pt"
    torch.save(open_clip.CLIP(**open_clip.get_model_config(architecture)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Real names and tags, of models that are small: ViT-B-32 and -16 with two layers of width 64."""
    small = {"vision_cfg": {"layers": 2, "width": 64}, "text_cfg": {"layers": 2, "width": 64, "heads": 1}}
    configs, patch = open_clip.factory._MODEL_CONFIGS, pytest.MonkeyPatch()
    for name in ("ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-quickgelu"):
        config = {**configs[name], "embed_dim": 64}
        patch.setitem(configs, name, config | {part: config[part] | changes for part, changes in small.items()})
    folder = str(tmp_path_factory.mktemp("weights"))
    path = functools.partial(checkpoint, folder)
    patch.setattr(
        open_clip.factory,
        "download_pretrained",
        lambda cfg, **_: path("ViT-B-16" if "16" in cfg["hf_hub"] else "ViT-B-32"),
    )
    yield
    patch.undo()


def tag_of(name: str) -> list[str]:
    return [tag for tag in QUICK_TAGS if open_clip.get_pretrained_cfg(name, tag)]


@pytest.mark.parametrize(
    ("name", "tag"), [(name, tag) for name in ("ViT-B-32", "ViT-B-16") for tag in tag_of(name)], ids="-".join
)
def test_a_tag_that_needs_quick_gelu(weights, name, tag):
    with pytest.warns(UserWarning, match="QuickGELU mismatch"):
        wrong = open_clip.create_model(name, pretrained=tag)
    before = state(wrong)
    message = (
        f"the weights '{tag}' of '{name}' were trained with QuickGELU, but the model has GELU: .*'{name}-quickgelu'"
    )
    with pytest.raises(ValueError, match=message):
        vilt_prompt.wrap(wrong, K=1, n_ctx=2, base_model=name, base_pretrained=tag)
    assert state(wrong) == before
    with pytest.raises(ValueError, match=message):
        example.load_clip(name, tag, torch.device("cpu"))
    for fitting, force in ((f"{name}-quickgelu", False), (name, True)):
        right = open_clip.create_model(fitting, pretrained=tag, force_quick_gelu=force)
        model = vilt_prompt.wrap(right, K=1, n_ctx=2, base_model=fitting, base_pretrained=tag)
        assert has_quick_gelu(model.get_base_model())
    example.load_clip(f"{name}-quickgelu", tag, torch.device("cpu"))


def test_a_tag_that_needs_gelu(weights):
    name = "ViT-B-32"
    vilt_prompt.wrap(open_clip.create_model(name, pretrained=LAION), K=1, base_model=name, base_pretrained=LAION)
    with pytest.warns(UserWarning, match="QuickGELU mismatch"):
        wrong = open_clip.create_model(name, pretrained=LAION, force_quick_gelu=True)
    for given in (name, f"{name}-quickgelu"):
        with pytest.raises(ValueError, match="with GELU, but the model has QuickGELU.* 'ViT-B-32' without force_quick"):
            vilt_prompt.wrap(wrong, K=1, base_model=given, base_pretrained=LAION)


def test_create_model_and_transforms(weights, tmp_path):
    """A file of before, which names GELU around OpenAI's weights, is built as it says only where that is wanted."""
    with warnings.catch_warnings(record=True):
        base = open_clip.create_model("ViT-B-32", pretrained="openai")
    model = vilt_prompt.wrap(base, K=1, n_ctx=2)
    model.peft_config["default"].base_model, model.peft_config["default"].base_pretrained = "ViT-B-32", "openai"
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'ViT-B-32-quickgelu'.* pass base_model=.* or strict_base=False"):
        vilt_prompt.create_model_and_transforms(tmp_path)
    with (
        pytest.warns(UserWarning, match="QuickGELU mismatch"),
        pytest.warns(UserWarning, match="trained with QuickGELU.*built all the same"),
    ):
        again, _, _ = vilt_prompt.create_model_and_transforms(tmp_path, strict_base=False)
    assert not has_quick_gelu(again.get_base_model())


def test_convert(tmp_path):
    path = tmp_path / "coop.pth"
    torch.save({"state_dict": {"ctx": torch.randn(4, 32)}}, path)
    base = build("4/4")
    before = state(base)
    with pytest.raises(ValueError, match="trained with QuickGELU.*'ViT-B-16-quickgelu'"):
        vilt_prompt.convert(path, base, base_model="ViT-B-16", base_pretrained="openai")
    assert state(base) == before
    vilt_prompt.convert(path, base, base_model="ViT-B-16", base_pretrained="laion2b_s34b_b88k")


@pytest.mark.parametrize("quick", [False, True])
def test_convert_of_a_base_without_a_name(tmp_path, quick):
    path = tmp_path / "coop.pth"
    torch.save({"state_dict": {"ctx": torch.randn(4, 32)}}, path)
    config = {"layers": 2, "width": 32, "heads": 1, "context_length": 20, "vocab_size": 49408}
    base = open_clip.CLIP(24, {"layers": 2, "width": 64, "image_size": 16, "patch_size": 8}, config, quick_gelu=quick)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vilt_prompt.convert(path, base)
    assert any("need QuickGELU: create the model as" in str(each.message) for each in caught) != quick


def test_every_name_and_tag_of_open_clip_has_a_fitting_model():
    """Whatever open_clip lists, either the model as it is fits, or the refusal names one that does."""
    refused = 0
    for name, tag in open_clip.list_pretrained():
        config = open_clip.get_model_config(name)
        needs_quick = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
        fits = bool(config.get("quick_gelu")) or not needs_quick
        if fits:
            check_activation_by_name(name, tag)
            continue
        refused += 1
        with pytest.raises(ValueError, match="were trained with QuickGELU") as error:
            check_activation_by_name(name, tag)
        assert f"Create '{name}-quickgelu' or pass force_quick_gelu=True" in str(error.value)
        check_activation_by_name(f"{name}-quickgelu", tag)
        check_activation_by_name(name, tag, force_quick_gelu=True)
        with pytest.raises(ValueError, match="were trained with QuickGELU"):
            check_activation_by_name(name.replace("ViT-", "ViT/"), tag)
    assert refused >= 25


def test_what_cannot_be_compared():
    base = build("4/4")
    for name, tag in (("ViT-B-16", None), (None, "openai"), ("ViT-B-16", "mine.pt"), ("local-dir:a", "openai")):
        check_activation(base, name, tag)
    check_activation_by_name("hf-hub:me/clip", None)


def test_kinds_of_activation():
    assert activation(build("4/4").transformer) == "gelu"
    assert activation(build("quick_gelu").visual) == "quick_gelu"
    assert activation(torch.nn.Sequential(torch.nn.GELU("tanh"))) == "gelu_tanh"
    assert activation(torch.nn.Sequential(torch.nn.ReLU())) is None


def test_the_scripts_take_a_model_that_fits_openai():
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    check_activation_by_name(parser.parse_args([]).model, "openai")
