"""What holds for any model, any settings and any batch: random architectures x configs x texts, frames and masks.

`HYPOTHESIS_PROFILE=long python -m pytest tests/test_properties.py` runs 300 examples of each property.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import event, given, note
from hypothesis import strategies as st
from torch import Tensor, nn

import vilt_prompt
from tests.reference.literal import METHODS, learnable_tensors, literal_settings, text_blocks, vision_blocks
from tests.support import zoo
from tests.support.architectures import CUSTOM_BLOCK, END, START, assemble, frames
from tests.support.every_tower import TEXT_SEES_PROMPTS, ids_with_room
from tests.support.exactness import assert_exact, randomise_prompts, with_reference
from tests.support.state import state
from vilt_prompt import PromptConfig

POOLED_IMAGES = [
    {},
    {"pool_type": "avg"},
    {"final_ln_after_pool": True},
    {"pool_type": "avg", "final_ln_after_pool": True},
    {"attentional_pool": True, "attn_pooler_queries": 1, "attn_pooler_heads": 2},
    {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 1, "pool_type": "avg"},
]
EOS = {"pool_type": "eos", "eos_id": 2}
# The tower's settings, and the start, end and padding of its texts.
POOLED_TEXTS = [
    ({}, (START, END, 0)),
    (EOS, (1, 2, 0)),
    ({"no_causal_mask": True}, (START, END, 0)),
    ({"no_causal_mask": True, "pool_type": "last"}, (START, 0, 0)),
    ({"no_causal_mask": True, "pool_type": "first"}, (START, END, 0)),
    ({"no_causal_mask": True, **EOS}, (1, 2, 0)),
]
FEW_IDS = (3, 4, 5)  # so that many texts begin alike


@dataclass
class Model:
    """A drawn model: how to build it, always with the same weights, and the form of its texts.

    `columns` is how many a text may have with prompts in, `positions` how many the model's own forward wants.
    """

    arguments: tuple
    tokens: tuple[int | None, int, int]
    columns: int
    positions: int

    def build(self) -> nn.Module:
        name, *parts = self.arguments
        return assemble(*parts) if name is None else zoo.build(name, sizes=parts[0])


def chosen(draw: st.DrawFn, options: dict) -> dict:
    """Some of the options."""
    return {key: value for key, value in options.items() if draw(st.booleans(), label=key)}


@st.composite
def block_sizes(draw: st.DrawFn, heads_name: str, layers: int) -> dict:
    """Layers, widths and heads; heads are given by their number, or by the width of each."""
    heads, head_width = draw(st.integers(1, 3), label="heads"), draw(st.sampled_from([4, 8, 12]), label="head width")
    return {
        "layers": draw(st.integers(1, layers), label="layers"),
        "width": heads * head_width,
        heads_name: heads if heads_name == "heads" else head_width,
        "mlp_ratio": draw(st.sampled_from([1.0, 2.0, 4.0]), label="mlp_ratio"),
        **chosen(draw, {"ls_init_value": 0.2, "norm_kwargs": {"eps": 0.02}}),
    }


@st.composite
def own_models(draw: st.DrawFn) -> Model:
    """Models of open_clip's own towers."""
    vision = draw(block_sizes("head_width", 5)) | draw(st.sampled_from(POOLED_IMAGES), label="image pooling")
    vision |= chosen(draw, {"no_ln_pre": True})
    vision |= draw(st.sampled_from([{}, {"pos_embed_type": "sin_cos_2d"}, {"image_size": (16, 24)}]), label="patches")
    pooling, tokens = draw(st.sampled_from(POOLED_TEXTS), label="text pooling")
    text = draw(block_sizes("heads", 4)) | pooling | {"context_length": draw(st.integers(10, 24), label="positions")}
    if draw(st.integers(0, 4), label="kind of block") == 0:
        vision |= chosen(draw, CUSTOM_BLOCK)
        text |= chosen(draw, CUSTOM_BLOCK)
    arguments = chosen(draw, {"quick_gelu": True, "init_logit_bias": -10.0})
    # A plain CLIP does not pool its text's first token.
    if pooling.get("pool_type") == "first" or draw(st.booleans(), label="custom_text"):
        arguments["custom_text"] = True
        text |= chosen(draw, {"proj_bias": True})
    return Model((None, vision, text, arguments), tokens, text["context_length"], text["context_length"])


@st.composite
def zoo_models(draw: st.DrawFn) -> Model:
    """Models of all families, as deep as drawn where open_clip's own towers let it."""
    name = draw(st.sampled_from(TEXT_SEES_PROMPTS), label="member")
    depths = {tower: {"layers": draw(st.integers(1, 4), label=f"{tower} layers")} for tower in ("vision", "text")}
    member = zoo.EVERY[name]
    columns = ids_with_room(name).shape[1]
    return Model((name, depths), member.tokens, columns, zoo.text_ids(name, [0]).shape[1])


