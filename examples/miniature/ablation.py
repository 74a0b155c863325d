"""Do prompts help, and does each part of the method? Many small runs on real clips, and tables of their comparisons.

Each run trains one method on a few shots of some actions by two kinds of person, and is tested on the third kind. Runs
are files in a folder: finished runs are not repeated, and several processes may work in one folder at once.

Examples:
  python -m examples.miniature.ablation --out runs/ablation --resume examples/miniature/runs.jsonl.gz
  python -m examples.miniature.ablation --out runs/ablation --plan
  python -m examples.miniature.ablation --out runs/ablation --only base-novel vilt
  python -m examples.miniature.ablation --out runs/ablation --pack examples/miniature/runs.jsonl.gz
  python -m examples.miniature.ablation --tables docs/results.md
  python -m examples.miniature.ablation --picture docs/results.svg
"""

import argparse
from pathlib import Path

from examples.miniature.jobs import SEEDS, Job, all_jobs
from examples.startup.command_line import Help, before_imports, run_script

DATA = Path(__file__).parents[1] / "data"
PACKED = Path(__file__).with_name("runs.jsonl.gz")


def arguments() -> argparse.Namespace:
    """Reads the command line."""

    class Formatter(Help, argparse.RawDescriptionHelpFormatter):
        pass

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter)
    parser.add_argument("--out", type=Path, default=Path("ablation-out"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="runs with all these words in their key")
    parser.add_argument("--jobs", type=int, metavar="N", help="do that many runs and stop")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each method")
    parser.add_argument(
        "--actions", type=int, default=30, metavar="N", help="how many of the actions that all persons do"
    )
    parser.add_argument("--plan", action="store_true", help="print the remaining runs, and do nothing")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="take over the runs in a file that --pack wrote")
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="write finished runs to one file, and do nothing else"
    )
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        metavar="PAGE",
        help=f"fill the tables of pages from {PACKED.name}, and do nothing else",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help=f"draw {PACKED.name} as SVG, and do nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    before_imports(arguments)

import time

import torch

from examples.data.clips import Clip, read_manifest
from examples.miniature.actions import PERSONS, complete_actions
from examples.miniature.learner import Base
from examples.miniature.methods import METHODS
from examples.miniature.picture import picture
from examples.miniature.plan import minutes
from examples.miniature.run import run
from examples.miniature.runs import Runs, pack, unpack
from examples.miniature.scenes import Scenes, scenes
from examples.miniature.tables import MARKED, filled
from examples.miniature.tasks import Tasks
from examples.miniature.training_scenes import TrainingScenes
from examples.startup.base_model import load_clip
from examples.startup.model_options import SMALL_CLIP


def chosen(args: argparse.Namespace) -> list[Job]:
    """The runs that the command line asks for.

    Raises:
        ValueError: If no runs are found.
    """
    jobs = all_jobs(args.seeds)
    wanted = {job for job in jobs if all(word in job.key.split("_") for word in args.only)}
    wanted |= {point for job in wanted for point in job.rates}
    if not wanted:
        settings = sorted({job.setting for job in all_jobs()})
        raise ValueError(
            f"no run has {' and '.join(args.only)} in its key: settings are {', '.join(settings)}, methods "
            f"{', '.join(METHODS)}, persons {', '.join(PERSONS)}; seed0 and k8 are a seed and a K"
        )
    return [job for job in jobs if job in wanted]


def some_actions(clips: list[Clip], count: int) -> list[Clip]:
    """The clips of the first actions that all persons do, or all clips."""
    actions = complete_actions(clips)
    if count >= len(actions):
        return clips
    return [clip for clip in clips if clip.label in actions[:count]]


def work(jobs: list[Job], runs: Runs, args: argparse.Namespace, clips: list[Clip]) -> None:
    """Do the remaining runs in order, except runs that another process is doing."""
    clip, preprocess, tokenizer = load_clip(f"local-dir:{SMALL_CLIP}", None, torch.device("cpu"))
    base = Base(clip.eval(), tokenizer)
    # Scenes are drawn at the model's size, so that of its preprocessing only the last step is left: colours.
    stage = scenes(clips, base.clip, preprocess.transforms[-1], args.out / "scenes.pt")
    training = TrainingScenes(clips, base.clip, preprocess.transforms[-1])
    tasks = Tasks(clips)
    for _ in range(len(jobs) if args.jobs is None else args.jobs):
        # From the start each time: a job that waited for another process's runs may be ready now.
        if not any(attempt(job, runs, base, stage, training, tasks) for job in jobs):
            return


def attempt(job: Job, runs: Runs, base: Base, stage: Scenes, training: TrainingScenes, tasks: Tasks) -> bool:
    """Does a run if it is not done, no other process is doing it, and the runs that it needs are done.

    Returns:
        Whether it did the run.
    """
    if runs.done(job):
        return False
    records = {point: record for point in job.rates if (record := runs.get(point)) is not None}
    if len(records) < len(job.rates):
        return False
    with runs.claim(job) as free:
        if free:
            record = run(job, records, base, stage, training, tasks)
            runs.put(job, record)
            print(f"{time.strftime('%H:%M:%S')} {job.key} {record['seconds']} s", flush=True)
        return free


def main() -> None:
    """Run the ablation, or write the tables of finished runs."""
    args = arguments()
    for page in args.tables or []:
        if not MARKED.search(page.read_text(encoding="utf-8")):
            raise ValueError(f"{page} has no line <!-- ablation: primary --> with <!-- /ablation --> after it")
    clips = some_actions(read_manifest(DATA, "cut_outs.csv"), args.actions)
    if args.tables is not None:
        records, tasks = unpack(PACKED), Tasks(clips)
        for page in args.tables:
            page.write_text(filled(page.read_text(encoding="utf-8"), records, tasks), encoding="utf-8")
        return
    if args.picture is not None:
        args.picture.write_text(picture(unpack(PACKED), Tasks(clips)), encoding="utf-8")
        return
    jobs, runs = chosen(args), Runs(args.out)
    if args.resume is not None:
        for job, record in unpack(args.resume).items():
            runs.put(job, record)
    if args.pack is not None:
        pack(runs.all(), args.pack)
    elif args.plan:
        print(minutes(jobs, runs.all()))
    else:
        work(jobs, runs, args, clips)


if __name__ == "__main__":
    run_script(main)
