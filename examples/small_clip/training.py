"""How one stage of training is run, saved and resumed, on one or several processes."""

import argparse
import os
import random
import zlib
from collections.abc import Callable

import torch
import torch.distributed
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]

from examples.small_clip.concepts import load_stills
from examples.small_clip.rendering import plain, training_views
from examples.small_clip.sampling import ConceptSampler

SAVE_EVERY = 100


class Training:
    """The data, and how one stage of training is run, saved and resumed.

    Args:
        args: From the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        self.processes = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.processes > 1:
            torch.distributed.init_process_group("gloo")
        self.concepts, pictures, _ = load_stills(args.stills, args.houses)
        self.pictures = pictures.to(self.device)
        self.sampler = ConceptSampler(self.concepts)
        self.mean = torch.tensor(OPENAI_DATASET_MEAN, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(OPENAI_DATASET_STD, device=self.device).view(1, 3, 1, 1)
        self.validation = load_stills(args.stills, [args.validate])[:2] if args.validate else None

    def normalise(self, images: Tensor) -> Tensor:
        """Scales (B, 3, H, W) in 0..1 as open_clip's preprocessing does; channels last suits convolutions."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def views(self, progress: float) -> tuple[Tensor, Tensor]:
        """A batch of training views (B, 3, H, W) and their concepts (B,); nuisances grow until half of the way."""
        numbers, rows = self.sampler.batch(self.args.batch_size // self.processes)
        images = training_views(self.pictures[rows.to(self.device)], min(1.0, 2 * progress))
        return self.normalise(images), numbers.to(self.device)

    def run(
        self,
        name: str,
        modules: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        steps: int,
        loss_of: Callable[[float], Tensor],
        score: Callable[[], str],
    ) -> None:
        """Runs or resumes one stage: warm-up, constant rate, then linear decay to zero over the last half.

        Args:
            name: Of the stage and its checkpoint.
            modules: The modules that are trained and saved.
            optimizers: Their learning rates are taken as the peak.
            steps: How many in all.
            loss_of: The loss at a given part (0..1) of the stage.
            score: Says how well it does, for the log.
        """
        path = self.args.work / f"{name}.pt"
        peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        first = 0
        if path.exists():
            saved = torch.load(path, map_location=self.device)
            modules.load_state_dict(saved["modules"])
            for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            first = saved["step"]
        modules.train()
        for step in tqdm(range(first, steps), name, steps, initial=first, mininterval=5, disable=self.rank > 0):
            if step % SAVE_EVERY == 0:
                # A resumed run continues exactly as the uninterrupted one.
                seed = zlib.crc32(f"{self.args.seed} {name} {step} {self.rank}".encode())
                torch.manual_seed(seed)
                random.seed(seed)
            progress = step / steps
            for optimizer, rates in zip(optimizers, peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = peak * min((step + 1) / 50, 1, 2 * (1 - progress))
                optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
                loss = loss_of(progress)
            if not loss.isfinite():
                raise FloatingPointError(f"The loss of stage {name!r} is {loss.item()} at step {step}: lower its rate.")
            loss.backward()
            self.average_gradients(modules)
            for optimizer in optimizers:
                optimizer.step()
            if self.rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
                modules.eval()
                tqdm.write(f"{name} {step + 1}: loss {loss.item():.3f} {score()}")
                modules.train()
                saved = {
                    "modules": modules.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "step": step + 1,
                }
                partial = path.with_suffix(".partial")
                torch.save(saved, partial)
                partial.replace(path)
        if self.processes > 1:
            for tensor in modules.state_dict().values():
                torch.distributed.broadcast(tensor, 0)  # batch statistics differ
        modules.eval().requires_grad_(False)

    def average_gradients(self, modules: nn.Module) -> None:
        """Averages gradients over the processes, all in one message."""
        if self.processes == 1:
            return
        gradients = [parameter.grad for parameter in modules.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        parts = flat.div_(self.processes).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def accuracy(self, encode: Callable[[Tensor], Tensor], classes: Tensor) -> str:
        """Top-1 over the actions of the validating house, on white and in scenes.

        Args:
            encode: Images to unit-length features (B, D).
            classes: One unit-length feature for each concept (C, D).
        """
        if self.validation is None:
            return ""
        concepts, pictures = self.validation
        actions = [number for number, concept in enumerate(concepts) if concept.is_action]
        rows = [row for number in actions for row in concepts[number].pictures]
        truth = torch.tensor([label for label, number in enumerate(actions) for _ in concepts[number].pictures])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            scenes = {"plain": plain(pictures[rows]), "wild": training_views(pictures[rows], 1.0)}
        text = []
        for name, images in scenes.items():
            features = torch.cat([encode(self.normalise(part.to(self.device))) for part in images.split(256)])
            right = (features @ classes[actions].T).argmax(1).cpu() == truth
            text.append(f"{name} {right.float().mean():.1%}")
        return ", ".join(text)
