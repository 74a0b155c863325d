"""`describe`: where the prompt of every layer comes from, and what of it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vilt_prompt.checks import is_readable
from vilt_prompt.model import prompted_model
from vilt_prompt.prompts import PromptLayer, PromptTable
from vilt_prompt.tables import Table

SYMBOLS = {"text": ("P", "F"), "vision": ("P~", "F~")}  # a tower's learned prompts, and the map that leads out of it
CARRIED = "carried"
NOTHING = "-"


class DescribedLayer(NamedTuple):
    """One layer of one tower.

    Attributes:
        tower: "text" or "vision".
        layer: Its number, from 1.
        prompt: What enters it: "P_i" and "P~_i", the prompts that the text and the vision tower learn for layer i;
            "F(P_i)" and "F~(P~_i)", those mapped from the other tower, with "F_i" where the map is this layer's own;
            "carried", what the layer before gave out; "-", no prompt.
        shape: (n, d) of the prompt, None where there is none.
        trainable: Whether the prompt, or the map that makes it, is trained. False where nothing fresh enters.
        norm: Mean length of the n vectors; None where nothing fresh enters, or values cannot be read.
    """

    tower: str
    layer: int
    prompt: str
    shape: tuple[int, int] | None
    trainable: bool
    norm: float | None


@dataclass(frozen=True, repr=False)
class Description(Table):
    """Every layer of both towers. It prints as a table, in a terminal and in a notebook.

    Attributes:
        adapter_name: The adapter that is described.
        layers: The layers of the text tower, then those of the vision tower. A tower of no known family has none.
        headlines: The lines above the table: the adapter's state, settings and number of parameters.
    """

    adapter_name: str
    layers: tuple[DescribedLayer, ...]
    headlines: tuple[str, ...]

    def _lines(self) -> Sequence[str]:
        return self.headlines

    def _cells(self) -> Sequence[Sequence[str]]:
        towers = [
            [layer for layer in self.layers if layer.tower == name]
            for name in SYMBOLS
            if any(layer.tower == name for layer in self.layers)
        ]
        headings = ["layer", *(part for tower in towers for part in (tower[0].tower, "shape", "trainable", "norm"))]
        rows = [headings]
        for i in range(max(len(tower) for tower in towers)):
            rows.append([str(i + 1), *(cell for tower in towers for cell in _cells_of(tower[i : i + 1]))])
        return rows


def describe(wrapped: Any) -> Description:
    """Says of every layer of both towers where its prompt comes from, its shape, whether it is trained, and its norm.

    It is the current adapter that is described: the active one, inside `use_adapter` the chosen one. Printed, the two
    towers stand side by side; P_i is learned in the text tower, P~_i in the vision tower (Eq. 10 and 11). Under
    `pairing="proportional"` the numbers are those of the layers that are paired.

    >>> import open_clip, torch, vilt_prompt
    >>> towers = {"width": 32, "heads": 2, "layers": 3}, {"width": 48, "head_width": 16, "layers": 4, "patch_size": 112}
    >>> clip = open_clip.CLIP(16, vision_cfg=towers[1], text_cfg=towers[0])
    >>> model = vilt_prompt.wrap(clip, K=1, n_ctx=2, depth=2)
    >>> with torch.no_grad():
    ...     _ = [parameter.fill_(0.5) for parameter in model.parameters() if parameter.requires_grad]
    >>> print(vilt_prompt.describe(model))
    adapter 'default': active
    method='vilt', towers='both', lead='split', mapper='shared', pairing='layer', depth=2, K=1, n_ctx=2
    3,312 parameters, 3,312 trainable
    <BLANKLINE>
    layer  text      shape    trainable  norm   vision   shape    trainable  norm
    1      P_1       (2, 32)  yes        2.828  F(P_1)   (2, 48)  yes        58.89
    2      F~(P~_2)  (2, 32)  yes        70.71  P~_2     (2, 48)  yes        3.464
    3      carried   (2, 32)  no                carried  (2, 48)  no
    4                                           carried  (2, 48)  no

    Args:
        wrapped: What `wrap` or `from_pretrained` returned; the open_clip object inside will do.

    Returns:
        The description: `.layers` has its rows.

    Raises:
        TypeError: If `wrapped` is no wrapped model.
        ValueError: If no adapter is active.
    """
    model = prompted_model(wrapped)
    prompts = model.prompts
    name = prompts.current()
    config = prompts.configs[name]
    with torch.inference_mode(False), torch.enable_grad():  # whether a mapped prompt is trained is read off its graph
        entering = model.layer_prompts()._asdict()
    layers = [
        layer
        for tower in SYMBOLS
        for layer in _described(tower, entering[tower], prompts, str(config.mapper), prompts.tables[name])
    ]
    tensors = prompts.tensors(name).values()
    total = sum(tensor.numel() for tensor in tensors)
    trainable = sum(tensor.numel() for tensor in tensors if tensor.requires_grad)
    settings = ["method", "towers", "lead", "mapper", "pairing", "depth", "K", "n_ctx"]
    settings += ["n_ctx_vision"] if config.n_ctx_vision != config.n_ctx else []
    headlines = [
        f"adapter {name!r}: {_state(prompts, name)}",
        ", ".join(f"{field}={getattr(config, field)!r}" for field in settings),
        f"{total:,} parameters, {trainable:,} trainable",
    ]
    for tower in SYMBOLS:
        if not entering[tower]:
            headlines.append(f"the {tower} tower belongs to no family that takes prompts")
    return Description(name, tuple(layers), tuple(headlines))


def prompt_names(table: PromptTable, tower: str, per_layer_maps: bool) -> list[str]:
    """Where the prompt of each layer of a tower comes from, in the symbols of Eq. 10 and 11."""
    names = []
    previous = NOTHING
    for i, source in enumerate(getattr(table, tower)):
        if source is None:
            names.append(CARRIED if previous != NOTHING else NOTHING)
        else:
            symbol, mapper = SYMBOLS[source.leader]
            learned = f"{symbol}_{getattr(table, source.leader).index(source) + 1}"
            mapper += f"_{i + 1}" if per_layer_maps else ""
            names.append(learned if source.leader == tower else f"{mapper}({learned})")
        previous = names[-1]
    return names


def _described(
    tower: str, entering: list[Tensor | None], prompts: PromptLayer, mapper: str, table: PromptTable
) -> Iterator[DescribedLayer]:
    names = prompt_names(table, tower, mapper == "per_layer")
    shape = None
    for i, (prompt, name) in enumerate(zip(entering, names, strict=True), start=1):
        if prompt is None:
            yield DescribedLayer(tower, i, name, shape, trainable=False, norm=None)
        else:
            shape = (prompt.shape[0], prompt.shape[1])
            norm = prompt.detach().float().norm(dim=1).mean().item() if is_readable(prompt) else None
            yield DescribedLayer(tower, i, name, shape, prompt.requires_grad, norm)


def _state(prompts: PromptLayer, name: str) -> str:
    state = "chosen by use_adapter" if prompts.is_chosen(name) else "active"
    others = [other for other in prompts.tables if other != name]
    state += "" if prompts.enabled else ", switched off by disable_adapter"
    return state + (f"; beside it: {', '.join(others)}" if others else "")


def _cells_of(layers: list[DescribedLayer]) -> list[str]:
    """The cells of no layer or one."""
    if not layers:
        return [""] * 4
    (layer,) = layers
    return [
        layer.prompt,
        "" if layer.shape is None else str(layer.shape),
        "" if layer.shape is None else "yes" if layer.trainable else "no",
        "" if layer.norm is None else f"{layer.norm:.4g}",
    ]
