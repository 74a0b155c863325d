"""The parameters of all adapters in a model: their learned prompts and their maps.

Shapes: n prompt vectors, k learned layers of a tower, d_t and d_v the widths of the text and the vision tower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from vilt_prompt.adapter import choice
from vilt_prompt.config import PromptConfig
from vilt_prompt.model.prompted import prompted_model
from vilt_prompt.prompts import OTHER_TOWER, PromptTable, entering_prompts, new_map

PREFIX = "vilt_"  # PEFT finds an adapter's parameters by this prefix in their paths
SAVED_PREFIX = "base_model.model.prompts."  # of the names of tensors in files, as PEFT lays them out


def prompt_layer(wrapped: object) -> PromptLayer:
    """The layer that holds the adapters of a wrapped model. A TypeError if the model is not wrapped."""
    layer = prompted_model(wrapped).prompts
    assert isinstance(layer, PromptLayer)
    return layer


class PromptLayer(nn.Module, BaseTunerLayer):
    """The learned prompts and maps of all adapters: `vilt_text` (k, n, d_t), `vilt_vision` (k, n, d_v), F and F~."""

    adapter_layer_names = ("vilt_text", "vilt_vision", "vilt_F", "vilt_F_tilde")
    other_param_names = ("tables", "shapes")
    cast_input_dtype_enabled = True  # a switch of PEFT's; prompts always take the type of the tokens that they join

    def __init__(self, configs: dict[str, PromptConfig], active_adapter: str) -> None:
        """Make a layer without parameters.

        Args:
            configs: The configs of the adapters. The tuner owns this dict.
            active_adapter: The name of the adapter that will be active.
        """
        super().__init__()
        self.vilt_text = nn.ParameterDict()
        self.vilt_vision = nn.ParameterDict()
        self.vilt_F = nn.ModuleDict()
        self.vilt_F_tilde = nn.ModuleDict()
        self.tables: dict[str, PromptTable] = {}
        # The shapes of the whole tensors: a process may hold only a part of each.
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        self.configs = configs
        self._active_adapter = [active_adapter]
        self.enable_adapters(True)

    def add(self, adapter_name: str, config: PromptConfig, table: PromptTable, widths: dict[str, int]) -> None:
        """Add the parameters of a new adapter in float32: prompts from N(0, 0.02^2), and maps.

        Args:
            adapter_name: The name of the adapter.
            config: Its resolved config.
            table: The source of each layer's prompt.
            widths: The width d of each tower, by "text" and "vision".
        """
        self.tables[adapter_name] = table
        for tower, n in (("text", config.n_ctx), ("vision", config.n_ctx_vision)):
            if k := table.learned(tower):
                prompts = torch.empty((k, int(n or 0), widths[tower]), dtype=torch.float32).normal_(std=0.02)
                self._learned(tower)[adapter_name] = nn.Parameter(prompts)
        for leader, follower in OTHER_TOWER.items():
            if mapped := table.mapped(leader):
                self._maps(leader)[adapter_name] = new_map(config, mapped, widths[leader], widths[follower])
        self.shapes[adapter_name] = {name: tuple(own.shape) for name, own in self.tensors(adapter_name).items()}

    def start_from(self, adapter_name: str, embeddings: Tensor) -> None:
        """Fill the first rows of the first text prompt with token embeddings (at most n, d_t)."""
        with torch.no_grad():
            self.vilt_text[adapter_name][0, : len(embeddings)] = embeddings

    def tower_prompts(self, tower: str) -> list[Tensor | None]:
        """The (n, d) prompt that enters each layer of a tower under the current adapter. None: no fresh prompt."""
        adapter = self.current()
        learned = {each: self._learned(each)[adapter] for each in OTHER_TOWER if adapter in self._learned(each)}
        maps = {each: self._maps(each)[adapter] for each in OTHER_TOWER if adapter in self._maps(each)}
        return entering_prompts(self.tables[adapter], tower, learned, maps)

    @property
    def enabled(self) -> bool:
        """Whether an adapter takes part in the forward pass."""
        return not self.disable_adapters and (bool(self.active_adapters) or choice.chosen(self) is not None)

    @contextlib.contextmanager
    def choose(self, adapter_name: str) -> Iterator[None]:
        """Use an adapter instead of the active one inside the block, in this thread or asyncio task only."""
        with choice.choose(self, adapter_name):
            yield

    def is_chosen(self, adapter_name: str) -> bool:
        """Whether this thread or asyncio task is inside a `choose(adapter_name)`."""
        return choice.is_chosen(self, adapter_name)

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

    def fill(
        self, adapter_name: str, tensors: Mapping[str, Tensor], device: torch.device, in_float32: bool = True
    ) -> None:
        """Copy saved values into the parameters of an adapter.

        Args:
            adapter_name: The adapter.
            tensors: The values, under the names that the method `tensors` gives.
            device: Where the model is. Parameters on the meta device, as PEFT's `low_cpu_mem_usage` makes them, become
                real ones there.
            in_float32: Whether parameters of half precision become float32 again.
        """
        own = self.tensors(adapter_name)
        if device.type == "meta":
            return  # a model without values
        become_real = any(parameter.is_meta for parameter in own.values())
        state = {key_of(name, adapter_name): tensors[name] for name in own}
        if become_real:
            state = {key: tensor.to(device, copy=True) for key, tensor in state.items()}
        for parameter in own.values():
            if in_float32 and parameter.dtype in (torch.float16, torch.bfloat16):
                parameter.data = parameter.data.float()
        self.load_state_dict(state, strict=False, assign=become_real)  # not strict: the other adapters are not in it

    def rename(self, old: str, new: str) -> None:
        """Rename an adapter. Its position in the order of adapters stays the same."""
        self._active_adapter = [new if name == old else name for name in self.active_adapters]
        for kind in (*self.adapter_layer_names, *self.other_param_names):
            entries = getattr(self, kind)
            renamed = [(new if name == old else name, entry) for name, entry in entries.items()]
            entries.clear()
            entries.update(renamed)

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Make one adapter the active one.

        Args:
            adapter_names: Its name, or a list with at most one name. An empty list: no adapter is active.
            inference_mode: Whether the active adapter is frozen.

        Raises:
            ValueError: If there are several names, or there is no such adapter.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        if len(names) > 1:
            raise ValueError(f"one adapter can be active at a time, got {names}: choose one of them")
        for name in names:
            if name not in self.tables:
                raise ValueError(f"there is no adapter {name!r}; there are: {', '.join(self.tables)}")
        super().set_adapter(names)
        if inference_mode:  # older releases of PEFT have no such argument
            self.set_requires_grad(names, False)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Make adapters trainable, or freeze them. Older releases of PEFT have no such method."""
        for name in [adapter_names] if isinstance(adapter_names, str) else adapter_names:
            for parameter in self.tensors(name).values():
                parameter.requires_grad_(requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter. If it was active, another one becomes active, frozen if the deleted one was."""
        own = self.tensors(adapter_name).values()
        active_and_frozen = adapter_name in self.active_adapters and not any(p.requires_grad for p in own)
        super().delete_adapter(adapter_name)
        if active_and_frozen:
            self.set_adapter(self.active_adapters, inference_mode=True)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Switch all adapters off inside the block, for all threads."""
        blocks = self._disable_adapters
        blocks.append(None)
        try:
            yield
        finally:
            del blocks[:1]  # they are only counted

    def enable_adapters(self, enabled: bool) -> None:
        """Switch all adapters on or off. PEFT's own method, switching on, would make a frozen adapter trainable."""
        # An entry for each open block of `disable_adapter`, which threads and generators leave in any order.
        self._disable_adapters: Any = [None] * (not enabled)

    @property
    def weight(self) -> Tensor:
        """Not available, nor is `bias`: PEFT's own properties return the base layer's, which prompts lack."""
        raise AttributeError

    bias = weight

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # The model moves prompts.
        pass

    def current(self) -> str:
        """The name of the adapter in use: the one that `use_adapter` chose, otherwise the active one.

        Raises:
            ValueError: If no adapter is active, or the chosen one was deleted or renamed.
        """
        adapter = choice.chosen(self)
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

    def _maps(self, leader: str) -> Any:  # a ModuleDict does not know the type of its modules
        return self.vilt_F if leader == "text" else self.vilt_F_tilde


def key_of(name: str, adapter_name: str) -> str:
    """The key of an adapter's tensor in the layer's state dict: `vilt_F.weight` of "a" is `vilt_F.a.weight`."""
    kind, *part = name.split(".")
    return ".".join([kind, adapter_name, *part])
