"""What recognition trains and tests on: the videos and classes that its options name."""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

from examples.paper.lists.label_files import LabelledVideo, LabelledVideos, Source, read_labels
from examples.paper.lists.number_lists import BaseNovelLists, ListFiles, find_base_novel_lists, list_splits
from examples.paper.lists.official import official_splits
from examples.paper.protocols.shots import sample_shots
from examples.paper.protocols.splits import base_novel_split
from examples.paper.training.options import trains
from examples.startup.command_line import announce


@dataclass(frozen=True)
class Task:
    """Videos to recognise among some classes.

    Attributes:
        name: What its results are called.
        videos: Their labels count in `classes`.
        classes: C plain names.
        listed: How many videos of each class the annotations name, C numbers.
        found: How many of them are on disk, C numbers; `videos` are fewer where few shots were drawn.
        origin: Where the videos and their labels come from, and which split they are.
    """

    name: str
    videos: list[LabelledVideo]
    classes: list[str]
    listed: list[int]
    found: list[int]
    origin: dict[str, str | None] = field(compare=False)


def read_tasks(args: argparse.Namespace) -> tuple[Task | None, list[Task]]:
    """What to train on (None: an adapter is there already), and what to test on."""
    train, tests = None, []
    if args.videos is None and (trains(args) or args.setting != "zero-shot"):
        raise ValueError("--videos is needed: the folder of the videos")
    lists = published_base_novel(args)
    if args.videos is not None and (args.setting != "zero-shot" or trains(args)):
        source = own_source(args, lists)
        data = read_source(args, source)
        train = task_of("train", data, args.videos, source)
        tests = [task_of("test", data, args.videos, source)]
        if lists is not None:
            novel_source = replace(source, lists=ListFiles(None, lists.novel_test), names=args.novel_names)
            novel_data = read_source(args, novel_source)
            tests = [replace(tests[0], name="base"), task_of("novel", novel_data, args.videos, novel_source)]
        elif args.setting == "base-to-novel":
            base, novel = base_novel_split(data.listed["train"], args.seed if args.random_split else None)
            train = restrict(train, "train", base)
            tests = [restrict(tests[0], "base", base), restrict(tests[0], "novel", novel)]
        if args.setting in ("few-shot", "base-to-novel") and trains(args):
            train = replace(train, videos=few_shots(train, data, args))
    if not trains(args):
        train = None
    if args.setting == "zero-shot":
        targets = zip(target_names(args.target), args.target, strict=True)
        tests = [task for name, target in targets for task in target_tasks(name, *target)]
    for task in tests if train is None else [train, *tests]:
        if not task.videos:
            raise ValueError(no_videos(task, "train" if task is train else "test"))
    return train, tests


def no_videos(task: Task, use: str) -> str:
    """Says why there is no video to train or test on."""
    source, count = task.origin["annotations"], sum(task.listed)
    if count:
        return f"all {count} videos that {source} names to {use} on are missing in {task.origin['videos']}"
    return f"{source} names no videos to {use} on: give some the split {use}, or name a list of them with --{use}-list"


def own_source(args: argparse.Namespace, lists: BaseNovelLists | None) -> Source:
    """Where the labels of `--videos` are."""
    given = ListFiles(args.train_list, args.test_list)
    if given != ListFiles(None, None) and (given.test is None or (given.train is None and trains(args))):
        raise ValueError("--train-list and --test-list belong together: give both")
    return Source(
        annotations=args.annotations,
        lists=lists.base if lists is not None else None if given == ListFiles(None, None) else given,
        names=args.names,
        split=args.split,
        shots=args.shots if args.setting == "few-shot" else None,
        tests_only=not trains(args),
        test_share=args.test_share,
        seed=args.seed,
    )


def published_base_novel(args: argparse.Namespace) -> BaseNovelLists | None:
    """Lists of base and novel classes, from options or the folder of annotations. None: there are no lists."""
    if args.setting != "base-to-novel":
        return None
    lists = None
    if args.novel_list is not None:
        if args.test_list is None or (args.train_list is None and trains(args)):
            raise ValueError("--novel-list needs the lists of the base classes: add --train-list and --test-list")
        lists = BaseNovelLists(ListFiles(args.train_list, args.test_list), args.novel_list)
    elif args.annotations is not None and args.annotations.is_dir() and args.train_list is None:
        lists = find_base_novel_lists(args.annotations, args.seed + 1)
    if lists is not None and (args.names is None or args.novel_names is None):
        raise ValueError(
            "base and novel classes are numbered apart: say what they are called with --names FILE and --novel-names "
            "FILE, such as hmdb_51_base_labels.csv and hmdb_51_novel_labels.csv"
        )
    return lists


