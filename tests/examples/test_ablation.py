"""The ablation: its clips, splits, scenes and tasks, that runs are kept and shared, and that it runs."""

import doctest
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Generator

from examples.data.clips import read_manifest
from examples.miniature import ablation, actions, run, scenes, training_scenes
from examples.miniature import jobs as job_list
from examples.miniature.actions import PERSONS, SIBLINGS, base_and_novel, complete_actions
from examples.miniature.jobs import Job, all_jobs
from examples.miniature.learner import Base, Learner, endless_batches
from examples.miniature.methods import METHODS
from examples.miniature.picture import picture
from examples.miniature.plan import guess, minutes
from examples.miniature.primary import QUESTIONS, answers
from examples.miniature.rows import Row, with_averages
from examples.miniature.run import WEIGHTS, averaged, chosen_rate, predictions, repeated, seed_of, task_of
from examples.miniature.runs import Runs, pack, unpack
from examples.miniature.scenes import TESTS, Scenes
from examples.miniature.scores import scores_of
from examples.miniature.tables import MARKED, TABLES, compared, filled
from examples.miniature.tasks import Examples, Task, Tasks
from examples.miniature.training_scenes import TrainingScenes
from examples.startup.base_model import load_clip
from examples.startup.command_line import run_script
from examples.startup.model_options import SMALL_CLIP

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data"
CLIPS = read_manifest(DATA, "cut_outs.csv")
ACTIONS = complete_actions(CLIPS)
JOB = Job("base-novel", "vilt", "person", 0, 8)


@pytest.fixture(scope="module")
def base() -> Base:
    clip, _, tokenizer = load_clip(f"local-dir:{SMALL_CLIP}", None, torch.device("cpu"))
    return Base(clip.eval(), tokenizer)


def test_all_cut_outs_are_listed_and_the_quickstart_has_its_own() -> None:
    files = {clip.file for clip in CLIPS}
    assert files == set((DATA / "alpha").glob("*.webp"))
    assert len(files) == len(CLIPS) == 588
    assert len({clip.label for clip in CLIPS}) == 34
    assert len(ACTIONS) == 30
    own = {clip.file for clip in read_manifest(DATA) if clip.has_alpha}
    assert own < files
    assert len(own) == 360


def test_examples_in_docstrings() -> None:
    for module in (actions, run):
        assert doctest.testmod(module).attempted > 0
        assert doctest.testmod(module).failed == 0


def test_base_and_novel_are_halves_with_siblings_on_one_side() -> None:
    drawn = [base_and_novel(ACTIONS, seed) for seed in range(20)]
    for base, novel in drawn:
        assert len(base) == len(novel) == 15
        assert sorted(base + novel) == ACTIONS
        for family in SIBLINGS:
            assert len({action in base for action in family if action in ACTIONS}) == 1
    assert len({tuple(base) for base, _ in drawn}) == 20
    # Not all families are always on the same side.
    assert {"biking" in base for base, _ in drawn} == {"frowning" in base for base, _ in drawn} == {True, False}


def test_scenes_depend_on_their_clip_alone() -> None:
    first, second = (scenes.render(clip.file, 32) for clip in CLIPS[:2])
    assert first.shape == (4, 4, 3, 32, 32)
    assert first.dtype == torch.uint8
    torch.manual_seed(1)
    assert torch.equal(second, scenes.render(CLIPS[1].file, 32))
    backgrounds = [scene[0, :, 0, 0] for scene in (*first, *second)]
    assert len({tuple(colour.tolist()) for colour in backgrounds}) == 8


def test_who_is_in_the_test_is_not_in_the_training() -> None:
    tasks = Tasks(CLIPS)
    for person in PERSONS:
        for task in (tasks.base_to_novel(person, 0, 8), tasks.few_shot(person, 0, 8)):
            assert {CLIPS[n].person for n in task.shots.clips} == set(PERSONS) - {person}
            for test in task.tests.values():
                assert {CLIPS[n].person for n in test.clips} == {person}
                assert [test.labels.count(n) for n in range(len(test.classes))] == [3] * len(test.classes)
                assert [test.classes[label] for label in test.labels] == [CLIPS[n].label for n in test.clips]
        grid = tasks.rate(person)
        seen = [CLIPS[n].person for n in grid.shots.clips + grid.tests["validation"].clips]
        assert set(seen) == set(PERSONS) - {person}
        assert not set(grid.shots.persons) & set(grid.tests["validation"].persons)


