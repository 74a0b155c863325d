"""`describe`: the origin of every layer's prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import NamedTuple

import torch
from torch import nn

from vilt_prompt.adapter.layer import PromptLayer, prompt_layer
from vilt_prompt.checks import is_readable
from vilt_prompt.inspection.tables import Table
from vilt_prompt.model.prompted import prompted_model
from vilt_prompt.prompts import PromptTable

SYMBOLS = {"text": ("P", "F"), "vision": ("P~", "F~")}  # a tower's own prompts, and its map to the other tower
CARRIED = "carried"
NOTHING = "-"


class DescribedLayer(NamedTuple):
    """One layer of one tower.

    Attributes:
        tower: "text" or "vision".
        layer: The number of the layer, from 1.
        prompt: The prompt that enters the layer. "P_i" or "P~_i": learned in the text or the vision tower. "F(P_i)" or
            "F~(P~_i)": mapped from the other tower, with "F_i" if each layer has a map of its own. "carried": the
            previous layer's output at the prompt positions. "-": no prompt.
        shape: (n, d) of the prompt. None: no prompt.
        trainable: Whether the prompt, or the map that makes it, is trained.
        norm: Mean Euclidean length of the n vectors. None: no fresh prompt enters the layer, or the model is on the
            meta device.
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
        adapter_name: The name of the adapter.
        layers: The layers of the text tower, then the layers of the vision tower. A tower of an unknown family has no
            entries.
        headlines: The lines above the table.
    """

    adapter_name: str
    layers: tuple[DescribedLayer, ...]
    headlines: tuple[str, ...]

    def _lines(self) -> Sequence[str]:
        return self.headlines

    def _cells(self) -> Sequence[Sequence[str]]:
        towers = [[*layers] for _, layers in groupby(self.layers, key=lambda layer: layer.tower)]
        rows = [["layer", *(part for tower in towers for part in (tower[0].tower, "shape", "trainable", "norm"))]]
        for i, layers in enumerate(zip_longest(*towers), start=1):
            rows.append([str(i), *(cell for layer in layers for cell in _cells_of(layer))])
        return rows


def describe(wrapped: nn.Module) -> Description:
    """Describe the prompts of all layers: origin (Eq. 10 and 11), shape, norm, and whether they are trained.

    The active adapter is described, or inside `with model.use_adapter(name)` that adapter.

    Examples:
        >>> import open_clip, vilt_prompt
        >>> vision = {"width": 48, "head_width": 16, "layers": 4, "patch_size": 112}
        >>> text = {"width": 32, "heads": 2, "layers": 3}
        >>> clip = open_clip.CLIP(16, vision, text)
        >>> model = vilt_prompt.wrap(clip, K=1, n_ctx=2, depth=2)
        >>> for layer in vilt_prompt.describe(model).layers[:3]:
        ...     print(layer.prompt, layer.shape, layer.trainable)
        P_1 (2, 32) True
        F~(P~_2) (2, 32) True
        carried (2, 32) False

    Args:
        wrapped: A model that `wrap` or `from_pretrained` returned, or the open_clip model inside it.

    Returns:
        The description, which prints as a table.

    Raises:
        TypeError: If `wrapped` is not a wrapped model.
        ValueError: If no adapter is active.
    """
    model = prompted_model(wrapped)
    prompts = prompt_layer(model)
    name = prompts.current()
    config = prompts.configs[name]
    with torch.inference_mode(False), torch.enable_grad():  # else no prompt would require a gradient
        entering = model.layer_prompts()._asdict()
    layers = []
    for tower, fresh in entering.items():
        names = prompt_names(prompts.tables[name], tower, config.mapper == "per_layer")
        shape = None
        for i, (prompt, symbol) in enumerate(zip(fresh, names, strict=True), start=1):
            norm = None
            if prompt is not None:
                shape = (prompt.shape[0], prompt.shape[1])
                norm = prompt.detach().float().norm(dim=1).mean().item() if is_readable(prompt) else None
            trainable = prompt is not None and prompt.requires_grad
            layers.append(DescribedLayer(tower, i, symbol, shape, trainable, norm))
    tensors = prompts.tensors(name).values()
    total = sum(tensor.numel() for tensor in tensors)
    trained = sum(tensor.numel() for tensor in tensors if tensor.requires_grad)
    settings = ["method", "towers", "lead", "mapper", "pairing", "depth", "K", "n_ctx"]
    settings += ["n_ctx_vision"] if config.n_ctx_vision != config.n_ctx else []
    headlines = (
        f"adapter {name!r}: {_state(prompts, name)}",
        ", ".join(f"{field}={getattr(config, field)!r}" for field in settings),
        f"{total:,} parameters, {trained:,} trainable",
        *(f"the {tower} tower belongs to no family that takes prompts" for tower in SYMBOLS if not entering[tower]),
    )
    return Description(name, tuple(layers), headlines)


def prompt_names(table: PromptTable, tower: str, per_layer_maps: bool) -> list[str]:
    """Name the prompt of each layer of a tower in the symbols of Eq. 10 and 11."""
    names: list[str] = []
    for i, source in enumerate(getattr(table, tower)):
        if source is None:
            names.append(CARRIED if names and names[-1] != NOTHING else NOTHING)
        else:
            symbol, mapper = SYMBOLS[source.leader]
            learned = f"{symbol}_{getattr(table, source.leader).index(source) + 1}"
            mapper += f"_{i + 1}" if per_layer_maps else ""
            names.append(learned if source.leader == tower else f"{mapper}({learned})")
    return names


def _state(prompts: PromptLayer, name: str) -> str:
    state = "chosen by use_adapter" if prompts.is_chosen(name) else "active"
    others = [other for other in prompts.tables if other != name]
    state += "" if prompts.enabled else ", switched off by disable_adapter"
    return state + (f"; beside it: {', '.join(others)}" if others else "")


def _cells_of(layer: DescribedLayer | None) -> list[str]:
    if layer is None:
        return [""] * 4
    trainable = "" if layer.shape is None else "yes" if layer.trainable else "no"
    norm = "" if layer.norm is None else f"{layer.norm:.4g}"
    return [layer.prompt, str(layer.shape or ""), trainable, norm]
