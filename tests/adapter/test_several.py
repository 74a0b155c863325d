"""Several adapters in one model: choosing one for a call, switching while training, renaming, and their mean."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, PeftModel

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build, class_ids, frames
from tests.support.refusals import in_use
from vilt_prompt import PromptConfig, convert, push_to_hub

SETTINGS = {"K": 2, "n_ctx": 3}
OTHER = {
    "a": PromptConfig(**SETTINGS),
    "b": PromptConfig(**SETTINGS),
    "maple": PromptConfig.preset("maple", n_ctx=2),
    "text": PromptConfig.preset("coop", n_ctx=4),
}
IDS = class_ids(build("4/4"), [1, 3, 2])
IMAGES = frames(build("4/4"), 2)


def several(*names: str, architecture: str = "4/4") -> PeftModel:
    """A model whose active adapter is "default", with others of the given names, all of them of different values."""
    torch.manual_seed(0)
    model = vilt_prompt.wrap(build(architecture), **SETTINGS).eval()
    for name in names:
        model.add_adapter(name, copy.deepcopy(OTHER[name]))
    with torch.no_grad():
        for parameter in model.prompts.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def features(model) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.encode_text(IDS), model.encode_image(IMAGES)]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def frozen() -> torch.nn.Module:
    return build("4/4").requires_grad_(False)


def flags(model) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def alone(model, name: str) -> list[torch.Tensor]:
    """The features of one adapter, by making it the active one of a copy."""
    model = copy.deepcopy(model)
    model.set_adapter(name)
    return features(model)


@pytest.fixture
def trio() -> PeftModel:
    return several("b", "maple")


def test_a_call_can_choose_its_adapter(trio):
    before = flags(trio)
    default, b, maple = (alone(trio, name) for name in ("default", "b", "maple"))
    assert not any(same(x, y) for x, y in ((default, b), (b, maple), (default, maple)))
    with trio.use_adapter("b"):
        assert same(features(trio), b)
        assert same(features(trio.get_base_model()), b)
        with trio.use_adapter("maple"):
            assert same(features(trio), maple)
            with trio.use_adapter("default"):
                assert same(features(trio), default)
        assert same(features(trio), b)
        assert trio.active_adapter == "default"
        assert trio.active_adapters == trio.prompts.active_adapters == ["default"]
        assert flags(trio) == before
    assert same(features(trio), default)
    assert flags(trio) == before


def test_the_choice_ends_with_an_exception(trio):
    default = features(trio)
    with pytest.raises(KeyError), trio.use_adapter("b"), trio.use_adapter("maple"):
        raise KeyError
    assert same(features(trio), default)


def test_generators_inside_the_block_may_end_in_any_order(trio):
    default = features(trio)

    def inside(name):
        with trio.use_adapter(name):
            while True:
                yield features(trio)

    b, maple = inside("b"), inside("maple")
    assert same(next(b), alone(trio, "b"))
    assert same(next(maple), alone(trio, "maple"))
    b.close()
    assert same(next(maple), alone(trio, "maple"))
    maple.close()
    assert same(features(trio), default)


def test_a_generator_inside_the_block_may_end_in_another_thread(trio):
    def inside():
        with trio.use_adapter("b"):
            yield

    generator = inside()
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pool.submit(next, generator).result()
    generator.close()
    assert same(features(trio), alone(trio, "default"))


def test_an_unknown_adapter_is_refused_before_the_block(trio):
    entered = []
    message = "there is no adapter 'ucf'; there are: default, b, maple"
    with pytest.raises(ValueError, match=message), trio.use_adapter("ucf"):
        entered.append(True)
    assert not entered


def test_layer_prompts_are_those_of_the_chosen_adapter(trio):
    with trio.use_adapter("maple"):
        prompts = trio.layer_prompts()
    assert torch.equal(prompts.text[1], trio.prompts.vilt_text["maple"][1])
    assert torch.equal(trio.layer_prompts().text[1], trio.prompts.vilt_text["default"][1])


def test_a_chosen_adapter_without_prompts_in_a_tower_leaves_it_as_it_was():
    model = several("text")
    with torch.no_grad(), model.use_adapter("text"):
        assert torch.equal(model.encode_image(IMAGES), frozen().encode_image(IMAGES))


def test_another_model_is_not_concerned(trio):
    other = copy.deepcopy(trio)
    default = features(other)
    with trio.use_adapter("b"):
        assert same(features(other), default)
        with other.use_adapter("maple"):
            assert same(features(trio), alone(trio, "b"))
            assert same(features(other), alone(other, "maple"))


def test_disabled_wins_over_chosen(trio):
    without = features(frozen())
    with trio.use_adapter("b"), trio.disable_adapter():
        assert same(features(trio), without)
    with trio.disable_adapter(), trio.use_adapter("b"):
        assert same(features(trio), without)
        with trio.disable_adapter():
            assert same(features(trio), without)
        assert same(features(trio), without)
    assert not same(features(trio), without)


def test_blocks_without_prompts_may_end_in_any_order(trio):
    default, without = features(trio), features(frozen())

    def inside():
        with trio.disable_adapter():
            yield

    first, second = inside(), inside()
    next(first), next(second)
    first.close()
    assert same(features(trio), without)
    second.close()
    assert same(features(trio), default)


def test_blocks_without_prompts_of_eight_threads(trio):
    default, without = features(trio), features(frozen())
    barrier = threading.Barrier(8)

    def switch(_):
        with trio.disable_adapter():
            barrier.wait(timeout=60)  # so that the blocks overlap
            return trio.prompts.enabled

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(switch, range(8)))
    assert same(features(trio), default)
    with trio.disable_adapter():
        assert same(features(trio), without)


def test_a_model_that_is_unwrapped_inside_the_block(trio):
    with trio.disable_adapter():
        clip = vilt_prompt.unwrap(trio)
    assert same(features(clip), features(build("4/4")))


def test_switching_on_and_off_for_good_inside_the_block(trio):
    default, without = features(trio), features(frozen())
    with trio.disable_adapter():
        trio.base_model.enable_adapter_layers()
        assert same(features(trio), default)
    assert same(features(trio), default)
    with trio.disable_adapter():
        trio.base_model.disable_adapter_layers()
    assert same(features(trio), without)
    trio.base_model.enable_adapter_layers()
    assert same(features(trio), default)


def test_switching_inside_the_block_takes_effect_after_it(trio):
    with trio.use_adapter("b"):
        trio.set_adapter("maple")
        assert same(features(trio), alone(several("b", "maple"), "b"))
    assert same(features(trio), alone(several("b", "maple"), "maple"))


def test_threads_choose_for_themselves():
    model = several("a", "b", "maple", "text")
    names = ["default", "a", "b", "maple", "text", None, "b", "maple"]
    expected = {name: alone(model, name or "default") for name in names}
    barrier = threading.Barrier(len(names))

    def work(name: str | None) -> int:
        wrong = 0
        for _ in range(20):
            barrier.wait(timeout=60)
            if name is None:  # no choice: the active adapter
                wrong += not same(features(model), expected[name])
                continue
            with model.use_adapter(name):
                wrong += not same(features(model), expected[name])
        return wrong

    one_thread_each = ThreadPoolExecutor(len(names), initializer=torch.set_num_threads, initargs=(1,))
    with model.use_adapter("a"), one_thread_each as pool:  # the caller's choice is the caller's
        assert sum(pool.map(work, names)) == 0


def test_asyncio_tasks_choose_for_themselves(trio):
    expected = {name: alone(trio, name) for name in ("default", "b", "maple")}

    async def work(name: str) -> bool:
        with trio.use_adapter(name):
            await asyncio.sleep(0)
            return same(features(trio), expected[name])

    async def gather() -> list[bool]:
        return await asyncio.gather(*(work(name) for name in expected))

    assert asyncio.run(gather()) == [True] * 3


def test_gradient_checkpointing_recomputes_with_the_chosen_adapter(trio):
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor | None]:
        model = copy.deepcopy(trio).train()
        model.set_grad_checkpointing(checkpointing)
        model.set_requires_grad("b")
        with model.use_adapter("b"):
            loss = model.encode_text(IDS).square().sum() + model.encode_image(IMAGES).square().sum()
        loss.backward()  # the block has ended when the layers are computed again
        assert all(tensor.grad is None for tensor in learnable_tensors(model, "default").values())
        return {name: tensor.grad for name, tensor in learnable_tensors(model, "b").items()}

    plain, recomputed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, msg=name)
        assert gradient.abs().max() > 0


@pytest.mark.one_graph
def test_compiled_models_take_choices():
    model = several("b", "maple", architecture="2/2")
    encode_text, encode_image = (
        torch.compile(encode, fullgraph=True, backend="eager") for encode in (model.encode_text, model.encode_image)
    )

    def agree(name: str) -> None:
        with torch.no_grad():
            for got, expected in zip((encode_text(IDS), encode_image(IMAGES)), alone(model, name), strict=True):
                torch.testing.assert_close(got, expected)

    agree("default")
    for name in ("b", "default", "maple", "b"):
        with model.use_adapter(name):
            agree(name)
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool, model.use_adapter("b"):
        pool.submit(agree, "default").result()
    agree("default")
    torch._dynamo.reset()


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
    assert model.peft_config["mean"].ctx_init is None  # it starts from no text, unlike one of those that it is made of
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
        r"K=9 is out of range: choose K in 1\.\.4",
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
