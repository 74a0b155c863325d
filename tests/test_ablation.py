"""The ablation: its clips, splits, scenes and tasks, that runs are kept and shared, and that it runs."""

import doctest
import re
import sys
from pathlib import Path

import ablation
import pytest
import torch
from base_model import SMALL_CLIP, load_clip
from clips import read_manifest
from command_line import run_script
from miniature import actions, run, scenes
from miniature import jobs as job_list
from miniature.actions import PERSONS, SIBLINGS, base_and_novel, complete_actions
from miniature.jobs import Job, all_jobs
from miniature.learner import Base, Learner, endless_batches
from miniature.methods import METHODS
from miniature.plan import guess, minutes
from miniature.run import chosen
from miniature.runs import Runs, pack, unpack
from miniature.scores import common
from miniature.tables import TABLES, filled
from miniature.tasks import Tasks
from torch import Generator

ROOT = Path(__file__).parents[1]
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
    assert doctest.testmod(actions).attempted > 0
    assert doctest.testmod(actions).failed == 0


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
    assert first.shape == (5, 4, 3, 32, 32)
    assert first.dtype == torch.uint8
    torch.manual_seed(1)
    assert torch.equal(second, scenes.render(CLIPS[1].file, 32))
    backgrounds = [scene[0, :, 0, 0] for scene in (*first[:4], *second[:4])]
    assert len({tuple(colour.tolist()) for colour in backgrounds}) == 8
    assert (first[4, :, :, 0, 0] == 255).all()


def test_who_is_in_the_test_is_not_in_the_training() -> None:
    tasks = Tasks(CLIPS)
    for person in PERSONS:
        for task in (tasks.base_to_novel(person, 0, 8), tasks.few_shot(person, 0, 8)):
            assert {CLIPS[n].person for n in task.shots.clips} == set(PERSONS) - {person}
            for test in task.tests.values():
                assert {CLIPS[n].person for n in test.clips} == {person}
                assert [test.labels.count(n) for n in range(len(test.classes))] == [3] * len(test.classes)
                assert [test.classes[label] for label in test.labels] == [CLIPS[n].label for n in test.clips]
        grid = tasks.grid(person)
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
    assert bool(learner.trained) == (method.trains != "nothing")
    if method.prompts is None:
        return
    with torch.enable_grad():
        video = learner.model.encode_video(torch.randn(1, 1, 3, 64, 64))
        text = learner.model.encode_text(base.tokenizer(["walking"]))
    assert video.requires_grad != method.frozen_vision
    assert text.requires_grad != method.frozen_text


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


def test_jobs_are_listed_once_and_what_decides_comes_first() -> None:
    jobs = all_jobs()
    assert len({job.key for job in jobs}) == len(jobs)
    place = {job: n for n, job in enumerate(jobs)}
    assert {METHODS[job.method].like or job.method for job in jobs} <= METHODS.keys()
    for job in jobs:
        assert all(place[point] < place[job] for point in job.grid)
        assert all(point.person == job.person for point in job.grid)
    listed = {(job.setting, job.method) for job in jobs}
    assert {(what.setting, method) for what in TABLES.values() for method in what.methods} <= listed
    assert {job.shots for job in jobs if job.setting == "few-shot"} == {1, 2, 4, 8}


