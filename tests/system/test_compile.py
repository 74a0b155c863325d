"""`torch.compile` in one graph: equal features, losses and gradients, and one graph for any number of anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import vilt_prompt
from tests.support import architectures, zoo
from tests.support.exactness import randomise_prompts
from vilt_prompt.towers.packing import PackedTexts

pytestmark = [pytest.mark.one_graph, pytest.mark.slow]
TOLERANCE = 1e-5
# Videos, frames of each and classes of one call after the other. None is 1, which torch compiles for on its own, and
# none is 3, the channels: of sizes that are equal in the first call torch assumes that they stay so.
FIRST, *OTHERS = [(2, 4, 5), (4, 5, 7), (2, 7, 6)]

# One member for each kind of tower. The traced graph is the same under every backend; "eager" runs it as it is, and
# is quick; "aot_eager" makes a graph of the backward pass too.
CASES = [
    ("aot_eager", "vit"),
    ("eager", "siglip"),
    ("eager", "eva02"),
    ("eager", "roberta"),
    ("eager", "coca"),
]


def wrapped(name: str) -> nn.Module:
    model = vilt_prompt.wrap(zoo.build(name), K=2, n_ctx=3).train()
    randomise_prompts(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):  # Hugging Face's; tracing draws random numbers of its own
            module.p = 0.0
    return model


def inputs(name: str, model: nn.Module, sizes: tuple[int, int, int]) -> list[Tensor]:
    """Images, videos with their masks, texts, labels, and the features of the scenario term."""
    videos, frames, classes = sizes
    generator = torch.Generator().manual_seed(frames)
    mask = torch.rand(videos, frames, generator=generator) > 0.4
    mask[:, 0] = True
    width = model.encode_text(zoo.text_ids(name, [1])).shape[1]
    return [
        zoo.frames(model, 2 * videos + 5, seed=frames),
        zoo.frames(model, videos, frames, seed=frames),
        mask,
        zoo.text_ids(name, [1 + row % 5 for row in range(classes)], seed=frames),
        torch.arange(videos) % classes,
        nn.functional.normalize(torch.randn(classes, width, generator=generator), dim=-1),
    ]


def test_packed_texts_are_inputs_of_one_graph():
    """One graph serves any list of names, and runs no padding and no beginning twice."""
    model = wrapped("vit")
    trained = list(model.prompts.vilt_text.parameters())
    rows: list[int] = []  # the tokens that each layer's MLP runs
    blocks = model.get_base_model().transformer.resblocks
    for block in blocks:
        block.mlp.register_forward_hook(lambda module, inputs, out: rows.append(inputs[0].shape[:-1].numel()))
    torch._dynamo.reset()
    compiled = torch.compile(model.encode_text, backend="aot_eager", fullgraph=True, dynamic=True)
    for turn, classes in enumerate((40, 60, 25, 80)):
        text = zoo.text_ids("vit", [1 + row % 5 for row in range(classes)], seed=classes)
        packed = model.pack_text(text)
        assert isinstance(packed, PackedTexts)
        rows.clear()
        with torch.compiler.set_stance("default" if turn == 0 else "fail_on_recompile"):
            got = compiled(packed)
            gradients = torch.autograd.grad(got.square().sum(), trained)
        ends = text.argmax(dim=1).tolist()  # the end token has the largest id
        beginnings = {
            tuple(ids[: column + 1]) for ids, end in zip(text.tolist(), ends, strict=True) for column in range(end + 1)
        }
        assert len(beginnings) < sum(ends) + classes
        assert rows == [len(beginnings)] * (len(blocks) - 1) + [classes]
        want = model.encode_text(text)
        assert (got - want).abs().max() <= TOLERANCE * want.abs().max()
        for ours, eager in zip(gradients, torch.autograd.grad(want.square().sum(), trained), strict=True):
            assert (ours - eager).abs().max() <= TOLERANCE * eager.abs().max()


def test_lists_of_other_sizes_recompile_at_most_once():
    """Also where one size of the packed texts changes at a later list than the others, without `dynamic=True`."""
    model = wrapped("vit")
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(model.encode_text, backend=backend, fullgraph=True)
    row_lengths = []
    for lengths in ([4, 5] * 12, [4, 5] * 20, [3] * 24, [1, 5, 2] * 11, [7] * 13):  # of the last, all tokens differ
        text = zoo.text_ids("vit", lengths, seed=len(lengths))
        packed = model.pack_text(text)
        row_lengths.append(packed.row_tokens.shape[1])
        torch.testing.assert_close(compiled(packed), model.encode_text(text))
    assert row_lengths[0] == row_lengths[1] != row_lengths[2]  # changes late
    assert len(graphs) <= 2


def test_packing_inside_a_compiled_function_gives_the_same_features():
    model = wrapped("vit")
    text = zoo.text_ids("vit", [4, 5, 2])
    torch._dynamo.reset()
    compiled = torch.compile(lambda ids: model.encode_text(model.pack_text(ids)), backend="eager")
    torch.testing.assert_close(compiled(text), model.encode_text(text))


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_every_feature_and_a_training_step_in_one_graph(backend, name):
    model = wrapped(name)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step(images: Tensor, video: Tensor, mask: Tensor, text: Tensor, labels: Tensor, scenario: Tensor):
        video_features, text_features = model.encode_video(video, frame_mask=mask), model.encode_text(text)
        features = [model.encode_image(images), model.encode_video(video), video_features, text_features]
        loss = vilt_prompt.ScenarioGuidedLoss(scenario)(video_features, text_features, labels)
        return loss + features[0].square().mean() + features[1].square().mean(), features

    torch._dynamo.reset()
    compiled = torch.compile(step, backend=backend, fullgraph=True, dynamic=True)
    for sizes in (FIRST, *OTHERS):
        arguments = inputs(name, model, sizes)
        with torch.compiler.set_stance("default" if sizes == FIRST else "fail_on_recompile"):
            loss, features = compiled(*arguments)
            gradients = torch.autograd.grad(loss, trained)
        want_loss, want_features = step(*arguments)
        want_gradients = torch.autograd.grad(want_loss, trained)
        got, want = [loss, *features, *gradients], [want_loss, *want_features, *want_gradients]
        for ours, eager in zip(got, want, strict=True):
            assert eager.any()
            assert (ours - eager).abs().max() <= TOLERANCE * eager.abs().max()


def test_machine_code():
    """The default backend, whose compiler is slow: one small tower each, in training and for features alone."""
    model = vilt_prompt.wrap(architectures.build("2/2"), K=1, n_ctx=3)
    randomise_prompts(model)
    trained = list(model.prompts.vilt_text.parameters())
    ids = [architectures.class_ids(model, lengths) for lengths in ([1, 4, 2], [3, 1, 2, 5])]
    torch._dynamo.reset()
    encode_text = torch.compile(model.encode_text, fullgraph=True, dynamic=True)
    for text in ids:
        got, want = encode_text(text), model.encode_text(text)
        assert (got - want).abs().max() <= TOLERANCE * want.abs().max()
        gradients = (torch.autograd.grad(features.square().sum(), trained) for features in (got, want))
        for ours, eager in zip(*gradients, strict=True):
            assert (ours - eager).abs().max() <= TOLERANCE * eager.abs().max()
    images = architectures.frames(model, 4)
    with torch.no_grad():
        got, want = torch.compile(model.encode_image, fullgraph=True)(images), model.encode_image(images)
    assert (got - want).abs().max() <= TOLERANCE * want.abs().max()


def test_the_forward_of_a_compiled_model():
    name, model = "vit", wrapped("vit")
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    for sizes in (FIRST, *OTHERS):
        _, video, mask, text, _, _ = inputs(name, model, sizes)
        with torch.compiler.set_stance("default" if sizes == FIRST else "fail_on_recompile"):
            got = compiled(video, text, frame_mask=mask)
        for ours, eager in zip(got, model(video, text, frame_mask=mask), strict=True):
            torch.testing.assert_close(ours, eager)


def test_marked_dimensions_need_no_dynamic_everything():
    model = wrapped("vit")
    torch._dynamo.reset()
    compiled = torch.compile(model.encode_text, backend="eager", fullgraph=True)
    for sizes in (FIRST, *OTHERS):
        text = inputs("vit", model, sizes)[3]
        torch._dynamo.mark_dynamic(text, 0)
        with torch.compiler.set_stance("default" if sizes == FIRST else "fail_on_recompile"):
            torch.testing.assert_close(compiled(text), model.encode_text(text))


def test_checkpointed_layers_compile():
    model = wrapped("vit")
    model.set_grad_checkpointing()
    trained = list(model.prompts.vilt_text.parameters())
    text = zoo.text_ids("vit", [1, 4, 2, 5])
    torch._dynamo.reset()
    compiled = torch.compile(model.encode_text, backend="aot_eager", fullgraph=True)
    (got,) = torch.autograd.grad(compiled(text).square().sum(), trained)
    (want,) = torch.autograd.grad(model.encode_text(text).square().sum(), trained)
    assert (got - want).abs().max() <= TOLERANCE * want.abs().max()


def test_chunks_compile_in_training():
    model = wrapped("vit")
    trained = list(model.prompts.vilt_vision.parameters())
    video = zoo.frames(model, 2, 5)
    torch._dynamo.reset()
    compiled = torch.compile(model.encode_video, backend="eager", fullgraph=True, dynamic=True)
    (got,) = torch.autograd.grad(compiled(video, frames_per_chunk=4).square().sum(), trained)
    (want,) = torch.autograd.grad(model.encode_video(video).square().sum(), trained)
    assert (got - want).abs().max() <= TOLERANCE * want.abs().max()
