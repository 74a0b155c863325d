"""`describe` and `nearest_tokens`: what they say of every method, family and state, against what is really there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import open_clip
import pytest
import torch

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support import zoo
from tests.support.architectures import build
from tests.support.exactness import randomise_prompts
from tests.towers.test_families import WITH_VIT
from vilt_prompt import PromptConfig, describe, nearest_tokens

ROOT = Path(__file__).resolve().parents[2]


class Words:
    """A tokenizer of a vocabulary of 100 ids, each of which reads as its number."""

    encoder = {f"w{i}": i for i in range(100)}

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"w{i}" for i in ids)


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


def test_without_text_prompts_there_are_no_words():
    words = nearest_tokens(vilt_prompt.wrap(build("2/2"), method="vpt_deep"), Words())
    assert words.vectors == ()
    assert str(words) == "adapter 'default' has no text prompts"
    assert words._repr_html_() == "<p>adapter &#x27;default&#x27; has no text prompts</p>"


def test_on_the_meta_device():
    model = vilt_prompt.wrap(build("4/4").to("meta"), K=2, n_ctx=3)
    assert {row.norm for row in describe(model).layers} == {None}
    with pytest.raises(ValueError, match="on the meta device, its embeddings have no values: load its weights first"):
        nearest_tokens(model, Words())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_nearest_tokens_are_the_nearest(dtype):
    clip = build("4/4").to(dtype)
    model = vilt_prompt.wrap(clip, K=2, n_ctx=3)
    randomise_prompts(model)
    words = nearest_tokens(model, Words(), k=100)
    for row in words.vectors:
        vector = model.layer_prompts().text[row.layer - 1][row.vector - 1]
        distances = [float((vector - token.float()).square().sum().sqrt()) for token in clip.token_embedding.weight]
        assert sorted(range(100), key=distances.__getitem__)[:20] == [token.token_id for token in row.tokens[:20]]
        assert [token.distance for token in row.tokens] == pytest.approx(sorted(distances), rel=1e-4)
        assert all(token.word == f"w{token.token_id}" for token in row.tokens)
    assert [row.prompt for row in words.vectors[::3]] == ["P_1", "P_2", "F~(P~_3)", "F~(P~_4)"]
    shorter = nearest_tokens(model, Words(), k=2)
    assert [row.tokens for row in shorter.vectors] == [row.tokens[:2] for row in words.vectors]


def test_start_tokens_are_found_by_their_words():
    base = f"local-dir:{ROOT}/examples/small_clip/emoji-vit-12x128"
    clip = open_clip.create_model(base)
    hugging_face = open_clip.get_tokenizer(base)
    model = vilt_prompt.wrap(clip, method="coop", n_ctx=6, ctx_init="a juggling video", tokenizer=hugging_face)
    ids = model.peft_config["default"].ctx_init
    for tokenizer in (hugging_face, hugging_face.tokenizer):  # open_clip's, and transformers' own
        nearest = [row.tokens[0] for row in nearest_tokens(model, tokenizer).vectors[: len(ids)]]
        assert [token.token_id for token in nearest] == ids
        assert [token.distance for token in nearest] == [0.0] * len(ids)
        words = "".join(f"{token.word} " for token in nearest).replace("- ", "").strip()
        assert words == "a juggling video"


def test_pieces_of_words_have_a_hyphen():
    clip = open_clip.CLIP(
        16,
        vision_cfg={"width": 48, "head_width": 16, "layers": 2, "patch_size": 112},
        text_cfg={"width": 32, "heads": 2, "layers": 2},
    )
    tokenizer = open_clip.SimpleTokenizer()
    ids = [tokenizer.encoder[word] for word in ("the", "the</w>", "<end_of_text>")]
    model = vilt_prompt.wrap(clip, method="coop", n_ctx=3, ctx_init=ids)
    nearest = nearest_tokens(model, tokenizer, k=1)
    assert [row.tokens[0].word for row in nearest.vectors] == ["the-", "the", "<end_of_text>"]


def test_a_tokenizer_that_does_not_say_how_many_ids_it_has():
    class OnlyDecodes:
        def decode(self, ids: list[int]) -> str:
            return "word"

    model = vilt_prompt.wrap(build("2/2"), method="coop", n_ctx=3)
    assert nearest_tokens(model, OnlyDecodes(), k=100).vectors[0].tokens[99].word == "word"
    with pytest.raises(ValueError, match=r"k=101 is out of range: choose k in 1\.\.100, the vocabulary's size"):
        nearest_tokens(model, OnlyDecodes(), k=101)


def test_rows_are_aligned_and_escaped():
    model = vilt_prompt.wrap(build("5/3"), K=1, n_ctx=3, adapter_name="a<b")
    description = describe(model)
    lines = str(description).splitlines()
    assert repr(description) == str(description)
    heading, *rows = lines[-6:]
    assert len(rows) == 5
    for column in ("text", "shape", "vision"):
        at = heading.index(column)
        assert all(row[at - 1 : at] in (" ", "") and row[at : at + 1] != "" for row in rows[:3])
    html = description._repr_html_()
    assert "a&lt;b" in html
    assert html.count("<tr>") == 6
    assert html.count("<th>") == 9
    assert html.count("<td>") == 5 * 9
    assert "<td>F(P_1)</td>" in html


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
    "describe what is not wrapped": (
        lambda w: describe(w.bare),
        TypeError,
        r"expected a model that wrap\(\) returned, still wrapped, got CLIP",
    ),
    "describe None": (lambda w: describe(None), TypeError, "still wrapped, got NoneType"),
    "describe what was unwrapped": (lambda w: describe(w.unwrapped), TypeError, "a model that wrap.. returned, still"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
