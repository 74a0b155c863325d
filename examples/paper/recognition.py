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
ALPHA = 8.0
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


def defaults(setting: str) -> dict[str, Any]:
    """The defaults of the options that a setting presets, and of alpha."""
    return PRESETS[setting] | {"alpha": ALPHA}


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
    data.add_argument("--alpha", type=float, default=ALPHA, help="weight of the scenario-guided term")
    data.add_argument(
        "--temperature", type=number_or_model, default=0.07, help="tau, divides the cosines; `model`: the model's own"
    )
    data.add_argument(
        "--frozen-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="share of the frozen model in tests: scores are (1 - W) * prompted + W * frozen",
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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt
from examples.paper.lists.label_files import LabelledVideo
from examples.paper.protocols.metrics import average_views, top_k_accuracy
from examples.paper.protocols.splits import harmonic_mean
from examples.paper.tasks import Task, read_tasks
from examples.paper.training.batches import ONE_VIEW, EvalClips, TrainingClips, Views, eval_loader, train_loader
from examples.paper.training.fit import Plan, autocast, fit, report
from examples.paper.training.gradients import MeanObjective
from examples.paper.training.phases import FROZEN, PROMPTED, Tested, prompts, run_phases
from examples.paper.training.record import count_videos, fingerprint, note_start, of_listed, record, shown
from examples.paper.training.run_folder import RunFolder
from examples.paper.training.setup import plan, prompted
from examples.startup import ranks
from examples.startup.base_model import Preprocess, Tokenizer, load_clip
from examples.startup.run_log import RunLog

# Frames that one pass of the model takes without gradients, so that 12 views fit into memory.
CHUNK = 256


@dataclass(frozen=True)
class Recognizer:
    """A prompted model with all objects that its test needs."""

    model: vilt_prompt.PromptPeftModel
    tokenizer: Tokenizer
    preprocess: Preprocess
    args: argparse.Namespace
    plan: Plan
    run: RunFolder

    def train(self, task: Task, tests: list[Task], views: Views) -> dict[str, float] | None:
        """Trains on one task; tests others now and then, on one view.

        Returns:
            What `fit` returns; None where the last test has more views.
        """
        announce(f"{len(task.videos)} videos of {len(task.classes)} classes to train on")
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
        objective = MeanObjective(loss_of)
        used = [(video.path, task.classes[video.label]) for task in (task, *tests) for video in task.videos]
        roots = dict.fromkeys(Path(task.origin["videos"] or "") for task in (task, *tests))
        metrics = fit(
            self.model,
            loader,
            order,
            objective,
            lambda: self.test(tests, ONE_VIEW).metrics[PROMPTED],
            self.plan,
            self.run,
            fingerprint(roots, used),
            {"class_names": task.classes, "template": vilt_prompt.TEMPLATE},
        )
        return metrics if views == ONE_VIEW else None

    def temperature(self) -> float:
        """Returns tau, or the model's own temperature."""
        given = self.args.temperature
        return 1 / self.model.logit_scale.exp().item() if given == "model" else float(given)

    def run_all(
        self, train: Task | None, tests: list[Task], views: Views
    ) -> tuple[dict[str, float], dict[str, float], dict[str, list[int]]]:
        """Trains and tests as `run_phases` does, and returns what it does."""
        learn = None if train is None else partial(self.train, train, tests, views)
        return run_phases(learn, lambda kinds: self.test(tests, views, kinds), self.args)

    def test(self, tasks: list[Task], views: Views, kinds: Sequence[str] = (PROMPTED,)) -> Tested[dict[str, list[int]]]:
        """Tests the model with its prompts, without them, or both on the same decoded videos."""
        self.model.eval()
        numbers: dict[str, list[int]] = {}
        probabilities: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
        for task in tasks:
            numbers[task.name], of_kind = self.probabilities(task, views, kinds)
            for kind, own in of_kind.items():
                probabilities[kind].append(own)
            if PROMPTED in kinds and ranks.rank() == 0:
                file = self.run.path / f"predictions-{task.name.replace(' ', '-')}.csv"
                write_predictions(file, task, numbers[task.name], of_kind[PROMPTED])
        labels = [torch.tensor([task.videos[number].label for number in numbers[task.name]]) for task in tasks]
        metrics = {kind: self.metrics(tasks, labels, own) for kind, own in probabilities.items()}
        return Tested(metrics, numbers)

    def metrics(self, tasks: list[Task], labels: list[Tensor], probabilities: list[Tensor]) -> dict[str, float]:
        """Top-1 of each task in percent, and what sums them up; then top-5."""
        top1: dict[str, float] = {}
        top5: dict[str, float] = {}
        for task, own_labels, own in zip(tasks, labels, probabilities, strict=True):
            top1[f"{task.name} top-1"] = 100 * top_k_accuracy(own, own_labels)
            if len(task.classes) > 5:
                top5[f"{task.name} top-5"] = 100 * top_k_accuracy(own, own_labels, 5)
        if self.args.setting == "base-to-novel":
            top1["harmonic mean"] = harmonic_mean(*top1.values())
        elif len(tasks) > 1:
            for dataset in dict.fromkeys(task.name.partition(" split ")[0] for task in tasks):
                splits = [value for name, value in top1.items() if name.startswith(f"{dataset} split ")]
                if splits:
                    top5[f"{dataset} mean top-1"] = sum(splits) / len(splits)
        return top1 | top5

    @torch.no_grad()
    def probabilities(self, task: Task, views: Views, kinds: Sequence[str]) -> tuple[list[int], dict[str, Tensor]]:
        """Returns the numbers of the decoded videos, ascending, and by kind their class probabilities, (B, C)."""
        args, device = self.args, self.plan.device
        clips = EvalClips([video.path for video in task.videos], args.frames, self.preprocess, args.stride, views)
        weight, temperature = args.frozen_weight, self.temperature()
        # The frozen model's scores are computed once, for its own results and for `--frozen-weight`.
        needed = [kind for kind in (PROMPTED, FROZEN) if kind in kinds or (kind == FROZEN and weight != 0)]
        classes = {kind: self.class_features(task.classes, kind) for kind in needed}  # [C, D] each
        mine: dict[int, list[Tensor]] = {}  # a row for each kind
        quiet = ranks.rank() != 0
        for batch in tqdm(eval_loader(clips, args.batch, args.workers), desc=task.name, unit="batch", disable=quiet):
            report(batch, self.run)
            if batch.videos is None:
                continue
            videos = batch.videos.to(device).flatten(0, 1)  # [B, V, T, 3, H, W] -> [B * V, T, 3, H, W]
            cosines = {}  # [B * V, C] each
            for kind in needed:
                with prompts(self.model, kind):
                    cosines[kind] = self.features(videos) @ classes[kind].T
            if PROMPTED in kinds and weight != 0:
                cosines[PROMPTED] = (1 - weight) * cosines[PROMPTED] + weight * cosines[FROZEN]
            for kind in kinds:
                logits = (cosines[kind] / temperature).unflatten(0, batch.videos.shape[:2])  # [B, V, C]
                for number, row in zip(batch.numbers.tolist(), average_views(logits).cpu(), strict=True):
                    mine.setdefault(number, []).append(row)
        everyone = {number: row for part in ranks.gather(mine) for number, row in part.items()}
        if not everyone:
            raise ValueError(f"none of the {len(task.videos)} videos of {task.name} can be decoded")
        numbers = sorted(everyone)
        return numbers, {
            kind: torch.stack([everyone[number][place] for number in numbers]) for place, kind in enumerate(kinds)
        }

    def class_features(self, classes: list[str], kind: str) -> Tensor:
        """Normalised features of the classes, (C, D); the frozen model gets the hand-crafted prompt around them."""
        with autocast(self.plan):
            if kind == FROZEN:
                return vilt_prompt.scenario_features(self.model, self.tokenizer, classes).float()
            tokens = self.tokenizer(classes).to(self.plan.device)
            return self.model.encode_text(tokens, normalize=True).float()

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


def count(task: Task, decoded: Sequence[LabelledVideo], tested: bool) -> dict[str, Any]:
    """Counts the videos of a task, of all classes and of each: listed, found on disk, used, decoded and tested."""
    counts = {"listed": task.listed, "found": task.found}
    counts["used"], counts["decoded"] = (
        [labels.count(label) for label in range(len(task.classes))]
        for labels in ([video.label for video in videos] for videos in (task.videos, decoded))
    )
    if tested:
        counts["tested"] = counts["decoded"]
    return {"from": task.origin} | count_videos(task.classes, counts)


def main() -> None:
    """Trains and tests."""
    args = arguments()
    check_temperature(args.temperature)
    check_weight(args.frozen_weight)
    with RunLog() as log:
        train_and_test(args, log)


def train_and_test(args: argparse.Namespace, log: RunLog) -> None:
    """Runs the script with its options, and writes the results."""
    device = ranks.start(args.device)
    views, schedule = parse_views(args.views), plan(args, device)
    train, tests = read_tasks(args)
    if train is not None:
        for line in compared_with_paper(args, PAPER[args.setting], others(args.setting), defaults(args.setting)):
            announce(line)
    run = RunFolder(args.out, settings(args), args.resume)
    log.open(run.path / "log.txt")
    note_start(args)
    torch.manual_seed(args.seed)
    clip, preprocess, tokenizer = load_clip(args.model, args.pretrained, device)
    model = prompted(clip, args).to(device)
    recognizer = Recognizer(model, tokenizer, preprocess, args, schedule, run)
    metrics, frozen, numbers = recognizer.run_all(train, tests, views)
    videos: dict[str, Any] = {}
    notes: dict[str, str] = {}
    if train is not None:
        failed = run.failed(args.videos, [video.path for video in train.videos])
        decoded = [video for video in train.videos if video.path not in failed]
        videos["train"] = count(train, decoded, tested=False)
    for task in tests:
        videos[task.name] = count(task, [task.videos[number] for number in numbers[task.name]], tested=True)
        note = of_listed(len(numbers[task.name]), sum(task.listed))
        notes |= {f"{task.name} top-1": note, f"{task.name} top-5": note}
    for line in shown(metrics, frozen, notes):
        announce(line)
    run.write_results(record(args, metrics, frozen, videos))


if __name__ == "__main__":
    run_script(main)
