"""Names that an adapter can have."""

from __future__ import annotations

import pytest

from vilt_prompt import PromptConfig, convert, create_model_and_transforms, from_pretrained, wrap

REFUSED = {
    "adapter name is no string": (
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
    "load an adapter under a name that is none": (
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
