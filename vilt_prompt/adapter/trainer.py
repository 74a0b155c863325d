"""The methods that `transformers.Trainer` calls on a model, in addition to PEFT's methods and `forward`."""

from __future__ import annotations

import json
from typing import Any


class ModelConfig(dict[str, str]):
    """The `config` of a model that is not from transformers, as PEFT and trainers expect it.

    `Trainer` sets attributes of the model's `config`, writes it into its logs, and reads it for the model card.
    """

    def __init__(self) -> None:
        super().__init__(model_type="custom")

    def to_dict(self) -> dict[str, str]:
        """The entries as a plain dictionary."""
        return dict(self)

    def to_json_string(self) -> str:
        """The entries as JSON."""
        return json.dumps(self)


class TrainerMethods:
    """Gradient checkpointing under the names of transformers, which open_clip calls `set_grad_checkpointing`."""

    get_base_model: Any  # PEFT's method

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Compute the activations of each layer again in the backward pass, so that they are not kept in memory.

        Args:
            gradient_checkpointing_kwargs: Arguments for `torch.utils.checkpoint`. They have no effect: the
                non-reentrant checkpoint is always used.
        """
        self.get_base_model().set_grad_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep the activations of all layers for the backward pass."""
        self.get_base_model().set_grad_checkpointing(False)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Do the same as `gradient_checkpointing_enable`, under the newer name.

        Args:
            activation_checkpointing_kwargs: Arguments for `torch.utils.checkpoint`, without effect.
            every_n_layers: Must be 1.
            offload: Must be False.

        Raises:
            ValueError: If only some layers are to be checkpointed, or activations are to be moved to the CPU.
        """
        if every_n_layers != 1 or offload:
            raise ValueError(
                f"expected every_n_layers=1 and offload=False, got every_n_layers={every_n_layers} and "
                f"offload={offload}: all layers of an open_clip model are checkpointed, or none"
            )
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs)

    def activation_checkpointing_disable(self) -> None:
        """Do the same as `gradient_checkpointing_disable`."""
        self.gradient_checkpointing_disable()
