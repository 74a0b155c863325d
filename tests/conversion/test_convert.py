"""Checkpoints of other projects become adapters with the same features. Their code is written again here."""

from __future__ import annotations

import copy
import os
import sys
import types
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

import vilt_prompt
from tests.support.architectures import END, START, build, class_ids, frames
from vilt_prompt import convert

N_CTX = 3
IDS = class_ids(build("4/4"), [1, 4, 2])
IMAGES = frames(build("4/4"), 2)
FEATURE_TOLERANCE = 1e-5


class Learner(nn.Module):
    """Their prompt learner: the first context, the embedded texts around it, and what MaPLe adds."""

    def __init__(self, base: nn.Module, n_ctx: int = N_CTX, maple_depth: int = 0) -> None:
        super().__init__()
        d_t, d_v = base.positional_embedding.shape[1], base.visual.positional_embedding.shape[1]
        self.ctx = nn.Parameter(torch.randn(n_ctx, d_t))
        if maple_depth:
            self.proj = nn.Linear(d_t, d_v)
            self.compound_prompts_text = nn.ParameterList(
                nn.Parameter(torch.randn(n_ctx, d_t)) for _ in range(maple_depth - 1)
            )
            self.compound_prompt_projections = nn.ModuleList(nn.Linear(d_t, d_v) for _ in range(maple_depth - 1))
        embedded = base.token_embedding(IDS).detach()
        self.register_buffer("token_prefix", embedded[:, :1])
        self.register_buffer("token_suffix", embedded[:, 1 : IDS.shape[1] - n_ctx])


class TextEncoder(nn.Module):
    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.transformer = base.transformer
        self.positional_embedding = base.positional_embedding
        self.ln_final = base.ln_final
        self.text_projection = base.text_projection


class Theirs(nn.Module):
    """The model that they save, of an open_clip model's parts; prompts may stand in the blocks, as IVLP's do."""

    def __init__(self, base: nn.Module, learner: Learner | None, text: int = 0, vision: int = 0, n_vision: int = N_CTX):
        super().__init__()
        base = copy.deepcopy(base)
        if learner is not None:
            self.prompt_learner = learner
        self.image_encoder = base.visual
        self.text_encoder = TextEncoder(base)
        self.logit_scale = base.logit_scale
        self.attn_mask = base.attn_mask.clone()
        d_t, d_v = base.positional_embedding.shape[1], base.visual.positional_embedding.shape[1]
        for block in list(base.transformer.resblocks)[1:text]:
            block.VPT_shallow = nn.Parameter(torch.randn(N_CTX, d_t))
        if vision:
            self.image_encoder.VPT = nn.Parameter(torch.randn(n_vision, d_v))
        for block in list(base.visual.transformer.resblocks)[1:vision]:
            block.VPT_shallow = nn.Parameter(torch.randn(n_vision, d_v))

    @torch.no_grad()
    def encode_text(self) -> Tensor:
        learner, encoder = self.prompt_learner, self.text_encoder
        n = len(learner.ctx)
        deeper = list(getattr(learner, "compound_prompts_text", []))
        context = learner.ctx.expand(len(IDS), -1, -1)
        x = torch.cat([learner.token_prefix, context, learner.token_suffix], dim=1) + encoder.positional_embedding
        for index, block in enumerate(encoder.transformer.resblocks):
            prompt = deeper.pop(0) if index and deeper else getattr(block, "VPT_shallow", None)
            if prompt is not None:
                x = torch.cat([x[:, :1], prompt.expand(len(x), -1, -1), x[:, 1 + n :]], dim=1)
            x = block(x, attn_mask=self.attn_mask)
        x = encoder.ln_final(x)
        return x[torch.arange(len(x)), IDS.argmax(dim=1) + n] @ encoder.text_projection

    @torch.no_grad()
    def encode_image(self) -> Tensor:
        visual, learner = self.image_encoder, getattr(self, "prompt_learner", None)
        x = visual.conv1(IMAGES).flatten(2).mT
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
        first, deeper = getattr(visual, "VPT", None), []
        if hasattr(learner, "proj"):
            first = learner.proj(learner.ctx)
            pairs = zip(learner.compound_prompt_projections, learner.compound_prompts_text, strict=True)
            deeper = [project(prompt) for project, prompt in pairs]
        n = 0 if first is None else len(first)
        if n:
            x = torch.cat([x, first.expand(len(x), -1, -1)], dim=1)
        x = visual.ln_pre(x)
        for index, block in enumerate(visual.transformer.resblocks):
            prompt = deeper.pop(0) if index and deeper else getattr(block, "VPT_shallow", None)
            if prompt is not None:
                x = torch.cat([x[:, : x.shape[1] - n], prompt.expand(len(x), -1, -1)], dim=1)
            x = block(x)
        return visual.ln_post(x[:, 0]) @ visual.proj


