"""Trains prompts to recognise actions in videos, and tests them, as the paper does: one command for each setting.

  supervised     all training videos of all classes; tested on 4 x 3 views
  few-shot       K training videos of each class (--shots)
  base-to-novel  K training videos of the more frequent half of the classes; tested on both halves
  zero-shot      all training videos; tested on other data sets, classes unseen

The defaults of each are the paper's. Data sets are read as their authors distribute them: UCF-101, HMDB-51, SSv2,
Kinetics; so are CSV files (video,label,split) and folders (train/CLASS/, test/CLASS/).

Examples:
  python -m examples.paper.recognition few-shot --videos UCF-101 --annotations ucfTrainTestlist --shots 16 \\
      --model ViT-B-16-quickgelu --pretrained openai --out runs/ucf101-16
  torchrun --nproc-per-node 4 -m examples.paper.recognition base-to-novel --videos hmdb51 \\
      --annotations testTrainMulti_7030 --model ViT-B-16-quickgelu --pretrained openai --out runs/hmdb51-novel
"""

import argparse
from pathlib import Path
from typing import Any

from examples.paper.training.options import add_training_options, compared_with_paper, settings
from examples.startup.command_line import Help, announce, before_imports, run_script
from examples.startup.model_options import add_model_options, check_temperature, check_weight, number_or_model

# The paper gives no batch size for few shots and no schedule for full supervision: both are from its other settings.
FEW_SHOT: dict[str, Any] = {"n_ctx": 10, "depth": None, "K": 6, "epochs": 30, "batch": 64, "lr": 8e-3, "frames": 32}
PRESETS: dict[str, dict[str, Any]] = {
    "supervised": FEW_SHOT | {"frames": 16, "views": "4x3"},
    "few-shot": FEW_SHOT,
    "base-to-novel": {"n_ctx": 16, "depth": 10, "K": 6, "epochs": 12, "batch": 64, "lr": 4e-2, "frames": 32},
    "zero-shot": FEW_SHOT,
}
# The paper's values for each setting, and the sources of the other values.
EVERYWHERE: dict[str, Any] = {"method": "vilt", "weight_decay": 1e-3, "temperature": 0.07}
SCHEDULE = ("epochs", "batch", "lr")
PAPER: dict[str, dict[str, Any]] = {
    setting: EVERYWHERE | {"views": "1x1"} | {name: preset[name] for name in preset if name not in missing}
    for setting, missing in (
        ("supervised", SCHEDULE),
        ("few-shot", ("batch",)),
        ("base-to-novel", ()),
        ("zero-shot", SCHEDULE),
    )
    for preset in [PRESETS[setting]]
}


def others(setting: str) -> dict[str, str]:
    """The settings that the paper does not give, and where their defaults come from."""
    origin = {"batch": "base-to-novel's", "epochs": "few-shot's", "lr": "few-shot's", "alpha": "KgCoOp's"}
    return {name: source for name, source in origin.items() if name not in PAPER[setting]}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="setting", required=True, metavar="SETTING")
    for name, preset in PRESETS.items():
        shown = ", ".join(f"{option} {value}" for option, value in preset.items() if value is not None)
        command = commands.add_parser(
            name,
            help=f"defaults: {shown}",
            description=f"Defaults: {shown}.",
            formatter_class=Help,
        )
        add_data_options(command, name)
        add_model_options(command)
        add_training_options(command, **{"views": "1x1"} | preset)
    args = parser.parse_args()
    if args.depth is None and args.method == "vilt":
        args.depth = PRESETS[args.setting]["depth"]
    return args


