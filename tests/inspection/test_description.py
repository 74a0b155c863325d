"""`describe` reports the real prompts for every method, family and state."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support import zoo
from tests.support.architectures import build
from tests.support.every_tower import WITH_VIT
from tests.support.exactness import randomise_prompts
from tests.support.refusals import Words
from vilt_prompt import PromptConfig, describe, nearest_tokens

ROOT = Path(__file__).resolve().parents[2]


def prompts_of(model, tower: str) -> list[str]:
    return [layer.prompt for layer in describe(model).layers if layer.tower == tower]


@pytest.mark.parametrize(
    ("architecture", "settings", "text", "vision"),
    [
        ("4/4", {"K": 2, "depth": 3}, "P_1 P_2 F~(P~_3) carried", "F(P_1) F(P_2) P~_3 carried"),
        ("4/4", {"method": "maple", "depth": 2}, "P_1 P_2 carried carried", "F_1(P_1) F_2(P_2) carried carried"),
        ("5/3", {"method": "independent"}, "P_1 P_2 P_3", "P~_1 P~_2 P~_3 P~_4 P~_5"),
        ("2/2", {"method": "coop"}, "P_1 carried", "- -"),
        ("2/2", {"method": "vpt_deep"}, "- -", "P~_1 P~_2"),
        ("5/3", {"K": 1, "depth": 2, "mapper": "per_layer"}, "P_1 F~_2(P~_2) carried",
         "F_1(P_1) P~_2 carried carried carried"),
        # ceil(3 i / 5) of the vision layers: 1 2 2 3 3; ceil(5 i / 3) of the text layers: 2 4 5
        ("5/3", {"K": 2, "pairing": "proportional"}, "P_1 P_2 F~(P~_5)", "F(P_1) F(P_2) F(P_2) P~_4 P~_5"),
        ("5/3", {"K": 1, "pairing": "proportional"}, "P_1 F~(P~_4) F~(P~_5)", "F(P_1) P~_2 P~_3 P~_4 P~_5"),
    ],
)  # fmt: skip
def test_where_prompts_come_from(architecture, settings, text, vision):
    model = vilt_prompt.wrap(build(architecture), n_ctx=3, **settings)
    assert prompts_of(model, "text") == text.split()
    assert prompts_of(model, "vision") == vision.split()


@pytest.mark.parametrize("settings", [{"K": 1, "depth": 2}, {"method": "independent", "n_ctx_vision": 2}], ids=str)
def test_a_row_has_the_facts_of_the_prompt_that_enters(settings):
    model = vilt_prompt.wrap(build("4/4"), n_ctx=3, **settings)
    randomise_prompts(model)
    with torch.no_grad():
        entering = model.layer_prompts()._asdict()
        rows = describe(model).layers
    assert [(row.tower, row.layer) for row in rows] == [(t, i) for t in ("text", "vision") for i in (1, 2, 3, 4)]
    for row in rows:
        prompt = entering[row.tower][row.layer - 1]
        if prompt is None:
            assert row.prompt == "carried"
            assert (row.shape, row.trainable, row.norm) == (tuple(entering[row.tower][0].shape), False, None)
        else:
            assert row.shape == tuple(prompt.shape)
            assert row.trainable
            assert row.norm == pytest.approx(sum(float(vector.norm()) for vector in prompt.detach()) / len(prompt))


def test_trainable_is_what_is_trained():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    tensors = learnable_tensors(model)
    tensors["vilt_text"].requires_grad_(False)
    assert [row.trainable for row in describe(model).layers] == [False, False, True, True, True, True, True, True]
    for name in ("vilt_F.weight", "vilt_F.bias"):
        tensors[name].requires_grad_(False)
    with torch.inference_mode():
        rows = describe(model).layers
    assert [row.trainable for row in rows] == [False, False, True, True, False, False, True, True]
    total = sum(tensor.numel() for tensor in tensors.values())
    trained = sum(tensor.numel() for tensor in tensors.values() if tensor.requires_grad)
    assert describe(model).headlines[2] == f"{total:,} parameters, {trained:,} trainable"
    for tensor in tensors.values():
        tensor.requires_grad_(False)
    assert not any(row.trainable for row in describe(model).layers)


def test_the_current_adapter_is_described():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    model.add_adapter("coop", PromptConfig.preset("coop", n_ctx=2))
    first = str(describe(model))
    assert first.startswith("adapter 'default': active; beside it: coop\nmethod='vilt', towers='both', lead='split'")
    with model.use_adapter("coop"):
        chosen = describe(model)
        assert chosen.adapter_name == "coop"
        assert chosen.headlines[0] == "adapter 'coop': chosen by use_adapter; beside it: default"
        assert chosen.layers[0].shape == (2, 32)
        assert not chosen.layers[0].trainable
        assert len(nearest_tokens(model, Words()).vectors) == 2
    assert str(describe(model)) == first
    with model.disable_adapter():
        assert describe(model).headlines[0] == (
            "adapter 'default': active, switched off by disable_adapter; beside it: coop"
        )
        assert len(nearest_tokens(model, Words()).vectors) == 4 * 3
    model.set_adapter("coop")
    assert describe(model).adapter_name == "coop"
    assert describe(model.get_base_model()) == describe(model)


@pytest.mark.parametrize("name", WITH_VIT)
def test_every_family(name):
    model = vilt_prompt.wrap(zoo.build(name), K=2, n_ctx=3)
    assert prompts_of(model, "text") == ["P_1", "P_2", "F~(P~_3)", "F~(P~_4)"]
    vision = prompts_of(model, "vision")
    assert vision[:4] == ["F(P_1)", "F(P_2)", "P~_3", "P~_4"]
    assert set(vision[4:]) <= {"carried"}
    words = nearest_tokens(model, Words(), k=2)
    assert [(row.layer, row.vector) for row in words.vectors] == [(i, j) for i in (1, 2, 3, 4) for j in (1, 2, 3)]


@pytest.mark.parametrize("name", zoo.WITHOUT_VIT)
def test_towers_that_take_no_prompts(name):
    model = vilt_prompt.wrap(zoo.build(name), method="coop", n_ctx=3)
    description = describe(model)
    assert description.headlines[-1] == "the vision tower belongs to no family that takes prompts"
    assert [layer.tower for layer in description.layers] == ["text"] * 4
    assert str(description).splitlines()[5].split() == ["layer", "text", "shape", "trainable", "norm"]


def test_on_the_meta_device():
    model = vilt_prompt.wrap(build("4/4").to("meta"), K=2, n_ctx=3)
    assert {row.norm for row in describe(model).layers} == {None}
    with pytest.raises(ValueError, match="on the meta device, its embeddings have no values: load its weights first"):
        nearest_tokens(model, Words())


def test_what_the_page_shows_is_what_is_printed(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "inspect.md").read_text()
    monkeypatch.chdir(ROOT)
    names: dict = {}
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, flags=re.DOTALL)
    assert len(shown) == 3
    for code, expected in shown:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "inspect.md", "exec"), names)
        assert printed.getvalue() == expected


REFUSED = {
    "describe a model that is not wrapped": (
        lambda w: describe(w.bare),
        TypeError,
        r"expected a model that wrap\(\) returned, still wrapped, got CLIP",
    ),
    "describe None": (lambda w: describe(None), TypeError, "still wrapped, got NoneType"),
    "describe an unwrapped model": (
        lambda w: describe(w.unwrapped),
        TypeError,
        "a model that wrap.. returned, still",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
