"""Prompts for open_clip models, so that CLIP understands video with a few trained vectors (ViLT-CLIP, AAAI 2024)."""

from vilt_prompt.adapter.peft_model import push_to_hub
from vilt_prompt.config import PromptConfig
from vilt_prompt.conversion.convert import convert
from vilt_prompt.inspection.description import describe, nearest_tokens
from vilt_prompt.losses import ScenarioGuidedLoss, scenario_features, scenario_loss
from vilt_prompt.prompts import LayerPrompts
from vilt_prompt.wrapping import create_model_and_transforms, from_pretrained, unwrap, wrap

__version__ = "0.1.0.dev0"

__all__ = [
    "LayerPrompts",
    "PromptConfig",
    "ScenarioGuidedLoss",
    "convert",
    "create_model_and_transforms",
    "describe",
    "from_pretrained",
    "nearest_tokens",
    "push_to_hub",
    "scenario_features",
    "scenario_loss",
    "unwrap",
    "wrap",
]
