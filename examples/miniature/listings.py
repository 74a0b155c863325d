"""What `docs/results.md` lists beside its comparisons: zero-shot accuracy, clean clips, the grid."""

from miniature.jobs import SHOTS, TRAINED, UNTRAINED, Job
from miniature.markdown import WITHOUT, markdown
from miniature.methods import METHODS
from miniature.run import accuracy, repeated, task_of
from miniature.scores import Records
from miniature.tasks import Tasks


def zero_shot(records: Records, tasks: Tasks) -> str:
    """All actions, one template."""
    job = Job("zero-shot", "zero-shot")
    if job not in records:
        return "Not run."
    test = task_of(job, tasks).tests["all"]
    found = records[job]["predictions"]
    wild, white = accuracy(found["all"], repeated(test.labels)), accuracy(found["all clean"], test.labels)
    return markdown(
        ["top-1 in %", "wild", "clean"],
        [[f"{len(test.classes)} actions, {len(test.clips)} clips", f"{100 * wild:.1f}", f"{100 * white:.1f}"]],
    )


def clean(records: Records, tasks: Tasks) -> str:
    """The sanity check: the first seed's models on clean clips, beside wild ones."""
    rows = []
    for method in UNTRAINED + TRAINED:
        job = Job("base-novel", method, "person", 0, SHOTS)
        if job in records:
            found, cells = records[job]["predictions"], []
            for name, test in task_of(job, tasks).tests.items():
                for kind, labels in (("", repeated(test.labels)), (" clean", test.labels)):
                    known = name + kind in found
                    cells.append(f"{100 * accuracy(found[name + kind], labels):.1f}" if known else WITHOUT)
            rows.append([METHODS[method].title, *cells])
    return markdown(["top-1 in %", "base, wild", "base, clean", "novel, wild", "novel, clean"], rows)


def grid(records: Records, tasks: Tasks) -> str:
    """What learning rate and length were chosen from."""
    points: dict[tuple[str, str], dict[tuple[int, float], float]] = {}
    for job in records:
        if job.setting == "grid":
            labels = task_of(job, tasks).tests["validation"].labels
            right = accuracy(records[job]["predictions"]["validation"], labels)
            points.setdefault((job.person, job.method), {})[job.steps, job.rate] = right
    columns = sorted({point for each in points.values() for point in each})
    header = ["tested on", "method", *(f"{steps} steps, {rate:g}" for steps, rate in columns)]
    rows = []
    for (person, method), right in sorted(points.items()):
        best = max(columns, key=lambda point: right.get(point, -1.0))
        cells = [f"{100 * right[point]:.1f}" if point in right else WITHOUT for point in columns]
        rows.append(
            [
                person,
                METHODS[method].title,
                *(f"**{c}**" if p == best else c for p, c in zip(columns, cells, strict=True)),
            ]
        )
    return markdown(header, rows) if rows else "Not run."
