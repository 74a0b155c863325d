"""Several adapters in one model: switching while training, renaming, and their mean."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, PeftModel

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build
from tests.support.refusals import in_use
from tests.support.wrapped import IDS, IMAGES, SETTINGS, alone, features, flags, same, several
from vilt_prompt import PromptConfig, convert, push_to_hub


@pytest.fixture
def trio() -> PeftModel:
    return several("b", "maple")


OPTIMISERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.5),
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=0.1),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_training_one_goes_on_whatever_happens_to_the_others(optimiser, tmp_path):
    several("b").save_pretrained(tmp_path, selected_adapters=["b"])

    def train(disturbed: bool) -> tuple[PeftModel, list[torch.Tensor]]:
        model = several("a", "b", "maple")
        model.get_base_model().logit_scale.requires_grad_(True)
        held = [p for p in model.parameters() if p.requires_grad]
        steps = OPTIMISERS[optimiser](held)
        for step in range(5):
            loss = model.encode_text(IDS).square().mean() + model.encode_image(IMAGES).square().mean()
            (loss * model.get_base_model().logit_scale).backward()
            steps.step()
            steps.zero_grad()
            if not disturbed:
                continue
            kept = {other: copy.deepcopy(learnable_tensors(model, other)) for other in ("a", "b", "maple")}
            if step == 0:
                model.add_adapter("visual", PromptConfig(**SETTINGS))
                model.load_adapter(str(tmp_path / "b"), "loaded")
                model.combine(["a", "b"], adapter_name="mean")
            elif step == 1:
                model.rename_adapter("default", "renamed")
            elif step == 2:
                model.rename_adapter("maple", "other")
                model.rename_adapter("other", "maple")
                model.delete_adapter("visual")
                with model.use_adapter("maple"):
                    features(model)
            elif step == 3:
                with model.disable_adapter():
                    features(model)
                model.delete_adapter("loaded")
            for other, tensors in kept.items():
                assert same(tensors.values(), learnable_tensors(model, other).values())
        return model, held

    undisturbed, _ = train(disturbed=False)
    model, held = train(disturbed=True)
    assert list(model.peft_config) == ["renamed", "a", "b", "maple", "mean"]
    assert same(learnable_tensors(model, "renamed").values(), learnable_tensors(undisturbed).values())
    assert not same(learnable_tensors(model, "renamed").values(), learnable_tensors(several()).values())
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in held}
    for other in ("a", "b", "maple"):
        before = learnable_tensors(several("a", "b", "maple"), other)
        assert same(learnable_tensors(model, other).values(), before.values())
    assert model.get_base_model().logit_scale != build("4/4").logit_scale


def test_a_renamed_adapter_is_the_same_under_another_name(trio, tmp_path):
    expected = {name: alone(trio, name) for name in ("default", "b", "maple")}
    parameters = {id(parameter) for parameter in trio.parameters()}
    before = [parameter.requires_grad for parameter in trio.parameters()]
    trio.rename_adapter("default", "first")
    trio.rename_adapter("maple", "third")
    assert list(trio.peft_config) == list(trio.prompts.tables) == ["first", "b", "third"]
    assert trio.active_adapter == "first"
    assert trio.active_adapters == trio.base_model.active_adapters == trio.prompts.active_adapters == ["first"]
    assert {id(parameter) for parameter in trio.parameters()} == parameters
    assert [parameter.requires_grad for parameter in trio.parameters()] == before
    assert trio.get_model_status().available_adapters == ["b", "first", "third"]
    assert same(features(trio), expected["default"])
    assert same(alone(trio, "third"), expected["maple"])
    trio.save_pretrained(tmp_path)
    assert same(features(vilt_prompt.from_pretrained(build("4/4"), tmp_path / "third")), expected["maple"])
    trio.set_adapter("third")
    trio.delete_adapter("first")
    trio.add_adapter("default", PromptConfig(**SETTINGS))  # the old name is free again
    assert same(features(trio), expected["maple"])


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("third", "new", ValueError, "there is no adapter 'third'; there are: default, b, maple"),
        ("b", "maple", ValueError, "there is an adapter 'maple' already: choose another name than default, b, maple"),
        ("b", "b", ValueError, "there is an adapter 'b' already"),
        ("b", "a.b", ValueError, "the adapter name 'a.b' is refused"),
        ("b", "", ValueError, "the adapter name '' is refused"),
        ("b", "vilt_F", ValueError, "the adapter name 'vilt_F' is refused"),
        ("b", 7, TypeError, "an adapter name must be a string, got 7"),
    ],
)
def test_names_that_cannot_be_given(trio, old, new, error, message):
    default = features(trio)
    with pytest.raises(error, match=message):
        trio.rename_adapter(old, new)
    assert list(trio.peft_config) == list(trio.prompts.tables) == ["default", "b", "maple"]
    assert same(features(trio), default)


def test_an_adapter_in_use_is_neither_deleted_nor_renamed(trio):
    with trio.use_adapter("b"), trio.use_adapter("maple"):
        for verb in (lambda: trio.delete_adapter("b"), lambda: trio.rename_adapter("b", "c")):
            with pytest.raises(ValueError, match=r"'b' is in use: leave `with model.use_adapter\(...\)` first"):
                verb()
        trio.rename_adapter("default", "first")
    trio.delete_adapter("b")


def test_an_adapter_that_another_thread_deletes_is_named(trio):
    with trio.use_adapter("b"):
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            pool.submit(trio.delete_adapter, "b").result()
        with pytest.raises(ValueError, match="'b' was deleted or renamed while .* used it; there are: default, maple"):
            trio.encode_text(IDS)


@pytest.mark.parametrize("verb", ["set_adapter", "delete_adapter"])
def test_unknown_names_are_answered_with_the_known_ones(trio, verb):
    with pytest.raises(ValueError, match="there is no adapter 'ucf'; there are: default, b, maple"):
        getattr(trio, verb)("ucf")


@pytest.mark.parametrize(
    ("weights", "shares"), [(None, (0.5, 0.5)), ((3, 1), (0.75, 0.25)), ([0.2, 0.2], (0.5, 0.5)), ([0, 2], (0, 1))]
)
@pytest.mark.parametrize("method", ["vilt", "maple", "independent"])
def test_a_combination_is_the_mean_of_the_tensors(method, weights, shares):
    torch.manual_seed(0)
    model = vilt_prompt.wrap(build("4/4"), method=method, **SETTINGS).eval()
    model.add_adapter("b", PromptConfig(method=method, **SETTINGS))
    before, default = flags(model), features(model)
    model.combine(["default", "b"], weights, adapter_name="mean")
    first, second, mean = (learnable_tensors(model, name) for name in ("default", "b", "mean"))
    assert first.keys() == mean.keys()
    for key, tensor in mean.items():
        torch.testing.assert_close(tensor.data, shares[0] * first[key].data + shares[1] * second[key].data)
    assert same(features(model), default)
    assert {name: flag for name, flag in flags(model).items() if ".mean" not in name} == before
    assert not any(tensor.requires_grad for tensor in mean.values())


def test_pefts_name_of_combine_is_combine():
    model = several("a", "b")
    model.combine(["default", "a", "b"], [1, 2, 1], adapter_name="mean")
    model.add_weighted_adapter(["default", "a", "b"], [1, 2, 1], "weighted")
    model.add_weighted_adapter(["default", "a", "b"], [2, 4, 2], adapter_name="named", combination_type="linear")
    mean = learnable_tensors(model, "mean")
    for name in ("weighted", "named"):
        for key, tensor in learnable_tensors(model, name).items():
            assert torch.equal(tensor, mean[key])
    with pytest.raises(ValueError, match="unknown combination_type 'svd'. Known: linear"):
        model.add_weighted_adapter(["default", "a"], [1, 1], "new", "svd")
    with pytest.raises(ValueError, match="there is an adapter 'mean' already"):
        model.add_weighted_adapter(["default", "a"], [1, 1], "mean")
    assert list(model.peft_config) == ["default", "a", "b", "mean", "weighted", "named"]


def test_a_combination_of_three_saves_and_loads(tmp_path):
    model = several("a", "b")
    model.add_adapter("from a text", PromptConfig(**SETTINGS, ctx_init=[60, 61]))
    model.combine(["from a text", "a", "b"], [1, 2, 1], adapter_name="mean")
    assert model.peft_config["mean"].ctx_init is None  # unlike one of the averaged adapters
    model.set_adapter("mean")
    model.save_pretrained(tmp_path)
    loaded = vilt_prompt.from_pretrained(build("4/4"), tmp_path, subfolder="mean")
    assert same(features(loaded), features(model))


@pytest.mark.parametrize(
    ("names", "weights", "name", "error", "message"),
    [
        (["default", "maple"], None, "new", ValueError, "'default' and 'maple' differ in structure and have no mean: "
         "lead is 'split' and 'text'; mapper is 'shared' and 'per_layer'; K is 2 and None; n_ctx is 3 and 2; "
         "n_ctx_vision is 3 and 2"),
        (["default", "ucf"], None, "new", ValueError, "there is no adapter 'ucf'; there are: default, b, maple"),
        ([], None, "new", ValueError, "nothing to combine: name some of the adapters default, b, maple"),
        ("b", None, "new", TypeError, r'adapter_names must be a list of names, such as \["a", "b"\], got \'b\''),
        (["default", "b"], [1], "new", ValueError, "1 weights were given for 2 adapters: give one for each"),
        (["default", "b"], [1, -1], "new", ValueError, r"at least 0, and not all 0, got \[1, -1\]"),
        (["default", "b"], [0, 0], "new", ValueError, r"not all 0, got \[0, 0\]"),
        (["default", "b"], [1, float("nan")], "new", ValueError, "must be finite"),
        (["default", "b"], [1e308, 1e308], "new", ValueError, "must be finite"),
        (["default", "b"], [10**400, 1], "new", ValueError, "must be finite"),
        ([["default"], "b"], None, "new", TypeError, r"must be a string, got \['default'\]; there are: default, b"),
        (["default", "b"], 0.5, "new", TypeError, "weights must be a list of numbers, one for each adapter, got 0.5"),
        (["default", "b"], ["1", 1], "new", TypeError, "weights must be numbers, got '1'"),
        (["default", "b"], None, "b", ValueError, "there is an adapter 'b' already"),
        (["default", "b"], None, "a/b", ValueError, "the adapter name 'a/b' is refused"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined(trio, names, weights, name, error, message):
    with pytest.raises(error, match=message):
        trio.combine(names, weights, adapter_name=name)
    assert list(trio.peft_config) == list(trio.prompts.tables) == ["default", "b", "maple"]


def test_an_own_name_for_a_loaded_adapter(tmp_path):
    several().save_pretrained(tmp_path)
    model = vilt_prompt.from_pretrained(build("4/4"), tmp_path, adapter_name="ucf101")
    model.load_adapter(str(tmp_path), "hmdb51")
    model.rename_adapter("hmdb51", "hmdb")
    assert not any(flags(model).values())
    with model.use_adapter("hmdb"):
        assert same(features(model), features(several()))


def test_the_active_adapter_has_one_name_wherever_it_is_switched():
    model = several("a", "b")
    tuner, layer = model.base_model, model.prompts
    for switch in (model, tuner, layer):
        for name in ("a", ["b"], "default"):
            switch.set_adapter(name)
            (expected,) = [name] if isinstance(name, str) else name
            assert model.active_adapter == tuner.active_adapter == expected
            assert model.active_adapters == tuner.active_adapters == layer.active_adapters == [expected]
            assert model.active_peft_config is model.peft_config[expected]
    model.rename_adapter("default", "first")
    assert model.active_adapter == tuner.active_adapter == "first"
    model.rename_adapter("a", "second")
    assert model.active_adapter == "first"
    with pytest.warns(UserWarning, match="Setting active adapter to b"):
        model.delete_adapter("first")
    assert model.active_adapter == tuner.active_adapter == "b"
    layer.set_adapter([])
    assert model.active_adapters == tuner.active_adapters == []


REFUSED = {
    "convert under a name that is taken": (
        lambda w: convert(w.folder / "coop.pth", w.model, adapter_name="twin"),
        ValueError,
        "there is an adapter 'twin' already",
    ),
    "activate an unknown adapter": (
        lambda w: w.model.set_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "activate two adapters": (
        lambda w: w.model.set_adapter(["default", "twin"]),
        ValueError,
        r"one adapter can be active at a time, got \['default', 'twin'\]: choose one of them",
    ),
    "activate None": (
        lambda w: w.model.set_adapter(None),
        TypeError,
        "an adapter name must be a string, got None; there are: default, twin, coop",
    ),
    "use an unknown adapter": (
        lambda w: w.model.use_adapter("third").__enter__(),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "use a list": (
        lambda w: w.model.use_adapter(["twin"]).__enter__(),
        TypeError,
        r"an adapter name must be a string, got \['twin'\]; there are: default, twin, coop",
    ),
    "add an adapter whose name is taken": (
        lambda w: w.model.add_adapter("twin", PromptConfig(K=2)),
        ValueError,
        "there is an adapter 'twin' already: choose another name than default, twin, coop",
    ),
    "add an adapter that does not fit": (
        lambda w: w.model.add_adapter("third", PromptConfig(K=9)),
        ValueError,
        r"expected K in 1\.\.4 \(the number of prompted layers\), got 9: K=None takes half of them",
    ),
    "add an adapter of another kind": (
        lambda w: w.model.add_adapter("third", LoraConfig(target_modules=["c_fc"])),
        TypeError,
        r"expected a PromptConfig, got LoraConfig: .*get_base_model\(\)",
    ),
    "add an adapter by its method": (
        lambda w: w.model.add_adapter("third", "maple"),
        TypeError,
        "expected a PromptConfig, got 'maple': .*PromptConfig.preset",
    ),
    "delete an unknown adapter": (
        lambda w: w.model.delete_adapter("third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "delete an adapter in use": (
        lambda w: in_use(w.model, lambda: w.model.delete_adapter("twin")),
        ValueError,
        "the adapter 'twin' is in use: leave",
    ),
    "rename an unknown adapter": (
        lambda w: w.model.rename_adapter("third", "fourth"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "rename to a name that is taken": (
        lambda w: w.model.rename_adapter("twin", "coop"),
        ValueError,
        "there is an adapter 'coop' already",
    ),
    "rename an adapter in use": (
        lambda w: in_use(w.model, lambda: w.model.rename_adapter("twin", "other")),
        ValueError,
        "the adapter 'twin' is in use: leave",
    ),
    "combine a string": (
        lambda w: w.model.combine("default", adapter_name="mean"),
        TypeError,
        r"adapter_names must be a list of names, such as \[\"a\", \"b\"\], got 'default'",
    ),
    "combine nothing": (
        lambda w: w.model.combine([], adapter_name="mean"),
        ValueError,
        "there is nothing to combine: name some of the adapters default, twin, coop",
    ),
    "combine an unknown adapter": (
        lambda w: w.model.combine(["default", "third"], adapter_name="mean"),
        ValueError,
        "no adapter 'third'; there are",
    ),
    "combine a generator": (
        lambda w: w.model.combine((name for name in ["default", "twin"]), adapter_name="mean"),
        TypeError,
        "adapter_names must be a list of names, .*got <generator",
    ),
    "combine with weights in a tensor": (
        lambda w: w.model.combine(["default", "twin"], torch.tensor([1.0, 2.0]), adapter_name="mean"),
        TypeError,
        r"weights must be a list of numbers, one for each adapter, got tensor\(\[1., 2.\]\)",
    ),
    "combine different structures": (
        lambda w: w.model.combine(["default", "coop"], adapter_name="mean"),
        ValueError,
        "'default' and 'coop' differ in structure and have no mean: .*n_ctx is 3 and 2.*same settings",
    ),
    "combine with too few weights": (
        lambda w: w.model.combine(["default", "twin"], [1], adapter_name="mean"),
        ValueError,
        "1 weights were given for 2 adapters: give one for each",
    ),
    "combine with a negative weight": (
        lambda w: w.model.combine(["default", "twin"], [1, -1], adapter_name="mean"),
        ValueError,
        r"must be finite, at least 0, and not all 0, got \[1, -1\]",
    ),
    "combine with weights of 0": (
        lambda w: w.model.combine(["default", "twin"], [0, 0], adapter_name="mean"),
        ValueError,
        "not all 0",
    ),
    "combine with NaN": (
        lambda w: w.model.combine(["default", "twin"], [1, float("nan")], adapter_name="mean"),
        ValueError,
        "must be finite",
    ),
    "combine with weights of text": (
        lambda w: w.model.combine(["default", "twin"], ["1", "2"], adapter_name="mean"),
        TypeError,
        "weights must be numbers, got '1'",
    ),
    "combine with one number": (
        lambda w: w.model.combine(["default", "twin"], 0.5, adapter_name="mean"),
        TypeError,
        "weights must be a list of numbers, one for each adapter, got 0.5",
    ),
    "combine into a name that is taken": (
        lambda w: w.model.combine(["default", "twin"], adapter_name="coop"),
        ValueError,
        "there is an adapter 'coop' already",
    ),
    "save an unknown adapter": (
        lambda w: w.model.save_pretrained(w.folder / "new", selected_adapters=["third"]),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
    "push an unknown adapter": (
        lambda w: push_to_hub(w.model, "me/prompts", adapter_name="third"),
        ValueError,
        "no adapter 'third'; there are: default, twin, coop",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