def test_shots_are_nested_and_of_both_persons() -> None:
    tasks = Tasks(CLIPS)
    chosen = {K: tasks.few_shot("woman", 3, K).shots for K in (1, 2, 4, 8)}
    for fewer, more in ((1, 2), (2, 4), (4, 8)):
        assert set(chosen[fewer].clips) < set(chosen[more].clips)
    for K, shots in chosen.items():
        assert [shots.labels.count(n) for n in range(30)] == [K] * 30
    assert all(CLIPS[n].person in ("man", "person") for n in chosen[1].clips)
    by_action = {(label, person) for label, person in zip(chosen[2].labels, chosen[2].persons, strict=True)}
    assert len(by_action) == 60


def test_captions_name_who_does_what() -> None:
    task = Tasks(CLIPS).retrieval(0)
    for examples in (task.shots, *task.tests.values()):
        assert len(examples.classes) == 45
        for n, label in zip(examples.clips, examples.labels, strict=True):
            assert examples.classes[label] == f"{CLIPS[n].person} {CLIPS[n].label}"
    assert not set(task.shots.clips) & set(task.tests["base"].clips + task.tests["novel"].clips)
    assert [task.tests["novel"].labels.count(n) for n in range(45)] == [6] * 45


def test_order_of_frames_plays_no_part(base: Base) -> None:
    model = Learner(METHODS["vilt"], base, None).model  # type: ignore[arg-type]
    video = torch.randn(2, 4, 3, 64, 64)
    with torch.no_grad():
        expected = model.encode_video(video)
        for order in ([3, 2, 1, 0], [2, 0, 3, 1]):
            torch.testing.assert_close(model.encode_video(video[:, order]), expected)
        assert not torch.allclose(model.encode_video(video[:, [0, 0, 1, 2]]), expected)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_said_to_be_frozen_is(base: Base, name: str) -> None:
    method = METHODS[name]
    learner = Learner(method, base, None)  # type: ignore[arg-type]
    assert bool(learner.trained) == method.is_trained
    if method.prompts is None:
        return
    with torch.enable_grad():
        video = learner.model.encode_video(torch.randn(1, 1, 3, 64, 64))
        text = learner.model.encode_text(base.tokenizer(["walking"]))
    assert video.requires_grad != method.has_frozen_vision
    assert text.requires_grad != method.has_frozen_text


def test_the_control_has_as_many_parameters_as_vilt(base: Base) -> None:
    counts = {
        name: sum(parameter.numel() for parameter in Learner(METHODS[name], base, None).trained)  # type: ignore[arg-type]
        for name in ("vilt", "independent", "independent-n14")
    }
    assert counts["independent"] < 0.75 * counts["vilt"]
    assert abs(counts["independent-n14"] - counts["vilt"]) < 0.02 * counts["vilt"]


def test_batches_show_every_clip_once_before_any_twice() -> None:
    batches = endless_batches(30, Generator().manual_seed(0))
    first = [next(batches) for _ in range(6)]
    assert [len(batch) for batch in first] == [10] * 6
    for epoch in (first[:3], first[3:]):
        assert sorted(n for batch in epoch for n in batch) == list(range(30))
    assert first[:3] != first[3:]
    assert sorted(next(endless_batches(4, Generator()))) == [0, 1, 2, 3]


def test_jobs_are_listed_once_and_those_that_decide_come_first() -> None:
    jobs = all_jobs()
    assert len({job.key for job in jobs}) == len(jobs)
    place = {job: n for n, job in enumerate(jobs)}
    assert {METHODS[job.method].like or job.method for job in jobs} <= METHODS.keys()
    for job in jobs:
        assert all(place[point] < place[job] for point in job.rates)
        assert all(point.person == job.person for point in job.rates)
    listed = {(job.setting, job.method) for job in jobs}
    assert {(what.setting, row.method) for what in TABLES.values() for row in what.rows} <= listed
    assert {job.shots for job in jobs if job.setting == "few-shot"} == {1, 2, 4, 8}


