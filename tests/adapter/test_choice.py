"""Choosing an adapter for a call: nested blocks, threads, tasks, recomputation and compiled models."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import PeftModel

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import build
from tests.support.wrapped import IDS, IMAGES, alone, features, flags, frozen, same, several


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


@pytest.mark.slow
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