@st.composite
def configs(draw: st.DrawFn, clip: nn.Module) -> dict:
    """Settings that fit a model: any method, with what may be overridden in it."""
    layers = {"text": len(text_blocks(clip)), "vision": len(vision_blocks(clip))}
    settings: dict = {
        "method": draw(st.sampled_from(sorted(METHODS)), label="method"),
        "n_ctx": draw(st.integers(1, 4), label="n_ctx"),
    }
    towers, lead = METHODS[settings["method"]]["towers"], METHODS[settings["method"]]["lead"]
    if lead != "own":
        settings |= chosen(draw, {"lead": draw(st.sampled_from(["split", "text"]), label="lead")})
        settings |= chosen(draw, {"mapper": draw(st.sampled_from(["shared", "per_layer"]), label="mapper")})
        settings |= chosen(draw, {"pairing": "proportional"})
        lead = settings.get("lead", lead)
    elif towers == "both":
        settings |= chosen(draw, {"towers": draw(st.sampled_from(["text", "vision"]), label="towers")})
        settings |= chosen(draw, {"n_ctx_vision": draw(st.integers(1, 4), label="n_ctx_vision")})
        towers = settings.get("towers", towers)
    if "pairing" not in settings and draw(st.booleans(), label="depth"):
        prompted = [count for tower, count in layers.items() if towers in ("both", tower)]
        settings["depth"] = draw(st.integers(1, min(prompted)), label="depth")
    if lead == "split":
        most = literal_settings(clip, **{k: v for k, v in settings.items() if not k.startswith("n_ctx")})["text_depth"]
        settings["K"] = draw(st.none() | st.integers(1, most), label="K")
    return settings


@st.composite
def texts(draw: st.DrawFn, model: Model) -> Tensor:
    """Token ids (C, L), many of which begin alike, with padding of any length. They may be too long for the prompts."""
    start, end, padding = model.tokens
    most = model.columns - (start is not None) - 1
    # Without a start token, the end token of an empty name would stand where no prompt is before it.
    least = 0 if model.tokens[0] is not None else 1
    names = st.lists(
        st.sampled_from(FEW_IDS),
        min_size=least,
        max_size=draw(st.sampled_from([most // 3, most]), label="longest name"),
    )
    rows = [
        [*([] if start is None else [start]), *name, end]
        for name in draw(st.lists(names, min_size=1, max_size=6), label="names")
    ]
    columns = draw(st.integers(max(len(row) for row in rows), model.columns), label="columns")
    return torch.tensor([row + [padding] * (columns - len(row)) for row in rows])


@st.composite
def frame_masks(draw: st.DrawFn) -> Tensor:
    """(B, T), with at least one frame of each video."""
    shape = draw(st.integers(1, 3), label="videos"), draw(st.integers(1, 4), label="frames")
    mask = torch.tensor([[draw(st.booleans()) for _ in range(shape[1])] for _ in range(shape[0])])
    mask[torch.arange(shape[0]), draw(st.integers(0, shape[1] - 1))] = True
    return mask


def check_exactness(data: st.DataObject, model: Model) -> None:
    clip = model.build()
    settings = data.draw(configs(clip), label="settings")
    ids = data.draw(texts(model), label="ids")
    # transformers' mT5 norms in float32 whatever its input, so its gradients are no more precise.
    dtype = torch.float32 if model.arguments[0] == "mt5" else torch.float64
    wrapped, reference = with_reference(clip, dtype, **settings)
    try:
        reference.encode_text(ids)
    except ValueError as error:
        event("too long with the prompts in")
        note(str(error))
        with pytest.raises(ValueError, match=r"tokens, but \d+ are left once the \d+ prompts are in"):
            wrapped.encode_text(ids)
        ids = short_text(model)
    if reference.prompts()[0][0] is None and getattr(getattr(clip, "text", clip), "cls_emb", None) is not None:
        # Without prompts it is open_clip's own CoCa, whose class embedding moves with the length of the texts.
        ids = nn.functional.pad(ids, (0, model.positions - ids.shape[1]), value=model.tokens[2])
    mask = data.draw(frame_masks(), label="mask")
    chunk = data.draw(st.none() | st.integers(1, 5), label="frames_per_chunk")
    assert_exact(wrapped, reference, ids, mask, chunk)


@given(st.data())
def test_exact_in_open_clips_own_towers(data):
    check_exactness(data, data.draw(own_models(), label="model"))


@given(st.data())
def test_exact_in_all_families(data):
    check_exactness(data, data.draw(zoo_models(), label="model"))


def any_model() -> st.SearchStrategy[Model]:
    return own_models() | zoo_models()


def short_text(model: Model) -> Tensor:
    """One text that leaves room for prompts in the smallest of towers."""
    return torch.tensor([[token for token in (model.tokens[0], 4, model.tokens[1]) if token is not None]] * 2)


@torch.no_grad()
def outputs(clip: nn.Module, model: Model) -> list[Tensor]:
    return [clip.encode_image(frames(clip, 2)), clip.encode_text(short_text(model))]


def bit_equal(got: list[Tensor], want: list[Tensor]) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(got, want, strict=True))


@given(st.data())
def test_unwrap_gives_back_all_of_the_model(data):
    model = data.draw(any_model(), label="model")
    clip = model.build()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 100), label="seed of the flags"))
    for parameter in clip.parameters():
        parameter.requires_grad_(bool(torch.randint(2, (), generator=generator)))
    for module in clip.children():
        module.train(bool(torch.randint(2, (), generator=generator)))
    before, keys = state(clip), list(clip.state_dict())
    base = copy.deepcopy(clip)
    wrapped = vilt_prompt.wrap(clip, **data.draw(configs(clip), label="settings"))
    randomise_prompts(wrapped)
    (wrapped.encode_text(short_text(model)).sum() + wrapped.encode_image(frames(clip, 2)).sum()).backward()
    assert vilt_prompt.unwrap(wrapped) is clip
    assert state(clip) == before
    assert list(clip.state_dict()) == keys
    text = short_text(model)
    full = nn.functional.pad(text, (0, model.positions - text.shape[1]), value=model.tokens[2])
    for each in (clip, base):
        each.eval()
    with torch.no_grad():
        assert torch.equal(clip.encode_text(full), base.encode_text(full))
        assert torch.equal(clip.encode_image(frames(clip, 2)), base.encode_image(frames(clip, 2)))