def test_the_runs_are_those_of_the_protocol() -> None:
    jobs = all_jobs()
    cells = {(person, seed) for person in PERSONS for seed in range(5)}
    for row in {row for question in QUESTIONS for row in (question.first, question.second)} | {*TABLES["methods"].rows}:
        own = {(job.person, job.seed) for job in jobs if (job.setting, job.method) == ("base-novel", row.method)}
        assert own == cells
    assert len([job for job in jobs if job.setting == "few-shot"]) == 3 * 4 * 3 * 3
    assert {job.rate for job in jobs if job.setting == "rate"} == {2e-3, 8e-3, 3e-2}
    assert (training_scenes.EPOCHS, training_scenes.BATCH, training_scenes.PROBE_SCENES) == (30, 30, 8)
    own_temperature = [name for name, method in METHODS.items() if method.temperature is None]
    assert set(METHODS) - set(own_temperature) == {"vilt-tau007"}
    # It is in a primary comparison, so it does not take over the rate of its rival.
    assert {point.method for point in Job("base-novel", "vilt-tau007", "man", 0, 8).rates} == {"vilt-tau007"}
    assert {point.method for point in Job("base-novel", "vilt-alpha1", "man", 0, 8).rates} == {"vilt"}


def test_the_chance_of_a_run_is_that_of_its_fold_and_seed_alone() -> None:
    jobs = [Job("base-novel", method, person, seed, 8) for method in ("vilt", "coop") for person in PERSONS
            for seed in range(5)]  # fmt: skip
    assert len({seed_of(job) for job in jobs}) == 15
    assert seed_of(jobs[0]) == seed_of(jobs[15])


