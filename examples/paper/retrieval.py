"""Trains prompts to find videos by captions and captions by videos, and tests both.

Reads MSR-VTT (9K for training, 1k-A for testing), MSVD, LSMDC and DiDeMo as they are distributed, and CSV files
(video,caption,split). Six prompts in each layer, as in the paper, leave room for long captions; anything longer
is cut. Training is the symmetric contrastive loss of open_clip, over the videos of all processes.

Examples:
  python -m examples.paper.retrieval --videos MSRVTT/videos --annotations MSRVTT/annotations \\
      --model ViT-B-16-quickgelu --pretrained openai --out runs/msrvtt
  torchrun --nproc-per-node 4 -m examples.paper.retrieval --videos didemo --annotations didemo_data --frames 32 \\
      --model ViT-B-16-quickgelu --pretrained openai --out runs/didemo
"""

import argparse
from pathlib import Path

from examples.paper.lists.msrvtt import PROTOCOLS
from examples.paper.training.options import add_training_options, compared_with_paper, settings, trains
from examples.startup.command_line import Help, announce, before_imports, run_script
from examples.startup.model_options import add_model_options

PRESET = {"n_ctx": 6, "depth": None, "K": 6, "epochs": 5, "batch": 128, "lr": 8e-3, "frames": 12}
# For retrieval the paper gives the number of prompts alone.
PAPER = {"method": "vilt", "n_ctx": 6, "weight_decay": 1e-3}
OTHERS = {
    "depth": "few-shot recognition's",
    "K": "few-shot recognition's",
    "lr": "few-shot recognition's",
    "epochs": "CLIP4Clip's",
    "batch": "CLIP4Clip's",
    "frames": "CLIP4Clip's",
}


def arguments() -> argparse.Namespace:
    """Reads the command line."""

    class Formatter(Help, argparse.RawDescriptionHelpFormatter):
        pass

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter)
    data = parser.add_argument_group("data")
    data.add_argument("--videos", type=Path, required=True, help="folder of the videos")
    data.add_argument("--annotations", type=Path, required=True, help="folder of the annotations, or a CSV file")
    data.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="of MSR-VTT: 9k or 7k videos for training and 1k-A for testing, or the official splits (default: 9k)",
    )
    add_model_options(parser)
    add_training_options(parser, **PRESET)
    return parser.parse_args()


if __name__ == "__main__":
    before_imports(arguments)

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

import vilt_prompt
from examples.paper.lists.caption_files import Captions, read_captions
from examples.paper.protocols.metrics import Retrieval, retrieval_metrics
from examples.paper.training.batches import EvalClips, TrainingClips, eval_loader, train_loader
from examples.paper.training.fit import Plan, autocast, fit, report
from examples.paper.training.gradients import JointObjective
from examples.paper.training.phases import FROZEN, PROMPTED, Tested, prompts, run_phases
from examples.paper.training.record import fingerprint, note_start, of_listed, record, shown
from examples.paper.training.run_folder import RunFolder
from examples.paper.training.setup import plan, prompted
from examples.startup import ranks
from examples.startup.base_model import Preprocess, Tokenizer, load_clip
from examples.startup.run_log import RunLog

CHUNK = 256  # frames, or captions, that one pass takes without gradients


