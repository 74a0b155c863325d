"""The losses against the formulas written out by hand, and what the frozen template features are made of."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from open_clip import ClipLoss

import vilt_prompt
from tests.support import zoo
from tests.support.architectures import CONTEXT_LENGTH, END, START, build, frames
from vilt_prompt import ScenarioGuidedLoss, scenario_features, scenario_loss


def tokenizer(texts: list[str]) -> torch.Tensor:
    """One token a character."""
    rows = [[START, *(ord(character) % 90 + 1 for character in text[:18]), END] for text in texts]
    return torch.tensor([row + [0] * (CONTEXT_LENGTH - len(row)) for row in rows])


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) / math.sqrt(
        sum(x * x for x in a.tolist()) * sum(y * y for y in b.tolist())
    )


@pytest.mark.parametrize(("alpha", "temperature"), [(8.0, 0.07), (0, 1.0), (2.5, torch.tensor(0.01))])
def test_the_loss_is_the_formula(alpha, temperature):
    torch.manual_seed(0)
    video, text, c_clip = torch.randn(4, 6).double(), torch.randn(3, 6).double(), torch.randn(3, 6).double()
    labels = torch.tensor([2, 0, 1, 1])
    scenario = 1 - sum(cosine(text[i], c_clip[i]) for i in range(3)) / 3
    cross_entropy = 0.0
    for row in range(4):
        logits = [cosine(video[row], text[i]) / float(temperature) for i in range(3)]
        cross_entropy += math.log(sum(math.exp(x) for x in logits)) - logits[labels[row]]
    criterion = ScenarioGuidedLoss(c_clip, alpha=alpha, temperature=temperature)
    assert criterion.last is None
    loss = criterion(video, text.requires_grad_(), labels)
    assert loss.item() == pytest.approx(cross_entropy / 4 + alpha * scenario, rel=1e-9)
    assert criterion.last.cross_entropy.item() == pytest.approx(cross_entropy / 4, rel=1e-9)
    assert criterion.last.scenario.item() == pytest.approx(scenario, rel=1e-9)
    assert not criterion.last.scenario.requires_grad
    loss.backward()
    assert text.grad.abs().sum() > 0


def test_defaults_are_the_papers_temperature_and_kgcoops_weight():
    criterion = ScenarioGuidedLoss(torch.randn(3, 6))
    assert (criterion.alpha, criterion.temperature) == (8.0, 0.07)


def test_for_classes_takes_the_models_temperature_and_template():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    with torch.no_grad():
        model.get_base_model().logit_scale.fill_(math.log(50))
    names, template = ["run", "swim"], "a clip of {}"
    criterion = ScenarioGuidedLoss.for_classes(model, tokenizer, names, template=template, alpha=2)
    assert criterion.temperature == pytest.approx(0.02, rel=1e-6)
    assert isinstance(criterion.temperature, float)  # a tensor would make each step wait for the device
    assert criterion.alpha == 2
    with model.disable_adapter():
        expected = model.encode_text(tokenizer(["a clip of run", "a clip of swim"]), normalize=True)
    assert torch.allclose(criterion.scenario_features, expected, atol=1e-6)
    assert ScenarioGuidedLoss.for_classes(model, tokenizer, names).alpha == 8.0
    assert ScenarioGuidedLoss.for_classes(model, tokenizer, names, temperature=0.07).temperature == 0.07
    default = ScenarioGuidedLoss.for_classes(model, tokenizer, names).scenario_features
    assert torch.equal(default, scenario_features(model, tokenizer, names))


def test_for_classes_trains_only_the_prompts():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    criterion = ScenarioGuidedLoss.for_classes(model, tokenizer, ["run", "swim"])
    assert not list(criterion.parameters())
    criterion(torch.randn(2, 24), model.encode_text(tokenizer(["run", "swim"])), torch.tensor([0, 1])).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.prompts.vilt_text.parameters())
    assert all(p.grad is None for name, p in model.named_parameters() if "prompts" not in name)


def test_for_classes_refuses_what_its_parts_refuse():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    with pytest.raises(TypeError, match="expected a model that wrap"):
        ScenarioGuidedLoss.for_classes(build("4/4"), tokenizer, ["run"])
    with pytest.raises(ValueError, match="class_names is empty"):
        ScenarioGuidedLoss.for_classes(model, tokenizer, [])
    with pytest.raises(ValueError, match="template must have one"):
        ScenarioGuidedLoss.for_classes(model, tokenizer, ["run"], template="a video")
    with pytest.raises(ValueError, match="temperature=0 is out of range"):
        ScenarioGuidedLoss.for_classes(model, tokenizer, ["run"], temperature=0)
    with pytest.raises(ValueError, match="meta device and has no logit scale: pass temperature="):
        ScenarioGuidedLoss.for_classes(model.to("meta"), tokenizer, ["run"])


def test_numbers_of_numpy_are_numbers():
    criterion = ScenarioGuidedLoss(torch.randn(3, 6), alpha=np.int64(2), temperature=np.float32(0.5))
    assert criterion(torch.randn(1, 6), torch.randn(3, 6), torch.tensor([0])).isfinite()


def test_the_scenario_term_is_a_distance():
    features = torch.randn(3, 6)
    assert scenario_loss(features, 2 * features).item() == pytest.approx(0, abs=1e-6)
    assert scenario_loss(features, -features).item() == pytest.approx(2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_compared_in_float32(dtype):
    torch.manual_seed(0)
    video, text = torch.randn(4, 6).to(dtype), torch.randn(3, 6).to(dtype)
    labels = torch.tensor([2, 0, 1, 1])
    expected = ScenarioGuidedLoss(text.float())(video.float(), text.float(), labels)
    loss = ScenarioGuidedLoss(text)(video, text, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_scenario_features_are_those_of_the_frozen_model():
    base = build("4/4").requires_grad_(False)
    model = vilt_prompt.wrap(copy.deepcopy(base), K=2, n_ctx=3).train()
    for adapters in (nullcontext(), model.disable_adapter()):
        with adapters:
            features = scenario_features(model, tokenizer, ["walking", "a very long way to swim"])
        texts = ["a video of a person doing walking.", "a video of a person doing a very long way to swim."]
        assert torch.equal(features, base.encode_text(tokenizer(texts), normalize=True))
    assert not features.requires_grad
    other = scenario_features(model, tokenizer, ["walking"], template="{} in a film")
    assert torch.equal(other, base.encode_text(tokenizer(["walking in a film"]), normalize=True))
    short = scenario_features(model, lambda texts: tokenizer(texts)[:, :20], ["walking"])
    torch.testing.assert_close(short, features[:1])
    model.encode_text(tokenizer(["walking"])).sum().backward()  # nothing was left switched off


def test_scenario_features_of_coca_are_those_of_the_frozen_model():
    base = zoo.build("coca").requires_grad_(False)
    model = vilt_prompt.wrap(copy.deepcopy(base), K=2, n_ctx=3)

    def tokenize(texts: list[str]) -> torch.Tensor:
        return zoo.text_ids("coca", [len(text.split()) for text in texts])

    names = ["walking", "a very long way to swim"]
    texts = tokenize([f"a video of a person doing {name}." for name in names])
    features = scenario_features(model, tokenize, names)
    assert not torch.allclose(features, model.encode_text(texts, normalize=True), atol=1e-3)
    assert torch.equal(features, base.encode_text(texts))


def test_open_clips_own_loss_works_on_forward():
    model = vilt_prompt.wrap(build("4/4"), K=2, n_ctx=3)
    loss = ClipLoss()(*model(frames(build("4/4"), 3, 2), tokenizer(["walking", "swimming", "rowing"])))
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    base = build("4/4")
    video, text, labels = frames(base, 6, 2), tokenizer(["walking", "swimming", "rowing"]), torch.arange(6) % 3
    model = vilt_prompt.wrap(base, K=2, n_ctx=3)
    criterion = ScenarioGuidedLoss(scenario_features(model, tokenizer, ["walking", "swimming", "rowing"]))
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = criterion(model.encode_video(video), model.encode_text(text), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