def test_training_shows_every_shot_once_an_epoch_in_a_new_scene(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_scenes, "EPOCHS", 2)
    monkeypatch.setattr(training_scenes, "BATCH", 4)
    examples = Examples(["a", "b"], [5, 0, 3, 8, 2], [0, 1, 0, 1, 0], ["man"] * 5)
    training = TrainingScenes(CLIPS, base.clip, torch.nn.Identity())
    batches = list(training.batches(examples, 1))
    assert [len(videos) for videos, _ in batches] == [4, 1, 4, 1]
    assert len(batches) == training.steps(examples)
    for epoch in (batches[:2], batches[2:]):
        assert sorted(torch.cat([labels for _, labels in epoch]).tolist()) == [0, 0, 0, 1, 1]
    scenes_seen = torch.cat([videos for videos, _ in batches]).flatten(1)
    assert len(scenes_seen.unique(dim=0)) == 10
    again, other = list(training.batches(examples, 1)), list(training.batches(examples, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(batches[0][0], other[0][0])

    # The frozen image encoder's features belong to the same scenes, frame by frame.
    for (videos, labels), (features, same) in zip(batches, training.frozen_batches(examples, 1), strict=True):
        assert torch.equal(labels, same)
        with torch.no_grad():
            slow = torch.stack([base.clip.encode_image(video).mean(0) for video in videos])
        torch.testing.assert_close(features, slow, rtol=1e-4, atol=1e-5)
    assert training.frozen_batches(examples, 1) is training.frozen_batches(examples, 1)
    first = training.frozen_batches(examples, 1)[0][0]
    assert not torch.equal(first, training.frozen_batches(examples, 2)[0][0])
    other_clips = Examples(["a", "b"], [5, 0, 3, 8, 7], [0, 1, 0, 1, 0], ["man"] * 5)
    assert not torch.equal(first, training.frozen_batches(other_clips, 1)[0][0])
    assert len(training.frozen(examples, 1, 3)) == 15


def test_averaged_scores_are_those_of_both_models(base: Base) -> None:
    torch.manual_seed(0)
    stage = Scenes(
        torch.randint(0, 255, (4, 4, 1, 3, 64, 64), dtype=torch.uint8), torch.randn(4, 4, 128), torch.nn.Identity()
    )
    learner = Learner(METHODS["vilt"], base, stage)
    for parameter in learner.trained:
        torch.nn.init.normal_(parameter)
    classes = ["walking", "swimming", "juggling", "bowing"]
    test = Examples(classes, [0, 1, 2, 3], [0, 1, 2, 3], ["man"] * 4)
    found = predictions(learner, Task(test, {"base": test}))
    assert set(found) == {"base", *(averaged("base", weight) for weight in WEIGHTS)}
    assert len({tuple(each) for each in found.values()}) > 1
    names, template = learner.classes(classes), base.template(classes)
    for weight in WEIGHTS:
        slow = []
        for clip in range(4):
            for number in TESTS:
                with torch.no_grad():
                    video = learner.model.encode_video(stage.videos([clip], [number]), normalize=True)[0]
                frozen = stage.features[clip, number] / stage.features[clip, number].norm()
                scores = [
                    (1 - weight) * (video @ a) + weight * (frozen @ b) for a, b in zip(names, template, strict=True)
                ]
                slow.append(int(torch.stack(scores).argmax()))
        assert found[averaged("base", weight)] == slow


def test_the_learning_rate_is_the_one_that_is_right_most_often() -> None:
    tasks = Tasks(CLIPS)
    labels = repeated(tasks.rate("person").tests["validation"].labels)
    points = Job("base-novel", "vilt-alpha0", "person", 0, 8).rates
    assert {point.method for point in points} == {"vilt"}
    wrong = [-1] * len(labels)
    records = {point: {"predictions": {"validation": wrong}} for point in points}
    records[points[2]] = {"predictions": {"validation": labels[:7] + wrong[7:]}}
    records[points[1]] = {"predictions": {"validation": labels[:6] + wrong[6:]}}
    assert chosen_rate(JOB, records, tasks) == points[2].rate
    records[points[1]] = records[points[2]]
    assert chosen_rate(JOB, records, tasks) == points[1].rate
    del records[points[0]]
    with pytest.raises(KeyError):
        chosen_rate(JOB, records, tasks)


def test_a_run_is_claimed_once_at_a_time(tmp_path: Path) -> None:
    runs, others = Runs(tmp_path), Runs(tmp_path)
    with runs.claim(JOB) as free, others.claim(JOB) as free_too:
        assert free
        assert not free_too
    with others.claim(JOB) as free:  # The first one gave it back, and it is not done.
        assert free
        others.put(JOB, {"trained": 1})
    with runs.claim(JOB) as free:
        assert not free
    assert runs.get(JOB) == {"job": vars(JOB), "trained": 1}
    assert runs.get(Job("zero-shot", "zero-shot")) is None
    assert not [file for file in tmp_path.iterdir() if file.suffix not in (".json", ".lock")]


def test_packed_runs_come_back_and_equal_runs_make_equal_files(tmp_path: Path) -> None:
    records = {job: {"job": vars(job), "predictions": {"base": [n, 1]}} for n, job in enumerate(all_jobs()[:3])}
    pack(records, tmp_path / "a.gz")
    pack(dict(reversed(records.items())), tmp_path / "b.gz")
    assert unpack(tmp_path / "a.gz") == records
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_the_plan_counts_what_is_left() -> None:
    jobs = all_jobs(seeds=1)
    rates = [job for job in jobs if job.setting == "rate"]
    records = {job: {"seconds": 2 * guess(job)} for job in rates[:4]}
    lines = {line.split()[0]: line.split()[1:] for line in minutes(jobs, records).splitlines()}
    assert lines["rate"][:3] == [str(len(rates) - 4), "of", str(len(rates))]
    assert float(lines["rate"][4]) == pytest.approx(2 * sum(map(guess, rates[4:])) / 60, abs=0.06)
    assert int(lines["all"][0]) == len(jobs) - 4


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(training_scenes, "EPOCHS", 1)
    monkeypatch.setattr(job_list, "RATES", (5e-3,))
    monkeypatch.setattr(run, "RETRIEVAL_STEPS", 1)
    options = ["ablation.py", "--actions", "3", "--seeds", "1"]

    def script(*more: str, out: str = "runs") -> str:
        monkeypatch.setattr(sys, "argv", [*options, "--out", str(tmp_path / out), *more])
        ablation.main()
        return capsys.readouterr().out

    only = ["--only", "base-novel", "person"]
    methods = ["zero-shot", "probe", "coop", "vpt", "vilt"]
    assert re.search(r"^base-novel +(\d+) of +\1 left", script("--plan", *only), flags=re.MULTILINE)
    script(*only, "--jobs", "1")
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1
    for method in methods:
        script(*only, method)
    done = Runs(tmp_path / "runs").all()
    assert [job.method for job in done if job.setting == "base-novel"] == sorted(methods)
    assert script(*only, "vilt") == ""  # A finished run is not repeated.
    for others in (["zero-shot"], ["few-shot", "vilt", "person", "k1"], ["retrieval", "vilt-n6"]):
        script("--only", *others)
    done = Runs(tmp_path / "runs").all()
    records = {job.setting: record for job, record in done.items() if job.method != "zero-shot"}
    assert len(records["few-shot"]["predictions"]["all"]) == 3 * 3 * 3
    assert records["few-shot"]["rate"] == 5e-3
    assert {name: len(found["captions"]) for name, found in records["retrieval"]["ranks"].items()} == {
        "base": 6,
        "novel": 3,
    }

    tasks = Tasks(ablation.some_actions(CLIPS, 3))
    assert len(tasks.actions) == 3
    page = filled("<!-- ablation: methods -->\n<!-- /ablation -->", done, tasks)
    assert page.splitlines()[2].startswith(
        "The first row is in %; the others are differences from it in points, over the same runs"
    )
    for method in methods:
        runs = sum((job.setting, job.method) == ("base-novel", method) for job in done)
        assert f"| {METHODS[method].title} | {runs} | " in page

    # Another session goes on from the packed runs.
    script("--pack", str(tmp_path / "packed.gz"))
    assert script("--resume", str(tmp_path / "packed.gz"), *only, "vilt", out="elsewhere") == ""
    assert Runs(tmp_path / "elsewhere").all() == done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "swimming"], "no run has swimming in its key: settings are base-novel, few-shot, rate, "),
        (["--tables", str(ROOT / "SECURITY.md")], ".*SECURITY.md has no line <!-- ablation: primary -->"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--out", str(tmp_path), *options])
    with pytest.raises(SystemExit, match=f"^ablation.py: error: {message}"):
        run_script(ablation.main)


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("results", "results-details", "recipes"))],
    ids=lambda page: page.name,
)
def test_the_pages_are_made_of_the_packed_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- ablation: " in text
    assert filled(text, unpack(ablation.PACKED), Tasks(CLIPS)) == text, (
        f"run python -m examples.miniature.ablation --tables {page.relative_to(ROOT)}"
    )


