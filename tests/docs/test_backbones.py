"""All models of open_clip's zoo in their real sizes, on the meta device, and the page that is made of them."""

from __future__ import annotations

import logging
import re

import open_clip
import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from safetensors.torch import load_file
from torch import nn

import vilt_prompt
from docs import backbones
from tests.reference.literal import learnable_tensors
from tests.support.state import state

WITHOUT_VIT = re.compile(r"RN\d|convnext|swin|MobileCLIP2?-S\d")
ZOO = open_clip.list_models()
HAS_VIT = {name: not WITHOUT_VIT.match(name) for name in ZOO}
N_CTX, K = 10, 6
STALE = "run python -m docs.backbones"


def rows_of_the_page() -> list[backbones.Row]:
    """The rows of the page's tables, read back."""
    cells = [line.strip("| ").split(" | ") for line in backbones.PAGE.read_text(encoding="utf-8").splitlines()]
    return [
        backbones.Row(name, family, layers, widths, int(trainable.replace(",", "")), float(megabytes), keys)
        for name, trainable, megabytes, keys, layers, widths, family in (row for row in cells if len(row) == 7)
        if name in HAS_VIT
    ]


ROWS = {row.name: row for row in rows_of_the_page()}


def one_of_each_kind() -> set[str]:
    """Of the models with the same families of towers and the same first word, the one with the fewest layers."""
    kinds: dict[tuple[str, str], backbones.Row] = {}
    for row in sorted(ROWS.values(), key=lambda row: sum(map(int, re.findall(r"\d+", row.layers)))):
        kinds.setdefault((row.family, re.match(r"[A-Za-z]+", row.name)[0]), row)
    return {row.name for row in kinds.values()}


def zoo_models(has_vit: bool) -> list[object]:
    """Names as parameters. All but the smallest of each kind are marked slow."""
    smallest = one_of_each_kind()
    names = [name for name in ZOO if HAS_VIT[name] == has_vit]
    return [pytest.param(name, marks=[] if name in smallest else pytest.mark.slow) for name in names]


def built(name: str) -> nn.Module:
    logging.disable(logging.WARNING)  # open_clip warns that nothing was loaded
    try:
        return backbones.build(name)
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture
def zoo_model(request):
    """The model of that name, which the test must leave as it was."""
    model = built(request.param)
    before = state(model)
    yield model
    assert state(model) == before


def check_row(name: str, model: nn.Module) -> None:
    """The page describes the model as the script does."""
    found = backbones.row(name, model)
    assert ROWS.get(name) == found._replace(megabytes=float(f"{found.megabytes:.2f}")), STALE


def sizes(model: nn.Module, name: str) -> dict[str, tuple[int, int]]:
    """Layers and width of both towers, from open_clip's config where it says them, else from the model's weights."""
    config = open_clip.get_model_config(name)
    found = {}
    for tower, default in (("text", (12, 512)), ("vision", (12, 768))):
        cfg = config[f"{tower}_cfg"]
        if "hf_model_name" in cfg:
            hugging_face = backbones.HUGGING_FACE[cfg["hf_model_name"]]
            found[tower] = (hugging_face.num_hidden_layers, hugging_face.hidden_size)
        elif "timm_model_name" in cfg:
            blocks = [key for key in model.state_dict() if re.match(r"visual\.trunk\.blocks\.\d+\.norm1\.weight", key)]
            found[tower] = (len(blocks), len(model.state_dict()[blocks[0]]))
        else:
            found[tower] = (cfg.get("layers", default[0]), cfg.get("width", default[1]))
    return found


