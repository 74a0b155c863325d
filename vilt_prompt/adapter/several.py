"""Several adapters in one model: choosing one, adding, deleting and renaming, and their mean."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import torch
from peft import PeftConfig

from vilt_prompt.adapter.fitting import differences
from vilt_prompt.adapter.layer import PromptLayer
from vilt_prompt.adapter.names import check_adapter_name
from vilt_prompt.checks import check_choice
from vilt_prompt.config import PromptConfig


class SeveralAdapters:
    """The methods of `PromptPeftModel` for several adapters."""

    prompts: PromptLayer
    peft_config: dict[str, Any]
    base_model: Any

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make one adapter the active one, trainable unless `inference_mode`. The others are frozen.

        Args:
            adapter_name: The name of the adapter, or a list of one name, as PEFT's tuners accept it.
            inference_mode: Whether the active adapter is frozen as well.

        Raises:
            TypeError: If the name is not a string.
            ValueError: If there is no such adapter, or the list does not contain exactly one name.
        """
        if isinstance(adapter_name, Sequence) and not isinstance(adapter_name, str):
            if len(adapter_name) != 1:
                raise ValueError(f"one adapter can be active at a time, got {adapter_name!r}: choose one of them")
            (adapter_name,) = adapter_name
        self._check_known(adapter_name)
        self.base_model.set_adapter(adapter_name, inference_mode)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Make adapters trainable, or freeze them, without activating them.

        Args:
            adapter_names: A name, or a list of names.
            requires_grad: Whether the adapters are trainable.

        Raises:
            TypeError: If a name is not a string.
            ValueError: If there is no such adapter.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        for name in names:
            self._check_known(name)
        self.prompts.set_requires_grad(names, requires_grad)

    @property
    def active_adapter(self) -> str:
        """The name of the active adapter; an empty list if none is active."""
        name: str = self.base_model.active_adapter
        return name

    @active_adapter.setter
    def active_adapter(self, name: str) -> None:
        pass  # PEFT assigns it, but the layer holds the name

    @contextlib.contextmanager
    def use_adapter(self, adapter_name: str) -> Iterator[None]:
        """Use another adapter inside the block: `with model.use_adapter("ucf101"): ...`.

        The choice holds for this thread or asyncio task. In nested blocks the innermost choice counts. The active
        adapter and all `requires_grad` stay as they are, because this is for inference. Inside `disable_adapter` the
        prompts stay off.

        Args:
            adapter_name: The name of the adapter.

        Raises:
            ValueError: If there is no such adapter.
        """
        self._check_known(adapter_name)
        with self.prompts.choose(adapter_name):
            yield

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Switch the prompts off inside the block, for all threads. Features equal the frozen model's bit for bit.

        PEFT's own method would switch off adapters of other kinds too.
        """
        with self.prompts.disabled():
            yield

    def add_adapter(
        self,
        adapter_name: str,
        peft_config: PeftConfig,
        low_cpu_mem_usage: bool = False,
        autocast_adapter_dtype: bool = True,
    ) -> None:
        """Add an adapter. It is inactive and frozen.

        Args:
            adapter_name: The name of the adapter.
            peft_config: A `PromptConfig`.
            low_cpu_mem_usage: Whether to make the tensors on the meta device, to be filled from a file.
            autocast_adapter_dtype: PEFT's argument, without effect: prompts are float32.

        Raises:
            TypeError: If the name is not a string, or the config is not a `PromptConfig`.
            ValueError: If the name is taken or refused, or a setting does not fit the model.
        """
        self._check_new(adapter_name)
        if not isinstance(peft_config, PromptConfig):
            given = type(peft_config).__name__ if isinstance(peft_config, PeftConfig) else repr(peft_config)
            raise TypeError(
                f"expected a PromptConfig, got {given}: PromptConfig.preset(name) makes one; adapters of another kind "
                "go on get_base_model()"
            )
        super().add_adapter(adapter_name, peft_config, low_cpu_mem_usage=low_cpu_mem_usage)  # type: ignore[misc]

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete an adapter. If it was active, another one becomes active, with PEFT's warning.

        Args:
            adapter_name: The name of the adapter.

        Raises:
            ValueError: If there is no such adapter, it is the only one, or a block of `use_adapter` uses it.
        """
        self._check_known(adapter_name)
        self._check_unused(adapter_name)
        self.base_model.delete_adapter(adapter_name)

    def rename_adapter(self, old: str, new: str) -> None:
        """Rename an adapter. Its parameters stay the same objects, so an optimiser that holds them stays valid.

        Args:
            old: The present name.
            new: The new name.

        Raises:
            TypeError: If a name is not a string.
            ValueError: If there is no adapter `old`, `new` is taken or refused, or a block of `use_adapter` uses it.
        """
        self._check_known(old)
        self._check_new(new)
        self._check_unused(old)
        self.prompts.rename(old, new)
        configs = {new if name == old else name: config for name, config in self.peft_config.items()}
        self.peft_config.clear()
        self.peft_config.update(configs)

    def combine(
        self, adapter_names: Sequence[str], weights: Sequence[float] | None = None, *, adapter_name: str
    ) -> None:
        """Add an adapter whose prompts and maps are the weighted mean of other adapters'. It is inactive and frozen.

        Args:
            adapter_names: The adapters to average, trained with the same settings.
            weights: The weight of each adapter, at least 0. Only the proportions matter. None: equal weights.
            adapter_name: The name of the new adapter.

        Raises:
            TypeError: If the names are not a sequence of strings, or the weights are not a sequence of numbers.
            ValueError: If an adapter is unknown, the structures differ, the weights are not one finite number of at
                least 0 for each adapter, all weights are 0, or the new name is taken or refused.
        """
        if isinstance(adapter_names, str) or not isinstance(adapter_names, Sequence):
            raise TypeError(f'adapter_names must be a list of names, such as ["a", "b"], got {adapter_names!r}')
        if not adapter_names:
            raise ValueError(f"there is nothing to combine: name some of the adapters {_listed(self.peft_config)}")
        for name in adapter_names:
            self._check_known(name)
        self._check_new(adapter_name)
        shares = _shares(weights, len(adapter_names))
        first = self.peft_config[adapter_names[0]]
        for name in adapter_names:
            different = differences(first, self.peft_config[name])
            if different:
                raise ValueError(
                    f"the adapters {adapter_names[0]!r} and {name!r} differ in structure and have no mean: "
                    f"{different}. Combine those with the same settings"
                )
        self.add_adapter(adapter_name, first.replace(ctx_init=None, class_names=None, template=None))
        sources = [self.prompts.tensors(name) for name in adapter_names]
        with torch.no_grad():
            for key, mean in self.prompts.tensors(adapter_name).items():
                mean.zero_()
                for share, source in zip(shares, sources, strict=True):
                    mean.add_(source[key], alpha=share)

    def add_weighted_adapter(
        self,
        adapters: Sequence[str],
        weights: Sequence[float] | None,
        adapter_name: str,
        combination_type: str = "linear",
    ) -> None:
        """Add the weighted mean of adapters: `combine` under PEFT's name.

        Args:
            adapters: The adapters to average, trained with the same settings.
            weights: The weight of each, at least 0. Only the proportions matter. None: equal weights.
            adapter_name: The name of the new adapter.
            combination_type: "linear"; prompts have no other combination.

        Raises:
            TypeError: If an argument is of the wrong type.
            ValueError: If `combination_type` is not "linear", or `combine` refuses the adapters, weights or name.
        """
        check_choice("combination_type", combination_type, ["linear"])
        self.combine(adapters, weights, adapter_name=adapter_name)

    def _check_known(self, adapter_name: object) -> None:
        if not isinstance(adapter_name, str):
            raise TypeError(
                f"an adapter name must be a string, got {adapter_name!r}; there are: {_listed(self.peft_config)}"
            )
        if adapter_name not in self.peft_config:
            raise ValueError(f"there is no adapter {adapter_name!r}; there are: {_listed(self.peft_config)}")

    def _check_new(self, adapter_name: object) -> None:
        check_adapter_name(adapter_name)
        if adapter_name in self.peft_config:
            raise ValueError(
                f"there is an adapter {adapter_name!r} already: choose another name than {_listed(self.peft_config)}"
            )

    def _check_unused(self, adapter_name: str) -> None:
        if self.prompts.is_chosen(adapter_name):
            raise ValueError(f"the adapter {adapter_name!r} is in use: leave `with model.use_adapter(...)` first")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _shares(weights: object, count: int) -> list[float]:
    """Check the weights, and scale them to a sum of 1."""
    if weights is None:
        return [1 / count] * count
    if not isinstance(weights, Sequence) or isinstance(weights, str):
        raise TypeError(f"weights must be a list of numbers, one for each adapter, got {weights!r}")
    for weight in weights:
        if not isinstance(weight, Real) or isinstance(weight, bool):
            raise TypeError(f"weights must be numbers, got {weight!r}")
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights were given for {count} adapters: give one for each")
    try:
        total = math.fsum(weights)
    except (OverflowError, ValueError):  # too large, or infinities that cancel
        total = math.inf
    if not math.isfinite(total) or min(weights) < 0 or total == 0:
        raise ValueError(f"the weights of a mean must be finite, at least 0, and not all 0, got {list(weights)}")
    return [float(weight) / total for weight in weights]
