"""Names that an adapter can have."""

from __future__ import annotations

import warnings

import pytest
from safetensors.torch import load_file

import vilt_prompt
from tests.support.architectures import build
from tests.support.wrapped import SETTINGS, features, same, wrapped
from vilt_prompt import PromptConfig, convert, create_model_and_transforms, from_pretrained, wrap


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


def test_a_name_that_is_taken():
    model = wrapped()
    before = features(model)
    with pytest.raises(ValueError, match="there is an adapter 'default' already: choose another name"):
        model.add_adapter("default", PromptConfig(**SETTINGS))
    assert same(features(model), before)


REFUSED = {
    "adapter name is not a string": (
        lambda w: wrap(w.bare, K=2, adapter_name=7),
        TypeError,
        "adapter name must be a string, got 7",
    ),
    "adapter name with a dot": (
        lambda w: wrap(w.bare, K=2, adapter_name="a.b"),
        ValueError,
        "adapter name 'a.b' is refused: .*choose another +one, such as",
    ),
    "adapter name of a folder's parent": (
        lambda w: wrap(w.bare, K=2, adapter_name=".."),
        ValueError,
        "adapter name '..' is refused",
    ),
    "adapter name of the root": (
        lambda w: wrap(w.bare, K=2, adapter_name="/"),
        ValueError,
        "adapter name '/' is refused",
    ),
    "adapter name without end": (
        lambda w: wrap(w.bare, K=2, adapter_name="x" * 256),
        ValueError,
        "adapter name 'x{40}' is refused: .*at most 255 bytes",
    ),
    "adapter name is empty": (lambda w: wrap(w.bare, K=2, adapter_name=""), ValueError, "adapter name '' is refused"),
    "adapter name of a parameter": (
        lambda w: wrap(w.bare, K=2, adapter_name="weight"),
        ValueError,
        "adapter name 'weight' is refused",
    ),
    "load under a refused name": (
        lambda w: from_pretrained(w.bare, w.folder / "good", adapter_name="a/b"),
        ValueError,
        "adapter name 'a/b' is refused",
    ),
    "rebuild under a refused name": (
        lambda w: create_model_and_transforms(w.folder / "good", adapter_name="prompts"),
        ValueError,
        "adapter name 'prompts' is refused",
    ),
    "convert under a refused name": (
        lambda w: convert(w.folder / "coop.pth", w.bare, adapter_name="a.b"),
        ValueError,
        "adapter name 'a.b' is refused",
    ),
    "add an adapter under a refused name": (
        lambda w: w.model.add_adapter("vilt_F", PromptConfig(K=2)),
        ValueError,
        "adapter name 'vilt_F' is refused",
    ),
    "add an adapter without a name": (
        lambda w: w.model.add_adapter(7, PromptConfig(K=2)),
        TypeError,
        "an adapter name must be a string, got 7",
    ),
    "load an adapter under a refused name": (
        lambda w: w.model.load_adapter(w.folder / "good", "a.b"),
        ValueError,
        "adapter name 'a.b' is refused",
    ),
    "load an adapter under a name that is not a string": (
        lambda w: w.model.load_adapter(w.folder / "good", None),
        TypeError,
        "an adapter name must be a string, got None",
    ),
    "rename to a refused name": (
        lambda w: w.model.rename_adapter("twin", "a.b"),
        ValueError,
        "adapter name 'a.b' is refused",
    ),
    "rename to a number": (
        lambda w: w.model.rename_adapter("twin", 7),
        TypeError,
        "an adapter name must be a string, got 7",
    ),
    "combine into a refused name": (
        lambda w: w.model.combine(["default", "twin"], adapter_name="bias"),
        ValueError,
        "adapter name 'bias' is refused",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
