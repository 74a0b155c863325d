"""How many operations, waits and copies a call asks a device for, against the literal computation."""

from __future__ import annotations

import pytest
import torch

import vilt_prompt
from benchmarks import class_names, launches, models
from benchmarks.cases import Case
from benchmarks.subjects import Bench, Inputs
from tests.support import zoo


@pytest.fixture(scope="module")
def bench():
    return Bench(models.NARROW, "cpu")


def counts(bench, measure, mode, labels=None, frames=None):
    case = Case("cpu", "fp32", models.NARROW, measure, mode, labels, frames)
    inputs, found = Inputs(case, bench.sizes), {}
    for name in ("bare", "literal", "library"):
        subject = bench.subject(name, case, inputs, memory=float("inf"))
        with subject.ready(), torch.set_grad_enabled(mode == "train"):
            found[name] = launches.count_launches(subject.parts[0], mode == "train")
    return found


@pytest.mark.parametrize("labels", ["hmdb51", pytest.param("kinetics400", marks=pytest.mark.slow)])
def test_text(bench, labels):
    found = counts(bench, "text", "train", labels)
    library, literal = found["library"], found["literal"]
    assert library.forward <= 1.4 * literal.forward
    assert library.forward + library.backward <= literal.forward + literal.backward
    assert (library.waits, library.copies) == (0, 0)


def test_video(bench):
    found = counts(bench, "step", "train", frames=1)
    library, literal = found["library"], found["literal"]
    assert library.forward + library.backward <= literal.forward + literal.backward
    assert (library.waits, library.copies) == (0, 0)


def test_inference(bench):
    found = counts(bench, "image", "inference", frames=1)
    # Of the bare model, attention with its two maps is one operation in each layer, of the library three.
    assert found["library"].forward <= 1.25 * found["bare"].forward
    assert found["library"].waits == 0


@pytest.mark.parametrize("name", ["coca", "roberta", "nllb", "mt5", "siglip"])
def test_no_text_encoder_waits(name):
    model, ids = vilt_prompt.wrap(zoo.build(name), K=1, n_ctx=2), zoo.text_ids(name, [1, 4, 2])
    assert launches.count_launches(lambda: model.encode_text(ids), backward=False).waits == 0


def test_the_first_call_waits_and_the_second_does_not(bench):
    ids = class_names.token_ids(class_names.read_names("hmdb51"))
    with torch.no_grad():
        first = launches.counted(lambda: bench.prompted.encode_text(ids), backward=False)
        second = launches.counted(lambda: bench.prompted.encode_text(ids), backward=False)
    assert first.waits > 0
    assert second.waits == 0
    assert second.forward < first.forward
