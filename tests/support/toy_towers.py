"""A new family for each of the two lists in `vilt_prompt.towers.families`, as CONTRIBUTING.md says to add one.

The towers are as small as they can be and are like no tower of the library: words that see every other word, a mean
over patches or words, blocks that run whole. `literal_image` and `literal_text` are the literal computation.
"""

from __future__ import annotations

import torch
from open_clip import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from torch import Tensor, nn

from vilt_prompt.towers.bidirectional import run_bidirectional
from vilt_prompt.towers.layers import prompt_length
from vilt_prompt.towers.token_ids import check_ids, check_room, check_values
from vilt_prompt.towers.whole import WholeBlocks

IMAGE, PATCH, WORDS, COLUMNS, LAYERS, WIDTH = 16, 8, 50, 12, 3, 16


class ToyBlock(nn.Module):
    """Gated mixing: each token is told the weighted mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.value, self.norm = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, d) -> (b, l, d)."""
        normed = self.norm(x)
        mean = (self.score(normed).softmax(dim=1) * self.value(normed)).sum(dim=1, keepdim=True)
        return x + torch.tanh(normed + mean)


class ToyImageModule(nn.Module):
    """Patches, blocks, the mean over patches."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.image_size = (IMAGE, IMAGE)
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.layers = nn.ModuleList(ToyBlock() for _ in range(LAYERS))
        self.project = nn.Linear(WIDTH, features)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""
        x = self.patches(images).flatten(2).mT
        for layer in self.layers:
            x = layer(x)
        return self.project(x.mean(dim=1))


class ToyTextModule(nn.Module):
    """Words, blocks, the mean over words."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(ToyBlock() for _ in range(LAYERS))
        self.project = nn.Linear(WIDTH, features)

    def forward(self, text: Tensor) -> Tensor:
        """(C, L) -> (C, D)."""
        x = self.words(text)
        for layer in self.layers:
            x = layer(x)
        return self.project(x.mean(dim=1))


class ToyTower:
    """What both families share."""

    module_classes: tuple[type[nn.Module], ...]

    def __init__(self, module: ToyImageModule | ToyTextModule) -> None:
        self.module = module

    @property
    def stands_for(self) -> tuple[nn.Module, ...]:
        return (self.module,)

    @property
    def blocks(self) -> WholeBlocks:
        return WholeBlocks(self.module.layers)

    @property
    def layers(self) -> int:
        return len(self.module.layers)

    @classmethod
    def owns(cls, module: nn.Module) -> bool:
        return isinstance(module, cls.module_classes)

    @staticmethod
    def refusal(module: nn.Module) -> str | None:
        return None


class ToyImageTower(ToyTower):
    """The family of `ToyImageModule`."""

    family = "toy images"
    module_classes: tuple[type[nn.Module], ...] = (ToyImageModule,)
    width = WIDTH

    @property
    def image_size(self) -> tuple[int, int]:
        return self.module.image_size

    def encode(self, images: Tensor, prompts: list, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        x = self.module.patches(images).flatten(2).mT
        x = run_bidirectional(self.blocks, x, prompts, enter=nn.Identity(), checkpointing=False)
        return self.module.project(x.mean(dim=1)), x if with_tokens else None


class ToyTextTower(ToyTower):
    """The family of `ToyTextModule`."""

    family = "toy texts"
    module_classes: tuple[type[nn.Module], ...] = (ToyTextModule,)
    width, positions, vocabulary = WIDTH, COLUMNS, WORDS

    @property
    def embedding(self) -> nn.Embedding:
        return self.module.words

    def check(self, text: Tensor) -> None:
        check_ids(text, self.positions, self.embedding.weight)
        check_values(text, self.vocabulary)

    def pack(self, text: Tensor) -> Tensor:
        return text

    def runs_alone(self, columns: int) -> bool:
        return True

    def encode(self, text: Tensor, prompts: list, with_tokens: bool) -> tuple[Tensor, Tensor | None]:
        self.check(text)
        check_room(text.shape[1], self.positions, prompt_length(prompts))
        x = run_bidirectional(self.blocks, self.embedding(text), prompts, enter=nn.Identity(), checkpointing=False)
        return self.module.project(x.mean(dim=1)), x if with_tokens else None


def toy_clip() -> CustomTextCLIP:
    """An open_clip model whose towers are toys, with the same weights each time."""
    torch.manual_seed(0)
    vision_cfg = CLIPVisionCfg(layers=1, width=8, head_width=8, image_size=16, patch_size=8)
    text_cfg = CLIPTextCfg(context_length=4, vocab_size=5, width=8, heads=1, layers=1)
    model = CustomTextCLIP(8, vision_cfg, text_cfg)
    model.visual, model.text = ToyImageModule(8), ToyTextModule(8)
    return model.eval()


def literal(embedded: Tensor, module: nn.Module, prompts: list) -> Tensor:
    """Every prompt is a token in every layer, at the end; a fresh one replaces the last layer's output."""
    tokens = embedded.shape[1]
    x = embedded
    for layer, prompt in zip(module.layers, prompts, strict=True):
        if prompt is not None:
            x = torch.cat([x[:, :tokens], prompt.expand(len(x), -1, -1)], dim=1)
        x = layer(x)
    return module.project(x[:, :tokens].mean(dim=1))


def literal_image(clip: nn.Module, images: Tensor, prompts: list) -> Tensor:
    return literal(clip.visual.patches(images).flatten(2).mT, clip.visual, prompts)


def literal_text(clip: nn.Module, ids: Tensor, prompts: list) -> Tensor:
    return literal(clip.text.words(ids), clip.text, prompts)