def test_the_answer_quotes_the_tables() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    answer = text.split("Every number on this page")[0]
    tables = " ".join(match[0] for match in MARKED.finditer(text))
    quoted = re.findall(r"\d+\.\d", answer.replace("0.07", ""))
    assert len(quoted) >= 6
    assert [number for number in quoted if number not in tables] == []


def test_sentences_of_the_pages_round_the_table() -> None:
    found = compared(TABLES["summary"], unpack(ablation.PACKED), Tasks(CLIPS))
    base = {row: 100 * line.differences["base"].difference for row, line in found.items()}
    readme, choosing = (
        " ".join((ROOT / page).read_text(encoding="utf-8").split()) for page in ("README.md", "docs/choosing.md")
    )
    assert f"prompts gain {base[Row('vilt')]:.0f} points over zero-shot" in readme
    assert f"Averaged with the frozen model they gain {base[Row('vilt', 0.5)]:.0f}," in readme
    assert f"A linear probe gains {base[Row('probe')]:.0f}," in readme
    assert f"it was {base[Row('probe')] - base[Row('vilt')]:.0f} points above ViLT's prompts" in choosing


def test_pages_name_the_small_clips_own_temperature(base: Base) -> None:
    own = 1 / base.clip.logit_scale.exp().item()
    results, recipes = (
        " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split()) for page in ("results.md", "recipes.md")
    )
    assert f"The small CLIP's own is {own:.2f}" in results
    assert f"whose own temperature is {own:.2f}" in recipes


def test_the_picture_is_made_of_the_packed_runs() -> None:
    assert picture(unpack(ablation.PACKED), Tasks(CLIPS)) == (ROOT / "docs" / "results.svg").read_text(), (
        "run python -m examples.miniature.ablation --picture docs/results.svg"
    )
    assert "](results.svg)" in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_a_mark_must_name_a_table() -> None:
    with pytest.raises(ValueError, match="there is no table 'mian': choose one of summary, methods, variants, "):
        filled("<!-- ablation: mian -->\n<!-- /ablation -->", {}, Tasks(CLIPS))


