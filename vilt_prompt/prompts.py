"""Which prompt enters which layer of which tower, and the maps F and F~ (Eq. 10 and 11).

P_i is the prompt that enters layer i, with layers counted from 1. The paper calls it P_{i-1}.

Shapes: n prompt vectors, k learned layers of a tower, d_t and d_v the widths of the text and the vision tower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vilt_prompt.config import PromptConfig

OTHER_TOWER = {"text": "vision", "vision": "text"}


class LayerPrompts(NamedTuple):
    """The prompts that enter the layers of both towers (Eq. 10 and 11).

    Attributes:
        text: Entry i-1 is the (n, d_t) prompt of layer i: P_i if text leads in this layer, F~(P~_i) if vision leads.
            None: no fresh prompt enters the layer.
        vision: Entry i-1 is the (n, d_v) prompt of layer i: F(P_i) if text leads in this layer, P~_i if vision leads.
            None: no fresh prompt enters the layer.
    """

    text: list[Tensor | None]
    vision: list[Tensor | None]


class Source(NamedTuple):
    """The origin of one layer's prompt: one of the prompts that a tower learns.

    A layer of that tower takes the prompt as it is. A layer of the other tower takes it through F or F~.

    Attributes:
        leader: The tower that learns the prompt, "text" or "vision".
        row: The index of the prompt among the k prompts of that tower.
    """

    leader: str
    row: int


@dataclass(frozen=True)
class PromptTable:
    """The source of the prompt of each layer.

    Attributes:
        text: Entry i-1 is the source of layer i in the text tower. None: no fresh prompt enters the layer.
        vision: Entry i-1 is the source of layer i in the vision tower. None: no fresh prompt enters the layer.
    """

    text: tuple[Source | None, ...]
    vision: tuple[Source | None, ...]

    @classmethod
    def of(cls, config: PromptConfig, text_layers: int, vision_layers: int) -> PromptTable:
        """The table of a resolved config, for towers of these depths."""
        table: dict[str, list[Source | None]] = {"text": [None] * text_layers, "vision": [None] * vision_layers}
        if config.lead == "own":
            for tower in table if config.towers == "both" else [str(config.towers)]:
                for i in range(config.depth or len(table[tower])):
                    table[tower][i] = Source(tower, i)
        else:
            proportional = config.pairing == "proportional"
            text_depth, vision_depth = (
                (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 0)
            )
            vision_partners = [partner(i, text_depth, vision_depth) for i in range(text_depth)]  # of text layers
            text_partners = [partner(i, vision_depth, text_depth) for i in range(vision_depth)]  # of vision layers
            # Text leads in the first text layers and in the vision layers that are paired with one of them.
            text_led = text_depth if config.K is None else config.K
            vision_follows = sum(text_layer < text_led for text_layer in text_partners)
            for i, vision_layer in enumerate(vision_partners):
                leads = i < text_led
                table["text"][i] = Source("text", i) if leads else Source("vision", vision_layer - vision_follows)
            for i, text_layer in enumerate(text_partners):
                leads = i >= vision_follows
                table["vision"][i] = Source("vision", i - vision_follows) if leads else Source("text", text_layer)
        return cls(tuple(table["text"]), tuple(table["vision"]))

    def layers(self, tower: str) -> tuple[Source | None, ...]:
        """The sources of one tower's layers."""
        return self.text if tower == "text" else self.vision

    def learned(self, tower: str) -> int:
        """k, the number of prompts that a tower learns."""
        return len({source for source in self.text + self.vision if source is not None and source.leader == tower})

    def mapped(self, leader: str) -> int:
        """The number of layers of the other tower whose prompt is mapped from `leader`."""
        return sum(source is not None and source.leader == leader for source in self.layers(OTHER_TOWER[leader]))


def partner(i: int, layers: int, others: int) -> int:
    """The layer of the other tower that layer i is paired with, both counted from 0.

    It is the layer at the same relative depth. Counted from 1, layer i is paired with layer ceil(i * others / layers).

    Args:
        i: The layer.
        layers: The number of layers of its tower.
        others: The number of layers of the other tower.
    """
    return ((i + 1) * others + layers - 1) // layers - 1


def entering_prompts(
    table: PromptTable, tower: str, learned: Mapping[str, Tensor], maps: Mapping[str, nn.Linear | PerLayerLinear]
) -> list[Tensor | None]:
    """The (n, d) prompt that enters each layer of a tower: Eq. 10 for text, Eq. 11 for vision.

    Args:
        table: The source of each layer's prompt.
        tower: "text" or "vision".
        learned: The prompts P, (k, n, d_t), under "text", and P~, (k, n, d_v), under "vision".
        maps: F under "text", F~ under "vision".

    Returns:
        One entry for each layer. None: no fresh prompt enters the layer.
    """
    sources = table.layers(tower)
    prompts: list[Tensor | None] = [None] * len(sources)
    for leader in ("text", "vision"):
        rows = {i: source.row for i, source in enumerate(sources) if source is not None and source.leader == leader}
        if not rows:
            continue
        entering = learned[leader]  # [k n d]
        if leader != tower:
            if list(rows.values()) != list(range(len(entering))):  # proportional pairing may share or skip rows
                entering = entering[list(rows.values())]
            mapper = maps[leader]
            # open_clip's convert_weights_to_lp casts every nn.Linear to half precision, and the maps with them.
            entering = mapper(entering.to(mapper.weight.dtype))  # [k n d of this tower]
        for i, prompt in zip(rows, entering.unbind(), strict=True):
            prompts[i] = prompt
    return prompts


def new_map(config: PromptConfig, layers: int, d_in: int, d_out: int) -> nn.Linear | PerLayerLinear:
    """Make F or F~ for a resolved config, in float32: one map that all layers share, or one map for each layer."""
    if config.mapper == "per_layer":
        return PerLayerLinear(layers, d_in, d_out)
    # torchao and PyTorch replace every plain nn.Linear of a model that is quantised by a frozen map, but not this one.
    return nn.modules.linear.NonDynamicallyQuantizableLinear(d_in, d_out, dtype=torch.float32)


class PerLayerLinear(nn.Module):
    """k linear maps, one for each layer, initialised as `nn.Linear` initialises its own."""

    def __init__(self, k: int, d_in: int, d_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(k, d_out, d_in, dtype=torch.float32).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(k, d_out, dtype=torch.float32).uniform_(-bound, bound))

    def forward(self, prompts: Tensor) -> Tensor:
        """Map the prompt of each layer with the map of its layer: (k, n, d_in) -> (k, n, d_out)."""
        return prompts @ self.weight.mT + self.bias.unsqueeze(1)
