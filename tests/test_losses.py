"""The losses against formulas written out by hand, and the frozen template features against open_clip."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from open_clip import ClipLoss
from torch import nn

import vilt_prompt
from tests.support import zoo
from tests.support.architectures import CONTEXT_LENGTH, END, START, build, frames
from tests.support.refusals import tokenizer as any_words
from vilt_prompt import ScenarioGuidedLoss, scenario_features, scenario_loss


def tokenizer(texts: list[str]) -> torch.Tensor:
    """One token a character."""
    rows = [[START, *(ord(character) % 90 + 1 for character in text[:18]), END] for text in texts]
    return torch.tensor([row + [0] * (CONTEXT_LENGTH - len(row)) for row in rows])


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) / math.sqrt(
        sum(x * x for x in a.tolist()) * sum(y * y for y in b.tolist())
    )


@pytest.mark.parametrize(
    ("alpha", "temperature"), [(8.0, 0.07), (0, 1.0), (2.5, torch.tensor(0.01)), (1.0, torch.tensor([0.1]))]
)
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
    with pytest.raises(ValueError, match="expected a positive and finite temperature, got 0"):
        ScenarioGuidedLoss.for_classes(model, tokenizer, ["run"], temperature=0)
    with pytest.raises(ValueError, match="meta device and has no logit scale: pass temperature="):
        ScenarioGuidedLoss.for_classes(model.to("meta"), tokenizer, ["run"])


def test_numbers_of_numpy_are_numbers():
    criterion = ScenarioGuidedLoss(torch.randn(3, 6), alpha=np.int64(2), temperature=np.float32(0.5))
    assert criterion(torch.randn(1, 6), torch.randn(3, 6), torch.tensor([0])).isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 7])}, r"labels must be in 0\.\.2, got 0\.\.7 \(in the call before this one\)"),
        ({"labels": torch.tensor([-100, 1])}, r"labels must be in 0\.\.2, got -100\.\.1"),
        ({"video": torch.full((2, 6), math.nan)}, "video_features has NaN"),
        ({"text": torch.full((3, 6), math.inf)}, "text_features has NaN"),
    ],
)
def test_on_a_gpu_a_bad_call_is_refused_at_the_next_one(change, message, stand_in_gpu):
    torch.manual_seed(0)
    good = {"video": torch.randn(2, 6), "text": torch.randn(3, 6), "labels": torch.tensor([0, 1])}
    criterion = ScenarioGuidedLoss(torch.randn(3, 6))

    def call(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return criterion(*map(stand_in_gpu.tensor, values.values()))

    torch.testing.assert_close(call(good).as_subclass(torch.Tensor), criterion(*good.values()))
    call(good | change)
    with pytest.raises(ValueError, match=message):
        call(good)
    call(good)
    call(good)


def test_on_a_gpu_no_call_waits_for_its_own_values(stand_in_gpu):
    criterion = ScenarioGuidedLoss(stand_in_gpu.tensor(torch.randn(3, 6)), temperature=stand_in_gpu.tensor(0.1))
    batch = [stand_in_gpu.tensor(each) for each in (torch.randn(2, 6), torch.randn(3, 6), torch.tensor([0, 1]))]
    with stand_in_gpu.no_reads():
        criterion(*batch)
    assert stand_in_gpu.waits == 0
    criterion(*batch)
    assert stand_in_gpu.waits == 1


def test_a_temperature_on_a_gpu_is_refused_at_the_next_call(stand_in_gpu):
    criterion = ScenarioGuidedLoss(torch.randn(3, 6), temperature=torch.tensor(0.1))
    batch = [stand_in_gpu.tensor(each) for each in (torch.randn(2, 6), torch.randn(3, 6), torch.tensor([0, 1]))]
    criterion.temperature = stand_in_gpu.tensor(-0.1)
    criterion(*batch)
    with pytest.raises(ValueError, match="expected a positive and finite temperature"):
        criterion(*batch)


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


C_CLIP = nn.functional.normalize(torch.randn(3, 24), dim=-1)
V = torch.randn(2, 24)
LABELS = torch.tensor([0, 2])
LOSS = ScenarioGuidedLoss(C_CLIP)
NAN = torch.full((3, 24), float("nan"))


def with_temperature(temperature) -> ScenarioGuidedLoss:
    criterion = ScenarioGuidedLoss(C_CLIP)
    criterion.temperature = temperature
    return criterion


REFUSED = {
    "no class": (
        lambda w: scenario_features(w.model, any_words, []),
        ValueError,
        "class_names is empty: give at least one class",
    ),
    "a bare string": (
        lambda w: scenario_features(w.model, any_words, "walking"),
        TypeError,
        "list of strings, got 'walking'",
    ),
    "numbers": (lambda w: scenario_features(w.model, any_words, [1, 2]), TypeError, r"list of strings, got \[1, 2\]"),
    "a generator": (
        lambda w: scenario_features(w.model, any_words, (n for n in "ab")),
        TypeError,
        "list of strings, got <generator",
    ),
    "None": (lambda w: scenario_features(w.model, any_words, None), TypeError, "list of strings, got None"),
    "no slot": (
        lambda w: scenario_features(w.model, any_words, ["a"], "a video."),
        ValueError,
        "template must have one {}.*got 'a video.'",
    ),
    "two slots": (
        lambda w: scenario_features(w.model, any_words, ["a"], "{} {}"),
        ValueError,
        "template must have one {}",
    ),
    "an escaped slot": (
        lambda w: scenario_features(w.model, any_words, ["a"], "a {{}}"),
        ValueError,
        "must have one {}",
    ),
    "a named slot": (
        lambda w: scenario_features(w.model, any_words, ["a"], "{} {x}"),
        ValueError,
        "must have one {}",
    ),
    "model without prompts": (
        lambda w: scenario_features(w.bare, any_words, ["a"]),
        TypeError,
        r"a model that wrap\(\) returned, still wrapped, got CLIP",
    ),
    "label too large": (
        lambda w: LOSS(V, C_CLIP, LABELS + 1),
        ValueError,
        r"labels must be in 0\.\.2, got 1\.\.3",
    ),
    "label negative": (lambda w: LOSS(V, C_CLIP, LABELS - 1), ValueError, r"labels must be in 0\.\.2, got -1\.\.1"),
    "labels float": (
        lambda w: LOSS(V, C_CLIP, LABELS.float()),
        TypeError,
        "labels must be a tensor of integers, got torch.float32",
    ),
    "labels in a list": (lambda w: LOSS(V, C_CLIP, [0, 2]), TypeError, r"tensor of integers, got \[0, 2\]"),
    "too few labels": (lambda w: LOSS(V, C_CLIP, LABELS[:1]), ValueError, r"of shape \(2,\), got \(1,\)"),
    "another number of classes": (
        lambda w: LOSS(V, C_CLIP[:2], LABELS),
        ValueError,
        r"\(2, 24\) and .*\(3, 24\) must have the same shape",
    ),
    "another width": (lambda w: LOSS(V[:, :8], C_CLIP, LABELS), ValueError, "must have the same D"),
    "features of rank 1": (lambda w: LOSS(V[0], C_CLIP, LABELS), ValueError, r"shape \(rows, D\).*got \(24,\)"),
    "features of integers": (
        lambda w: scenario_loss(C_CLIP, C_CLIP.long()),
        TypeError,
        "scenario_features must be a float tensor, got torch.int64",
    ),
    "features are None": (
        lambda w: scenario_loss(None, C_CLIP),
        TypeError,
        "text_features must be a float tensor, got NoneType",
    ),
    "no features": (
        lambda w: ScenarioGuidedLoss(C_CLIP[:0]),
        ValueError,
        r"with at least one row, got \(0, 24\)",
    ),
    "NaN in the video features": (
        lambda w: LOSS(NAN[:2], C_CLIP, LABELS),
        ValueError,
        "video_features has NaN or infinite values: lower the learning rate",
    ),
    "NaN in the text features": (lambda w: LOSS(V, NAN, LABELS), ValueError, "text_features has NaN"),
    "NaN in the scenario": (lambda w: scenario_loss(C_CLIP, NAN), ValueError, "scenario_features has NaN"),
    "alpha negative": (
        lambda w: ScenarioGuidedLoss(C_CLIP, alpha=-1),
        ValueError,
        "expected alpha of at least 0 and finite, got -1",
    ),
    "alpha NaN": (
        lambda w: ScenarioGuidedLoss(C_CLIP, alpha=float("nan")),
        ValueError,
        "expected alpha of at least 0 and finite, got nan",
    ),
    "alpha is a string": (
        lambda w: ScenarioGuidedLoss(C_CLIP, alpha="8"),
        TypeError,
        "alpha must be a number, got '8'",
    ),
    "temperature is None": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=None),
        TypeError,
        "temperature must be a number or a 0-dim tensor, got None",
    ),
    "temperature 0": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=0),
        ValueError,
        "expected a positive and finite temperature, got 0",
    ),
    "temperature infinite": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=float("inf")),
        ValueError,
        "expected a positive and finite temperature, got inf",
    ),
    "temperatures": (
        lambda w: ScenarioGuidedLoss(C_CLIP, temperature=torch.ones(2)),
        ValueError,
        r"0-dim tensor, got shape \(2,\)",
    ),
    "temperature changed": (
        lambda w: with_temperature(torch.zeros(()))(V, C_CLIP, LABELS),
        ValueError,
        "expected a positive and finite temperature, got 0.0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(name, refuses):
    refuses(*REFUSED[name])
