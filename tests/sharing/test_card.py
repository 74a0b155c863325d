"""The model card."""

from __future__ import annotations

import pytest

from vilt_prompt import push_to_hub

REFUSED = {
    "save with metrics of text": (
        lambda w: w.model.save_pretrained(w.folder / "new", metrics={"top-1": "high"}),
        TypeError,
        r"metrics\['top-1'\] must be a number, got 'high'",
    ),
    "save with metrics of NaN": (
        lambda w: w.model.save_pretrained(w.folder / "new", metrics={"top-1": float("nan")}),
        ValueError,
        r"metrics\['top-1'\] must be finite, got nan",
    ),
    "save with metrics without names": (
        lambda w: w.model.save_pretrained(w.folder / "new", metrics=[93.1]),
        TypeError,
        r'metrics must be names and values, such as \{"accuracy": 93\.1\}, got \[93\.1\]',
    ),
    "save with class names of a generator": (
        lambda w: w.model.save_pretrained(w.folder / "new", class_names=(name for name in "ab")),
        TypeError,
        "class_names must be a list of strings, got <generator",
    ),
    "save with class names in one string": (
        lambda w: w.model.save_pretrained(w.folder / "new", class_names="walking"),
        TypeError,
        "class_names must be .*got 'walking'",
    ),
    "save with a template that is none": (
        lambda w: w.model.save_pretrained(w.folder / "new", template=7),
        TypeError,
        "template must be a string",
    ),
    "push with metrics of text": (
        lambda w: push_to_hub(w.model, "me/prompts", metrics={"top-1": "high"}),
        TypeError,
        "must be a number, got 'high'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
