"""Loading an adapter, and the base model that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vilt_prompt import create_model_and_transforms, push_to_hub

REFUSED = {
    "rebuild without a base": (
        lambda w: create_model_and_transforms(w.folder / "good"),
        ValueError,
        "does not record its base: base_model is missing in its config. Pass base_model=",
    ),
    "rebuild without weights": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model="ViT-B-16"),
        ValueError,
        "given by its architecture 'ViT-B-16', but not by its weights.*Pass base_pretrained=",
    ),
    "rebuild an unknown base": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model="ViT-Q-1", base_pretrained="openai"),
        ValueError,
        "open_clip cannot build 'ViT-Q-1' with weights 'openai', .*Pass base_model= and base_pretrained=",
    ),
    "rebuild a base that is not a string": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model=7, base_pretrained="openai"),
        TypeError,
        "base_model must be a string or None, got 7",
    ),
    "rebuild from weights in a path": (
        lambda w: create_model_and_transforms(w.folder / "good", base_model="ViT-B-32", base_pretrained=w.folder),
        TypeError,
        "base_pretrained must be a string or None, got PosixPath",
    ),
    "rebuild with an unknown argument": (
        lambda w: create_model_and_transforms(
            w.folder / "good",
            base_model="local-dir:" + str(Path(__file__).parents[1] / "examples/small_clip/emoji-vit-12x128"),
            image_siz=64,
        ),
        ValueError,
        "open_clip cannot build 'local-dir.*unexpected keyword argument 'image_siz'. Check .*: image_siz$",
    ),
    "rebuild under open_clip's name of an argument": (
        lambda w: create_model_and_transforms("me/nothing", model_name="ViT-B-16"),
        TypeError,
        "are called base_model and base_pretrained here: pass those",
    ),
    "push a model that is not wrapped": (
        lambda w: push_to_hub(w.bare, "me/prompts"),
        TypeError,
        r"expected a model that wrap\(\) returned, got CLIP",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