def read_source(args: argparse.Namespace, source: Source) -> LabelledVideos:
    """Read the labels of `--videos`, and print missing and suspicious ones."""
    data = read_labels(args.videos, source)
    for line in (data.missing, *data.remarks):
        announce(line)
    return data


def task_of(name: str, data: LabelledVideos, videos: Path, source: Source) -> Task:
    """The training videos of a data set where the name is "train", else its test videos."""
    part = "train" if name == "train" else "test"
    own = data.train if part == "train" else data.test
    found = [0] * len(data.classes)
    for video in own:
        found[video.label] += 1
    split = "train" if part == "train" else data.tested
    lists = source.lists and (source.lists.train if part == "train" else source.lists.test)
    origin = {
        "videos": str(videos),
        "annotations": str(lists or source.annotations or videos),
        "names": None if source.names is None else str(source.names),
        "split": split,
    }
    return Task(name, own, data.classes, data.listed[part], found, origin)


def few_shots(task: Task, data: LabelledVideos, args: argparse.Namespace) -> list[LabelledVideo]:
    """The videos of a published list of few shots as they are; of other data sets, K of each class are drawn."""
    if data.train_list is None or max(data.listed["train"]) > args.shots:
        return draw_shots(task, args)
    counts = sorted({count for count in data.listed["train"] if count})
    shown = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    announce(f"{data.train_list} is used as it is, nothing is drawn: {shown} training videos of each class")
    return task.videos


def target_names(targets: list[list[Path]]) -> list[str]:
    """A name for each data set, which can be part of a file's name: the shortest that differ."""
    for target in targets:
        if len(target) not in (2, 3):
            raise ValueError(f"--target takes VIDEOS ANNOTATIONS [NAMES], got {' '.join(map(str, target))}")
    for names in (
        [videos.absolute().name for videos, *_ in targets],
        ["-".join(videos.relative_to(videos.anchor).parts) for videos, *_ in targets],
        ["-".join(path for paths in target for path in paths.relative_to(paths.anchor).parts) for target in targets],
    ):
        if len(set(names)) == len(names):
            return names
    raise ValueError("a --target is given twice: leave one of them out")


def target_tasks(name: str, videos: Path, annotations: Path, names: Path | None = None) -> list[Task]:
    """The tests of all splits of a data set that has splits; otherwise its only one. Training videos are left out."""
    splits = (official_splits(annotations) or list_splits(annotations)) if annotations.is_dir() else []
    if splits:
        announce(f"{name}: tested on split {', '.join(map(str, splits))}")
    tasks = []
    for split in splits or (1,):
        source = Source(annotations, names=names, split=split, tests_only=True)
        data = read_labels(videos, source)
        for line in (data.missing, *data.remarks):
            announce(line)
        if not splits and data.tested is not None:
            announce(f"{name}: tested on the {data.tested} videos")
        tasks.append(task_of(f"{name} split {split}" if splits else name, data, videos, source))
    return tasks


def restrict(task: Task, name: str, classes: list[int]) -> Task:
    """The part of a task that is of some classes, which alone count as answers."""
    numbers = {label: number for number, label in enumerate(classes)}
    videos = [video._replace(label=numbers[video.label]) for video in task.videos if video.label in numbers]
    listed, found = ([own[label] for label in classes] for own in (task.listed, task.found))
    return Task(name, videos, [task.classes[label] for label in classes], listed, found, task.origin)


def draw_shots(task: Task, args: argparse.Namespace) -> list[LabelledVideo]:
    """K training videos of each class."""
    labels = [video.label for video in task.videos]
    for label, name in enumerate(task.classes):
        if labels.count(label) < args.shots:
            raise ValueError(f"{name!r} has {labels.count(label)} training videos, fewer than --shots {args.shots}")
    groups = [video.group for video in task.videos] if args.groups else None
    chosen = sample_shots(labels, args.shots, args.seed, groups=groups, nested=args.nested)
    return [task.videos[number] for number in chosen]