def dassl(state: dict[str, Tensor]) -> dict:
    """As Dassl saves: with a scheduler that holds another scheduler and an optimiser, as objects."""
    parameter = nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    parameter.sum().backward()
    optimiser.step()
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 5.0)
    scheduler = {"successor": successor, "warmup_epoch": 1, "cons_lr": 1e-5, "last_epoch": 1}
    return {"state_dict": state, "epoch": 5, "optimizer": optimiser.state_dict(), "scheduler": scheduler,
            "val_result": 87.5}  # fmt: skip


def save(content: object, folder: Path) -> Path:
    path = folder / "model.pth.tar-5"
    torch.save(content, path)
    return path


def check_features(theirs: Theirs, model: nn.Module, tolerance: float = FEATURE_TOLERANCE) -> None:
    base = build_like(theirs)
    with torch.no_grad():
        pairs = [(theirs.encode_image(), model.encode_image(IMAGES), base.encode_image(IMAGES))]
        if hasattr(theirs, "prompt_learner"):
            pairs.append((theirs.encode_text(), model.encode_text(IDS), base.encode_text(IDS)))
    moved = 0.0
    for expected, got, without in pairs:
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()
        moved = max(moved, float((got - without).abs().max()))
    assert moved > 0.1


def build_like(theirs: Theirs) -> nn.Module:
    layers = len(theirs.image_encoder.transformer.resblocks), len(theirs.text_encoder.transformer.resblocks)
    return build("{}/{}".format(*layers))


def maple(depth: int, base: nn.Module) -> Theirs:
    return Theirs(base, Learner(base, maple_depth=depth))


# For each checkpoint: the base, the other project's model, and the expected settings of the adapter.
THEIRS = {
    "MaPLe": ("4/4", lambda base: maple(3, base), {"method": "maple", "depth": 3, "mapper": "per_layer"}),
    "MaPLe, one layer": ("4/4", lambda base: maple(1, base), {"method": "maple", "depth": 1}),
    "MaPLe, all layers": ("4/4", lambda base: maple(4, base), {"method": "maple", "depth": 4}),
    "CoOp": ("4/4", lambda base: Theirs(base, Learner(base)), {"method": "coop", "depth": 1, "n_ctx": N_CTX}),
    "IVLP": ("4/4", lambda base: Theirs(base, Learner(base), 3, 3), {"method": "independent", "depth": 3}),
    "IVLP, all layers": ("10/12", lambda base: Theirs(base, Learner(base), 12, 10), {"depth": None}),
    "IVLP, two lengths": ("4/4", lambda base: Theirs(base, Learner(base), 4, 4, 5), {"n_ctx": 3, "n_ctx_vision": 5}),
    "IVLP, text alone": ("4/4", lambda base: Theirs(base, Learner(base), 4, 0), {"towers": "text", "depth": 4}),
    "VPT": ("4/4", lambda base: Theirs(base, None, 0, 2), {"towers": "vision", "depth": 2}),
    "VPT, shallow": ("4/4", lambda base: Theirs(base, None, 0, 1), {"towers": "vision", "depth": 1}),
}


@pytest.fixture(params=THEIRS)
def case(request):
    architecture, make, settings = THEIRS[request.param]
    torch.manual_seed(0)
    theirs = make(build(architecture)).eval()
    return theirs, build(architecture), settings