def add_data_options(command: argparse.ArgumentParser, setting: str) -> None:
    """What to train and test on."""
    data = command.add_argument_group("data")
    data.add_argument("--videos", type=Path, help="folder of the videos")
    data.add_argument("--annotations", type=Path, help="its annotations, a folder or a CSV file (default: --videos)")
    data.add_argument("--train-list", type=Path, metavar="FILE", help="lines `path number`, or a CSV file, to train on")
    data.add_argument("--test-list", type=Path, metavar="FILE", help="likewise, to test on")
    data.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="what numbers of classes stand for: rows id,name, one name a line, lines `1 Name`, or JSON",
    )
    data.add_argument("--test-share", type=float, help="where no split is given, the share of the videos to test on")
    data.add_argument("--split", type=int, choices=(1, 2, 3), default=1, help="of UCF-101 and HMDB-51")
    data.add_argument("--views", metavar="TxS", help="temporal x spatial views in the last test")
    data.add_argument("--alpha", type=float, default=8.0, help="weight of the scenario-guided term")
    data.add_argument(
        "--temperature", type=number_or_model, default=0.07, help="tau, divides the cosines; `model`: the model's own"
    )
    data.add_argument(
        "--frozen-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="in tests, scores are (1 - W) * frozen + W * prompted; 0: CLIP without prompts, 1: prompts alone",
    )
    if setting in ("few-shot", "base-to-novel"):
        data.add_argument("--shots", type=int, default=16, help="training videos of each class")
        data.add_argument("--nested", action="store_true", help="the draw of K shots is part of that of more shots")
        data.add_argument("--groups", action="store_true", help="take shots from as many source videos as possible")
    if setting == "base-to-novel":
        data.add_argument("--random-split", action="store_true", help="draw base and novel by the seed, not frequency")
        data.add_argument(
            "--novel-list", type=Path, metavar="FILE", help="the novel test; then the other lists are base"
        )
        data.add_argument("--novel-names", type=Path, metavar="FILE", help="class names of the numbers in --novel-list")
    if setting == "zero-shot":
        data.add_argument(
            "--target",
            nargs="+",
            action="append",
            type=Path,
            required=True,
            metavar="PATH",
            help="a data set to test on, in all its splits: VIDEOS ANNOTATIONS [NAMES]; may be given several times",
        )


if __name__ == "__main__":
    before_imports(arguments)

import csv
import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt
from examples.paper.lists.label_files import LabelledVideo, LabelledVideos, Source, read_labels
from examples.paper.lists.number_lists import BaseNovelLists, ListFiles, find_base_novel_lists, list_splits
from examples.paper.lists.official import official_splits
from examples.paper.protocols.metrics import average_views, top_k_accuracy
from examples.paper.protocols.shots import sample_shots
from examples.paper.protocols.splits import base_novel_split, harmonic_mean
from examples.paper.training.batches import ONE_VIEW, EvalClips, TrainingClips, Views, eval_loader, train_loader
from examples.paper.training.fit import Plan, autocast, fit, report
from examples.paper.training.gradients import MeanObjective
from examples.paper.training.run_folder import RunFolder
from examples.paper.training.setup import plan, prompted
from examples.startup import ranks
from examples.startup.base_model import Preprocess, Tokenizer, load_clip

# Frames that one pass of the model takes without gradients, so that 12 views fit into memory.
CHUNK = 256


@dataclass(frozen=True)
class Task:
    """Videos to recognise among some classes.

    Attributes:
        name: What its results are called.
        videos: Their labels count in `classes`.
        classes: C plain names.
    """

    name: str
    videos: list[LabelledVideo]
    classes: list[str]


def read_tasks(args: argparse.Namespace) -> tuple[Task | None, list[Task]]:
    """What to train on (None: an adapter is there already), and what to test on."""
    train, tests = None, []
    if args.videos is None and (args.adapter is None or args.setting != "zero-shot"):
        raise ValueError("--videos is needed: the folder of the videos")
    lists = published_base_novel(args)
    if args.videos is not None and not (args.setting == "zero-shot" and args.adapter is not None):
        data = read_source(args, own_source(args, lists))
        train = Task("train", data.train, data.classes)
        tests = [Task("test", data.test, data.classes)]
        if lists is not None:
            source = replace(own_source(args, lists), lists=ListFiles(None, lists.novel_test), names=args.novel_names)
            novel_data = read_source(args, source)
            tests = [Task("base", data.test, data.classes), Task("novel", novel_data.test, novel_data.classes)]
        elif args.setting == "base-to-novel":
            base, novel = base_novel_split(data.listed["train"], args.seed if args.random_split else None)
            train = restrict(train, "train", base)
            tests = [restrict(tests[0], "base", base), restrict(tests[0], "novel", novel)]
        if args.setting in ("few-shot", "base-to-novel") and args.adapter is None:
            train = Task("train", few_shots(train, data, args), train.classes)
    if args.adapter is not None:
        train = None
    if args.setting == "zero-shot":
        targets = zip(target_names(args.target), args.target, strict=True)
        tests = [task for name, target in targets for task in target_tasks(name, *target)]
    for task in tests if train is None else [train, *tests]:
        if not task.videos:
            raise ValueError(f"there are no videos to {'train on' if task is train else 'test on'}: {task.name}")
    return train, tests


