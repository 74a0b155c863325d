"""The model card."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import warnings

import pytest
from huggingface_hub import ModelCard

from tests.support.adapter_files import CARD, wrapped
from vilt_prompt import push_to_hub


def test_the_card_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("a network call"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: pytest.fail("a network call"))
    model = wrapped(base_model="ViT-B-16", base_pretrained="laion2b_s34b_b88k")
    model.save_pretrained(tmp_path, metrics={"accuracy": 0.5}, class_names=["running"], dataset="me/clips")
    card = ModelCard.load(tmp_path / CARD)
    data = card.data.to_dict()
    assert data["base_model"] == "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
    assert data["datasets"] == ["me/clips"]
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert f'create_model_and_transforms("{tmp_path.name}")  # the path of this folder, or its repository' in card.text
    assert data["model-index"][0]["name"] == tmp_path.name
    with warnings.catch_warnings():  # The card of a folder that was copied says the same.
        warnings.simplefilter("error")
        copied = shutil.copytree(tmp_path, tmp_path / "copy")
        (copied / CARD).write_bytes((copied / CARD).read_bytes().replace(b"\n", b"\r\n"))  # as git on Windows does
        model.save_pretrained(copied, metrics={"accuracy": 0.5}, class_names=["running"], dataset="me/clips")
    (tmp_path / CARD).write_text("Mine.")
    with pytest.warns(UserWarning, match="README.md is there and kept: class names, metrics and the like are not in"):
        model.save_pretrained(tmp_path, metrics={"accuracy": 0.75})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
    model.create_or_update_model_card(str(tmp_path))
    assert (tmp_path / CARD).read_text() == "Mine."
    model.create_or_update_model_card(str(tmp_path / "new"))
    assert ModelCard.load(tmp_path / "new" / CARD).data.library_name == "vilt-prompt"
    with pytest.raises(TypeError, match="class_names must be a list of strings, got 'running'"):
        model.save_pretrained(tmp_path / "other", class_names="running")
    with pytest.raises(TypeError, match="class_names must be a list of strings, got <generator"):
        model.save_pretrained(tmp_path / "other", class_names=(name for name in ("running",)))
    with pytest.raises(TypeError, match="the names of metrics must be strings, got 1"):
        model.save_pretrained(tmp_path / "other", metrics={1: 0.5})
    with pytest.raises(ValueError, match=r"metrics\['accuracy'\] must be finite, got nan"):
        model.save_pretrained(tmp_path / "other", metrics={"accuracy": float("nan")})
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names are text on other systems")
def test_a_folder_whose_name_is_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    wrapped().save_pretrained(folder)
    assert "# caf?: prompts for video\n" in (folder / CARD).read_text()


def test_the_place_of_a_base_is_shown_as_code(tmp_path):
    wrapped(base_model='local-dir:a/R&D "2"').save_pretrained(tmp_path)
    assert r'`base_model="local-dir:path/to/R&D \"2\""`' in (tmp_path / CARD).read_text()


BUILD = "create_model_and_transforms"


@pytest.mark.parametrize(
    ("base", "call", "place"),
    [
        ({"base_model": "ViT-B-16", "base_pretrained": "laion2b_s34b_b88k"}, BUILD, None),
        ({"base_model": "hf-hub:timm/vit"}, BUILD, None),
        (
            {"base_model": "ViT-B-16", "base_pretrained": "mine/epoch_3.pt"},
            BUILD,
            'base_pretrained="path/to/epoch_3.pt"',
        ),
        ({"base_model": "local-dir:a/mine"}, BUILD, 'base_model="local-dir:path/to/mine"'),
        ({"base_model": "ViT-B-16"}, "from_pretrained", None),
        ({"base_pretrained": "openai"}, "from_pretrained", None),
        ({}, "from_pretrained", None),
    ],
)
def test_a_card_shows_the_call_that_its_base_allows(base, call, place, tmp_path):
    wrapped(**base).save_pretrained(tmp_path)
    text = (tmp_path / CARD).read_text()
    assert f"vilt_prompt.{call}(" in text
    assert ("Where it is not found, pass" in text) == (place is not None)
    assert place is None or f"`{place}`" in text


def test_a_card_holds_strange_facts_in_their_places(tmp_path):
    model = wrapped(pairing="proportional")
    folder = tmp_path / 'my "adapter"'
    model.save_pretrained(folder, class_names=["a </details> b"], dataset="my\nclips", template="a\n| {}")
    text = ModelCard.load(folder / CARD).text
    assert "- a &lt;/details&gt; b\n" in text
    assert '# my "adapter": prompts for video, trained on my clips\n' in text
    assert "| dataset | my clips |\n" in text
    assert "| `a \\| {}` |\n" in text
    assert "| relative depth |\n" in text


def test_a_card_has_no_lines_nor_tags_of_others(tmp_path):
    bad = "x`\n\n# More\n<script>alert(1)</script>\n"
    model = wrapped(base_model=bad, base_pretrained=bad)
    model.save_pretrained(
        tmp_path, dataset=bad, template=bad, license=bad, metrics={bad: 1.0}, class_names=[bad, "walking"]
    )
    card = ModelCard.load(tmp_path / CARD)
    assert card.data.license == card.data.eval_results[0].dataset_name == bad
    text = re.sub(r"^names = .*$", "", card.text, flags=re.M)  # the snippet has them as strings of JSON
    assert text.count("&lt;script&gt;") > 5
    assert "<script" not in text
    assert "\n# More" not in text


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
    "save with a template that is not a string": (
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
