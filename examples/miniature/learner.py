"""One model of one method: its features of videos and of class names, and how it learns."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import open_clip
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

import vilt_prompt
from examples.miniature.methods import Method
from examples.miniature.scenes import TRAINING, Scenes
from examples.miniature.tasks import Examples
from examples.startup.base_model import ClipModel, Tokenizer
from vilt_prompt import TEMPLATE

RETRIEVAL_BATCH = 10
CHUNK = 32  # videos in one pass without gradients
WEIGHT_DECAY = 1e-3  # the paper's


@dataclass(frozen=True)
class Base:
    """The frozen model that all methods start from."""

    clip: ClipModel
    tokenizer: Tokenizer

    @torch.no_grad()
    def template(self, classes: Sequence[str]) -> Tensor:
        """Normalised features of "a video of a person doing {}.", (C, D)."""
        return F.normalize(self.clip.encode_text(self.tokenizer([TEMPLATE.format(name) for name in classes])), dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Normalised features of texts as they are, (C, D)."""
        return F.normalize(self.clip.encode_text(self.tokenizer(list(texts))), dim=-1)


class Learner:
    """A copy of the base model, with the prompts of a method.

    Attributes:
        trained: The parameters that training changes.
    """

    def __init__(self, method: Method, base: Base, scenes: Scenes) -> None:
        self.method, self.base, self.scenes = method, base, scenes
        self.model: ClipModel = copy.deepcopy(base.clip)
        if method.prompts is None:
            self.model.requires_grad_(False)
        else:
            self.model = vilt_prompt.wrap(self.model, tokenizer=base.tokenizer, **method.prompts)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def videos(self, clips: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """Normalised features of scenes of clips, (len(clips) * len(numbers), D)."""
        if self.method.has_frozen_vision:
            return F.normalize(self.scenes.frozen(clips, numbers), dim=-1)
        features: Tensor = self.model.encode_video(self.scenes.videos(clips, numbers), normalize=True)
        return features

    def classes(self, names: Sequence[str]) -> Tensor:
        """Normalised features of class names, (C, D)."""
        if self.method.has_frozen_text:
            return self.base.template(names)
        features: Tensor = self.model.encode_text(self.base.tokenizer(list(names)), normalize=True)
        return features

    @torch.no_grad()
    def encode(self, clips: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """Normalised features of scenes of many clips, without gradients, (len(clips) * len(numbers), D)."""
        step = max(1, CHUNK // len(numbers))
        return torch.cat([self.videos(clips[at : at + step], numbers) for at in range(0, len(clips), step)])

    def learn_classes(
        self, classes: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]], rate: float, steps: int
    ) -> None:
        """Descends cross-entropy over the classes and the scenario term (Eq. 12 and 13).

        Args:
            classes: C names.
            batches: For each step videos (B, T, 3, S, S) and labels (B,). Where the image encoder is frozen, its
                features (B, D) take the place of the videos.
            rate: The learning rate of the first step.
            steps: The number of batches.
        """
        temperature = self.method.temperature or 1 / self.base.clip.logit_scale.exp().item()
        criterion = vilt_prompt.ScenarioGuidedLoss(self.base.template(classes), self.method.alpha, temperature)
        waiting = iter(batches)

        def loss() -> Tensor:
            videos, labels = next(waiting)
            features = videos if self.method.has_frozen_vision else self.model.encode_video(videos)
            return criterion(features, self.classes(classes), labels)

        self._descend(loss, rate, steps)

    def learn_captions(self, shots: Examples, rate: float, steps: int, generator: Generator) -> None:
        """The symmetric contrastive loss over pairs of a clip and its caption; no caption is twice in a batch."""
        criterion = open_clip.ClipLoss()
        scale = self.base.clip.logit_scale.exp().detach()
        batches = endless_batches(len(shots.classes), generator)
        clips_of: list[list[int]] = [[] for _ in shots.classes]
        for clip, label in zip(shots.clips, shots.labels, strict=True):
            clips_of[label].append(clip)

        def loss() -> Tensor:
            chosen = next(batches)
            clips = [clips_of[n][int(torch.randint(len(clips_of[n]), (), generator=generator))] for n in chosen]
            texts = self.base.tokenizer([shots.classes[n] for n in chosen])
            return criterion(self.videos(clips, TRAINING), self.model.encode_text(texts, normalize=True), scale)

        self._descend(loss, rate, steps)

    def _descend(self, loss_of: Callable[[], Tensor], rate: float, steps: int) -> None:
        optimizer = torch.optim.AdamW(self.trained, lr=rate, weight_decay=WEIGHT_DECAY)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        self.model.train()
        for _ in range(steps):
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        self.model.eval()


def endless_batches(count: int, generator: Generator) -> Iterator[list[int]]:
    """Shuffled numbers below `count`, again and again, in batches of `RETRIEVAL_BATCH`, or of all if they are fewer."""
    waiting: list[int] = []
    size = min(RETRIEVAL_BATCH, count)
    while True:
        # A batch never spans two epochs: nothing is twice in it.
        waiting = waiting if len(waiting) >= size else torch.randperm(count, generator=generator).tolist()
        yield waiting[:size]
        waiting = waiting[size:]
