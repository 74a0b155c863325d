"""The state dicts that a prompted model loads."""

from __future__ import annotations

from collections.abc import Iterable


def check_state_dict(keys: Iterable[str], prefix: str) -> None:
    """Check that prompts are not loaded together with the tensors of an adapter of another kind, such as LoRA.

    PEFT saves the tensors of all adapters in a model into the file of each adapter. So the file of a LoRA may contain
    prompts, and loading it would silently replace the model's prompts.

    Args:
        keys: The keys of the state dict that is loaded.
        prefix: The prefix of the keys that belong to the model.

    Raises:
        ValueError: If the keys include prompts and other tensors, but not the whole model.
    """
    inside = [key.removeprefix(prefix) for key in keys]
    prompts = [key for key in inside if key.startswith("prompts.")]
    if prompts and len(prompts) < len(inside) and "logit_scale" not in inside:
        raise ValueError(
            f"the state dict has tensors of an adapter of another kind, and prompts ({prompts[0]}, ...), which would "
            "replace the model's prompts: PEFT saves both in one file. Load that adapter before the model is wrapped, "
            "or load its tensors and the prompts in two calls"
        )
