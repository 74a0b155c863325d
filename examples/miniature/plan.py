"""How long the runs that are left will take."""

from collections.abc import Mapping, Sequence

from examples.miniature.jobs import SHOTS, Job
from examples.miniature.methods import METHODS
from examples.miniature.runs import Record

# Guesses for one processor core; the times of runs that are done correct them.
IMAGE_S, TEXT_S, PROBE_S, LEAST_S = 250.0, 60.0, 30.0, 1.0


def guess(job: Job) -> float:
    """Seconds of a run. Methods that leave the image encoder alone share its features of the rendered epochs."""
    method = METHODS[job.method]
    if job.method == "probe":
        return PROBE_S
    if not method.is_trained:
        return LEAST_S
    seconds = TEXT_S if method.has_frozen_vision else IMAGE_S
    # From base to novel there are 15 actions, in few shots 30.
    return seconds * 2 * job.shots / SHOTS if job.setting == "few-shot" else seconds


def minutes(jobs: Sequence[Job], records: Mapping[Job, Record]) -> str:
    """The runs that are left, by setting and in all; guesses are scaled by the time that finished runs took."""
    done = [job for job in jobs if job in records]
    took, guessed = sum(records[job]["seconds"] for job in done), sum(map(guess, done))
    scale = took / guessed if done else 1.0

    def line(name: str, own: Sequence[Job]) -> str:
        left = [job for job in own if job not in records]
        return f"{name:12}{len(left):5} of {len(own):4} left, {scale * sum(map(guess, left)) / 60:7.1f} minutes"

    settings = dict.fromkeys(job.setting for job in jobs)
    by_setting = [line(setting, [job for job in jobs if job.setting == setting]) for setting in settings]
    return "\n".join([*by_setting, line("all", jobs)])