@dataclass(frozen=True)
class Retriever:
    """A prompted model with all objects that its test needs."""

    model: vilt_prompt.PromptPeftModel
    tokenizer: Tokenizer
    room: dict[str, int]  # tokens of a caption with prompts, and without them
    preprocess: Preprocess
    args: argparse.Namespace
    plan: Plan
    run: RunFolder

    def train(self, captions: Captions, test: Captions) -> dict[str, float] | None:
        """Trains on pairs of a video and one caption of it; returns what `fit` does."""
        announce(f"{len(captions.paths)} videos with {len(captions.texts)} captions to train on")
        args = self.args
        tokens = self.tokenizer(captions.texts, context_length=self.room[PROMPTED]).to(self.plan.device)
        # Each process computes its own rows against everyone's columns; gradients flow through the gathered features.
        criterion = open_clip.ClipLoss(
            local_loss=True, gather_with_grad=True, rank=ranks.rank(), world_size=ranks.world_size()
        )

        def features(network: nn.Module, videos: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
            return tuple(network(videos, tokens[numbers])[:2])

        def loss_of(features: tuple[Tensor, ...]) -> Tensor:
            scales = [self.model.logit_scale.exp(), getattr(self.model, "logit_bias", None)]  # frozen
            with torch.autocast(self.plan.device.type, enabled=False):
                inputs = (*features, *(scale for scale in scales if scale is not None))
                loss: Tensor = criterion(*(each.float() for each in inputs))
            return loss

        paths = [captions.paths[video] for video in captions.videos]
        clips = TrainingClips(paths, args.frames, self.preprocess, args.seed, args.stride, args.flip)
        loader, order = train_loader(clips, args.batch, args.workers)
        objective = JointObjective(features, loss_of)
        used = [
            (own.paths[video], text)
            for own in (captions, test)
            for video, text in zip(own.videos, own.texts, strict=True)
        ]
        return fit(
            self.model,
            loader,
            order,
            objective,
            lambda: self.test(test).metrics[PROMPTED],
            self.plan,
            self.run,
            fingerprint([args.videos], used),
        )

    def run_all(self, train: Captions | None, test: Captions) -> tuple[dict[str, float], dict[str, float], list[int]]:
        """Trains and tests as `run_phases` does, and returns what it does."""
        learn = None if train is None else partial(self.train, train, test)
        return run_phases(learn, lambda kinds: self.test(test, kinds), self.args)

    def test(self, captions: Captions, kinds: Sequence[str] = (PROMPTED,)) -> Tested[list[int]]:
        """Recall in percent and ranks, in both directions, with prompts, without them, or both."""
        self.model.eval()
        videos = self.video_features(captions.paths, kinds)
        place = {video: row for row, video in enumerate(videos)}
        kept = [number for number, video in enumerate(captions.videos) if video in place]
        owners = torch.tensor([place[captions.videos[number]] for number in kept])
        metrics = {}
        for number, kind in enumerate(kinds):
            texts = self.text_features([captions.texts[caption] for caption in kept], kind)
            features = torch.stack([rows[number] for rows in videos.values()])  # [B, D]
            metrics[kind] = percent(retrieval_metrics(texts @ features.T, owners))
        return Tested(metrics, list(videos))

    @torch.no_grad()
    def video_features(self, paths: list[Path], kinds: Sequence[str]) -> dict[int, list[Tensor]]:
        """Number of each video that can be decoded, ascending, to its normalised features by kind, (D,) each."""
        clips = EvalClips(paths, self.args.frames, self.preprocess, self.args.stride)
        mine: dict[int, list[Tensor]] = {}
        quiet = ranks.rank() != 0
        for batch in tqdm(eval_loader(clips, self.args.batch, self.args.workers), desc="test", disable=quiet):
            report(batch, self.run)
            if batch.videos is None:
                continue
            videos = batch.videos.squeeze(1).to(self.plan.device)  # [B, 1, T, 3, H, W] -> [B, T, 3, H, W]
            chunk = self.args.frames_per_chunk or CHUNK
            for kind in kinds:
                with autocast(self.plan), prompts(self.model, kind):
                    features = self.model.encode_video(videos, normalize=True, frames_per_chunk=chunk).float().cpu()
                for number, row in zip(batch.numbers.tolist(), features, strict=True):
                    mine.setdefault(number, []).append(row)
        everyone = {number: row for part in ranks.gather(mine) for number, row in part.items()}
        if not everyone:
            raise ValueError(f"none of the {len(paths)} videos of the test can be decoded")
        return dict(sorted(everyone.items()))

    @torch.no_grad()
    def text_features(self, texts: list[str], kind: str) -> Tensor:
        """Normalised features, (C, D)."""
        rows = []
        for start in range(0, len(texts), CHUNK):
            own = texts[start : start + CHUNK]
            tokens = self.tokenizer(own, context_length=self.room[kind]).to(self.plan.device)
            with autocast(self.plan), prompts(self.model, kind):
                rows.append(self.model.encode_text(tokens, normalize=True).float().cpu())
        return torch.cat(rows)


def percent(result: Retrieval) -> dict[str, float]:
    """The metrics as a table has them."""
    rows = {}
    for direction, metrics in (("text to video", result.text_to_video), ("video to text", result.video_to_text)):
        rows[f"{direction} R@1"] = 100 * metrics.recall_at_1
        rows[f"{direction} R@5"] = 100 * metrics.recall_at_5
        rows[f"{direction} R@10"] = 100 * metrics.recall_at_10
        rows[f"{direction} median rank"] = metrics.median_rank
        rows[f"{direction} mean rank"] = metrics.mean_rank
    return rows


def count(captions: Captions, listed: int, decoded: int, tested: bool) -> dict[str, Any]:
    """Counts the videos: listed, found on disk, decoded and tested; and the captions."""
    counts = {"listed": listed, "found": len(captions.paths), "decoded": decoded}
    return counts | ({"tested": decoded} if tested else {}) | {"captions": len(captions.texts)}


def main() -> None:
    """Trains and tests."""
    with RunLog() as log:
        train_and_test(arguments(), log)


def train_and_test(args: argparse.Namespace, log: RunLog) -> None:
    """Runs the script with its options, and writes the results."""
    device = ranks.start(args.device)
    schedule = plan(args, device)
    data = read_captions(args.videos, args.annotations, args.protocol, tests_only=not trains(args))
    for line in (data.missing, *data.remarks):
        announce(line)
    if data.train is not None:
        for line in compared_with_paper(args, PAPER, OTHERS, PRESET):
            announce(line)
    run = RunFolder(args.out, settings(args), args.resume)
    log.open(run.path / "log.txt")
    note_start(args)
    torch.manual_seed(args.seed)
    clip, preprocess, tokenizer = load_clip(args.model, args.pretrained, device)
    model = prompted(clip, args).to(device)
    whole = clip.context_length
    room = {PROMPTED: whole - int(vars(model.peft_config["default"])["n_ctx"]), FROZEN: whole}
    retriever = Retriever(model, tokenizer, room, preprocess, args, schedule, run)
    metrics, frozen, numbers = retriever.run_all(data.train, data.test)
    origin = {"videos": str(args.videos), "annotations": str(args.annotations)}
    videos: dict[str, Any] = {}
    if data.train is not None:
        decoded = len(data.train.paths) - len(run.failed(args.videos, data.train.paths))
        videos["train"] = {"from": origin | {"split": "train"}} | count(
            data.train, data.listed["train"], decoded, tested=False
        )
    videos["test"] = {"from": origin | {"split": data.tested}} | count(
        data.test, data.listed["test"], len(numbers), tested=True
    )
    note = of_listed(len(numbers), data.listed["test"])
    for line in shown(metrics, frozen, dict.fromkeys(metrics, note)):
        announce(line)
    run.write_results(record(args, metrics, frozen, videos))


if __name__ == "__main__":
    run_script(main)