def made_up(jobs: list[Job], tasks: Tasks, share: dict[Row, float]) -> dict[Job, dict[str, Any]]:
    """Runs whose predictions are right in a share of the scenes, and wrong in the others."""
    records: dict[Job, dict[str, Any]] = {}
    for job in jobs:
        dice, found = random.Random(job.key), {}
        for name, test in task_of(job, tasks).tests.items():
            for row in with_averages([job.method]):
                right = [dice.random() < share[row] for _ in repeated(test.labels)]
                own = [label if hit else -1 for label, hit in zip(repeated(test.labels), right, strict=True)]
                found[averaged(name, row.weight) if row.weight else name] = own
        if job.method == "probe":
            found.pop("novel", None)
        records[job] = {"trained": 1, "predictions": found}
    return records


SHARES = {Row("zero-shot"): 0.5, Row("vilt"): 0.6, Row("vilt", 0.5): 0.7, Row("probe"): 0.6,
          Row("independent"): 0.6, Row("independent", 0.5): 0.7}  # fmt: skip


def some_runs(
    tasks: Tasks, methods: Sequence[str] = ("zero-shot", "vilt", "probe"), seeds: int = 2
) -> dict[Job, dict[str, Any]]:
    jobs = [Job("base-novel", method, person, seed, 8) for method in methods for person in PERSONS
            for seed in range(seeds)]  # fmt: skip
    return made_up(jobs, tasks, SHARES)