def own_source(args: argparse.Namespace, lists: BaseNovelLists | None) -> Source:
    """Where the labels of `--videos` are."""
    given = ListFiles(args.train_list, args.test_list)
    if given != ListFiles(None, None) and (given.test is None or (given.train is None and args.adapter is None)):
        raise ValueError("--train-list and --test-list belong together: give both")
    return Source(
        annotations=args.annotations,
        lists=lists.base if lists is not None else None if given == ListFiles(None, None) else given,
        names=args.names,
        split=args.split,
        shots=args.shots if args.setting == "few-shot" else None,
        tests_only=args.adapter is not None,
        test_share=args.test_share,
        seed=args.seed,
    )


def published_base_novel(args: argparse.Namespace) -> BaseNovelLists | None:
    """Lists of base and novel classes, from options or the folder of annotations. None: there are no lists."""
    if args.setting != "base-to-novel":
        return None
    lists = None
    if args.novel_list is not None:
        if args.test_list is None or (args.train_list is None and args.adapter is None):
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
        data = read_labels(videos, Source(annotations, names=names, split=split, tests_only=True))
        for line in (data.missing, *data.remarks):
            announce(line)
        tasks.append(Task(f"{name} split {split}" if splits else name, data.test, data.classes))
    return tasks


def restrict(task: Task, name: str, classes: list[int]) -> Task:
    """The part of a task that is of some classes, which alone count as answers."""
    numbers = {label: number for number, label in enumerate(classes)}
    videos = [video._replace(label=numbers[video.label]) for video in task.videos if video.label in numbers]
    return Task(name, videos, [task.classes[label] for label in classes])


def draw_shots(task: Task, args: argparse.Namespace) -> list[LabelledVideo]:
    """K training videos of each class."""
    labels = [video.label for video in task.videos]
    for label, name in enumerate(task.classes):
        if labels.count(label) < args.shots:
            raise ValueError(f"{name!r} has {labels.count(label)} training videos, fewer than --shots {args.shots}")
    groups = [video.group for video in task.videos] if args.groups else None
    chosen = sample_shots(labels, args.shots, args.seed, groups=groups, nested=args.nested)
    return [task.videos[number] for number in chosen]


@dataclass(frozen=True)
class Recognizer:
    """A prompted model with all objects that its test needs."""

    model: vilt_prompt.PromptPeftModel
    tokenizer: Tokenizer
    preprocess: Preprocess
    args: argparse.Namespace
    plan: Plan
    run: RunFolder

    def train(self, task: Task, tests: list[Task]) -> dict[str, float] | None:
        """Trains on one task; tests others now and then, on one view. Returns what `fit` does."""
        args, device = self.args, self.plan.device
        labels = torch.tensor([video.label for video in task.videos], device=device)
        tokens = self.tokenizer(task.classes).to(device)
        features = vilt_prompt.scenario_features(self.model, self.tokenizer, task.classes)
        criterion = vilt_prompt.ScenarioGuidedLoss(features, args.alpha, self.temperature())

        def loss_of(network: nn.Module, videos: Tensor, numbers: Tensor) -> Tensor:
            video_features, class_features, *_ = network(videos, tokens)
            loss: Tensor = criterion(video_features, class_features, labels[numbers])
            return loss

        paths = [video.path for video in task.videos]
        clips = TrainingClips(paths, args.frames, self.preprocess, args.seed, args.stride, args.flip)
        loader, order = train_loader(clips, args.batch, args.workers)
        objective, test = MeanObjective(loss_of), lambda: self.test(tests, ONE_VIEW)
        record = {"class_names": task.classes, "template": vilt_prompt.TEMPLATE}
        return fit(self.model, loader, order, objective, test, self.plan, self.run, record)

    def temperature(self) -> float:
        """Returns tau, or the model's own temperature."""
        given = self.args.temperature
        return 1 / self.model.logit_scale.exp().item() if given == "model" else float(given)

    def test(self, tasks: list[Task], views: Views) -> dict[str, float]:
        """Top-1 of each task in percent, and what sums them up; then top-5."""
        top1: dict[str, float] = {}
        top5: dict[str, float] = {}
        self.model.eval()
        for task in tasks:
            numbers, probabilities = self.probabilities(task, views)
            labels = torch.tensor([task.videos[number].label for number in numbers])
            top1[f"{task.name} top-1"] = 100 * top_k_accuracy(probabilities, labels)
            if len(task.classes) > 5:
                top5[f"{task.name} top-5"] = 100 * top_k_accuracy(probabilities, labels, 5)
            if ranks.rank() == 0:
                file = self.run.path / f"predictions-{task.name.replace(' ', '-')}.csv"
                write_predictions(file, task, numbers, probabilities)
        if self.args.setting == "base-to-novel":
            top1["harmonic mean"] = harmonic_mean(*top1.values())
        elif len(tasks) > 1:
            for dataset in dict.fromkeys(task.name.partition(" split ")[0] for task in tasks):
                own = [value for name, value in top1.items() if name.startswith(f"{dataset} split ")]
                if own:
                    top5[f"{dataset} mean top-1"] = sum(own) / len(own)
        return top1 | top5

    @torch.no_grad()
    def probabilities(self, task: Task, views: Views) -> tuple[list[int], Tensor]:
        """Numbers of the videos that could be decoded, ascending, and their probabilities of the classes, (B, C)."""
        args, device = self.args, self.plan.device
        clips = EvalClips([video.path for video in task.videos], args.frames, self.preprocess, args.stride, views)
        with autocast(self.plan):
            classes = self.model.encode_text(self.tokenizer(task.classes).to(device), normalize=True).float()
            frozen = None
            if args.frozen_weight != 1:
                frozen = vilt_prompt.scenario_features(self.model, self.tokenizer, task.classes).float()
        temperature = self.temperature()
        mine: dict[int, Tensor] = {}
        quiet = ranks.rank() != 0
        for batch in tqdm(eval_loader(clips, args.batch, args.workers), desc=task.name, unit="batch", disable=quiet):
            report(batch, self.run)
            if batch.videos is None:
                continue
            videos = batch.videos.to(device).flatten(0, 1)  # [B, V, T, 3, H, W] -> [B * V, T, 3, H, W]
            cosines = args.frozen_weight * (self.features(videos) @ classes.T)  # [B * V, C]
            if frozen is not None:
                with self.model.disable_adapter():
                    cosines += (1 - args.frozen_weight) * (self.features(videos) @ frozen.T)
            logits = (cosines / temperature).unflatten(0, batch.videos.shape[:2])  # [B, V, C]
            mine |= dict(zip(batch.numbers.tolist(), average_views(logits).cpu(), strict=True))
        everyone = {number: row for part in ranks.gather(mine) for number, row in part.items()}
        if not everyone:
            raise ValueError(f"none of the {len(task.videos)} videos of {task.name} can be decoded")
        numbers = sorted(everyone)
        return numbers, torch.stack([everyone[number] for number in numbers])

    def features(self, videos: Tensor) -> Tensor:
        """Returns normalised features of videos (B, T, 3, H, W), (B, D), in float32."""
        chunk = self.args.frames_per_chunk or CHUNK
        with autocast(self.plan):
            return self.model.encode_video(videos, normalize=True, frames_per_chunk=chunk).float()


