"""The training loop of the examples: AdamW, a cosine, mixed precision, several processes, going on after a kill."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm  # type: ignore[import-untyped]

from examples.paper.training.batches import Batch, TrainOrder
from examples.paper.training.chunks import InChunks
from examples.paper.training.gradients import Objective, Passes
from examples.paper.training.memory import advice, free_bytes, needs
from examples.paper.training.random_state import random_state, set_random_state
from examples.paper.training.run_folder import RunFolder
from examples.startup import ranks
from examples.startup.run_log import LOGGER
from examples.startup.trained import save_settings
from vilt_prompt import PromptPeftModel

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        epochs: Times that every video is seen.
        lr: The learning rate at the start; a cosine takes it to 0.
        weight_decay: AdamW's.
        precision: fp32, bf16 or fp16.
        device: Where.
        save_every: Steps between checkpoints; each epoch ends with one, too.
        test_every: Epochs between tests; the last one ends with one, too.
        micro_batch: Videos in one pass of each process, whose gradients are added up; None: the whole batch.
        frames_per_chunk: Frames that the image encoder computes at once, and again for the gradients; None: all.
    """

    epochs: int
    lr: float
    weight_decay: float
    precision: str
    device: torch.device
    save_every: int
    test_every: int
    micro_batch: int | None = None
    frames_per_chunk: int | None = None


def autocast(plan: Plan) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision as planned."""
    dtype = PRECISIONS[plan.precision]
    return torch.autocast(plan.device.type, dtype=dtype, enabled=dtype != torch.float32)


def fit(
    model: PromptPeftModel,
    loader: DataLoader[Any],
    order: TrainOrder,
    objective: Objective,
    test: Callable[[], dict[str, float]],
    plan: Plan,
    run: RunFolder,
    videos: str,
    record: Mapping[str, Any] | None = None,
) -> dict[str, float] | None:
    """Trains the prompts, and keeps the adapter of the last epoch and the one of the best test.

    Args:
        model: What `wrap` returned, on the plan's device.
        loader: Batches.
        order: Their sampler.
        objective: The loss. It calls the network that it gets, as one of several processes must.
        test: Returns metrics; the first decides which adapter is best.
        plan: How.
        run: Where results go, and where an earlier process stopped.
        videos: From `record.fingerprint`: which videos train and test.
        record: Facts about the training that the adapters record: arguments of `save_pretrained`.

    Returns:
        The metrics after the last epoch; None: an earlier process had trained to the end.

    Raises:
        ValueError: The loss is not finite, nothing can be decoded, or the earlier process had other videos.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=plan.lr, weight_decay=plan.weight_decay)
    total = plan.epochs * len(order)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    scaler = torch.amp.GradScaler(plan.device.type, enabled=plan.precision == "fp16")
    step, best, metrics = 0, -math.inf, None
    if run.checkpoint is not None:
        if run.checkpoint["videos"] != videos:
            raise ValueError(f"{run.path} holds a run on other videos: put those back, or choose another --out")
        step, best = run.checkpoint["step"], run.checkpoint["best"]
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(run.checkpoint["weights"][name])
        optimizer.load_state_dict(run.checkpoint["optimizer"])
        scheduler.load_state_dict(run.checkpoint["scheduler"])
        scaler.load_state_dict(run.checkpoint["scaler"])
        states = run.checkpoint["random"]  # there may be more processes now than before
        set_random_state(states[ranks.rank() % len(states)], plan.device)
    run.rewind("train", step)
    run.rewind("test", step)

    def save() -> None:
        random = ranks.gather(random_state(plan.device))
        run.save(
            {
                "step": step,
                "best": best,
                "videos": videos,
                "weights": {name: parameter.detach() for name, parameter in trained.items()},
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "scaler": scaler.state_dict(),
                "random": random,
            }
        )

    several = ranks.world_size() > 1
    encoder = model if plan.frames_per_chunk is None else InChunks(model, plan.frames_per_chunk)
    network: nn.Module = DistributedDataParallel(encoder) if several else encoder
    quiet = ranks.rank() != 0
    with tqdm(total=total, initial=step, desc="training", unit="step", disable=quiet) as progress:
        while step < total:
            order.epoch, order.first = divmod(step, len(order))
            model.train()
            for batch in loader:
                loss = train_step(network, batch, objective, optimizer, scaler, plan, run)
                step += 1
                run.log("train", step, {"epoch": order.epoch, "lr": float(scheduler.get_last_lr()[0]), "loss": loss})
                scheduler.step()
                progress.update()
                progress.set_postfix(loss=f"{loss:.3f}")
                if step % plan.save_every == 0 and step % len(order):
                    save()
            epoch = order.epoch + 1
            if epoch % plan.test_every == 0 or step == total:
                metrics = test()
                run.log("test", step, metrics)
                if ranks.rank() == 0:
                    shown = ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())
                    LOGGER.info(f"epoch {epoch}, step {step}, loss {loss:.4f}: {shown}")
                first = next(iter(metrics.values()))
                if first > best:
                    best = first
                    save_adapter(model, run, "best", record)
            save_adapter(model, run, "last", record)
            save()
    return metrics


