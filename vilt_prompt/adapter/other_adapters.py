"""PEFT adapters of other kinds, such as LoRA, in the same open_clip model: what works beside prompts, what is refused.

A block whose attention PEFT has put something around runs whole. But torch's attention reads the weights of its output
projection rather than call it, and so does timm's with EVA01's `qkv`: an adapter there would be ignored without a word.
Blocks look for one at each call, as it may come after `wrap`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from torch import nn

from vilt_prompt.config import PromptConfig

ADAPTED = (BaseTunerLayer, AuxiliaryTrainingWrapper)  # what PEFT puts around a module


def check_attention(attention: nn.Module) -> None:
    """Refuses an adapter where torch's or EVA01's attention ignores it (ValueError)."""
    if type(attention) is nn.MultiheadAttention and isinstance(attention.out_proj, ADAPTED):
        raise ValueError(
            "there is an adapter of another kind, such as LoRA, on out_proj inside an nn.MultiheadAttention, which "
            'ignores it: adapt the whole attention, LoraConfig(target_modules=["attn"]), or ["c_fc", "c_proj"]'
        )
    if isinstance(attention, EvaAttention) and attention.q_bias is not None and isinstance(attention.qkv, ADAPTED):
        raise ValueError(
            "there is an adapter of another kind, such as LoRA, on qkv inside an EvaAttention, which ignores it: adapt "
            'the output maps and the MLPs, LoraConfig(target_modules=["proj", "fc1", "fc2"])'
        )


def check_attentions(model: nn.Module, towers: str) -> None:
    """The same for all blocks in the towers that shall have prompts ("both", "text" or "vision")."""
    for name, module in model.named_modules():
        tower = "vision" if name.startswith("visual.") else "text"
        if isinstance(module, ResidualAttentionBlock | EvaBlock | EvaBlockPostNorm) and towers in ("both", tower):
            check_attention(module.attn)


def set_aside(model: nn.Module) -> Any:
    """Takes PEFT's note of the configs off a model, into which it would write those of the next kind."""
    return model.__dict__.pop("peft_config", None)


def put_back(model: nn.Module, note: Any) -> None:
    """Puts it back, in place of what PEFT has put there since."""
    set_aside(model)
    if note is not None:
        model.peft_config = note


def check_state_dict(keys: Iterable[str], prefix: str) -> None:
    """Refuses prompts that come with tensors of something else than the model (ValueError).

    PEFT saves the tensors of all tuners in a model with each: a LoRA's file would overwrite prompts without a word.
    """
    inside = [key.removeprefix(prefix) for key in keys]
    prompts = [key for key in inside if key.startswith("prompts.")]
    if prompts and len(prompts) < len(inside) and "logit_scale" not in inside:
        raise ValueError(
            f"what is loaded has the tensors of an adapter of another kind, and prompts ({prompts[0]}, ...), which "
            "would replace those of the model: PEFT saves them along. Load that adapter before the prompts (wrap the "
            "model after it), or load the two in two calls"
        )


class PromptConfigs(dict[str, Any]):
    """The configs of a tuner, into which PEFT would write those of another one around the wrapped model."""

    def __setitem__(self, adapter_name: str, config: PeftConfig) -> None:
        if not isinstance(config, PromptConfig):
            raise TypeError(
                f"a {type(config).__name__} cannot go around a model with prompts: put it on the open_clip model "
                "inside, get_peft_model(wrapped.get_base_model(), ...)"
            )
        super().__setitem__(adapter_name, config)

    def update(self, configs: Any) -> None:  # type: ignore[override]
        """Adds configs, checked as one of them is."""
        for adapter_name, config in dict(configs).items():
            self[adapter_name] = config