def test_features_are_those_of_their_code(case, tmp_path):
    theirs, base, settings = case
    model = vilt_prompt.convert(save(dassl(theirs.state_dict()), tmp_path), base)
    check_features(theirs, model)
    config = model.peft_config["default"]
    assert {name: getattr(config, name) for name in settings} == settings
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path / "out")
    check_features(theirs, vilt_prompt.from_pretrained(build_like(theirs), tmp_path / "out"))


def test_half_precision_becomes_float32(case, tmp_path):
    theirs, base, _ = case
    state = {name: tensor.half() for name, tensor in theirs.state_dict().items()}
    model = vilt_prompt.convert(save(dassl(state), tmp_path), base)
    assert {parameter.dtype for parameter in model.prompts.parameters()} == {torch.float32}
    if hasattr(theirs, "prompt_learner"):
        assert torch.equal(model.prompts.vilt_text["default"][0], theirs.prompt_learner.ctx.half().float())
    check_features(theirs, model, tolerance=1e-2)


def test_the_prompt_learner_alone(tmp_path):
    """CoOp and KgCoOp save no more than that, KgCoOp with a network that it does not use."""
    torch.manual_seed(0)
    theirs = Theirs(build("4/4"), Learner(build("4/4"))).eval()
    coop = theirs.prompt_learner.state_dict()
    kgcoop = {**coop, "bias_vectors": torch.randn(1, 32)}
    kgcoop |= {"meta_net.linear1.weight": torch.randn(32, 32), "meta_net.linear1.bias": torch.randn(32)}
    for state in (coop, kgcoop):
        check_features(theirs, vilt_prompt.convert(save(dassl(state), tmp_path), build("4/4")))
    without_classes = {"ctx": coop["ctx"]}
    check_features(theirs, vilt_prompt.convert(save(without_classes, tmp_path), build("4/4")))


def test_several_gpus_and_the_layout_of_vifi_clip(tmp_path, monkeypatch):
    class CfgNode(dict):  # yacs keeps its flags as attributes of a dict
        __module__, __qualname__ = "yacs.config", "CfgNode"

    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    settings = CfgNode(MODEL=CfgNode(ARCH="ViT-B/16"))
    settings.__dict__["__immutable__"] = True
    torch.manual_seed(0)
    theirs = Theirs(build("4/4"), Learner(build("4/4")), 4, 4).eval()
    state = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    content = {"model": state, "optimizer": {}, "max_accuracy": 51.0, "epoch": 3, "config": settings}
    path = save(content, tmp_path)
    monkeypatch.delitem(sys.modules, "yacs.config")
    check_features(theirs, vilt_prompt.convert(path, build("4/4")))


def test_an_old_format_without_objects(tmp_path):
    torch.manual_seed(0)
    theirs = maple(2, build("4/4")).eval()
    path = tmp_path / "old.pth"
    torch.save({"state_dict": theirs.state_dict()}, path, _use_new_zipfile_serialization=False)
    check_features(theirs, vilt_prompt.convert(path, build("4/4")))


def test_another_adapter_of_a_wrapped_model(tmp_path):
    torch.manual_seed(0)
    theirs = maple(3, build("4/4")).eval()
    path = save(dassl(theirs.state_dict()), tmp_path)
    model = vilt_prompt.wrap(build("4/4"), K=2).eval()
    before = [parameter.requires_grad for parameter in model.parameters()]
    first = model.encode_text(IDS)
    assert vilt_prompt.convert(path, model, adapter_name="maple") is model
    assert torch.equal(model.encode_text(IDS), first)
    with model.use_adapter("maple"):
        check_features(theirs, model)
    assert [p.requires_grad for name, p in model.named_parameters() if ".maple" not in name] == before
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".maple" in name)


def test_training_goes_on(tmp_path):
    theirs = maple(3, build("4/4"))
    path = save(dassl(theirs.state_dict()), tmp_path)
    model = vilt_prompt.convert(
        path,
        build("4/4", quick_gelu=True),
        adapter_name="maple",
        is_trainable=True,
        base_model="ViT-B-16-quickgelu",
        base_pretrained="openai",
    )
    assert all(parameter.requires_grad == ("prompts.vilt_" in name) for name, parameter in model.named_parameters())
    assert model.training
    config = model.peft_config["maple"]
    assert (config.base_model, config.base_pretrained) == ("ViT-B-16-quickgelu", "openai")


