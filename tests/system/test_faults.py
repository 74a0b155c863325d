"""What goes wrong around a model: calls that fail half-way, threads, copies, moves, resumed training, workers."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import vilt_prompt
from tests.reference.literal import learnable_tensors
from tests.support.architectures import frames
from tests.support.state import state as state_of_everything
from tests.support.zoo import build, text_ids
from vilt_prompt import PromptConfig
from vilt_prompt.adapter.layer import PromptLayer

SETTINGS = {"K": 1, "n_ctx": 3, "depth": 3}
LENGTHS = [1, 4, 2, 4]

# One model for each way in which layers are run: packed texts, CoCa's texts side by side, towers without a causal mask,
# timm's blocks, Hugging Face's, and blocks that run whole.
ENGINES = ("vit", "coca", "clipa", "eva02", "relpos", "xlm_roberta", "mt5", "parallel")


def wrapped(name: str, *others: str, seed: int = 1) -> PeftModel:
    """A wrapped model with large random prompts, and more adapters of the given names."""
    torch.manual_seed(seed)
    model = vilt_prompt.wrap(build(name), **SETTINGS)
    for other in others:
        model.add_adapter(other, PromptConfig(**SETTINGS))
    with torch.no_grad():
        for parameter in model.prompts.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


@cache
def inputs(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Texts (one of them twice as long as the others), images and a video."""
    clip = build(name)
    return text_ids(name, LENGTHS), frames(clip, 3), frames(clip, 2, 3, seed=1)


def features(model: nn.Module, name: str) -> list[Tensor]:
    text, images, video = inputs(name)
    with torch.no_grad():
        return [model.encode_text(text), model.encode_image(images), model.encode_video(video)]


def loss_of(model: nn.Module, name: str) -> Tensor:
    text, _, video = inputs(name)
    text_features, video_features = model.encode_text(text), model.encode_video(video)
    return text_features.square().sum() + video_features.square().sum() + (video_features @ text_features.T).sum()


def gradients(model: nn.Module, name: str) -> list[Tensor]:
    model.zero_grad()
    loss_of(model, name).backward()
    found = [tensor.grad.clone() for tensor in learnable_tensors(model, model.active_adapter).values()]
    model.zero_grad()
    return found