def write_predictions(file: Path, task: Task, numbers: list[int], probabilities: Tensor) -> None:
    """A row for each video: its class, and the predicted class."""
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as lines:
        writer = csv.writer(lines)
        writer.writerow(["video", "label", "predicted", "probability"])
        for number, row in zip(numbers, probabilities, strict=True):
            best = int(row.argmax())
            video = task.videos[number]
            writer.writerow([video.path, task.classes[video.label], task.classes[best], f"{row[best]:.4f}"])


def parse_views(text: str) -> Views:
    """`4x3` -> 4 temporal, 3 spatial views."""
    temporal, cross, spatial = text.partition("x")
    if not (cross and temporal.isdecimal() and spatial.isdecimal() and int(temporal) and int(spatial)):
        raise ValueError(f"--views must be temporal x spatial, such as 4x3, got {text!r}")
    return Views(int(temporal), int(spatial))


def main() -> None:
    """Trains and tests."""
    args = arguments()
    check_temperature(args.temperature)
    check_weight(args.frozen_weight)
    device = ranks.start(args.device)
    views, schedule = parse_views(args.views), plan(args, device)
    train, tests = read_tasks(args)
    if train is not None:
        for line in compared_with_paper(args, PAPER[args.setting], others(args.setting)):
            announce(line)
    run = RunFolder(args.out, settings(args), args.resume)
    torch.manual_seed(args.seed)
    clip, preprocess, tokenizer = load_clip(args.model, args.pretrained, device)
    model = prompted(clip, args).to(device)
    recognizer = Recognizer(model, tokenizer, preprocess, args, schedule, run)
    results = None
    if train is not None:
        announce(f"{len(train.videos)} videos of {len(train.classes)} classes to train on")
        results = recognizer.train(train, tests)
    if results is None or views != ONE_VIEW:
        results = recognizer.test(tests, views)
    for name, value in results.items():
        announce(f"{name:24} {value:6.2f}")
    if ranks.rank() == 0:
        (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
