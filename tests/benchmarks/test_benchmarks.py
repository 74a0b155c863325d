"""The benchmarks measure correctly. The model is so small that its times mean nothing."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import vilt_prompt
from benchmarks import (
    cases,
    class_names,
    floor,
    machine,
    measure,
    models,
    pages,
    plot,
    results,
    run,
    table,
    targets,
    text_steps,
)
from benchmarks.cases import Case
from benchmarks.measure import Seconds
from benchmarks.subjects import Bench, Inputs, Subject

ROOT = Path(__file__).resolve().parents[2]
TINY_TEXT = Case("cpu", "fp32", "tiny", "text", "train", "hmdb51")
TINY_STEP = Case("cpu", "fp32", "tiny", "step", "train", "hmdb51", 3)
TINY_IMAGE = Case("cpu", "fp32", "tiny", "image", "inference", None, 3)
LOTS = float("inf")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench("tiny", "cpu")


@pytest.mark.parametrize("module", [cases, class_names, floor, machine, measure, results, table, targets])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("labels", "classes", "own", "cropped"),
    [
        ("hmdb51", 51, 31.4, 15.4),
        ("ucf101", 101, 24.8, 12.8),
        ("ssv2", 174, 9.72, 4.05),
        ("kinetics400", 400, 22.9, 8.56),
    ],
)
def test_tokens_of_real_class_names(labels, classes, own, cropped):
    names = class_names.read_names(labels)
    assert len(names) == len(set(names)) == classes
    counted = class_names.own_tokens(names)
    ids = class_names.token_ids(names)
    assert counted == (ids != 0).sum(dim=1).sub(1).tolist()  # all but the start token
    ratios = class_names.token_ratios(counted)
    assert (float(f"{ratios.own:.3g}"), float(f"{ratios.cropped:.3g}")) == (own, cropped)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no label set 'hmdb': choose one of hmdb51, ucf101, ssv2, kinetics400"):
        class_names.read_names("hmdb")
    with pytest.raises(ValueError, match="open_clip has no model 'ViT-B-17': choose one of ViT-B-32"):
        models.sizes("ViT-B-17")


def counted_flops(bench, name, case):
    return measure.flops_of(bench.subject(name, case, Inputs(case, bench.sizes), LOTS))


@pytest.mark.parametrize("case", [TINY_TEXT, TINY_STEP, Case("cpu", "fp32", "tiny", "image", "train", None, 2)])
def test_formula_of_whole_work_is_what_torch_counts(bench, case):
    work = cases.work(case)
    assert counted_flops(bench, "bare", case) == work.bare
    assert counted_flops(bench, "literal", case) == work.literal


def slow_floor(sizes, own, frames):
    """Token by token: the layers in which it runs, and the keys that it sees."""
    flops = 0

    def run(d, keys, asks=True):
        block = 2 * d * 2 * d  # keys and values
        return block if not asks else block + 2 * d * d + 2 * d * d + 2 * (2 * d * 4 * d) + 2 * (2 * d * keys)

    layers, d = sizes.text_layers, sizes.text_width
    for layer in range(1, layers + 1):
        last, carried = layer == layers, sizes.depth < layers and layer >= sizes.depth
        flops += run(d, 1, asks=not last)
        for prompt in range(sizes.n_ctx):
            flops += run(d, 2 + prompt, asks=carried and not last)
        for tokens in own:
            for token in range(tokens):
                is_end = token == tokens - 1
                flops += run(d, 1 + sizes.n_ctx + token + 1, asks=is_end or not last)
    flops += len(own) * 2 * d * sizes.embed_dim

    layers, d = sizes.vision_layers, sizes.vision_width
    for layer in range(1, layers + 1):
        last, carried = layer == layers, sizes.depth < layers and layer >= sizes.depth
        keys = 1 + sizes.patches + sizes.n_ctx
        for frame in range(frames):
            for token in range(1 + sizes.patches):
                flops += run(d, keys, asks=token == 0 or not last)
            for _ in range(sizes.n_ctx):
                if carried or frame == 0:
                    flops += run(d, keys, asks=carried and not last)
    flops += frames * (2 * 3 * sizes.patch_size**2 * d * sizes.patches + 2 * d * sizes.embed_dim)
    for _ in range(sizes.depth):  # each layer's prompt is mapped from one tower to the other
        flops += 2 * sizes.n_ctx * sizes.text_width * sizes.vision_width
    return flops


@pytest.mark.parametrize("model", ["tiny", "ViT-B-16", "ViT-L-14"])
def test_floor_token_by_token(model):
    sizes, own = models.sizes(model), [2, 3, 7]
    places = [place for tokens in own for place in range(1, tokens + 1)]
    assert floor.text_floor(sizes, own, places) + floor.vision_floor(sizes, 2) == slow_floor(sizes, own, 2)


def test_library_works_at_the_floor_on_images(bench):
    case = Case("cpu", "fp32", "tiny", "image", "train", None, 2)
    assert counted_flops(bench, "library", case) == cases.work(case).floor


@pytest.mark.parametrize("case", [TINY_TEXT, TINY_STEP])
def test_parts_add_up_to_the_whole(bench, case):
    inputs = Inputs(case, bench.sizes)
    whole = bench.subject("literal", case, inputs, LOTS)
    parts = bench.subject("literal", case, inputs, cases.kept_bytes(case, 20, 2))
    assert len(whole.parts) == 1
    assert len(parts.parts) == (3 if case == TINY_TEXT else 3 + 1)
    kept, _ = measure.memory_of(whole, case, bench.weights())
    expected = bench.gradients()
    kept_in_parts, _ = measure.memory_of(parts, case, bench.weights())
    torch.testing.assert_close(bench.gradients(), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert kept_in_parts.saved == pytest.approx(kept.saved, rel=0.02)
    assert kept_in_parts.peak == pytest.approx(kept.peak, rel=0.05)


def test_planned_memory_is_near_what_is_kept(bench):
    kept, _ = measure.memory_of(
        bench.subject("literal", TINY_TEXT, Inputs(TINY_TEXT, bench.sizes), LOTS), TINY_TEXT, bench.weights()
    )
    assert cases.kept_bytes(TINY_TEXT, 51, 0) == pytest.approx(kept.saved, rel=0.2)


def test_subjects_leave_nothing_behind(bench):
    bare = bench.subject("bare", TINY_TEXT, Inputs(TINY_TEXT, bench.sizes), LOTS)
    with bare.ready():
        assert all(parameter.requires_grad for parameter in bench.base.parameters())
        bare.parts[0]().backward()
    assert not any(parameter.requires_grad for parameter in bench.base.parameters())
    assert all(parameter.grad is None for parameter in bench.base.parameters())
    assert {name for name, parameter in bench.prompted.named_parameters() if parameter.requires_grad} == {
        name for name, _ in bench.prompted.named_parameters() if "vilt_" in name
    }


def test_memory_of_something_known():
    weight = nn.Parameter(torch.ones(1000, 1000))
    x = torch.ones(1000, 1000, requires_grad=True)

    def part():
        y = x.exp()  # keeps its result: 4 MB
        return (y.view(-1) * weight.detach().view(-1)).sum() + (y * y).sum()  # keep y again, and weights

    subject = Subject("known", [part], nn.Linear(1, 1), all_weights=False)
    kept, _ = measure.memory_of(subject, TINY_TEXT, [weight])
    assert kept.saved == 4_000_000
    # y and y * y while the sum is taken; the backward pass needs y and gradients of it.
    assert 8_000_000 <= kept.peak <= 20_000_000
    twice, _ = measure.memory_of(Subject("known", [part, part], nn.Linear(1, 1), False), TINY_TEXT, [weight])
    assert twice.saved == 2 * kept.saved
    nothing, _ = measure.memory_of(subject, TINY_IMAGE, [weight])
    assert nothing.saved == 0


def test_who_goes_first_alternates():
    order = []

    def runs(name):
        order.append(name)
        return Seconds(float(len(order)), 2.0 * len(order))

    times = measure.interleaved({"a": lambda: runs("a"), "b": lambda: runs("b"), "c": lambda: runs("c")}, rounds=3)
    assert "".join(order) == "abccbaabc"
    assert [taken.forward for taken in times["c"]] == [3.0, 4.0, 9.0]


COMMAND = ["--models", "tiny", "--labels", "hmdb51", "--frames", "2", "--rounds", "2", "--devices", "cpu"]
KEYS = ["cpu/fp32/tiny/text/train/hmdb51", "cpu/fp32/tiny/step/train/hmdb51/2", "cpu/fp32/tiny/image/inference/2"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("benchmarks") / "results.json"
    run.main([*COMMAND, "--out", str(out)])
    return out


@pytest.mark.slow
def test_one_command(measured, capsys):
    run.main([*COMMAND, "--out", str(measured)])
    printed = capsys.readouterr().out
    assert "3 cases, 3 of them in" in printed
    assert "| text, hmdb51, tiny, fp32, cpu | forward+backward |" in printed
    assert "| inference, 2 frames, tiny, fp32, cpu: library / bare | at most 1.02 |" in printed

    found = json.loads(measured.read_text())
    assert found["schema"] == 1
    assert [record["key"] for record in found["records"]] == KEYS
    ((name, described),) = found["machines"].items()
    assert described["torch"] == torch.__version__
    assert described["threads"] == torch.get_num_threads() == 1
    for record in found["records"]:
        assert record["machine"] == name
        assert Case(**record["case"]).key == record["key"]
        assert record["difference"] < 1e-4
        inference = record["case"]["mode"] == "inference"
        assert list(record["subjects"]) == (["bare"] if inference else []) + ["literal", "library"]
        for subject in record["subjects"].values():
            rounds = 6 if inference else 2
            assert len(subject["forward_s"]) == len(subject["total_s"]) == rounds
            assert all(
                0 < forward <= total for forward, total in zip(subject["forward_s"], subject["total_s"], strict=True)
            )
            assert subject["peak_bytes"] > 0
            assert subject["parts"] == 1
            assert (subject["saved_bytes"] == 0) == inference
        assert record["flops"]["floor"] < record["flops"]["literal"]
    text = found["records"][0]
    assert text["classes"] == 51
    assert text["token_ratios"]["own"] == pytest.approx(77 * 51 / 125)
    assert results.bytes_ratio(text, "literal", "library", "saved_bytes") > 8
    (picture,) = measured.parent.glob("*.svg")
    assert picture.name == "results-tiny-cpu-fp32.svg"
    assert "<svg" in picture.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path, monkeypatch, measured):
    records = {record["key"]: record for record in json.loads(measured.read_text())["records"]}
    out = tmp_path / "results.json"
    asked = []

    def killed_at_the_second(bench, case, *arguments):
        asked.append(case.key)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return dict(records[case.key])

    monkeypatch.setattr(run, "measured", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run.main([*COMMAND, "--out", str(out)])
    assert [record["key"] for record in json.loads(out.read_text())["records"]] == KEYS[:1]
    run.main([*COMMAND, "--out", str(out)])
    assert asked == [KEYS[0], KEYS[1], KEYS[1], KEYS[2]]
    assert [record["key"] for record in json.loads(out.read_text())["records"]] == KEYS
    run.main([*COMMAND, "--out", str(out), "--again", "--measure", "step"])
    assert asked[4:] == [KEYS[1]]
    assert sorted(record["key"] for record in json.loads(out.read_text())["records"]) == sorted(KEYS)


def test_another_machine_is_measured_anew(tmp_path, monkeypatch, measured, capsys):
    out = tmp_path / "results.json"
    out.write_text(measured.read_text())
    monkeypatch.setattr(machine, "_cpu_model", lambda: "another")
    run.main([*COMMAND, "--out", str(out), "--plan"])
    assert "3 cases, 0 of them in" in capsys.readouterr().out


def test_a_subject_that_is_missing_is_measured(measured, capsys):
    run.main([*COMMAND, "--out", str(measured), "--plan", "--subjects", "bare", "library"])
    assert "3 cases, 1 of them in" in capsys.readouterr().out  # bare is there at inference alone


def test_results_of_another_schema_are_refused(tmp_path):
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(
        ValueError, match=r"old\.json has schema 0, this version writes 1: name another file with --out"
    ):
        results.read(tmp_path / "old.json")


def test_a_library_that_computes_something_else_is_not_measured(bench, monkeypatch):
    class Wrong(Bench):
        def __init__(self):
            self.__dict__ = dict(bench.__dict__)

        def _encoders(self, name):
            encode_text, encode_video = super()._encoders(name)
            return (lambda ids: encode_text(ids) * (1.01 if name == "library" else 1)), encode_video

    with pytest.raises(AssertionError, match="text/train/hmdb51: library and literal computation differ by"):
        run.measured(Wrong(), TINY_TEXT, ["literal", "library"], 1, LOTS)


def test_plans():
    def planned(*arguments):
        return run.chosen_cases(run.command_line().parse_args(["--devices", "cpu", *arguments]))

    assert [case.key.removeprefix("cpu/fp32/ViT-B-16/") for case in planned()] == [
        "text/train/hmdb51",
        "text/train/ucf101",
        "text/train/ssv2",
        "text/train/kinetics400",
        "step/train/hmdb51/8",
        "step/train/kinetics400/8",
        "image/inference/8",
    ]
    everything = planned("--all")
    assert len(everything) == len({case.key for case in everything}) == 3 * (2 * 4 + 4 * 3 + 2 * 3)
    chosen = planned("--models", "ViT-B-32", "--measure", "step", "--labels", "ssv2", "--frames", "1", "32")
    assert [case.key for case in chosen] == [
        "cpu/fp32/ViT-B-32/step/train/ssv2/1",
        "cpu/fp32/ViT-B-32/step/train/ssv2/32",
    ]
    step = Case("cpu", "fp32", "ViT-B-16", "step", "train", "kinetics400", 4)
    # Two cores of an AMD EPYC took 85 s; more threads, less time.
    assert cases.seconds_of_run(step, "literal", threads=2) == pytest.approx(85, rel=0.05)
    assert cases.seconds_of_run(step, "literal", threads=4) == pytest.approx(85 / 2, rel=0.05)
    assert cases.rounds_of(step, 5, threads=2) == 2
    assert cases.rounds_of(TINY_TEXT, 5, threads=2) == 5


def record(measure="text", mode="train", labels="hmdb51", frames=None, own=20.0, **runs):
    found = {
        name: {
            "parts": 1,
            "forward_s": [t / 2 for t in times],
            "total_s": times,
            "saved_bytes": saved,
            "peak_bytes": 2 * saved,
        }
        for name, (times, saved) in runs.items()
    }
    case = Case("cpu", "fp32", "ViT-B-16", measure, mode, labels, frames)
    return {
        "key": case.key,
        "machine": "a machine",
        "case": vars(case),
        "classes": 51,
        "token_ratios": None if labels is None else {"own": own, "cropped": 10.0},
        "flops": {"bare": 90.0, "literal": 100.0, "floor": 4.0},
        "subjects": found,
    }


def test_ratios_are_taken_round_by_round():
    found = record(literal=([10.0, 20.0, 90.0], 240), library=([1.0, 1.0, 3.0], 20))
    assert results.ratio(found, "literal", "library") == (20.0, 10.0, 30.0)
    assert str(results.ratio(found, "literal", "library", "forward_s")) == "20 (10 to 30)"
    assert results.ratio(found, "library", "bare") is None
    assert results.median_of(found, "literal", "total_s") == 20.0
    assert results.bytes_ratio(found, "literal", "library", "saved_bytes") == 12.0


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record(literal=([17.0], 12), library=([1.0], 1)), [(0.85, 0.85, True), (12.0, 12.0, True)]),
        (record(literal=([16.9], 119), library=([1.0], 10)), [(0.85, 0.845, False), (12.0, 11.9, False)]),
        (record("step", frames=8, literal=([2.4], 1), library=([1.0], 1)), [(2.5, 2.4, False)]),
        (record("step", labels="kinetics400", frames=8, literal=([8.1], 1), library=([1.0], 1)), [(8.0, 8.1, True)]),
        (record("step", labels="ucf101", frames=8, literal=([8.1], 1), library=([1.0], 1)), []),
        (record("image", "inference", None, 8, bare=([1.0], 0), library=([1.03], 0)), [(1.02, 1.03, False)]),
        (record("image", "inference", None, 1, bare=([1.0], 0), library=([0.97], 0)), [(1.02, 0.97, True)]),
    ],
)
def test_targets(found, expected):
    assert [(t.target, pytest.approx(t.measured), t.met) for t in targets.targets(found)] == expected


def test_flops_have_a_target_everywhere():
    found = record(literal=([17.0], 12), library=([1.0], 1))
    found["case"]["model"] = "ViT-L-14"
    found["subjects"]["library"]["flops"] = 4.1
    (target,) = targets.targets(found)
    assert target.what == "text, hmdb51, ViT-L-14, fp32, cpu: FLOPs of a forward pass / floor"
    assert (target.measured, target.met) == (pytest.approx(4.1 / 4.0), False)


def test_tables_in_pages(tmp_path, capsys):
    found = record(literal=([10.0, 20.0, 90.0], 240 * 2**30), library=([1.0, 1.0, 3.0], 20 * 2**30))
    found["subjects"]["literal"]["parts"] = 3
    file = tmp_path / "results.json"
    other = record(literal=([8.0], 1), library=([1.0], 1)) | {"machine": "another one"}
    machines = {"a machine": {"cores": 2}, "another one": {"cores": 1}}
    results.write(file, {"schema": 1, "machines": machines, "records": [found, other]})
    page = tmp_path / "page.md"
    page.write_text(
        "before\n  <!-- benchmarks: ratios -->\n  stale\n  <!-- /benchmarks -->\n"
        "<!-- benchmarks: results -->\nstale\n<!-- /benchmarks -->\nbetween\n"
        "<!-- benchmarks: machines -->\n<!-- /benchmarks -->\nafter\n"
    )
    table.main([str(file), "--write", str(page)])
    lines = page.read_text().splitlines()
    assert "stale" not in page.read_text()
    assert "  | `encode_text`, hmdb51, forward and backward: literal computation / library | 20 (10 to 30) |" in lines
    assert [line for line in lines if line in ("before", "between", "after")] == ["before", "between", "after"]
    assert (
        "| text, hmdb51, ViT-B-16, fp32, cpu | forward+backward | - | 20 | 1 | 20 (10 to 30) | - | 25 | 20 | - "
        "| 480 GB | 40 GB | 12 | literal in 3 parts, memory added up |" in lines
    )
    assert [line for line in lines if "`encode_text`" in line] == [line for line in lines if "20 (10 to 30) |" in line][
        :1
    ]
    assert any(line.startswith("| text, hmdb51, ViT-B-16, fp32, cpu (another one) | forward ") for line in lines)
    assert "| a machine | cores 2 |" in lines
    once = page.read_text()
    table.main([str(file), "--write", str(page)])
    assert page.read_text() == once
    table.main([str(file)])
    printed = capsys.readouterr().out
    what = "| text, forward and backward, hmdb51: share of the speed-up that the token counts allow"
    assert f"{what} | at least 0.85 | 1 |" in printed
    assert f"{what} (another one) | at least 0.85 | 0.4 |" in printed


def test_pages_that_ask_for_nothing_known(tmp_path, capsys):
    (tmp_path / "page.md").write_text("<!-- benchmarks: tragets -->\n<!-- /benchmarks -->\n")
    with pytest.raises(
        ValueError, match="there is no table 'tragets': choose one of ratios, targets, results, machines"
    ):
        pages.fill((tmp_path / "page.md").read_text(), {})
    (tmp_path / "bare.md").write_text("nothing\n")
    results.write(tmp_path / "results.json", {"schema": 1, "machines": {}, "records": []})
    with pytest.raises(SystemExit):
        table.main([str(tmp_path / "results.json"), "--write", str(tmp_path / "bare.md")])
    assert "bare.md has no line <!-- benchmarks: ratios -->" in capsys.readouterr().err


def test_each_command_writes_its_own_tables(tmp_path):
    page = (
        "<!-- benchmarks: ratios -->\nkept\n<!-- /benchmarks -->\n<!-- benchmarks: memory -->\n<!-- /benchmarks -->\n"
    )
    filled = pages.fill(page, {"memory": "new"})
    assert filled == page.replace("memory -->\n", "memory -->\n\nnew\n\n")


def test_every_table_is_on_a_page():
    texts = [page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    shown = {match["name"] for text in texts for match in pages.MARKED.finditer(text)}
    assert shown == {name for names in pages.TABLES.values() for name in names}
    for module in pages.TABLES:
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()


def test_pages_show_the_committed_results():
    committed = ROOT / "benchmarks" / "results.json"
    marked = [
        page for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if pages.MARKED.search(page.read_text())
    ]
    assert marked
    if not committed.exists():
        pytest.skip("no results are committed")
    for page in marked:
        made = pages.fill(page.read_text(), table.tables(results.read(committed)))
        assert made == page.read_text(), f"run `python -m benchmarks.table {committed} --write {page}`"


def test_picture_shows_every_subject_with_its_values():
    found = [
        record("image", "inference", None, 8, bare=([1.0], 2**20), literal=([1.0], 1), library=([1.25], 3 * 2**19)),
        record(literal=([10.0, 20.0, 90.0], 2**30), library=([1.0, 2.0, 9.0], 2**25)),
    ]
    svg = plot.draw(found, ["a title", "a machine"]).svg()
    drawn = re.findall(r"<text[^>]*>([^<]*)<", svg)
    assert drawn == [
        *("a title", "a machine", "bare CLIP", "literal computation", "this library", "time, median", "peak memory"),
        *("encode_text, 51 classes, forward and backward", "20 s", "2.00 s", "2.0 GB", "64 MB"),
        *("encode_video, 8 frames, inference", "1.00 s", "1.00 s", "1.25 s", "2 MB", "0 MB", "3 MB"),
    ]
    bars = [float(width) for width in re.findall(r'width="([\d.]+)" height="14.0"', svg)]
    assert bars == [112.0, 11.2, 112.0, 3.5, *(89.6, 89.6, 112.0), 74.7, 1.5, 112.0]


def test_the_committed_pictures_show_the_committed_results():
    shown = plot.drawings(results.read(ROOT / "benchmarks/results.json"), ROOT / "docs/results.json")
    kept = [path for path in shown if path.exists()]
    assert kept
    for path in kept:
        assert path.read_text() == shown[path].svg(), "run python -m benchmarks.plot"


@pytest.mark.parametrize("step", text_steps.STEPS)
def test_every_step_of_the_text_tower_gives_the_same_gradients(step):
    sizes = models.sizes("tiny")
    model = vilt_prompt.wrap(models.build("tiny", "cpu"), K=sizes.K, n_ctx=models.N_CTX)
    ids = class_names.token_ids(class_names.read_names("ucf101")[:40])
    gradients = []
    for used in ("as it is", step):
        model.zero_grad()
        with text_steps.STEPS[used]():
            model.encode_text(ids).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for first, second in zip(*gradients, strict=True):
        assert (second - first).abs().max() <= 1e-4 * first.abs().max()


def test_the_steps_are_printed(capsys):
    text_steps.main(["--model", "tiny", "--labels", "hmdb51", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert all(step in printed for step in text_steps.STEPS)
    assert "linear maps" in printed


def test_the_readme_rounds_the_measured_ratios():
    made = table.ratios_table(results.read(ROOT / "benchmarks" / "results.json"))
    steps, texts = (
        {what: float(ratio) for what, ratio in re.findall(pattern, made)}
        for pattern in (r"training step, (\w+, \d+ frame)s?,.*\| ([\d.]+)", r"`encode_text`, (\w+),.*\| ([\d.]+)")
    )
    eight = [ratio for what, ratio in steps.items() if what.endswith(" 8 frame")]

    def span(ratios):
        return f"{min(ratios):.2g} to {max(ratios):.2g}"

    readme = (ROOT / "README.md").read_text()
    assert f"**Exact, and {span(steps.values())} times as fast to train**" in readme
    assert f"A training step on a video of 8 frames is {span(eight)} times as fast as that" in readme
    assert (
        f"of 32 frames {steps['hmdb51, 32 frame']:.2g} times, the text encoder alone {span(texts.values())} times"
        in readme
    )
    performance = (ROOT / "docs" / "performance.md").read_text()
    assert f"A training step is {span(steps.values())} times as fast as the literal computation" in performance
