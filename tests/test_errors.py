"""Bad input: a clear ValueError or TypeError that says what to do, before anything of the model changes."""

from __future__ import annotations

import open_clip
import pytest
import torch
from architectures import END, START, VOCABULARY, build, class_ids, frames
from literal import literal_encode_text
from torch import nn

import vilt_prompt
from vilt_prompt import ScenarioGuidedLoss, scenario_features, scenario_loss

TINY = build("4/4")
IDS = class_ids(TINY, [1, 3, 2])


def state(model: nn.Module) -> list:
    """Everything that a refused call must leave alone."""
    parameters = [(name, p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()]
    modules = [(name, type(module), module.training, len(module.__dict__)) for name, module in model.named_modules()]
    return [parameters, modules, sorted(model.__dict__)]


def unchanged(before: list, after: list) -> bool:
    same_values = all(torch.equal(a[2], b[2]) and a[:2] == b[:2] for a, b in zip(before[0], after[0], strict=True))
    return same_values and before[1:] == after[1:]


WRAPPING = {
    "K beyond the depth": ({"K": 5}, ValueError, r"K=5 is out of range: choose K in 1\.\.4"),
    "K=0": ({"K": 0}, ValueError, r"K=0 is out of range: choose K in 1\.\.depth"),
    "K beyond a given depth": ({"K": 3, "depth": 2}, ValueError, r"choose K in 1\.\.2"),
    "K is a float": ({"K": 2.0}, TypeError, "K must be an integer"),
    "depth beyond the towers": ({"K": 2, "depth": 5}, ValueError, r"depth=5 is out of range: choose depth in 1\.\.4"),
    "depth=0": ({"depth": 0}, ValueError, r"depth=0 is out of range: choose depth in 1\.\.N"),
    "n_ctx=0": ({"n_ctx": 0}, ValueError, "n_ctx=0 is out of range"),
    "n_ctx is true": ({"n_ctx": True}, TypeError, "n_ctx must be an integer, got True"),
    "n_ctx is None": ({"n_ctx": None}, TypeError, "n_ctx must be an integer"),
    "n_ctx fills the tower": ({"K": 2, "n_ctx": 23}, ValueError, r"leaves no room .* choose n_ctx in 1\.\.22"),
    "unknown method": (
        {"method": "mapel"},
        ValueError,
        r"unknown method 'mapel'\. Did you mean 'maple'\? Known: vilt, maple",
    ),
    "method is a list": ({"method": ["vilt"]}, ValueError, r"unknown method \['vilt'\]\. .*Known: vilt"),
    "unknown field": ({"dept": 2}, TypeError, r"unexpected keyword argument 'dept'\. Did you mean 'depth'"),
    "unknown towers": ({"towers": "image"}, ValueError, r"unknown towers 'image'\. Known: both, text, vision"),
    "unknown lead": ({"lead": "vision"}, ValueError, "unknown lead 'vision'.*split, text, own"),
    "unknown mapper": ({"mapper": "mlp"}, ValueError, "unknown mapper 'mlp'"),
    "one tower cannot lead another": ({"towers": "text", "lead": "split"}, ValueError, 'lead="split" maps between'),
    "own prompts are not mapped": (
        {"lead": "own", "mapper": "shared"},
        ValueError,
        'lead="own" goes with mapper="none"',
    ),
    "a lead needs a map": ({"lead": "text", "mapper": "none"}, ValueError, 'lead="text" with mapper="none"'),
    "mapped prompts of two lengths": ({"K": 2, "n_ctx_vision": 4}, ValueError, "n_ctx_vision=4 differs from n_ctx=10"),
    "ctx_init without text prompts": ({"method": "vpt_deep", "ctx_init": [1]}, ValueError, "has no text prompts"),
    "ctx_init too long": ({"K": 2, "n_ctx": 2, "ctx_init": [1, 2, 3]}, ValueError, "3 tokens, but there are n_ctx=2"),
    "ctx_init empty": ({"K": 2, "ctx_init": []}, ValueError, r"give 1\.\.10 tokens"),
    "ctx_init outside the vocabulary": ({"K": 2, "ctx_init": [100]}, ValueError, "the vocabulary ends at 99"),
    "ctx_init is a text of no known vocabulary": ({"K": 2, "ctx_init": "a photo"}, ValueError, "pass wrap.*tokenizer="),
    "ctx_init is a number": ({"K": 2, "ctx_init": 7}, TypeError, "a text or a list of token ids"),
    "base_model is no name": ({"K": 2, "base_model": 7}, TypeError, "base_model must be a string or None"),
    "adapter name is no string": ({"K": 2, "adapter_name": 7}, TypeError, "adapter name must be a string"),
}


@pytest.mark.parametrize(("settings", "error", "message"), WRAPPING.values(), ids=WRAPPING)
def test_wrap(settings, error, message):
    model = build("4/4").train()
    before = state(model)
    with pytest.raises(error, match=message):
        vilt_prompt.wrap(model, **settings)
    assert unchanged(before, state(model))


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), "ViT-B-16", None, object(), torch.compile(TINY)], ids=lambda m: type(m).__name__
)
def test_wrap_takes_open_clip_models_alone(model):
    with pytest.raises(
        TypeError, match=r"expected an open_clip model \(CLIP, CustomTextCLIP or CoCa\), such as open_clip.create_model"
    ):
        vilt_prompt.wrap(model, method="vpt_deep")