def test_the_text_that_the_checkpoint_was_trained_with(tmp_path):
    """MaPLe with 2 prompts and "a photo of a" learns "a photo" and leaves "of a" before the class name."""
    vision = {"layers": 2, "width": 48, "head_width": 16, "image_size": 16, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    base = open_clip.CLIP(24, vision, text)
    ids = open_clip.get_tokenizer("ViT-B-32")(["a photo of a apply eye makeup.", "a photo of a archery."])
    suffix = base.token_embedding(ids)[:, 3:].half()
    state = {"ctx": torch.randn(2, 32), "token_prefix": torch.randn(2, 1, 32), "token_suffix": suffix}
    with pytest.warns(UserWarning, match="the first class of the checkpoint reads 'of a apply eye makeup .': give"):
        vilt_prompt.convert(save(state, tmp_path), base)


def test_other_frozen_weights(tmp_path):
    theirs = maple(3, build("4/4"))
    path = save(dassl(theirs.state_dict()), tmp_path)
    tuned = build("4/4")
    with torch.no_grad():
        tuned.visual.transformer.resblocks[2].mlp.c_fc.weight.mul_(1.02)
    message = (
        r"trained on other weights than the model has: 1 of \d+ differ, visual.transformer.resblocks.2.mlp.c_fc.weight"
    )
    with pytest.raises(ValueError, match=message + r"\. Give the model those weights, or pass strict_base=False"):
        vilt_prompt.convert(path, tuned)
    assert type(tuned) is type(build("4/4"))
    with pytest.warns(UserWarning, match=message):
        vilt_prompt.convert(path, tuned, strict_base=False)
    wider = theirs.state_dict()
    wider["image_encoder.conv1.weight"] = wider["image_encoder.conv1.weight"][:1]  # which would broadcast
    with pytest.raises(ValueError, match=r"1 of \d+ differ, visual.conv1.weight\. Give the model those weights"):
        vilt_prompt.convert(save(dassl(wider), tmp_path), build("4/4"))
    other = build("4/4", seed=1)  # the learner alone still holds its texts' embeddings
    path = save(theirs.prompt_learner.state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"1 of 1 differ, token_embedding.weight"):
        vilt_prompt.convert(path, other)


class Hostile:
    def __init__(self, code: tuple) -> None:
        self.code = code

    def __reduce__(self):
        return self.code


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, r"posix\.mkdir|nt\.mkdir"), (Path, r"pathlib\.Path"), (eval, r"builtins\.eval")],
)
def test_a_file_that_names_code_is_refused_and_nothing_runs(zipped, function, name, tmp_path):
    path, target = tmp_path / "hostile.pth.tar", tmp_path / "made"
    argument = f"__import__('os').mkdir({str(target)!r})" if function is eval else str(target)
    content = {"state_dict": {"ctx": torch.ones(2, 32)}, "x": Hostile((function, (argument,)))}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    base = build("4/4")
    message = (
        rf"only running code could rebuild ({name}).* none was run" if zipped else "is not a checkpoint that torch.load"
    )
    with pytest.raises(ValueError, match=message):
        vilt_prompt.convert(path, base)
    assert not target.exists()
    assert type(base) is type(build("4/4"))


def test_stand_ins_run_nothing(tmp_path):
    """A class with the name of an optimiser is replaced too: the real class would print the type of its argument."""
    sgd = torch.optim.SGD
    content = {"ctx": torch.ones(2, 32), "x": Hostile((sgd, ("not parameters",)))}
    assert vilt_prompt.convert(save(content, tmp_path), build("4/4")).prompts.vilt_text["default"].eq(1).all()