def test_learning_rate_and_length_are_those_that_are_right_most_often() -> None:
    tasks = Tasks(CLIPS)
    labels = tasks.grid("person").tests["validation"].labels
    points = Job("base-novel", "vilt-alpha0", "person", 0, 8).grid
    assert {point.method for point in points} == {"vilt"}
    wrong = [-1] * len(labels)
    records = {point: {"predictions": {"validation": wrong}} for point in points}
    records[points[3]] = {"predictions": {"validation": labels[:7] + wrong[7:]}}
    records[points[1]] = {"predictions": {"validation": labels[:6] + wrong[6:]}}
    assert chosen(JOB, records, tasks) == (points[3].rate, points[3].steps)
    records[points[2]] = records[points[3]]
    assert chosen(JOB, records, tasks) == (points[2].rate, points[2].steps)
    del records[points[0]]
    with pytest.raises(KeyError):
        chosen(JOB, records, tasks)


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
    grid = [job for job in jobs if job.setting == "grid"]
    records = {job: {"seconds": 2 * guess(job)} for job in grid[:4]}
    lines = {line.split()[0]: line.split()[1:] for line in minutes(jobs, records).splitlines()}
    assert lines["grid"][:3] == [str(len(grid) - 4), "of", str(len(grid))]
    assert float(lines["grid"][4]) == pytest.approx(2 * sum(map(guess, grid[4:])) / 60, abs=0.06)
    assert int(lines["all"][0]) == len(jobs) - 4


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(job_list, "LENGTHS", (1,))
    monkeypatch.setattr(job_list, "RATES", (5e-3,))
    monkeypatch.setattr(run, "RETRIEVAL_STEPS", 1)
    options = ["ablation.py", "--out", str(tmp_path), "--actions", "3", "--seeds", "1"]

    def script(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", [*options, *more])
        ablation.main()
        return capsys.readouterr().out

    only = ["--only", "base-novel", "person"]
    methods = ["zero-shot", "centroid", "probe", "coop", "vpt", "vilt", "tuning"]
    assert re.search(r"^base-novel +(\d+) of +\1 left", script("--plan", *only), flags=re.MULTILINE)
    script(*only, "--jobs", "1")
    assert len(list(tmp_path.glob("*.json"))) == 1
    for method in methods:
        script(*only, method)
    done = Runs(tmp_path).all()
    assert [job.method for job in done if job.setting == "base-novel"] == sorted(methods)
    assert script(*only, "vilt") == ""  # What is done is not done again.
    for others in (["zero-shot"], ["few-shot", "coop", "person", "k1"], ["retrieval", "vilt-n6"]):
        script("--only", *others)
    done = Runs(tmp_path).all()
    records = {job.setting: record for job, record in done.items() if job.method != "zero-shot"}
    assert len(records["few-shot"]["predictions"]["all"]) == 3 * 3 * 3
    assert len(records["few-shot"]["predictions"]["all clean"]) == 3 * 3
    assert {name: len(found["captions"]) for name, found in records["retrieval"]["ranks"].items()} == {
        "base": 6,
        "novel": 3,
    }

    tasks = Tasks(ablation.some_actions(CLIPS, 3))
    assert len(tasks.actions) == 3
    page = filled("<!-- ablation: main -->\n<!-- /ablation -->", done, tasks)
    assert page.splitlines()[2].startswith("Smallest detectable difference, in points: base ")
    for method in methods:
        assert f"| {METHODS[method].title} | " in page
    assert "| ViLT - zero-shot | " in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "swimming"], "no run has swimming in its key: settings are base-novel, few-shot, grid, "),
        (["--tables", str(ROOT / "README.md")], ".*README.md has no line <!-- ablation: main -->"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--out", str(tmp_path), *options])
    with pytest.raises(SystemExit, match=f"^ablation.py: error: {message}"):
        run_script(ablation.main)


def test_the_page_is_made_of_the_packed_runs() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert "<!-- ablation: main -->" in page
    assert filled(page, unpack(ablation.PACKED), Tasks(CLIPS)) == page, (
        "run python examples/ablation.py --tables docs/results.md"
    )


def test_a_mark_must_name_a_table() -> None:
    with pytest.raises(ValueError, match="there is no table 'mian': choose one of main, parts, text-side, "):
        filled("<!-- ablation: mian -->\n<!-- /ablation -->", {}, Tasks(CLIPS))


def test_what_is_paired_has_the_featured_method_and_the_most_runs() -> None:
    def done(method: str, person: str, seeds: int) -> list[Job]:
        return [Job("base-novel", method, person, seed, 8) for seed in range(seeds)]

    jobs = done("coop", "man", 5) + done("coop", "person", 5) + done("probe", "man", 5) + done("probe", "person", 5)
    records: dict[Job, dict[str, object]] = {job: {} for job in jobs}
    names = ["probe", "coop", "vilt", "vpt"]
    everything = [(person, seed) for person in ("man", "person") for seed in range(5)]
    assert common(records, "base-novel", names, [8], "vilt") == (["probe", "coop"], everything)
    records |= {job: {} for job in done("vilt", "person", 4) + done("vpt", "person", 1)}
    assert common(records, "base-novel", names, [8], "vilt") == (["probe", "coop", "vilt"], everything[5:9])
    assert common(records, "base-novel", names, [8], "coop") == (["probe", "coop"], everything)
    assert common(records, "base-novel", names, [8, 4], "vilt") == ([], [])
