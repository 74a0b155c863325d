"""How long what is left will take."""

from collections.abc import Mapping, Sequence

from miniature.jobs import LENGTHS, Job
from miniature.methods import METHODS
from miniature.runs import Record

# Of one processor core, before anything was run; runs that are done correct it.
STEP_S, TEST_S, LEAST_S = 1.0, 20.0, 1.0


def guess(job: Job) -> float:
    """Seconds of a run: a method that leaves the image tower alone takes next to none."""
    method = METHODS[job.method]
    if method.frozen_vision or (job.setting == "retrieval" and method.trains == "nothing"):
        return LEAST_S
    test = TEST_S / 3 if job.setting == "grid" else TEST_S
    return STEP_S * (job.steps or max(LENGTHS)) * method.longer + test


def minutes(jobs: Sequence[Job], records: Mapping[Job, Record]) -> str:
    """What is left, by setting and in all; guesses are scaled by what the runs that are done took."""
    done = [job for job in jobs if job in records]
    took, guessed = sum(records[job]["seconds"] for job in done), sum(map(guess, done))
    scale = took / guessed if done else 1.0
    lines = []
    for setting in dict.fromkeys(job.setting for job in jobs):
        own = [job for job in jobs if job.setting == setting]
        left = [job for job in own if job not in records]
        lines.append(
            f"{setting:12}{len(left):5} of {len(own):4} left, {scale * sum(map(guess, left)) / 60:7.1f} minutes"
        )
    left = [job for job in jobs if job not in records]
    return "\n".join(
        [*lines, f"{'all':12}{len(left):5} of {len(jobs):4} left, {scale * sum(map(guess, left)) / 60:7.1f} minutes"]
    )