@given(st.data())
def test_what_is_loaded_is_what_was_saved(data):
    model = data.draw(any_model(), label="model")
    clip = model.build()
    name = data.draw(st.sampled_from(["default", "ucf101"]), label="adapter_name")
    saved = vilt_prompt.wrap(clip, adapter_name=name, **data.draw(configs(clip), label="settings")).eval()
    for seed, tensor in enumerate(learnable_tensors(saved, name).values()):
        with torch.no_grad():
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)))
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        where = Path(folder, "" if name == "default" else name)
        loaded = vilt_prompt.from_pretrained(model.build(), where)
        loaded.save_pretrained(Path(folder, "again"))
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            assert (where / file).read_bytes() == Path(folder, "again", file).read_bytes()
    got, want = learnable_tensors(loaded), learnable_tensors(saved, name)
    assert got.keys() == want.keys()
    assert bit_equal(list(got.values()), list(want.values()))
    assert bit_equal(outputs(loaded, model), outputs(saved, model))


VERBS = ["rename", "activate and back", "switch off and on", "use", "forward", "load", "delete and add"]


@given(st.data())
def test_another_adapter_does_not_move_the_first(data):
    model = data.draw(any_model(), label="model")
    clip = model.build()
    wrapped = vilt_prompt.wrap(clip, **data.draw(configs(clip), label="settings")).eval()
    randomise_prompts(wrapped)
    want = outputs(wrapped, model)

    def unmoved() -> bool:
        tensors = learnable_tensors(wrapped)
        same_parameters = all(tensors[name] is parameter for name, parameter in first.items())
        return (
            same_parameters
            and all(p.requires_grad for p in first.values())
            and bit_equal(outputs(wrapped, model), want)
        )

    first = learnable_tensors(wrapped)
    others = {"b": PromptConfig(**data.draw(configs(clip), label="other settings"))}
    wrapped.add_adapter("b", others["b"])
    assert unmoved()
    name = "b"
    for verb in data.draw(st.lists(st.sampled_from(VERBS), min_size=1, max_size=4), label="verbs"):
        if verb == "rename":
            old, name = name, name + "b"
            wrapped.rename_adapter(old, name)
        elif verb == "activate and back":
            wrapped.set_adapter(name)
            outputs(wrapped, model)
            wrapped.set_adapter("default")
        elif verb == "switch off and on":
            with wrapped.disable_adapter():
                outputs(wrapped, model)
        elif verb == "use":
            with wrapped.use_adapter(name):
                outputs(wrapped, model)
        elif verb == "forward":
            wrapped(video=frames(clip, 2), text=short_text(model))
        elif verb == "load":
            with tempfile.TemporaryDirectory() as folder:
                wrapped.save_pretrained(folder, selected_adapters=[name])
                wrapped.load_adapter(Path(folder, name), f"{name}c")
            wrapped.delete_adapter(f"{name}c")
        else:
            wrapped.delete_adapter(name)
            wrapped.add_adapter(name, others["b"])
        assert unmoved(), verb
