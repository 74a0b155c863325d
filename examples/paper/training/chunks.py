"""A model that encodes a few frames at a time, for GPUs that cannot hold the activations of all."""

from typing import Any

from torch import Tensor, nn

from vilt_prompt import PromptPeftModel


class InChunks(nn.Module):
    """Calls a wrapped model as its own `forward` does, some frames at a time, each computed again for the gradients."""

    def __init__(self, model: PromptPeftModel, frames: int) -> None:
        super().__init__()
        self.model = model
        self.frames = frames

    def forward(self, videos: Tensor, tokens: Tensor) -> tuple[Any, ...]:
        """Returns the features of videos (B, T, 3, H, W) and of texts (C, L), normalised, and the logit scale."""
        model: Any = self.model
        features = model.encode_video(videos, normalize=True, frames_per_chunk=self.frames)
        return features, model.encode_text(tokens, normalize=True), model.logit_scale.exp()