def test_wrapping_twice():
    model = vilt_prompt.wrap(build("4/4"), K=2)
    base = model.get_base_model()
    before = state(base)
    for again in (model, base):
        with pytest.raises(ValueError, match=r"wrapped already: use wrapped.add_adapter"):
            vilt_prompt.wrap(again, K=2)
    assert unchanged(before, state(base))


@pytest.mark.parametrize("vision_cfg", [
    {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32},
    {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 32},
], ids=["ModifiedResNet", "TimmModel"])  # fmt: skip
def test_image_towers_without_prompts(vision_cfg):
    text_cfg = {"context_length": 24, "vocab_size": 100, "width": 32, "heads": 2, "layers": 4}
    model = open_clip.CLIP(24, vision_cfg, text_cfg)
    before = state(model)
    name = "ConvNeXt of TimmModel" if "timm_model_name" in vision_cfg else "ModifiedResNet"
    with pytest.raises(
        ValueError,
        match=rf"vision tower {name} cannot take prompts.*Known vision towers: VisionTransformer.*Eva.*"
        'towers="text".*CONTRIBUTING.md',
    ):
        vilt_prompt.wrap(model, K=2)
    assert unchanged(before, state(model))
    coop = vilt_prompt.wrap(model, method="coop")
    assert coop.encode_text(IDS).shape == (3, 24)
    if "timm_model_name" in vision_cfg:  # a convolutional tower takes other sizes, and goes on doing so
        assert coop.encode_image(torch.randn(2, 3, 64, 64)).shape == (2, 24)


