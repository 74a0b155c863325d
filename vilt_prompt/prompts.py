"""The prompts and their maps: which prompt enters which layer of which tower (Eq. 10 and 11), and nothing else.

Shapes: n prompt vectors, k learned layers of a tower, d_t and d_v the widths of the text and the vision tower.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from vilt_prompt.config import PromptConfig

PREFIX = "vilt_"  # every parameter of an adapter has it in its path
LONGEST_NAME = 255  # bytes that file systems allow for the name of a folder

# What `use_adapter` chose in this thread or asyncio task, which share the layers, innermost first. torch.compile guards
# on the value.
_choices: ContextVar[tuple[tuple[PromptLayer, str], ...]] = ContextVar("vilt_prompt_choices", default=())


class LayerPrompts(NamedTuple):
    """What enters each layer (Eq. 10 and 11); None: nothing fresh.

    Attributes:
        text: Entry i-1 is the (n, d_t) prompt of layer i: P_i where text leads, F~(P~_i) where vision does.
        vision: Entry i-1 is the (n, d_v) prompt of layer i: F(P_i) where text leads, P~_i where vision does.
    """

    text: list[Tensor | None]
    vision: list[Tensor | None]


class Source(NamedTuple):
    """The prompt of one layer: a row of those that tower `leader` learns, mapped for the other tower."""

    leader: str
    row: int


@dataclass(frozen=True)
class PromptTable:
    """Which prompt enters which layer. Entry i-1 is layer i; None: nothing fresh."""

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
            depths = (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 0)
            text_led = depths[0] if config.K is None else config.K
            # Vision leads in the layers whose partner comes after those that text leads.
            first_led = next((i for i in range(depths[1]) if partner(i, *depths[::-1]) >= text_led), depths[1])
            for i in range(depths[0]):
                led = i < text_led
                table["text"][i] = Source("text", i) if led else Source("vision", partner(i, *depths) - first_led)
            for i in range(depths[1]):
                led = i >= first_led
                row = i - first_led if led else partner(i, *depths[::-1])
                table["vision"][i] = Source("vision" if led else "text", row)
        return cls(tuple(table["text"]), tuple(table["vision"]))

    def learned(self, tower: str) -> int:
        """k: the number of layers whose prompt `tower` learns."""
        return len({source for source in self.text + self.vision if source is not None and source.leader == tower})

    def mapped(self, leader: str, tower: str) -> int:
        """How many layers of `tower` take their prompt from `leader`, the other one."""
        return sum(source is not None and source.leader == leader for source in getattr(self, tower))


def partner(i: int, layers: int, others: int) -> int:
    """Which of the other tower's layers stands at the relative depth of layer i, both counted from 0.

    Counted from 1 that is layer ceil(i * others / layers).
    """
    return ((i + 1) * others + layers - 1) // layers - 1


class PerLayerLinear(nn.Module):
    """k linear maps side by side, one for each layer: (k, n, d_in) -> (k, n, d_out). Initialised as nn.Linear."""

    def __init__(self, k: int, d_in: int, d_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(k, d_out, d_in, dtype=torch.float32).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(k, d_out, dtype=torch.float32).uniform_(-bound, bound))

    def forward(self, prompts: Tensor) -> Tensor:
        """(k, n, d_in) -> (k, n, d_out)."""
        return prompts @ self.weight.mT + self.bias.unsqueeze(1)


class PromptLayer(nn.Module, BaseTunerLayer):
    """The learned prompts and maps of all adapters: `vilt_text` (k, n, d_t), `vilt_vision` (k, n, d_v), F and F~."""

    adapter_layer_names = ("vilt_text", "vilt_vision", "vilt_F", "vilt_F_tilde")
    other_param_names = ("tables",)

    def __init__(self) -> None:
        super().__init__()
        self.vilt_text = nn.ParameterDict()
        self.vilt_vision = nn.ParameterDict()
        self.vilt_F = nn.ModuleDict()
        self.vilt_F_tilde = nn.ModuleDict()
        self.tables: dict[str, PromptTable] = {}
        self.configs: dict[str, PromptConfig] = {}  # the tuner's own
        self.enable_adapters(True)

    def add(self, adapter_name: str, config: PromptConfig, table: PromptTable, widths: dict[str, int]) -> None:
        """Makes the prompts, N(0, 0.02^2), and maps of a new adapter, in float32."""
        self.tables[adapter_name] = table
        learned = {tower: table.learned(tower) for tower in ("text", "vision")}
        for tower, n in (("text", config.n_ctx), ("vision", config.n_ctx_vision)):
            if learned[tower]:
                shape = (learned[tower], int(n or 0), widths[tower])
                prompts = torch.empty(shape, dtype=torch.float32).normal_(std=0.02)
                self._learned(tower)[adapter_name] = nn.Parameter(prompts)
        for leader, follower in (("text", "vision"), ("vision", "text")):
            mapped = table.mapped(leader, follower)
            if mapped:
                d_in, d_out = widths[leader], widths[follower]
                self._maps(leader)[adapter_name] = (
                    PerLayerLinear(mapped, d_in, d_out)
                    if config.mapper == "per_layer"
                    else nn.Linear(d_in, d_out, dtype=torch.float32)
                )

    def start_from(self, adapter_name: str, embeddings: Tensor) -> None:
        """Fills the first rows of the first text prompt with embeddings (at most n, d_t)."""
        with torch.no_grad():
            self.vilt_text[adapter_name][0, : len(embeddings)] = embeddings

    def tower_prompts(self, tower: str) -> list[Tensor | None]:
        """The (n, d) prompt that enters each layer of a tower under the current adapter; None: nothing fresh."""
        adapter = self.current()
        sources = getattr(self.tables[adapter], tower)
        prompts: list[Tensor | None] = [None] * len(sources)
        for leader in ("text", "vision"):
            layers = [i for i, source in enumerate(sources) if source is not None and source.leader == leader]
            if not layers:
                continue
            learned = self._learned(leader)[adapter]  # [k n d]
            rows = [sources[i].row for i in layers]
            if leader != tower:
                mapper = self._maps(leader)[adapter]
                if rows != list(range(len(learned))):  # under proportional pairing layers may share or skip rows
                    learned = learned[rows]
                # open_clip's convert_weights_to_lp halves every nn.Linear, the maps among them.
                learned = mapper(learned.to(mapper.weight.dtype))
            for i, prompt in zip(layers, learned.unbind(), strict=True):
                prompts[i] = prompt
        return prompts

    @property
    def enabled(self) -> bool:
        """Whether an adapter takes part in the forward pass."""
        return not self.disable_adapters and (bool(self.active_adapters) or self._chosen() is not None)

    @contextlib.contextmanager
    def choose(self, adapter_name: str) -> Iterator[None]:
        """Lets an adapter take part in place of the active one, in this thread or asyncio task."""
        choice = (self, adapter_name)
        _choices.set((choice, *_choices.get()))
        try:
            yield
        finally:
            # Generators inside such blocks may end in any order, even in another thread: a token of the variable would
            # then put back the choice of somebody else.
            choices = list(_choices.get())
            if choice in choices:
                choices.remove(choice)
                _choices.set(tuple(choices))

    def is_chosen(self, adapter_name: str) -> bool:
        """Whether this thread or asyncio task is inside a `choose(adapter_name)`."""
        return any(layer is self and name == adapter_name for layer, name in _choices.get())

    def tensors(self, adapter_name: str) -> dict[str, nn.Parameter]:
        """The parameters of one adapter under names such as `vilt_F.weight`."""
        tensors: dict[str, nn.Parameter] = {}
        for kind in self.adapter_layer_names:
            entries = getattr(self, kind)
            if adapter_name in entries:
                entry = entries[adapter_name]
                parts = {"": entry} if isinstance(entry, nn.Parameter) else dict(entry.named_parameters())
                tensors |= {f"{kind}.{part}".rstrip("."): parameter for part, parameter in parts.items()}
        return tensors

    def rename(self, old: str, new: str) -> None:
        """Gives an adapter another name, in the same place among the others."""
        for kind in (*self.adapter_layer_names, *self.other_param_names):
            entries = getattr(self, kind)
            renamed = [(new if name == old else name, entry) for name, entry in entries.items()]
            entries.clear()
            entries.update(renamed)

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """PEFT's switch, for one adapter at a time; more, or one that is not there, are a ValueError."""
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        if len(names) > 1:
            raise ValueError(f"one adapter can be active at a time, got {names}: choose one of them")
        for name in names:
            if name not in self.tables:
                raise ValueError(f"there is no adapter {name!r}; there are: {', '.join(self.tables)}")
        super().set_adapter(names, inference_mode=inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Deletes an adapter. If it was active and frozen, the next one is active and frozen too."""
        own = self.tensors(adapter_name).values()
        active_and_frozen = adapter_name in self.active_adapters and not any(p.requires_grad for p in own)
        super().delete_adapter(adapter_name)
        if active_and_frozen:
            self.set_adapter(self.active_adapters, inference_mode=True)

    def enable_adapters(self, enabled: bool) -> None:
        """Switches all adapters on or off. PEFT's own version makes a frozen one trainable on the way back."""
        # An entry for each open block of `disable_adapter`, which threads and generators leave in any order.
        self._disable_adapters: Any = [None] * (not enabled)

    @property
    def weight(self) -> Tensor:
        """Missing, as is `bias`: PEFT's own is a base layer's, which prompts do not have."""
        raise AttributeError

    bias = weight

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # The model moves prompts.
        pass

    def _chosen(self) -> str | None:
        for layer, name in _choices.get():
            if layer is self:
                return name
        return None

    def current(self) -> str:
        """The adapter that takes part here: the chosen one, else the active one; a ValueError if there is none."""
        adapter = self._chosen()
        if adapter is None:
            if not self.active_adapters:
                raise ValueError("no adapter is active: add one with add_adapter(...) and set_adapter(...)")
            (adapter,) = self.active_adapters
        if adapter not in self.tables:
            raise ValueError(
                f"the adapter {adapter!r} was deleted or renamed while `with model.use_adapter(...)` used it; "
                f"there are: {', '.join(self.tables)}"
            )
        return adapter

    def _learned(self, tower: str) -> nn.ParameterDict:
        return self.vilt_text if tower == "text" else self.vilt_vision

    def _maps(self, leader: str) -> Any:
        return self.vilt_F if leader == "text" else self.vilt_F_tilde


def refuse_adapter_name(adapter_name: Any) -> None:
    """Refuses what is no name of a folder, or would mislead PEFT, which finds tensors by the name in their keys."""
    if not isinstance(adapter_name, str):
        raise TypeError(f"an adapter name must be a string, got {adapter_name!r}")
    key_parts = {"base_model", "model", "prompts", "weight", "bias", *PromptLayer.adapter_layer_names}
    taken = hasattr(nn.ModuleDict(), adapter_name) or hasattr(nn.ParameterDict(), adapter_name)
    no_folder = set(adapter_name) & set("./\\:\0") or len(os.fsencode(adapter_name)) > LONGEST_NAME
    if adapter_name in key_parts or adapter_name in PREFIX or taken or no_folder:
        raise ValueError(
            f"the adapter name {adapter_name[:40]!r} is refused: it is empty, a part of the names of parameters, or no "
            f"name of a folder (no dot, slash, backslash, colon or null byte, at most {LONGEST_NAME} bytes); choose "
            'another one, such as "ucf101"'
        )