def test_the_accuracy_of_an_action_is_that_of_a_loop_over_predictions() -> None:
    tasks, cells = Tasks(CLIPS), [(person, seed) for person in PERSONS for seed in range(2)]
    records = some_runs(tasks)
    for row in (Row("vilt"), Row("vilt", 0.5), Row("zero-shot")):
        found = scores_of(records, tasks, "base-novel", row, 8, cells)
        for n, action in enumerate(tasks.actions):
            for test in ("base", "novel"):
                hits = []
                for person, seed in cells:
                    job = Job("base-novel", row.method, person, seed, 8)
                    examples = task_of(job, tasks).tests[test]
                    kept = records[job]["predictions"][averaged(test, row.weight) if row.weight else test]
                    for scene, predicted in enumerate(kept):
                        label = examples.labels[scene // len(TESTS)]
                        if examples.classes[label] == action:
                            hits.append(predicted == label)
                assert found[test][n] == pytest.approx(sum(hits) / len(hits), nan_ok=True) if hits else True
                assert bool(hits) == (found[test][n] == found[test][n])


def test_primary_comparisons_are_corrected_for_all_six_even_if_some_have_no_runs() -> None:
    tasks = Tasks(CLIPS)
    some = answers(some_runs(tasks), tasks)
    assert [answer.question for answer in some] == [QUESTIONS[n] for n in (0, 1, 2, 5)]
    assert all(len(answer.cells) == 6 for answer in some)
    for answer in some:
        low, high = answer.comparison.corrected
        assert low <= answer.comparison.interval[0]
        assert answer.comparison.interval[1] <= high
    # The first of Holm's steps divides by six, not by four: the interval at 5% / 6.
    first = min(some, key=lambda answer: answer.comparison.interval[0] <= 0)
    assert first.comparison.corrected[0] < first.comparison.interval[0]
    more = answers(some_runs(tasks, ("zero-shot", "vilt", "probe", "independent")), tasks)
    assert [answer.question for answer in more] == [QUESTIONS[n] for n in (0, 1, 2, 4, 5)]


def test_the_primary_table_says_what_its_runs_show_once_all_are_there() -> None:
    tasks, empty = Tasks(CLIPS), "<!-- ablation: primary -->\n<!-- /ablation -->"
    lines = filled(empty, some_runs(tasks, seeds=5), tasks).splitlines()[4:-2]
    assert lines[0].startswith("| ViLT - zero-shot | base | 15 of 15 | +")
    verdicts = [line.split(" | ")[-1].removesuffix(" |") for line in lines]
    shown = ["**ahead**", "**ahead**", "**not worse than -3**", "not run", "not run", "no detectable difference"]
    assert verdicts == shown
    lines = filled(empty, some_runs(tasks, seeds=2), tasks).splitlines()[4:-2]
    for line, question in zip(lines, QUESTIONS, strict=True):
        assert line.startswith(f"| {question.first.title} - {question.second.title} | {question.metric} | ")
        without = question in (QUESTIONS[3], QUESTIONS[4])
        assert line.endswith(" | not run |" if without else " | unfinished |")
        assert (" | 0 of 15 | - | " if without else " | 6 of 15 | ") in line
    assert "Not run." in filled(empty, {}, tasks)


def test_single_runs_are_counted_beside_the_folds() -> None:
    tasks = Tasks(CLIPS)
    records = some_runs(tasks)
    above = 0
    for person in PERSONS:
        for seed in range(2):
            accuracies = []
            for method in ("vilt", "zero-shot"):
                job = Job("base-novel", method, person, seed, 8)
                labels = repeated(task_of(job, tasks).tests["base"].labels)
                right = [a == b for a, b in zip(records[job]["predictions"]["base"], labels, strict=True)]
                accuracies.append(sum(right) / len(right))  # each action has as many scenes as another
            above += accuracies[0] > accuracies[1]
    lines = filled("<!-- ablation: folds -->\n<!-- /ablation -->", records, tasks).splitlines()
    assert lines[4].startswith("| ViLT - zero-shot | base | ")
    assert lines[4].endswith(f" | {above} of 6 |")
    assert 0 < above <= 6


def test_the_picture_shows_every_row_and_its_intervals() -> None:
    tasks = Tasks(CLIPS)
    drawn = picture(some_runs(tasks), tasks)
    root = ElementTree.fromstring(drawn)
    # base: the probe, and ViLT with its average; novel and harmonic mean: ViLT with its average; and the legend.
    circles = root.findall("{*}circle")
    assert len(circles) == 3 + 2 + 2 + 2
    intervals = [line for line in root.findall("{*}line") if "interval" in line.get("class", "")]
    assert len(intervals) == 7
    for circle, line in zip(circles[2:], intervals, strict=True):
        assert float(line.get("x1", "")) < float(circle.get("cx", "")) < float(line.get("x2", ""))
    texts = [text.text for text in root.findall("{*}text")]
    assert {"base", "novel", "harmonic mean", "ViLT", "linear probe"} <= set(texts)
    assert "Fewer than 15 runs: linear probe: 6; ViLT: 6" in texts
    assert "prefers-color-scheme: dark" in drawn
    assert root.get("width") == "390"
    with pytest.raises(ValueError, match="there are no runs to draw"):
        picture({}, tasks)


def test_each_row_is_compared_over_the_runs_that_it_has() -> None:
    tasks, empty = Tasks(CLIPS), "<!-- ablation: summary -->\n<!-- /ablation -->"
    records = some_runs(tasks, ("zero-shot", "vilt"), seeds=3)
    records |= some_runs(tasks, ("probe",), seeds=1)
    records |= made_up([Job("base-novel", "independent", "man", 7, 8)], tasks, SHARES)  # zero-shot has no seed 7
    found = compared(TABLES["summary"], records, tasks)
    assert {row: len(line.cells) for row, line in found.items()} == {
        Row("probe"): 3,
        Row("vilt"): 9,
        Row("vilt", 0.5): 9,
    }

    def accuracy(method: str, test: str, seeds: int) -> float:
        """The mean over actions of the share of right scenes, counted one by one."""
        hits: dict[str, list[bool]] = {}
        for job, record in records.items():
            if job.method == method and job.seed < seeds:
                examples = task_of(job, tasks).tests[test]
                for label, guess in zip(repeated(examples.labels), record["predictions"][test], strict=True):
                    hits.setdefault(examples.classes[label], []).append(label == guess)
        return sum(sum(own) / len(own) for own in hits.values()) / len(hits)

    for method, seeds in (("probe", 1), ("vilt", 3)):
        expected = accuracy(method, "base", seeds) - accuracy("zero-shot", "base", seeds)
        assert found[Row(method)].differences["base"].difference == pytest.approx(expected)
    assert "novel" not in found[Row("probe")].differences
    _, _, note, _, _, _, first, *others = filled(empty, records, tasks).splitlines()
    assert note.endswith("15 runs of each row were planned.")
    assert (
        first == f"| zero-shot | 9 | 1 | {100 * accuracy('zero-shot', 'base', 3):.1f}% | " + first.split("% | ", 1)[1]
    )
    assert [line.split(" | ")[:2] for line in others[:3]] == [
        ["| linear probe", "3"],
        ["| ViLT", "9"],
        ["| ViLT, averaged", "9"],
    ]
    assert filled(empty, {}, tasks).splitlines()[2] == "Not run."
    assert ">Fewer than 15 runs: linear probe: 3; ViLT: 9<" in picture(records, tasks)