def expected_shapes(text: tuple[int, int], vision: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Text leads 1..K, vision in the rest of the smaller tower's layers."""
    (text_layers, d_t), (vision_layers, d_v) = text, vision
    depth = min(text_layers, vision_layers)
    shapes = {"vilt_text": (min(K, depth), N_CTX, d_t), "vilt_F.weight": (d_v, d_t), "vilt_F.bias": (d_v,)}
    if depth > K:
        shapes |= {
            "vilt_vision": (depth - K, N_CTX, d_v),
            "vilt_F_tilde.weight": (d_t, d_v),
            "vilt_F_tilde.bias": (d_t,),
        }
    return shapes


def inputs(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """A video (2, 2, 3, H, W), and texts (3, L) of all columns that the tower takes; 77 where it is Hugging Face's."""
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    columns = 77 if is_hugging_face(model) else model.context_length
    return torch.empty(2, 2, 3, height, width, device="meta"), torch.empty(3, columns, dtype=torch.long, device="meta")


def is_hugging_face(model: nn.Module) -> bool:
    return isinstance(getattr(model, "text", None), HFTextEncoder)


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_zoo_has_116_models_with_a_vit_and_28_without():
    assert (len(ZOO), sum(HAS_VIT.values())) == (144, 116)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
@pytest.mark.parametrize("zoo_model", zoo_models(has_vit=True), indirect=True)
def test_a_model_with_a_vit_takes_prompts_in_both_towers(zoo_model, request, tmp_path):
    name = request.node.callspec.params["zoo_model"]
    towers = sizes(zoo_model, name)
    width = open_clip.get_model_config(name)["embed_dim"]
    video, ids = inputs(zoo_model)
    model = vilt_prompt.wrap(zoo_model, K=K, n_ctx=N_CTX)
    check_row(name, model)
    tensors = learnable_tensors(model)
    expected = expected_shapes(towers["text"], towers["vision"])
    assert shapes_of(tensors) == expected
    assert [id(p) for p in model.parameters() if p.requires_grad] == [id(p) for p in tensors.values()]
    count = sum(torch.Size(shape).numel() for shape in expected.values())
    assert model.get_nb_trainable_parameters()[0] == count

    features = model.encode_video(video), model.encode_text(ids)
    assert [tuple(feature.shape) for feature in features] == [(2, width), (3, width)]
    sum(feature.sum() for feature in features).backward()
    assert all(tensor.grad is not None and tensor.grad.shape == tensor.shape for tensor in tensors.values())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    prompts = model.layer_prompts()
    assert [len(prompts.text), len(prompts.vision)] == [towers["text"][0], towers["vision"][0]]

    with model.disable_adapter():
        assert not model.encode_image(video[:, 0]).requires_grad
        if not is_hugging_face(zoo_model):  # transformers' own forward looks at values, which do not exist here
            assert not model.encode_text(ids).requires_grad

    prompts = model.get_base_model().prompts.to_empty(device="cpu")  # what stays on the meta device cannot be saved
    for tensor in prompts.parameters():
        nn.init.zeros_(tensor)  # memory that was used before may read as NaN, which is not saved
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert shapes_of(saved) == {f"base_model.model.prompts.{key}": shape for key, shape in expected.items()}
    overhead = (tmp_path / "adapter_model.safetensors").stat().st_size - 4 * count
    assert 0 < overhead < 2000  # names, shapes, the config and a checksum
    assert vilt_prompt.unwrap(model) is zoo_model
    loaded = vilt_prompt.from_pretrained(zoo_model, tmp_path)
    assert shapes_of(learnable_tensors(loaded)) == expected
    assert vilt_prompt.unwrap(loaded) is zoo_model


@pytest.mark.parametrize("zoo_model", zoo_models(has_vit=False), indirect=True)
def test_a_model_without_a_vit_takes_text_prompts_alone(zoo_model, request):
    name = request.node.callspec.params["zoo_model"]
    config = open_clip.get_model_config(name)
    layers, width = config["text_cfg"].get("layers", 12), config["text_cfg"].get("width", 512)
    video, ids = inputs(zoo_model)
    before = state(zoo_model)
    for settings in ({"K": K}, {"method": "vpt_deep"}, {"method": "independent"}):
        with pytest.raises(
            ValueError, match="cannot take prompts: it belongs to no known family.*text prompts alone need"
        ):
            vilt_prompt.wrap(zoo_model, **settings)
        assert state(zoo_model) == before

    for settings, depth in (({"towers": "text"}, layers), ({"method": "coop"}, 1)):
        model = vilt_prompt.wrap(zoo_model, n_ctx=N_CTX, **settings)
        if "method" in settings:
            check_row(name, model)
        tensors = learnable_tensors(model)
        assert shapes_of(tensors) == {"vilt_text": (depth, N_CTX, width)}
        assert model.get_nb_trainable_parameters()[0] == depth * N_CTX * width
        features = model.encode_video(video), model.encode_text(ids)
        assert [tuple(feature.shape) for feature in features] == [(2, config["embed_dim"]), (3, config["embed_dim"])]
        features[1].sum().backward()
        assert tensors["vilt_text"].grad is not None
        with model.disable_adapter():
            assert not model.encode_text(ids).requires_grad
        assert vilt_prompt.unwrap(model) is zoo_model


def test_the_page_is_what_the_script_writes_of_its_rows():
    assert backbones.PAGE.read_text(encoding="utf-8") == backbones.page([ROWS[name] for name in ZOO]), STALE


def test_the_quick_tests_have_models_of_all_families():
    smallest = one_of_each_kind()
    assert {ROWS[name].family for name in smallest} == {row.family for row in ROWS.values()}
    assert len(smallest) < len(ZOO) / 4