def edited(**changes: object):
    """MaPLe's state with some of its tensors changed (or taken away, with None)."""

    def make() -> dict[str, Tensor]:
        torch.manual_seed(0)
        state = dict(maple(3, build("4/4")).prompt_learner.state_dict()) | {
            name.replace("__", "."): tensor for name, tensor in changes.items()
        }
        return {f"prompt_learner.{name}": tensor for name, tensor in state.items() if tensor is not None}

    return make


BAD = {
    "class-specific contexts": (lambda: {"ctx": torch.ones(5, 2, 32)}, r"a context for each of 5 classes \(CSC=True\)"),
    "CoCoOp": (
        lambda: {"ctx": torch.ones(2, 32), "meta_net.linear1.weight": torch.ones(2, 2),
                 "meta_net.linear2.weight": torch.ones(2, 2)},
        "is a checkpoint of CoCoOp, whose prompts depend on the image",
    ),
    "a fine-tuned CLIP": (
        lambda: {"image_encoder.conv1.weight": torch.ones(1), "logit_scale": torch.ones(())},
        r"holds no prompts\. If it is a fine-tuned CLIP, load",
    ),
    "keys of something else": (
        lambda: {"backbone.fc.weight": torch.ones(1), "ctx": torch.ones(2, 32)},
        r"belong to no known method, 1 in all: backbone.fc.weight\. Known are MaPLe, CoOp, KgCoOp",
    ),
    "wider text prompts": (lambda: {"ctx": torch.ones(2, 512)}, "of width 512, the text tower of the model is 32 wide"),
    "wider visual prompts": (lambda: {"image_encoder.VPT": torch.ones(2, 768)}, "of width 768, the vision tower .* 48"),
    "a map to another width": (
        edited(proj__weight=torch.ones(768, 32)), r"a map of shape \(768, 32\) for layer 1.*\(48, 32\)",
    ),
    "more layers": (
        lambda: {"image_encoder.VPT": torch.ones(2, 48), **{
            f"image_encoder.transformer.resblocks.{i}.VPT_shallow": torch.ones(2, 48) for i in range(1, 9)}},
        "vision prompts for 9 layers, the vision tower of the model has 4",
    ),
    "two depths": (
        lambda: {"ctx": torch.ones(2, 32), "image_encoder.VPT": torch.ones(2, 48),
                 "image_encoder.transformer.resblocks.1.VPT_shallow": torch.ones(2, 48)},
        "text prompts for 1 layers and visual ones for 2: an adapter needs the same number",
    ),
    "a missing layer": (
        edited(compound_prompts_text__0=None),
        r"text prompts of layers \[1, 3\]: expected one for every layer from 1 to the last",
    ),
    "a missing map": (
        edited(compound_prompt_projections__1__weight=None, compound_prompt_projections__1__bias=None),
        r"maps of layers \[1, 2\] and text prompts of layers \[1, 2, 3\]",
    ),
    "a missing bias": (edited(proj__bias=None), "a weight and a bias for each text prompt"),
    "prompts of two lengths": (
        edited(compound_prompts_text__1=torch.ones(2, 32)), r"text prompts of shapes \[\(2, 32\), \(3, 32\)\]",
    ),
    "a broken class list": (
        edited(token_suffix=torch.ones(2, 7)), r"token_suffix of shape \(2, 7\): expected \(C, L, 32\)",
    ),
    "diverged": (edited(ctx=torch.full((3, 32), torch.nan)), "holds NaN or infinity. Training has diverged"),
    "no maps at all": (
        edited(proj__weight=None, proj__bias=None, **{
            f"compound_prompt_projections__{i}__{part}": None for i in range(2) for part in ("weight", "bias")}),
        r"maps of layers \[\] and text prompts of layers \[1, 2, 3\]",
    ),
    "one prompt twice": (
        lambda: {"ctx": torch.ones(2, 32), "prompt_learner.ctx": torch.ones(2, 32)},
        "two prompts of one tower and layer, prompt_learner.ctx is the second",
    ),
    "complex numbers": (
        lambda: {"ctx": torch.ones(2, 32, dtype=torch.complex64)}, "vilt_text is of type torch.complex64",
    ),
    "integers": (edited(ctx=torch.ones(3, 32).long(), compound_prompts_text__0=torch.ones(3, 32).long(),
                        compound_prompts_text__1=torch.ones(3, 32).long()), "vilt_text is of type torch.int64"),
    "sparse tensors": (lambda: {"ctx": torch.ones(2, 32).to_sparse()}, "holds sparse tensors, .*: ctx. Save plain"),
    "tensors without values": (lambda: {"ctx": torch.ones(2, 32, device="meta")}, "tensors without values: ctx"),
    "no names": (lambda: torch.ones(3), "holds no tensors by name: expected a state dict, .* got Tensor"),
    "no tensors": (lambda: {"epoch": 3, "state_dict": {}}, "got a dict of nothing"),
    "a whole row of prompts": (lambda: {"ctx": torch.ones(23, 32)}, "n_ctx=23 leaves no room"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_converted(make, message, tmp_path):
    base = build("4/4").train()
    before = copy.deepcopy(base.state_dict())
    with pytest.raises(ValueError, match=message):
        vilt_prompt.convert(save(make(), tmp_path), base)
    assert type(base) is type(build("4/4"))
    assert base.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    model = vilt_prompt.wrap(build("4/4"), K=2)
    with pytest.raises(ValueError, match=message):
        vilt_prompt.convert(save(make(), tmp_path), model, adapter_name="other")
    assert list(model.peft_config) == list(model.prompts.tables) == ["default"]


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(
        ValueError, match=r"there is no file .*missing: give the checkpoint itself, such as .*model.pth"
    ):
        vilt_prompt.convert(tmp_path / "missing", build("4/4"))
    path = save({"ctx": torch.ones(2, 32)}, tmp_path)
    content = path.read_bytes()
    for broken in (b"", b"hello", content[:100], content[:-100]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"is not a checkpoint that torch.load\(..., weights_only=True\) can read"):
            vilt_prompt.convert(path, build("4/4"))


def test_a_model_without_values(tmp_path):
    path = save({"ctx": torch.ones(2, 32), "token_suffix": torch.ones(1, 3, 32)}, tmp_path)
    model = vilt_prompt.convert(path, build("4/4").to("meta"))
    assert model.encode_text(torch.zeros(1, 24, dtype=torch.long, device="meta")).shape == (1, 24)


def test_what_is_no_model(tmp_path):
    path = save({"ctx": torch.ones(2, 32)}, tmp_path)
    with pytest.raises(TypeError, match="expected an open_clip model"):
        vilt_prompt.convert(path, nn.Linear(2, 2))
    model = vilt_prompt.wrap(build("4/4"), K=2)
    with pytest.raises(ValueError, match="wrapped already"):
        vilt_prompt.convert(path, model.get_base_model())
    with pytest.raises(ValueError, match="already"):
        vilt_prompt.convert(path, model)
    with pytest.raises(ValueError, match="the adapter name 'a.b' is refused"):
        vilt_prompt.convert(path, build("4/4"), adapter_name="a.b")


def test_nothing_is_warned_of_without_need(tmp_path):
    path = save(dassl(maple(3, build("4/4")).state_dict()), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vilt_prompt.convert(path, build("4/4"))


def test_the_ids_of_these_tests_are_texts():
    assert (IDS[:, 0] == START).all()
    assert (IDS == END).any(dim=1).all()


REFUSED = {
    "convert a fine-tuned CLIP": (
        lambda w: convert(w.folder / "fine_tuned.pth", w.bare),
        ValueError,
        "holds no prompts. If it is a fine-tuned CLIP, load",
    ),
    "convert a context for each class": (
        lambda w: convert(w.folder / "per_class.pth", w.bare),
        ValueError,
        r"a context for each of 5 classes \(CSC=True\)",
    ),
    "convert layers with a gap": (
        lambda w: convert(w.folder / "gap.pth", w.bare),
        ValueError,
        r"text prompts of layers \[1, 3\]: expected one for every layer from 1 to the last",
    ),
    "convert prompts of another width": (
        lambda w: convert(w.folder / "wide.pth", w.bare),
        ValueError,
        "text prompts of width 512, the text tower of the model is 32 wide: it was trained on another model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
