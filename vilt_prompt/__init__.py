"""Prompts for open_clip models, so that CLIP understands video with a few trained vectors (ViLT-CLIP, AAAI 2024)."""

from vilt_prompt.adapter.peft_model import PromptPeftModel
from vilt_prompt.config import PromptConfig
from vilt_prompt.conversion.convert import convert
from vilt_prompt.inspection.description import Description, describe
from vilt_prompt.inspection.vocabulary import NearestTokens, nearest_tokens
from vilt_prompt.loading import create_model_and_transforms, from_pretrained, push_to_hub
from vilt_prompt.losses import TEMPLATE, LossTerms, ScenarioGuidedLoss, scenario_features, scenario_loss
from vilt_prompt.methods import METHODS, Method
from vilt_prompt.prompts import LayerPrompts
from vilt_prompt.towers.packing import PackedTexts
from vilt_prompt.wrapping import unwrap, wrap

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "TEMPLATE",
    "Description",
    "LayerPrompts",
    "LossTerms",
    "Method",
    "NearestTokens",
    "PackedTexts",
    "PromptConfig",
    "PromptPeftModel",
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
