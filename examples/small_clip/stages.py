"""The three stages: a convolutional teacher, the text tower, the vision tower."""

import math
import random

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor, nn

from examples.small_clip.captions import CaptionWriter
from examples.small_clip.muon import optimisers
from examples.small_clip.patches import KeepPatches
from examples.small_clip.teacher import ConvTeacher
from examples.small_clip.training import Training
from vilt_prompt import TEMPLATE

SCALE = 20.0  # of cosines, before each softmax


def train_teacher(training: Training, prototypes: Tensor) -> ConvTeacher:
    """Stage 1: tell all concepts apart by cosine similarity to their prototypes, which start as given (C, D)."""
    teacher = ConvTeacher(prototypes, width=24)
    teacher.to(training.device).to(memory_format=torch.channels_last)
    stages = nn.ModuleList([teacher.stage1, teacher.stage2, teacher.stage3])

    def loss_of(progress: float) -> Tensor:
        images, numbers = training.views(progress)
        features, _ = teacher(images)
        logits = SCALE * features @ F.normalize(teacher.prototypes, dim=-1).T
        return F.cross_entropy(logits, numbers, label_smoothing=0.1)

    def score() -> str:
        return training.accuracy(lambda images: teacher(images)[0], F.normalize(teacher.prototypes, dim=-1))

    training.run(
        "teacher", teacher, optimisers(teacher, stages, 0.02, 3e-3), training.args.teacher_steps, loss_of, score
    )
    return teacher


def encode_captions(model: CLIP, tokens: Tensor) -> Tensor:
    """Unit-length features (B, D) of token ids (B, L), cropped after the last end-of-text token.

    The tower is causal, so this is exact, and much cheaper.
    """
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    pooled = x[torch.arange(len(x), device=x.device), ends]
    return F.normalize(pooled @ model.text_projection, dim=-1)


def train_text(training: Training, model: CLIP, writer: CaptionWriter, prototypes: Tensor) -> None:
    """Stage 2: send each caption to its concept's prototype (C, D)."""
    args = training.args
    weights = nn.ParameterList([model.token_embedding.weight, model.positional_embedding, model.text_projection])
    concepts = range(len(training.concepts))
    tower = nn.ModuleList([model.transformer, model.ln_final, weights])

    def loss_of(_: float) -> Tensor:
        numbers = random.sample(concepts, args.batch_size // training.processes)
        features = encode_captions(model, writer.batch(numbers).to(training.device))
        return F.cross_entropy(SCALE * features @ prototypes.T, torch.tensor(numbers, device=training.device))

    def score() -> str:
        bank = caption_bank(training, model, writer, [TEMPLATE])[:, 0]
        right = (bank @ prototypes.T).argmax(1).cpu() == torch.arange(len(bank))
        return f"{TEMPLATE!r} right {right.float().mean():.1%}"

    training.run("text", tower, optimisers(tower, model.transformer, 0.02, 3e-3), args.text_steps, loss_of, score)


@torch.no_grad()
def caption_bank(training: Training, model: CLIP, writer: CaptionWriter, templates: list[str]) -> Tensor:
    """Unit-length features (C, M, D) of each concept's name in M templates; "" stands for a random caption."""
    columns = []
    for template in templates:
        parts = []
        for numbers in torch.arange(len(training.concepts)).split(256):
            if template:
                names = [training.concepts[number].name for number in numbers.tolist()]
                tokens = writer.tokenizer([template.format(name) for name in names])
            else:
                tokens = writer.batch(numbers.tolist())
            parts.append(encode_captions(model, tokens.to(training.device)))
        columns.append(torch.cat(parts))
    return torch.stack(columns, 1)


def train_vision(training: Training, model: CLIP, writer: CaptionWriter, teacher: ConvTeacher) -> None:
    """Stage 3: send each picture to its captions, the class token to the teacher's features, patches to its map.

    The text tower stays as it is, so the captions of all concepts are encoded once and every step contrasts with all
    of them. Half of the patches are seen until the last twentieth.
    """
    args, visual = training.args, model.visual
    captions = caption_bank(training, model, writer, [TEMPLATE] + [""] * 7)
    prototypes = F.normalize(teacher.prototypes, dim=-1)
    visual.output_tokens = True
    visual.patch_dropout = patches = KeepPatches()
    to_map = nn.Linear(visual.ln_post.normalized_shape[0], teacher.map_channels).to(training.device)
    student = nn.ModuleList([visual, to_map])
    model.logit_scale.data.fill_(math.log(SCALE))

    def loss_of(progress: float) -> Tensor:
        patches.kept = 1.0 if progress > 0.95 else 0.5
        images, numbers = training.views(progress)
        with torch.no_grad():
            target, target_map = teacher(images)
            target_map = F.layer_norm(target_map, target_map.shape[-1:])  # (B, patches, channels)
        pooled, tokens = visual(images)
        features = F.normalize(pooled, dim=-1)
        choice = torch.randint(captions.shape[1], (len(captions),), device=captions.device)
        logits = SCALE * features @ captions[torch.arange(len(captions)), choice].T
        contrastive = F.cross_entropy(logits, numbers)
        distilled = F.kl_div(
            (SCALE * features @ prototypes.T).log_softmax(-1),
            (SCALE * target @ prototypes.T).softmax(-1),
            reduction="batchmean",
        )
        aligned = 1 - (features * target).sum(-1).mean()
        kept_map = target_map.gather(1, patches.chosen.unsqueeze(-1).expand(-1, -1, target_map.shape[-1]))
        return contrastive + distilled + 2 * aligned + F.mse_loss(to_map(tokens), kept_map)

    def score() -> str:
        patches.kept = 1.0
        return training.accuracy(lambda images: F.normalize(visual(images)[0], dim=-1), captions[:, 0])

    training.run(
        "vision", student, optimisers(student, visual.transformer, 0.02, 2e-3), args.vision_steps, loss_of, score
    )
    visual.patch_dropout = nn.Identity()
    visual.output_tokens = False