@pytest.mark.parametrize(
    "vision_cfg", [{}, {"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 2}]
)
def test_image_towers_that_do_not_pool(vision_cfg):
    vision_cfg = {
        "layers": 4,
        "width": 48,
        "head_width": 16,
        "image_size": 16,
        "patch_size": 8,
        "pool_type": "none",
    } | vision_cfg
    model = open_clip.CLIP(
        24, vision_cfg, {"context_length": 24, "vocab_size": 100, "width": 32, "heads": 2, "layers": 4}
    )
    with pytest.raises(ValueError, match="VisionTransformer cannot take prompts: it does not pool its tokens"):
        vilt_prompt.wrap(model, K=2)


class UnknownTextTower(nn.Module):
    """A text tower of a class that no family owns."""


def test_text_towers_without_prompts():
    model = build("custom_text")
    model.text = UnknownTextTower()
    before = state(model)
    message = (
        r"text tower UnknownTextTower cannot take prompts: it belongs to no known family. Known text towers: CLIP, "
        r"TextTransformer, HFTextEncoder; vision prompts alone: towers=\"vision\". How to add one: CONTRIBUTING.md"
    )
    for settings in ({"K": 2}, {"method": "coop"}, {"K": 2, "ctx_init": "a photo", "tokenizer": tokenizer}):
        with pytest.raises(ValueError, match=message):
            vilt_prompt.wrap(model, **settings)
    assert unchanged(before, state(model))
    vilt_prompt.wrap(model, method="vpt_deep")


MODEL = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3).eval()
COOP = vilt_prompt.wrap(build("4/4"), method="coop", n_ctx=3).eval()
VPT = vilt_prompt.wrap(build("4/4"), method="vpt_deep", n_ctx=3).eval()
VIDEO = frames(TINY, 2, 3)
MASK = torch.ones(2, 3, dtype=torch.bool)


def ids(*row: int) -> torch.Tensor:
    return torch.tensor([row])


CALLS = {
    "video of images": (lambda: MODEL.encode_video(VIDEO[0]), ValueError, r"shape \(B, T, 3, H, W\).*use encode_image"),
    "image of a video": (lambda: MODEL.encode_image(VIDEO), ValueError, r"shape \(B, 3, H, W\).*use encode_video"),
    "video of rank 3": (lambda: MODEL(VIDEO[0, 0]), ValueError, r"a video \(B, T, 3, H, W\) or images \(B, 3, H, W\)"),
    "video of rank 3 alone": (lambda: MODEL.encode_video(VIDEO[0, 0]), ValueError, "video must be of shape"),
    "video for a tower without prompts": (lambda: COOP.encode_image(VIDEO), ValueError, "use encode_video"),
    "image uint8 for a tower without prompts": (lambda: COOP(VIDEO[0].byte()), TypeError, "image must be float"),
    "video with one channel": (lambda: MODEL.encode_video(VIDEO[:, :, :1]), ValueError, "3 channels"),
    "video channels last": (lambda: MODEL.encode_video(VIDEO.permute(0, 1, 3, 4, 2)), ValueError, "3 channels"),
    "video of another size": (lambda: MODEL.encode_video(VIDEO[..., :8]), ValueError, r"model's size \(16, 16\)"),
    "video uint8": (lambda: MODEL.encode_video(VIDEO.byte()), TypeError, "video must be float, .*preprocess"),
    "video without frames": (lambda: MODEL.encode_video(VIDEO[:, :0]), ValueError, "video is empty"),
    "no video": (lambda: MODEL.encode_video(VIDEO[:0]), ValueError, "video is empty"),
    "video is a list": (lambda: MODEL.encode_video([VIDEO]), TypeError, "video must be a float tensor"),
    "video and image": (lambda: MODEL(VIDEO, image=VIDEO[0]), ValueError, "two names of one argument"),
    "mask of another shape": (
        lambda: MODEL.encode_video(VIDEO, frame_mask=MASK.T),
        ValueError,
        r"\(2, 3\), got \(3, 2\)",
    ),
    "mask of numbers": (lambda: MODEL.encode_video(VIDEO, frame_mask=MASK.float()), TypeError, "bool tensor"),
    "mask without a frame": (
        lambda: MODEL.encode_video(VIDEO, frame_mask=torch.tensor([[True] * 3, [False] * 3])),
        ValueError,
        "masks every frame of video 1",
    ),
    "mask for images": (lambda: MODEL(VIDEO[0], frame_mask=MASK), ValueError, "frame_mask belongs to a video"),
    "mask alone": (lambda: MODEL(text=IDS, frame_mask=MASK), ValueError, "frame_mask was passed without a video"),
    "frames_per_chunk is a float": (
        lambda: MODEL.encode_video(VIDEO, frames_per_chunk=1.5),
        TypeError,
        "frames_per_chunk must be an integer or None, got 1.5",
    ),
    "frames_per_chunk is true": (
        lambda: MODEL.encode_video(VIDEO, frames_per_chunk=True),
        TypeError,
        "frames_per_chunk must be an integer or None, got True",
    ),
    "frames_per_chunk=0": (lambda: MODEL.encode_video(VIDEO, frames_per_chunk=0), ValueError, "frames_per_chunk=0"),
    "text is strings": (lambda: MODEL.encode_text(["walking"]), TypeError, r"pass tokenizer\(texts\)"),
    "text is float": (
        lambda: MODEL.encode_text(IDS.float()),
        TypeError,
        "int64 or int32, got a tensor of torch.float32",
    ),
    "text is bytes": (lambda: MODEL.encode_text(IDS.byte()), TypeError, "int64 or int32, got a tensor of torch.uint8"),
    "text of one row": (lambda: MODEL.encode_text(IDS[0]), ValueError, r"shape \(C, L\), got \(24,\)"),
    "no text": (lambda: MODEL.encode_text(IDS[:0]), ValueError, "text is empty"),
    "too many columns": (
        lambda: MODEL.encode_text(nn.functional.pad(IDS, (0, 1))),
        ValueError,
        r"25 columns, the tower has 24 positions: use tokenizer\(texts, context_length=24\)",
    ),
    "too long with the prompts in": (
        lambda: MODEL.encode_text(ids(START, *[5] * 20, END)),
        ValueError,
        r"22 tokens, but 21 are left .*use tokenizer\(texts, context_length=21\)",
    ),
    "no end token": (lambda: MODEL.encode_text(ids(START, 5, 6)), ValueError, "text 0 has no end token"),
    "id beyond the vocabulary": (
        lambda: MODEL.encode_text(ids(START, VOCABULARY, END)),
        ValueError,
        r"in 0\.\.99, got 98\.\.100",
    ),
    "too many columns for a tower without prompts": (
        lambda: VPT.encode_text(nn.functional.pad(IDS, (0, 1))),
        ValueError,
        "25 columns, the tower has 24 positions",
    ),
    "negative id": (lambda: MODEL.encode_text(ids(START, -1, END)), ValueError, r"in 0\.\.99, got -1\.\.99"),
}


@pytest.mark.parametrize(("call", "error", "message"), CALLS.values(), ids=CALLS)
def test_encode(call, error, message):
    before = state(MODEL)
    with pytest.raises(error, match=message):
        call()
    assert unchanged(before, state(MODEL))


def test_the_longest_text_that_fits():
    assert MODEL.encode_text(ids(START, *[5] * 19, END)).shape == (1, 24)


def test_a_short_context_length_will_do_without_prompts_too():
    torch.testing.assert_close(VPT.encode_text(IDS[:, :6]), VPT.encode_text(IDS))
    with MODEL.disable_adapter():
        torch.testing.assert_close(MODEL.encode_text(IDS[:, :6]), MODEL.encode_text(IDS))


def test_a_tower_that_pools_the_last_column_takes_fewer_without_prompts_too():
    model = vilt_prompt.wrap(build("last_pool"), K=2, n_ctx=3)
    with model.disable_adapter():
        features = model.encode_text(IDS[:, :10])
    literal = literal_encode_text(build("last_pool"), IDS[:, :10], [None] * 4)
    torch.testing.assert_close(features, literal, rtol=1e-5, atol=1e-6)


def test_no_end_token_under_eos_pooling():
    model = vilt_prompt.wrap(build("eos_pool"), K=2, n_ctx=3)
    good = class_ids(build("eos_pool"), [1, 2])
    with pytest.raises(ValueError, match="text 1 has no end token"):
        model.encode_text(torch.where(torch.tensor([[False], [True]]) & (good == 2), 3, good))


def tokenizer(texts: list[str]) -> torch.Tensor:
    return class_ids(TINY, [2] * len(texts))


C_CLIP = nn.functional.normalize(torch.randn(3, 24), dim=-1)
V = torch.randn(2, 24)
LABELS = torch.tensor([0, 2])
LOSS = ScenarioGuidedLoss(C_CLIP)
NAN = torch.full((3, 24), float("nan"))


def with_temperature(temperature) -> ScenarioGuidedLoss:
    criterion = ScenarioGuidedLoss(C_CLIP)
    criterion.temperature = temperature
    return criterion


LOSSES = {
    "no class": (lambda: scenario_features(MODEL, tokenizer, []), ValueError, "class_names is empty"),
    "a bare string": (
        lambda: scenario_features(MODEL, tokenizer, "walking"),
        TypeError,
        "list of strings, got 'walking'",
    ),
    "numbers": (lambda: scenario_features(MODEL, tokenizer, [1, 2]), TypeError, "list of strings"),
    "a generator": (lambda: scenario_features(MODEL, tokenizer, (n for n in "ab")), TypeError, "list of strings"),
    "None": (lambda: scenario_features(MODEL, tokenizer, None), TypeError, "list of strings, got None"),
    "an escaped slot": (lambda: scenario_features(MODEL, tokenizer, ["a"], "a {{}}"), ValueError, "must have one {}"),
    "a named slot": (lambda: scenario_features(MODEL, tokenizer, ["a"], "{} {x}"), ValueError, "must have one {}"),
    "tokenizer of lists": (lambda: scenario_features(MODEL, list, ["a"]), TypeError, "tokenizer must return a tensor"),
    "no slot": (
        lambda: scenario_features(MODEL, tokenizer, ["a"], "a video."),
        ValueError,
        "template must have one {}",
    ),
    "two slots": (lambda: scenario_features(MODEL, tokenizer, ["a"], "{} {}"), ValueError, "template must have one {}"),
    "model without prompts": (lambda: scenario_features(TINY, tokenizer, ["a"]), TypeError, "a model that wrap"),
    "label too large": (lambda: LOSS(V, C_CLIP, LABELS + 1), ValueError, r"labels must be in 0\.\.2, got 1\.\.3"),
    "label negative": (lambda: LOSS(V, C_CLIP, LABELS - 1), ValueError, r"labels must be in 0\.\.2, got -1\.\.1"),
    "labels float": (lambda: LOSS(V, C_CLIP, LABELS.float()), TypeError, "tensor of integers"),
    "too few labels": (lambda: LOSS(V, C_CLIP, LABELS[:1]), ValueError, r"of shape \(2,\), got \(1,\)"),
    "another number of classes": (lambda: LOSS(V, C_CLIP[:2], LABELS), ValueError, r"\(2, 24\) and .*\(3, 24\)"),
    "another width": (lambda: LOSS(V[:, :8], C_CLIP, LABELS), ValueError, "must have the same D"),
    "features of rank 1": (lambda: LOSS(V[0], C_CLIP, LABELS), ValueError, r"shape \(rows, D\)"),
    "NaN in the video features": (lambda: LOSS(NAN[:2], C_CLIP, LABELS), ValueError, "video_features has NaN"),
    "NaN in the text features": (lambda: LOSS(V, NAN, LABELS), ValueError, "text_features has NaN"),
    "NaN in the scenario": (lambda: scenario_loss(C_CLIP, NAN), ValueError, "scenario_features has NaN"),
    "alpha negative": (lambda: ScenarioGuidedLoss(C_CLIP, alpha=-1), ValueError, "alpha=-1 is out of range"),
    "alpha is a string": (lambda: ScenarioGuidedLoss(C_CLIP, alpha="8"), TypeError, "alpha must be a number, got '8'"),
    "temperature is None": (lambda: ScenarioGuidedLoss(C_CLIP, temperature=None), TypeError, "must be a number or a 0"),
    "temperature changed": (
        lambda: with_temperature(torch.zeros(()))(V, C_CLIP, LABELS),
        ValueError,
        "temperature=0.0",
    ),
    "alpha NaN": (lambda: ScenarioGuidedLoss(C_CLIP, alpha=float("nan")), ValueError, "alpha=nan is out of range"),
    "temperature 0": (lambda: ScenarioGuidedLoss(C_CLIP, temperature=0), ValueError, "temperature=0 is out of range"),
    "temperature infinite": (
        lambda: ScenarioGuidedLoss(C_CLIP, temperature=float("inf")),
        ValueError,
        "temperature=inf",
    ),
    "temperatures": (lambda: ScenarioGuidedLoss(C_CLIP, temperature=torch.ones(2)), ValueError, "0-dim tensor"),
}


@pytest.mark.parametrize(("call", "error", "message"), LOSSES.values(), ids=LOSSES)
def test_loss(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_folders(tmp_path):
    model = build("4/4")
    before = state(model)
    with pytest.raises(ValueError, match="there is no folder .*nowhere"):
        vilt_prompt.from_pretrained(model, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no adapter_config.json"):
        vilt_prompt.from_pretrained(model, tmp_path)
    MODEL.save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="adapter_model.safetensors is damaged"):
        vilt_prompt.from_pretrained(model, tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no adapter_model.safetensors"):
        vilt_prompt.from_pretrained(model, tmp_path)
    (tmp_path / "adapter_model.safetensors").touch()
    for damaged in ("{", "[]", "{}"):
        (tmp_path / "adapter_config.json").write_text(damaged)
        with pytest.raises(ValueError, match="adapter_config.json is damaged"):
            vilt_prompt.from_pretrained(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match="of type LORA, not VILT_PROMPT"):
        vilt_prompt.from_pretrained(model, tmp_path)
    assert unchanged(before, state(model))


def test_an_adapter_of_another_architecture(tmp_path):
    MODEL.save_pretrained(tmp_path)
    model = build("equal_widths")
    before = state(model)
    for strict_base in (True, False):
        with pytest.raises(
            ValueError,
            match=r"another architecture .*conv1.weight is 1 x \(48, 3, 8, 8\) there, 1 x \(32, 3, 8, 8\) in",
        ):
            vilt_prompt.from_pretrained(model, tmp_path, strict_base=strict_base)
    assert unchanged(before, state(model))
    deep = vilt_prompt.wrap(build("12/12"), n_ctx=3)
    deep.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"resblocks.\*.attn.in_proj_weight is 12 x .* there, 4 x .* in this model"):
        vilt_prompt.from_pretrained(build("4/4"), tmp_path)
    # Files of which the base was not recorded are judged by what they hold.
    deep.peft_config["default"].base_fingerprint = None
    deep.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"depth=12 is out of range: choose depth in 1\.\.4"):
        vilt_prompt.from_pretrained(build("4/4"), tmp_path)