def without_dropout(model: nn.Module) -> None:
    """Under dropout any two calls differ. Some modules have it as a number."""
    for module in model.modules():
        for name in ("p", "dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def state(model: PeftModel) -> tuple:
    """What a call must leave alone, beside the features."""
    return (
        {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        [module.training for module in model.modules()],
        [len(module._forward_hooks) for module in model.modules()],
        model.active_adapter,
        model.prompts.disable_adapters,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


# a call that fails half-way


def mlps(model: PeftModel, tower: str) -> list[nn.Module]:
    """The MLPs of a tower's blocks, or what stands for them: whatever runs last but one in a layer."""
    names = ("mlp", "intermediate", "DenseReluDense", "fc1", "ffns.0")
    found = [
        module
        for path, module in model.get_base_model().named_modules()
        if path.endswith(names) and path.startswith("visual.") is (tower == "vision") and "decoder" not in path
        if not any(part in path for part in ("rel_pos", "mlp.", "ffns.0."))
    ]
    assert len(found) >= 4
    return found[:4]


FAILURES = {
    "out of memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "interrupt": KeyboardInterrupt,
    "error": lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
}


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("name", ENGINES)
def test_an_exception_inside_a_forward_leaves_the_next_one_right(name, checkpointing):
    model = wrapped(name, "other")
    if checkpointing:
        model.train()
        model.set_grad_checkpointing(True)
    without_dropout(model)
    expected = features(model, name), gradients(model, name)
    with model.use_adapter("other"):
        expected_of_other = features(model, name)
    with model.disable_adapter():
        expected_without = features(model, name)
    before = state(model)

    text, images, video = inputs(name)
    calls = {
        "text": [lambda: model.encode_text(text), lambda: model(images, text), lambda: loss_of(model, name).backward()],
        "vision": [
            lambda: model.encode_image(images),
            lambda: model.encode_video(video, frames_per_chunk=2),
            lambda: model(video, text),
        ],
    }
    for tower, of_tower in calls.items():
        for number, call in enumerate(of_tower):
            for failure in FAILURES.values():

                def fail(module, *_, failure=failure):
                    raise failure()

                hook = mlps(model, tower)[number + 1].register_forward_hook(fail)
                error = type(failure())
                with pytest.raises(error):
                    call()
                with pytest.raises(error), model.use_adapter("other"):
                    call()
                with pytest.raises(error), torch.no_grad(), model.disable_adapter():
                    call()
                hook.remove()
                model.zero_grad()
            assert state(model) == before
            assert same(features(model, name), expected[0])
    assert same(gradients(model, name), expected[1])
    with model.use_adapter("other"):
        assert same(features(model, name), expected_of_other)
    with model.disable_adapter():
        assert same(features(model, name), expected_without)


@pytest.mark.parametrize("name", ENGINES)
def test_an_exception_while_layers_are_recomputed_leaves_the_next_step_right(name):
    model = wrapped(name).train()
    model.set_grad_checkpointing(True)
    without_dropout(model)
    expected, before = gradients(model, name), state(model)
    for tower in ("text", "vision"):
        runs = []

        def fail_on_recomputing(*_, runs=runs):
            runs.append(None)
            if len(runs) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")

        hook = mlps(model, tower)[1].register_forward_pre_hook(fail_on_recomputing)
        with pytest.raises(torch.OutOfMemoryError):
            loss_of(model, name).backward()
        hook.remove()
        assert state(model) == before
        assert same(gradients(model, name), expected)


# wrapping, adding and loading that fail half-way


@pytest.mark.parametrize("failure", FAILURES)
def test_no_memory_for_prompts_leaves_the_model_as_it_was(failure, tmp_path, monkeypatch):
    def fail(*_):
        raise FAILURES[failure]()

    wrapped("vit").save_pretrained(tmp_path)
    clip, model = build("vit").train(), wrapped("vit", "other")
    before = state_of_everything(clip), state_of_everything(model)
    with monkeypatch.context() as patched:
        patched.setattr(PromptLayer, "to", fail)  # to the device of the model, once the prompts are made
        for call in (
            lambda: vilt_prompt.wrap(clip, **SETTINGS),
            lambda: vilt_prompt.from_pretrained(clip, tmp_path),
            lambda: model.add_adapter("third", PromptConfig(**SETTINGS)),
            lambda: model.load_adapter(tmp_path, "third"),
            lambda: model.combine(["default", "other"], adapter_name="third"),
        ):
            with pytest.raises(type(FAILURES[failure]())):
                call()
            assert type(clip) is type(build("vit"))
            assert (state_of_everything(clip), state_of_everything(model)) == before
    model.load_adapter(tmp_path, "third")
    vilt_prompt.wrap(clip, **SETTINGS)


def test_loading_needs_no_device_but_the_models(tmp_path, monkeypatch):
    wrapped("vit").save_pretrained(tmp_path)
    monkeypatch.setattr("peft.peft_model.infer_device", lambda: "cuda:99")  # a GPU that has no memory left
    model = vilt_prompt.from_pretrained(build("vit"), tmp_path)
    model.load_adapter(tmp_path, "again", torch_device="cuda:99")
    assert same(features(model, "vit"), features(wrapped("vit"), "vit"))


# threads


@pytest.mark.parametrize("name", ENGINES)
def test_eight_threads_give_the_sequential_result_while_others_switch(name):
    model = wrapped(name, "other")
    expected = features(model, name)
    with model.use_adapter("other"):
        expected_of_other = features(model, name)
    assert not torch.equal(expected[0], expected_of_other[0])
    barrier = threading.Barrier(10)

    def infer(_: int) -> int:
        barrier.wait(timeout=60)
        return sum(not same(features(model, name), expected) for _ in range(5))

    def switch(_: int) -> int:
        barrier.wait(timeout=60)
        wrong = 0
        for _ in range(5):
            with model.use_adapter("other"):
                wrong += not same(features(model, name), expected_of_other)
            wrong += not same(features(model, name), expected)
        return wrong

    with ThreadPoolExecutor(10, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = [pool.submit(infer, i) for i in range(8)] + [pool.submit(switch, i) for i in range(2)]
        results = [job.result() for job in jobs]
    assert results == [0] * 10
    assert same(features(model, name), expected)


# copies, and moves between devices and precisions

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": lambda model: saved_and_loaded(model),
}


def saved_and_loaded(content, **options):
    stream = io.BytesIO()
    torch.save(content, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False, **options)


@pytest.mark.parametrize("copied_by", COPIES)
@pytest.mark.parametrize("name", ENGINES)
def test_copies_are_equal_and_independent(name, copied_by):
    model = wrapped(name, "other")
    expected, expected_gradients = features(model, name), gradients(model, name)
    twin = COPIES[copied_by](model)
    assert type(twin) is type(model)
    assert type(twin.get_base_model()) is type(model.get_base_model())
    assert state(twin) == state(model)
    assert same(features(twin, name), expected)
    assert same(gradients(twin, name), expected_gradients)
    twin.set_adapter("other")
    twin.delete_adapter("default")
    randomise_prompts_of(twin, "other")
    assert same(features(model, name), expected)
    assert list(model.peft_config) == ["default", "other"]
    base = vilt_prompt.unwrap(twin)
    assert type(base) is type(build(name))
    assert torch.equal(base.encode_text(inputs(name)[0]), build(name).encode_text(inputs(name)[0]))


@torch.no_grad()
def randomise_prompts_of(model: PeftModel, adapter: str) -> None:
    for tensor in learnable_tensors(model, adapter).values():
        tensor.normal_()


@pytest.mark.parametrize("name", ENGINES)
def test_a_state_dict_carries_everything(name):
    model, other = wrapped(name), wrapped(name, seed=2)
    expected = features(model, name)
    assert not torch.equal(features(other, name)[0], expected[0])
    content = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    other.load_state_dict(content)
    assert same(features(other, name), expected)
    for missing in [key for key in content if ".prompts." in key]:
        with pytest.raises(RuntimeError, match=f'Missing key\\(s\\) in state_dict: "{missing}"'):
            other.load_state_dict({key: tensor for key, tensor in content.items() if key != missing})
    empty = copy.deepcopy(other).to("meta")
    empty.load_state_dict(content, assign=True)
    text, images, _ = inputs(name)
    if name in ("vit", "coca"):  # others keep tables that no state dict holds
        assert torch.equal(empty.encode_text(text), expected[0])
        assert torch.equal(empty.encode_image(images), expected[1])


@pytest.mark.parametrize("name", ENGINES)
def test_moves_between_precisions(name):
    model = wrapped(name)
    text, images, video = inputs(name)
    exact = [feature.double() for feature in features(model, name)]
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.2)):
        moved = copy.deepcopy(model).to(dtype)
        assert {parameter.dtype for parameter in moved.prompts.parameters()} == {dtype}
        with torch.no_grad():
            got = [moved.encode_text(text), moved.encode_image(images.to(dtype)), moved.encode_video(video.to(dtype))]
        for feature, wanted in zip(got, exact, strict=True):
            assert feature.dtype == dtype
            assert (feature.double() - wanted).abs().max() <= tolerance * wanted.abs().max()
        moved.float()
        assert {tensor.dtype for tensor in features(moved, name)} == {torch.float32}


@pytest.mark.parametrize("name", ENGINES)
def test_on_the_meta_device_shapes_are_those_of_the_features(name):
    model = wrapped(name).to("meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    expected = features(wrapped(name), name)
    with torch.no_grad():
        if name != "mt5":  # transformers makes its position bias from values
            assert model.encode_text(inputs(name)[0].to("meta")).shape == expected[0].shape
        assert model.encode_image(inputs(name)[1].to("meta")).shape == expected[1].shape
        assert model.encode_video(inputs(name)[2].to("meta")).shape == expected[2].shape


# resuming


def steps(model: PeftModel, name: str, optimiser, schedule, count: int) -> list[float]:
    losses = []
    for _ in range(count):
        loss = loss_of(model, name) / 100
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def tools(model: PeftModel, optimiser: str) -> tuple:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made = {
        "AdamW": lambda: torch.optim.AdamW(trained, lr=0.01, weight_decay=0.1),
        "SGD": lambda: torch.optim.SGD(trained, lr=1e-4, momentum=0.9),
    }[optimiser]()
    return made, torch.optim.lr_scheduler.CosineAnnealingLR(made, 10)


@pytest.mark.parametrize("through", ["adapter", "state dict", "pickle"])
@pytest.mark.parametrize("optimiser", ["AdamW", "SGD"])
@pytest.mark.parametrize("name", ["vit", "coca", "eva02", "xlm_roberta"])
def test_resumed_training_is_bit_equal(name, optimiser, through, tmp_path):
    model = wrapped(name)  # in eval mode, as there is no dropout to draw
    with_tools = tools(model, optimiser)
    steps(model, name, *with_tools, 3)
    model.save_pretrained(tmp_path)
    torch.save([part.state_dict() for part in with_tools], tmp_path / "training.pt")
    content = copy.deepcopy(model.state_dict())
    pickled = pickle.dumps(model)
    expected = steps(model, name, *with_tools, 3)
    assert len(set(expected)) == 3

    if through == "adapter":
        resumed = vilt_prompt.from_pretrained(build(name), tmp_path, is_trainable=True).eval()
    elif through == "state dict":
        resumed = wrapped(name, seed=9)
        resumed.load_state_dict(content)
    else:
        resumed = pickle.loads(pickled)
    new_tools = tools(resumed, optimiser)
    for part, saved in zip(new_tools, torch.load(tmp_path / "training.pt"), strict=True):
        part.load_state_dict(saved)
    assert steps(resumed, name, *new_tools, 3) == expected
    assert same(list(learnable_tensors(resumed).values()), list(learnable_tensors(model).values()))


# data loaders


class Encoded(Dataset):
    """Items that a worker encodes itself with the wrapped model that it holds, and features held beside it."""

    def __init__(self, model: PeftModel, videos: Tensor, held: Tensor) -> None:
        self.model, self.videos, self.held = model, videos, held

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        torch.set_num_threads(1)
        with torch.no_grad():
            return self.model.encode_video(self.videos[index][None])[0], self.held


@pytest.mark.parametrize(("start", "workers"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_workers_that_hold_the_model_and_features(start, workers):
    model = wrapped("vit", "other")
    model.set_adapter("other")
    videos = frames(build("vit"), 4, 2)
    with torch.no_grad():
        expected = torch.cat([model.encode_video(video[None]) for video in videos])
        held = model.encode_text(inputs("vit")[0])
    gradients(model, "vit")  # a process is forked after a backward pass too
    data = Encoded(model, videos, held)
    encoded, features_held = zip(
        *DataLoader(data, batch_size=2, num_workers=workers, multiprocessing_context=start), strict=True
    )
    torch.testing.assert_close(torch.cat(encoded), expected)
    assert torch.equal(torch.cat(features_held), held.expand(4, -1, -1))
    assert torch.equal(features(model, "vit")[0], held)