def train_step(
    network: nn.Module,
    batch: Batch,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    plan: Plan,
    run: RunFolder,
) -> float:
    """One step; returns the loss, the mean over the processes."""
    report(batch, run)
    if batch.videos is None:
        raise ValueError(f"{len(set(batch.failures))} videos in a row cannot be decoded: {batch.failures[-1]}")
    optimizer.zero_grad()
    size = plan.micro_batch or len(batch.videos)
    passes = Passes(plan.device, lambda: autocast(plan), scaler)
    try:
        loss = objective.backward(network, batch.videos, batch.numbers, size, passes)
        short = False
    except torch.OutOfMemoryError:
        short = True  # The exception keeps tensors alive until the end of this block.
    if short:
        optimizer.zero_grad()
        raise ValueError(out_of_memory(network, batch.videos, batch.numbers, objective, plan))
    value = ranks.mean(loss)
    if not math.isfinite(value):
        raise ValueError(f"the loss is {value}: lower --lr, or use --precision fp32")
    scaler.step(optimizer)
    scaler.update()
    return value


def report(batch: Batch, run: RunFolder) -> None:
    """Says once of each video that it cannot be decoded, or only in part."""
    for line in run.unreported(batch.failures):
        _say(f"skipped: {line}")
    for line in run.unreported(batch.damages, "damaged.txt"):
        _say(f"used without its damaged part: {line}")


def _say(line: str) -> None:
    tqdm.write(line)
    LOGGER.info(line)


def out_of_memory(network: nn.Module, videos: Tensor, numbers: Tensor, objective: Objective, plan: Plan) -> str:
    """Says what would fit, after a step that did not."""
    alone = network.module if isinstance(network, DistributedDataParallel) else network
    model = alone.model if isinstance(alone, InChunks) else alone  # without the wrapper that computes in chunks

    def loss_of(video: Tensor) -> Tensor:
        with autocast(plan):
            return objective.alone(model, video.to(plan.device), numbers[:1].to(plan.device))

    count = min(len(videos), plan.micro_batch or len(videos))
    free = free_bytes(plan.device)
    try:
        texts, per_frame = needs(loss_of, videos, model)
    except torch.OutOfMemoryError:
        texts, per_frame = 0, free  # not even two frames
    return advice(count, videos.shape[1], texts, per_frame, free)


def save_adapter(model: PromptPeftModel, run: RunFolder, name: str, record: Mapping[str, Any] | None = None) -> None:
    """Writes the adapter to a folder of the run, with the options of its training beside it."""
    if ranks.rank() == 0:
        model.save_pretrained(run.path / name, **(record or {}))
        save_settings(run.path / name, run.settings)
    ranks.barrier()
