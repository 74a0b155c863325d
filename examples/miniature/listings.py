"""Listings beside the comparisons: zero-shot accuracy and learning rates."""

from examples.miniature.jobs import RATES, Job
from examples.miniature.methods import METHODS
from examples.miniature.run import accuracy, repeated, task_of
from examples.miniature.scores import Records
from examples.miniature.tasks import Tasks
from examples.page_tables import WITHOUT, markdown


def zero_shot(records: Records, tasks: Tasks) -> str:
    """All actions, one template."""
    job = Job("zero-shot", "zero-shot")
    if job not in records:
        return "Not run."
    test = task_of(job, tasks).tests["all"]
    right = accuracy(records[job]["predictions"]["all"], repeated(test.labels))
    return f"Zero-shot over all {len(test.classes)} actions, {len(test.clips)} clips: {100 * right:.1f}%."


def rates(records: Records, tasks: Tasks) -> str:
    """The accuracies that learning rates were chosen from."""
    right: dict[tuple[str, str], dict[float, float]] = {}
    for job in records:
        if job.setting == "rate":
            labels = repeated(task_of(job, tasks).tests["validation"].labels)
            share = accuracy(records[job]["predictions"]["validation"], labels)
            right.setdefault((job.method, job.person), {})[job.rate] = share
    rows = []
    for (method, person), shares in sorted(right.items()):
        # As in the choice: of equals, the first. Nothing is chosen before all are there.
        best = max(RATES, key=lambda rate: shares.get(rate, -1.0)) if len(shares) == len(RATES) else None
        cells = [f"{100 * shares[rate]:.1f}" if rate in shares else WITHOUT for rate in RATES]
        bold = [f"**{cell}**" if rate == best else cell for rate, cell in zip(RATES, cells, strict=True)]
        rows.append([METHODS[method].title, person, *bold])
    return markdown(["method", "person under test", *(f"{rate:g}" for rate in RATES)], rows) if rows else "Not run."
